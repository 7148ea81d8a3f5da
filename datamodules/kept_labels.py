"""Labels that were read off the items of a data set, looked up many at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["KeptLabels"]


class KeptLabels:
    """Labels of some of n items, each read once; memory grows with what was read.

    Labels of one shape and type lie in one tensor; any of another kind beside it, so that what is
    looked up never changes its type.

    Args:
        n: items of the data set.
    """

    def __init__(self, n: int) -> None:
        self._row = torch.full((n,), -1, dtype=torch.int64)  # item -> row; -1: not read
        self._parts: list[Tensor] = []  # [n, ...] each, joined when they are looked up
        self._count = 0
        self._other: dict[int, Tensor] = {}  # item -> label of another kind

    def unread(self, index: Tensor) -> Tensor:
        """Those of some items [K] whose labels are not here, each once, in their order."""
        found = index[self._row[index] < 0]
        if self._other:
            kept = [i for i in found.tolist() if i not in self._other]
            found = torch.tensor(kept, dtype=torch.int64)
        if len(found) < 2:
            return found
        order = found.argsort(stable=True)
        ordered = found[order]
        first = torch.ones(len(ordered), dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        return found[order[first].sort().values]

    def add(self, index: Tensor, labels: Sequence[Tensor]) -> None:
        """Keep the labels of some items [K] that were unread."""
        if not len(labels):
            return
        like = self._parts[0][0] if self._parts else labels[0]
        fits = [v.shape == like.shape and v.dtype == like.dtype for v in labels]
        for item, label, fit in zip(index.tolist(), labels, fits, strict=True):
            if not fit:
                self._other[item] = label
        rows = index[torch.tensor(fits)]
        if not len(rows):
            return
        self._row[rows] = torch.arange(self._count, self._count + len(rows))
        self._parts.append(torch.stack([v for v, fit in zip(labels, fits, strict=True) if fit]))
        self._count += len(rows)

    def get(self, index: Tensor) -> Tensor:
        """Labels [K, ...] of some items that were read.

        Raises:
            RuntimeError: labels of different shapes.
        """
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        rows = self._row[index]
        if not self._other or bool((rows >= 0).all()):
            return self._parts[0][rows] if self._parts else torch.stack([])
        pairs = zip(index.tolist(), rows.tolist(), strict=True)
        found = [self._other[i] if row < 0 else self._parts[0][row] for i, row in pairs]
        return torch.stack(found)
