"""Data that may grow while a run goes on: who joins, and what each item is."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lightning_al.randomness import seeded
from lightning_al.records import Inventory

from .portraits import SAMPLED, feed
from .splits import spread
from .tensors import TensorItems, as_tensor_items

__all__ = ["Growth", "remembered", "row_digests"]

FOUND = ("given", "initial", "classes", "class_names", "in_features", "in_channels", "outputs")
"""What a data module may find in its data, so that it is found again in other data."""
CHUNK = 2**22  # numbers of rows that are hashed at a time


def remembered(data: Any) -> dict[str, Any]:
    """What a data module was told of :data:`FOUND`, before it looks at its data."""
    return {name: vars(data)[name] for name in FOUND if name in vars(data)}


@dataclass(frozen=True)
class Growth:
    """How a data module grows.

    Args:
        data: the data module.
    """

    data: Any

    def begin_with(self, n: int | None, names: tuple[str, ...] = ()) -> None:
        """Let the run begin with the first n items, read anew; the rest may join it later.

        Args:
            n: how many; None for all.
            names: of files whose positions are known, in their order.
        """
        data = self.data
        if (n, names) == (data.begun, data.order):
            return
        data.begun, data.order = n, names
        if data._loaded:
            for name in FOUND:
                vars(data).pop(name, None)
            vars(data).update(data._told)
            data._loaded = False

    def inventory(self, ends: Sequence[int] = ()) -> Inventory:
        """Each item by its digest: rows of tables and tensors, files, a sample of other items.

        Args:
            ends: where parts of the items end that joined one after the other; of each a sample.
        """
        data = self.data
        if (own := getattr(data, "inventory", None)) is not None:
            found: Inventory = own()
            return found
        tensors = as_tensor_items(data.splits.train)
        if tensors is not None:
            return Inventory(_tensor_digests(tensors), what="item")
        n = len(data.items)
        bounds = sorted({0, *(end for end in ends if end < n), n})
        parts = itertools.pairwise(bounds)
        rows = [a + row for a, b in parts for row in spread(b - a, SAMPLED).tolist()]
        repeatable = data.check_repeatable  # else two reads of one item may differ
        return Inventory(_item_digests(data.pool_items.dataset, n, rows if repeatable else []))

    def joining(self, old: int, new: int) -> dict[str, list[int]]:
        """Which of the items from ``old`` to before ``new`` do not just join the pool.

        With ``initial="given"`` those that carry a label are labelled, as the first ones were;
        items that share a group with held-out ones are held out too.

        Raises:
            ValueError: a label that is no class of the run.
        """
        data = self.data
        index = torch.arange(old, new)
        known = data.has_label(index)
        _check_classes(data, index[known])
        held = torch.zeros(len(index), dtype=torch.bool)
        if (groups := data.splits.groups) is not None:
            parts = [part for part in data.held.values() if part is not None]
            names = {str(groups[i]) for part in parts for i in part.tolist()}
            held = torch.tensor([str(groups[i]) in names for i in index.tolist()])
        labelled = known & ~held if data.initial == "given" else torch.zeros_like(held)
        found = {"labelled": index[labelled].tolist(), "held": index[held].tolist()}
        return {name: items for name, items in found.items() if items}


def _check_classes(data: Any, index: Tensor) -> None:
    """Refuse labels [K] outside the classes of the run, where they lie beside the items."""
    if data.classes is None or not len(index):
        return
    if data.items.tensors is None and data.items._told is None:
        return  # read when they are needed, and checked then
    labels = data.items.labels(index)
    if labels.ndim != 1 or labels.is_floating_point():
        return
    wrong = (labels < 0) | (labels >= data.classes)
    if bool(wrong.any()):
        raise ValueError(
            f"item {int(index[wrong][0])} joins with the class {int(labels[wrong][0])}, the run "
            f"has the classes 0…{data.classes - 1}; a new class needs a new run"
        )


def row_digests(part: Tensor) -> npt.NDArray[np.uint64]:
    """A number for each row of a tensor [N, ...] that changes with its bytes, uint64 [N].

    The bytes are the digits of a number times fixed odd ones, modulo 2^64 (a universal hash).
    """
    n = len(part)
    if not part.numel():
        return np.zeros(n, np.uint64)
    raw = part.detach().cpu().contiguous().reshape(n, -1).view(torch.uint8).numpy()
    if raw.shape[1] % 4 == 0:
        raw = raw.view(np.uint32)
    factors = np.random.Generator(np.random.Philox(raw.shape[1])).integers(
        0, 2**63, raw.shape[1], dtype=np.uint64
    )
    factors = factors * np.uint64(2) + np.uint64(1)
    found = np.empty(n, np.uint64)
    step = max(1, CHUNK // max(1, raw.shape[1]))
    for start in range(0, n, step):
        some = raw[start : start + step].astype(np.uint64)
        found[start : start + step] = (some * factors).sum(1, dtype=np.uint64)
    return found


def _tensor_digests(tensors: TensorItems) -> npt.NDArray[np.uint64]:
    """Of inputs and targets together; never 0."""
    parts = [*tensors.inputs, *([] if tensors.targets is None else [tensors.targets])]
    found = np.zeros(len(tensors), np.uint64)
    for part in parts:
        found = found * np.uint64(0x9E3779B97F4A7C15) + row_digests(part)
    return np.maximum(found, np.uint64(1))


def _item_digests(dataset: Any, n: int, rows: list[int]) -> npt.NDArray[np.uint64]:
    """Of some items; 0 for the others."""
    found = np.zeros(n, np.uint64)
    with seeded(0, 0, "portrait"):
        for row in rows:
            digest = hashlib.sha256()
            feed(digest, dataset[row])
            found[row] = max(1, int.from_bytes(digest.digest()[:8], "big"))
    return found
