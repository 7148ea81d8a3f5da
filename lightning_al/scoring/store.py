"""Where the fields that survive a scoring pass lie: in memory, or in a file above the budget."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_al.ranks.ranks import Ranks

__all__ = ["Room", "Store", "collect"]


@dataclass
class Room:
    """Memory that several stores share.

    Args:
        left: bytes.
    """

    left: int

    def take(self, size: int) -> bool:
        """Whether so many bytes were left; they are no longer then."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


class Store:
    """Collects fields [n, ...] batch by batch into arrays [N, ...].

    Args:
        n: N, the number of items to come.
        room: what may lie in memory; a field that does not fit goes to a memory-mapped
            file, which the operating system pages out as it needs.
        folder: where such files lie, if it is there; else a temporary folder. The files have no
            name while they are used, so that they vanish with the process in any case.
    """

    def __init__(self, n: int, room: Room, folder: Path | None = None) -> None:
        self.n, self.room, self.folder = n, room, folder
        self.fields: dict[str, Tensor] = {}
        self._filled = 0

    def add(self, batch: Mapping[str, Tensor], count: int) -> None:
        """Append ``count`` items.

        Raises:
            ValueError: items of another shape, or other fields, than before.
        """
        if self._filled and set(batch) != set(self.fields):
            raise ValueError(f"fields {sorted(batch)} after {sorted(self.fields)}; keep the same")
        stop = self._filled + count
        for name, value in batch.items():
            if name not in self.fields:
                self.allocate(name, value.dtype, value.shape[1:])
            mine = self.fields[name]
            if value.shape[1:] != mine.shape[1:]:
                raise ValueError(_disagree(name, mine.shape[1:], value.shape[1:]))
            mine[self._filled : stop] = value
        self._filled = stop

    def allocate(self, name: str, dtype: torch.dtype, item: torch.Size) -> Tensor:
        """Room [N, *item] for one more field."""
        shape = (self.n, *item)
        size = self.n * item.numel() * dtype.itemsize
        if self.room.take(size):
            self.fields[name] = torch.empty(shape, dtype=dtype)
        else:
            folder = self.folder if self.folder is not None and self.folder.is_dir() else None
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".scores") as file:
                file.truncate(size)
                mapped = np.memmap(file.name, dtype=np.uint8, mode="r+", shape=(size,))
            self.fields[name] = torch.from_numpy(mapped).view(dtype).view(shape)
        return self.fields[name]


def collect(mine: Mapping[str, Tensor], store: Store, ranks: Ranks) -> dict[str, Tensor] | None:
    """The fields of all ranks: rows [rank::size] of each rank -> [N, ...] on rank 0, else None.

    Raises:
        ValueError: fields that differ between ranks, on all of them.
    """
    if ranks.size == 1:
        return dict(mine)
    layouts = ranks.all_gather({name: (v.dtype, v.shape[1:]) for name, v in mine.items()})
    filled = [layout for layout in layouts if layout]  # a rank without items has none
    if not filled:
        return {} if ranks.rank == 0 else None
    for layout in filled:
        for name, (_, item) in layout.items():
            if name not in filled[0] or item != filled[0][name][1]:
                raise ValueError(_disagree(name, filled[0].get(name, (None, None))[1], item))
    wholes = ranks.together(
        lambda: {} if ranks.rank else {n: store.allocate(n, *how) for n, how in filled[0].items()}
    )
    for name, (dtype, item) in filled[0].items():
        rows = mine[name] if name in mine else torch.empty((0, *item), dtype=dtype)
        ranks.gather_rows(rows, wholes.get(name))
    return wholes if ranks.rank == 0 else None


def _disagree(name: str, old: torch.Size | None, new: torch.Size) -> str:
    seen = "nothing" if old is None else list(old)
    return (
        f"{name} has shape {list(new)} an item in one batch and {seen} in another; items must "
        "agree to be kept (bring them to one shape, or pool over their places)"
    )
