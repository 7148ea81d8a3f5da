"""What a module logs in a fit, reduced as Lightning reduces it: ``self.log`` without a Trainer.

The rules are those of Lightning's documentation of ``log``: a value logged on the step counts for
that batch, one logged on the epoch is the mean over batches (weighted by their sizes), the sum, the
least or the largest; a metric of torchmetrics is computed at the end of the epoch and reset. The
arithmetic is done in the same order and dtype, so that the last bit is the same.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.utilities.data import extract_batch_size
from torch import Tensor
from torchmetrics import Metric

from lightning_al.compat import forward_value, logging_levels

__all__ = ["NotPlain", "Recorder"]

REDUCTIONS = {torch.mean: "mean", torch.sum: "sum", torch.min: "min", torch.max: "max"}
STARTS = {"mean": 0.0, "sum": 0.0, "min": float("inf"), "max": float("-inf")}


class NotPlain(Exception):
    """A fit that a bare loop cannot do as Lightning would; the message says why."""


@dataclass
class Entry:
    """One logged name in one hook.

    Args:
        fx: the hook.
        name: as logged.
        on_step: it counts for its batch.
        on_epoch: it is reduced over the epoch.
        reduction: "mean", "sum", "min" or "max".
        told: loggers, and the result of a test, have it.
    """

    fx: str
    name: str
    on_step: bool
    on_epoch: bool
    reduction: str
    told: bool
    metric: Metric | None = None
    value: Tensor | None = None  # summed or reduced so far
    count: int = 0  # items
    last: Any = None  # of the batch
    done: Any = None  # of the epoch, once computed
    fresh: bool = True  # nothing was logged since the last reset

    @property
    def rules(self) -> tuple[Any, ...]:
        """What must be the same in each call."""
        return self.on_step, self.on_epoch, self.reduction, self.told

    def label(self, on_step: bool) -> str:
        """Its name among the values of a batch, or of an epoch."""
        if self.on_step and self.on_epoch:
            return f"{self.name}_{'step' if on_step else 'epoch'}"
        return self.name

    def take(self, value: Tensor, size: int) -> None:
        """Take in the value of one batch."""
        self.done = None
        default = torch.get_default_dtype()
        if value.dtype not in (torch.float32, torch.float64):
            value = value.to(default)
        if self.on_step:
            self.last = value.clone()
            if not self.on_epoch:
                return
        start = self.value
        if start is None:
            start = torch.tensor(STARTS[self.reduction], dtype=default)
        if self.reduction == "mean":
            self.value = start + value * size
            self.count += size
        elif self.reduction == "sum":
            self.value = start + value
        else:
            self.value = (torch.min if self.reduction == "min" else torch.max)(start, value)

    def result(self, on_step: bool) -> Tensor | None:
        """What it says of the batch, or of the epoch; None where it says nothing."""
        found = None
        if on_step and self.on_step:
            found = self.last
        elif not on_step and self.on_epoch:
            if self.done is None:
                self.done = self._computed()
            found = self.done
        if found is not None and not isinstance(found, Tensor):
            raise NotPlain(f"the metric {self.name!r} computes a {type(found).__name__}")
        return None if found is None else found.detach()

    def _computed(self) -> Any:
        if self.metric is not None:
            return self.metric.compute()
        if self.value is None:
            return None
        if self.reduction == "mean":
            return self.value.clone() / torch.tensor(self.count)
        return self.value.clone()

    def reset(self) -> None:
        """Forget what was logged."""
        if self.metric is not None:
            self.metric.reset()
        self.value, self.count, self.last, self.done, self.fresh = None, 0, None, None, True


class Recorder:
    """Stands in for ``log`` of a module, in training or in an evaluation.

    Args:
        training: of the training loop; an evaluation keeps nothing of single batches.
    """

    def __init__(self, training: bool) -> None:
        self.training = training
        self.entries: dict[str, Entry] = {}
        self.hook = ""  # that runs
        self.left: frozenset[str] = frozenset()  # metrics that are computed at the end of the fit
        self.first: bool | None = None  # whether the running batch is the first; None: no batch
        self._logged_in = ""  # the hook that logged last
        self._batch: Any = None
        self._size: int | None = None

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Any = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """What ``LightningModule.log`` does in a fit of one process; its arguments.

        Raises:
            NotPlain: a value or a rule that only Lightning knows.
        """
        if enable_graph or "/dataloader_idx_" in name:
            raise NotPlain(f"{name!r} is logged by a rule that the bare loop does not know")
        step, epoch = logging_levels(self.hook, on_step, on_epoch)
        if not step and not epoch:
            raise NotPlain(f"{name!r} is logged neither on the step nor on the epoch")
        if self._logged_in != self.hook and self.first is not False:
            self._forget(self.hook)
        entry = Entry(self.hook, name, step, epoch, _reduction(reduce_fx), logger is not False)
        entry = self._known(entry)
        if isinstance(value, Metric):
            entry.metric, entry.last, entry.done = value, forward_value(value), None
        else:
            entry.take(self.number(name, value), self._size_of(batch_size, entry))
        entry.fresh = False
        self._logged_in = self.hook

    def number(self, name: str, value: Any) -> Tensor:
        """A logged value as a tensor of no dimension."""
        if isinstance(value, Tensor):
            made = value.clone().detach()
        elif isinstance(value, numbers.Number):
            made = torch.tensor(value, dtype=torch.get_default_dtype())
        else:
            raise NotPlain(f"{name!r} is logged as a {type(value).__name__}")
        if made.numel() != 1:
            raise NotPlain(f"{name!r} is logged as a tensor {list(made.shape)}")
        return made.squeeze()

    def _known(self, entry: Entry) -> Entry:
        kept = self.entries.setdefault(f"{entry.fx}.{entry.name}", entry)
        if kept.rules != entry.rules:
            raise NotPlain(f"{entry.name!r} is logged twice in {entry.fx} by different rules")
        return kept

    def _size_of(self, given: int | None, entry: Entry) -> int:
        if given is not None:
            return given
        if self._size is None:
            if self._batch is None or not entry.on_epoch or entry.reduction != "mean":
                return 1
            self._size = extract_batch_size(self._batch)
        return self._size

    def _forget(self, hook: str) -> None:
        for entry in self.entries.values():
            if entry.fx == hook and entry.metric is None:
                entry.reset()

    # --- moments of the loop -----------------------------------------------------------------

    def batch(self, batch: Any) -> None:
        """A batch begins."""
        self.first = self.first is None
        self._batch, self._size = batch, None

    def batch_over(self) -> None:
        """It is over."""
        self._batch, self._size = None, None

    def epoch_over(self) -> None:
        """No batch follows in this epoch."""
        self.first = None

    def reset(self) -> None:
        """Forget all; metrics are reset."""
        for entry in self.entries.values():
            entry.reset()
        self.first, self._logged_in = None, ""

    def metrics(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What callbacks see now, and what loggers do: of the batch in one, else of the epoch."""
        seen: dict[str, Tensor] = {}
        told: dict[str, Tensor] = {}
        on_step = self.first is not None
        for entry, value in self._results(on_step):
            label = entry.label(on_step)
            if entry.told:
                told[label] = value
            if self.training or (entry.on_epoch and not on_step):
                seen[entry.name] = value
                seen[label] = value
        return seen, told

    def _results(self, on_step: bool) -> Iterator[tuple[Entry, Tensor]]:
        for entry in self.entries.values():
            if entry.fresh or entry.name in self.left:
                continue
            if (value := entry.result(on_step)) is not None:
                yield entry, value


def _reduction(given: Any) -> str:
    named = REDUCTIONS.get(given) if callable(given) else str(given).lower()
    named = "mean" if named == "avg" else named
    if named not in STARTS:
        raise NotPlain(f"values are reduced by {given!r}")
    return named
