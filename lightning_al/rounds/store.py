"""Where the fields that a strategy keeps lie: in memory, or in a file above the memory budget."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_al.records import Predictions

__all__ = ["Store"]


class Store:
    """Collects kept fields [n, ...] batch by batch into arrays [N, ...].

    Args:
        n: N, the number of items to come.
        budget: bytes that may lie in memory; a field that does not fit goes to a memory-mapped
            file, which the operating system pages out as it needs.
        folder: where such files lie; a temporary folder by default. They vanish with the process.
    """

    def __init__(self, n: int, budget: int, folder: Path | None = None) -> None:
        self.n, self.budget, self.folder = n, budget, folder
        self._fields: dict[str, Tensor] = {}
        self._extras: tuple[str, ...] = ()
        self._filled = 0

    def add(self, batch: Predictions) -> None:
        """Append one batch."""
        tensors = batch.tensors()
        self._extras = tuple(batch.extras)
        stop = self._filled + len(batch)
        for name, value in tensors.items():
            if name == "index":
                continue
            if name not in self._fields:
                self._fields[name] = self._allocate((self.n, *value.shape[1:]), value.dtype)
            if value.shape[1:] != self._fields[name].shape[1:]:
                raise ValueError(
                    f"{name} has shape {list(value.shape[1:])} an item in one batch and "
                    f"{list(self._fields[name].shape[1:])} in another; items must agree to be kept"
                )
            self._fields[name][self._filled : stop] = value.cpu()
        self._filled = stop

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        size = int(np.prod(shape)) * dtype.itemsize
        if size <= self.budget:
            self.budget -= size
            return torch.empty(shape, dtype=dtype)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".scores") as file:
            file.truncate(size)
            return torch.from_numpy(np.memmap(file.name, dtype=kind, mode="r+", shape=shape))

    def result(self, index: Tensor) -> Predictions:
        """Everything collected, as predictions of the items ``index`` [N]."""
        core = {n: v for n, v in self._fields.items() if n not in self._extras}
        extras = {n: v for n, v in self._fields.items() if n in self._extras}
        return Predictions(index=index, **core, extras=extras)
