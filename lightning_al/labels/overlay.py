"""Answers laid over a data set that is never written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Overlay"]


class Overlay:
    """Named answers for some of N items; looking up and adding cost O(items touched).

    Args:
        n: how many items the data set has.
    """

    def __init__(self, n: int) -> None:
        self._row = torch.full((n,), -1, dtype=torch.int32)  # item -> row of the chunks joined
        self._index: list[Tensor] = []
        self._values: list[Mapping[str, Tensor]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def resize(self, n: int) -> None:
        """Make it one of n items; what lies beyond has no answers, so none of these may be."""
        row = torch.full((n,), -1, dtype=torch.int32)
        kept = min(n, len(self._row))
        row[:kept] = self._row[:kept]
        self._row = row

    def check(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Refuse answers ``name -> [K, ...]`` that cannot lie beside the earlier ones.

        Raises:
            ValueError: a number of answers that is not K, or names, shapes or types that differ
                from before.
        """
        for name, value in values.items():
            if len(value) != len(index):
                raise ValueError(
                    f"{len(index)} items were asked, but {name!r} has {len(value)} answers"
                )
        if not self._values or not len(index):
            return
        first = self._values[0]
        if set(first) != set(values):
            raise ValueError(f"answers must name {sorted(first)}, got {sorted(values)}")
        for name, value in values.items():
            kind = (list(value.shape[1:]), value.dtype)
            if kind != (list(first[name].shape[1:]), first[name].dtype):
                raise ValueError(
                    f"answers {name!r} were {first[name].dtype} of shape "
                    f"{list(first[name].shape[1:])} an item before, now they are {value.dtype} of "
                    f"shape {list(value.shape[1:])}; answer in one form"
                )

    def put(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Store answers ``name -> [K, ...]`` of the items ``index`` [K]; a later answer wins.

        Raises:
            ValueError: see :meth:`check`; nothing is stored then.
        """
        self.check(index, values)
        if not len(index):
            return
        self._index.append(index.clone())
        self._values.append({name: value.detach().cpu().clone() for name, value in values.items()})
        self._row[index] = torch.arange(self._count, self._count + len(index), dtype=torch.int32)
        self._count += len(index)

    def drop(self, index: Tensor) -> None:
        """Forget the answers of items [K]."""
        if not self._count:
            return
        self._join()
        kept = ~torch.isin(self._index[0], index)
        self._index = [self._index[0][kept]]
        self._values = [{name: value[kept] for name, value in self._values[0].items()}]
        self._count = int(kept.sum())
        self._row[index] = -1
        self._row[self._index[0]] = torch.arange(self._count, dtype=torch.int32)
        if not self._count:
            self._index, self._values = [], []

    def _join(self) -> None:
        if len(self._values) > 1:
            names = list(self._values[0])
            self._values = [{n: torch.cat([v[n] for v in self._values]) for n in names}]
            self._index = [torch.cat(self._index)]

    def get(self, index: Tensor, name: str = "y") -> tuple[Tensor, Tensor] | None:
        """(answers [K, ...], answered [K] bool) for some items; None when there are none at all."""
        if not self._count or name not in self._values[0]:
            return None
        self._join()
        inside = index < len(self._row)  # behind the measured places of a box lie candidates
        row = torch.where(inside, self._row[index.where(inside, 0)].long(), -1)
        answered = row >= 0
        return self._values[0][name][row.clamp_min(0)], answered

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors only, as a weights-only load wants them."""
        if not self._count:
            return {}
        self._join()
        return {"index": self._index[0], **{f"values.{n}": v for n, v in self._values[0].items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state_dict`, on an empty overlay."""
        if state:
            values = {k.removeprefix("values."): v for k, v in state.items() if k != "index"}
            self.put(state["index"], values)

    def update_hash(self, digest: hashlib._Hash) -> None:
        """Feed all answers into a hash."""
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
