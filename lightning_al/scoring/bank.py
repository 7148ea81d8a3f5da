"""Features of all items, each computed once in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor, nn

from lightning_al.ranks.ranks import ALONE, Ranks

from .store import Room, Store

__all__ = ["Bank", "check_features"]

BLOCK = 2**26  # bytes that ranks send together
FIELD = "embedding"


def check_features(features: Any) -> None:
    """Refuse what is no feature extractor.

    Raises:
        TypeError: not a callable, or a class.
    """
    if isinstance(features, type) or not callable(features):
        is_class = isinstance(features, type)
        got = f"the class {features.__name__}" if is_class else type(features).__name__
        raise TypeError(
            f"features must be a callable inputs -> [n, E], such as Raw() or Backbone(), got {got}"
            + ("; give an instance of it" if is_class else "")
        )


class Bank:
    """Features [N, E] by position in the data set, extracted where they are not there yet.

    Args:
        extract: inputs [n, ...] -> [n, E]; frozen: an item's features never change. A module is in
            eval mode meanwhile.
        datamodule: gives the inputs, under the test transform.
        budget: bytes in memory; above it the features lie in a memory-mapped file.
        folder: where that file lies.
        ranks: the ranks that share the work of :meth:`fill`.
    """

    def __init__(
        self,
        extract: Callable[[Any], Tensor],
        datamodule: Any,
        budget: int = 2**30,
        folder: Path | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.extract, self.datamodule, self.ranks = extract, datamodule, ranks
        n = len(datamodule.items)
        self._store = Store(n, Room(budget), folder)
        self._held = torch.zeros(n, dtype=torch.bool)  # on this rank

    def fill(self, index: Tensor, device: torch.device, *, everywhere: bool = False) -> None:
        """Extract what is missing of the items ``index`` [K], all ranks together.

        Args:
            index: the same on all ranks.
            device: where the extractor runs.
            everywhere: all ranks hold the features then, bit for bit the same; else rank 0 alone.

        Raises:
            ValueError: features that are not finite, or of a wrong shape; on all ranks alike.
        """
        ranks = self.ranks
        missing = ranks.broadcast(index[~self._held[index]])
        size = ranks.size * self.datamodule.eval_batch_size  # the first block tells E
        while len(missing):
            block, missing = missing[:size], missing[size:]
            rows = ranks.together(partial(self._rows, block[ranks.rank :: ranks.size], device))
            widths = {w for w in ranks.all_gather(rows.shape[1]) if w}
            _one_width(widths)
            (width,) = widths
            if ranks.size > 1:
                mine = rows if len(rows) else torch.empty(0, width)
                rows = torch.empty(len(block), width) if ranks.rank == 0 else mine
                ranks.gather_rows(mine, rows if ranks.rank == 0 else None)
            if ranks.rank == 0:
                self._put(block, rows)
            step = BLOCK // (4 * width * ranks.size)
            size = ranks.size * max(self.datamodule.eval_batch_size, step)
        if everywhere and ranks.size > 1:
            self._share(index)

    def _share(self, index: Tensor) -> None:
        """Give all ranks what rank 0 holds of the items ``index`` [K]."""
        lacking = torch.cat(self.ranks.all_gather(index[~self._held[index]])).unique()
        width = self.ranks.broadcast(self.width())
        for block in lacking.split(max(1, BLOCK // (4 * max(width, 1)))):
            held = self._store.fields[FIELD][block] if self.ranks.rank == 0 else block
            self._put(block, self.ranks.broadcast(held))  # of rank 0

    def rows(self, index: Tensor, device: torch.device, out: Tensor | None = None) -> Tensor:
        """Features [K, E] of the items ``index`` [K], on the CPU.

        What is missing on this rank is extracted here; no messages are sent.

        Args:
            index: positions in the data set.
            device: where the extractor runs.
            out: where to put them, [K, E].
        """
        missing = index[~self._held[index]]
        if len(missing):
            self._put(missing, self._rows(missing, device))
        if not self._store.fields:
            return torch.empty(0, 0)
        return torch.index_select(self._store.fields[FIELD], 0, index, out=out)

    def width(self) -> int:
        """E; 0 before the first extraction."""
        return self._store.fields[FIELD].shape[1] if self._store.fields else 0

    def _put(self, index: Tensor, rows: Tensor) -> None:
        if not self._store.fields:
            self._store.allocate(FIELD, torch.float32, rows.shape[1:])
        _one_width({self.width(), rows.shape[1]})
        self._store.fields[FIELD][index] = rows
        self._held[index] = True

    def _rows(self, index: Tensor, device: torch.device) -> Tensor:
        """Features [K, E] of some items, extracted now; [0, 0] of none."""
        parts = []
        with _ready(self.extract, device), torch.no_grad():
            for rows, inputs in self.datamodule.bare_batches(index) if len(index) else ():
                parts.append(_checked(self.extract(move_data_to_device(inputs, device)), rows))
                _one_width({parts[0].shape[1], parts[-1].shape[1]})
        return torch.cat(parts) if parts else torch.empty(0, 0)


@contextmanager
def _ready(extract: Any, device: torch.device) -> Iterator[None]:
    """A module on its device, in eval mode; both put back after."""
    if not isinstance(extract, nn.Module):
        yield
        return
    modes = {module: module.training for module in extract.modules()}
    home = next((t.device for t in (*extract.parameters(), *extract.buffers())), device)
    extract.eval()
    extract.to(device)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        extract.to(home)


def _checked(found: Any, index: Tensor) -> Tensor:
    """Features of one batch, float32 [n, E] on the CPU, or what is wrong with them."""
    n = len(index)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"features must be a tensor [n, E], got {type(found).__name__}; return one tensor with "
            "a row an item"
        )
    if found.ndim == 0 or len(found) != n:
        raise ValueError(
            f"features of {n} items must be [{n}, E], got {list(found.shape)}; the first axis must "
            "be the items"
        )
    flat = found.detach().reshape(n, -1).float().cpu()
    if flat.shape[1] == 0:
        raise ValueError(f"features of {n} items must be [{n}, E] with E >= 1, got {[n, 0]}")
    bad = ~flat.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(
            f"features of {int(bad.sum())} of {n} items are NaN or infinite, first: item(s) "
            f"{index[bad][:5].tolist()}; mend these inputs or leave them out, or look for an "
            "overflow in the extractor"
        )
    return flat


def _one_width(widths: set[int]) -> None:
    if len(widths) > 1:
        raise ValueError(
            f"features of one run must be of one size, got E = {sorted(widths)}; bring items to "
            "one shape, or pool over their places"
        )
