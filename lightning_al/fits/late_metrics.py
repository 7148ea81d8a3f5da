"""Metrics of validations that nobody looks at while a fit goes on: computed once, at its end.

A validation each epoch feeds and computes every metric, and the next one replaces what it found.
Where only a few are monitored, the rest is fed and computed from the last validation alone, which
gives the same numbers. It is done for the library's own tasks, whose hooks are known to read none.
"""

from __future__ import annotations

from typing import Any

import torch
from torchmetrics import Metric

from lightning_al.compat import is_a

from .recorder import Recorder

__all__ = ["LateMetrics"]

OURS = "lightning_al.tasks."


class LateMetrics:
    """What the validations of one fit leave for its end.

    Args:
        trainer: of the fit, with its callbacks.
        module: that is fitted.
    """

    def __init__(self, trainer: Any, module: Any) -> None:
        self._trainer, self._watched = trainer, _watched(trainer.callbacks, module)
        self._metrics: dict[str, Metric] = {}
        self._fed: dict[str, list[tuple[Any, Any]]] = {}  # by the last validation
        self._updates: dict[str, Any] = {}

    def begin(self, recorder: Recorder) -> None:
        """A validation begins; the first one of a fit leaves nothing."""
        for fed in self._fed.values():
            fed.clear()
        recorder.left = frozenset(self._metrics)

    def note(self, recorder: Recorder) -> None:
        """It is over, and not yet forgotten: from the next one on, what nobody watches waits."""
        if self._watched is None or self._metrics:
            return
        for entry in recorder.entries.values():
            late = entry.metric is not None and entry.on_epoch and not entry.on_step
            if late and entry.told and entry.name not in self._watched:
                assert entry.metric is not None
                self._postpone(entry.name, entry.metric)

    def _postpone(self, name: str, metric: Metric) -> None:
        fed: list[tuple[Any, Any]] = []
        self._metrics[name], self._fed[name] = metric, fed
        self._updates[name] = vars(metric)["update"]
        vars(metric)["update"] = lambda *args, **named: fed.append((args, named))

    def settle(self) -> None:
        """The fit is over: feed and compute what has waited, and have the trainer hear of it."""
        for name, metric in self._metrics.items():
            vars(metric)["update"] = self._updates[name]
            if self._fed[name]:
                metric.reset()
                with torch.no_grad():
                    for args, named in self._fed[name]:
                        metric.update(*args, **named)
                    value = metric.compute().detach()
                self._trainer.hear({name: value}, {name: value})
                metric.reset()
        self._metrics, self._fed, self._updates = {}, {}, {}


def _watched(callbacks: Any, module: Any) -> frozenset[str] | None:
    """Names that callbacks look at in each epoch; None where they may look at any."""
    if not type(module).__module__.startswith(OURS):
        return None
    found = set()
    for callback in callbacks:
        stops = is_a(callback, "callbacks.EarlyStopping")
        keeps = is_a(callback, "callbacks.ModelCheckpoint") and callback.filename is None
        if not stops and not keeps and not getattr(callback, "counts_batches", False):
            return None  # it may look at any
        found.add(str(getattr(callback, "monitor", None)))
    return frozenset(found)
