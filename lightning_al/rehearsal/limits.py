"""A Trainer that takes two steps and tells nobody."""

from __future__ import annotations

from typing import Any

from lightning_al.compat import dummy_logger

__all__ = ["limited", "monitored"]

BATCHES = 2


def limited(trainer: Any, batches: int = BATCHES) -> Any:
    """The Trainer, without its callbacks and loggers, for so many batches of each kind.

    Modules find ``trainer.fast_dev_run`` true, and a logger that swallows everything where the
    Trainer had one.
    """
    for kind in ("train", "val", "test"):
        name = f"limit_{kind}_batches"
        if getattr(trainer, name) != 0:
            setattr(trainer, name, batches)
    loops = trainer.fit_loop
    if loops.max_epochs is None or loops.max_epochs != 0:
        loops.max_epochs = 1
    loops.min_epochs, loops.epoch_loop.min_steps = None, None
    trainer.check_val_every_n_epoch = 1
    trainer.val_check_interval = 1.0
    trainer.num_sanity_val_steps = 0
    trainer.fast_dev_run = batches
    trainer.loggers = [dummy_logger(trainer)] if trainer.loggers else []
    trainer.callbacks = []
    return trainer


def monitored(callbacks: Any) -> dict[str, str]:
    """Metrics that callbacks wait for, each with the name of a callback's class."""
    found: dict[str, str] = {}
    for callback in callbacks:
        name = getattr(callback, "monitor", None)
        if isinstance(name, str):
            found.setdefault(name, type(callback).__name__)
    return found
