"""Whether a bare loop can do a fit as Lightning would, told from what is declared."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

from pytorch_lightning import LightningModule
from torch import nn

from lightning_al.compat import detects_anomalies, kinds, overrides
from lightning_al.ranks.ranks import Ranks

__all__ = ["SUPPORTED", "hooks", "why_not_plain"]

STAGES = ("validation", "test")
SUPPORTED = frozenset(
    {
        *("training_step", "validation_step", "test_step", "predict_step", "configure_optimizers"),
        *("setup", "teardown", "on_fit_start", "on_fit_end", "on_train_start", "on_train_end"),
        *(f"on_train_{what}_{when}" for what in ("epoch", "batch") for when in ("start", "end")),
        *(f"on_{stage}_{when}" for stage in STAGES for when in ("start", "end")),
        *(
            f"on_{stage}_{what}_{when}"
            for stage in STAGES
            for what in ("epoch", "batch")
            for when in ("start", "end")
        ),
        *("on_before_zero_grad", "on_before_backward", "on_after_backward"),
        *("on_before_optimizer_step", "on_load_checkpoint"),
        *(f"on_predict_{what}" for what in ("start", "end", "epoch_start", "epoch_end")),
        *("on_predict_batch_start", "on_predict_batch_end"),
    }
)
"""What a module may have of its own of all that a LightningModule has."""

TRANSFERS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
"""Of a data module, what would change a batch on its way."""

SETTINGS: dict[str, tuple[Any, ...]] = {
    "fast_dev_run": (False, 0),
    "overfit_batches": (0.0,),
    "accumulate_grad_batches": (1,),
    "num_sanity_val_steps": (0,),
    "reload_dataloaders_every_n_epochs": (0,),
    "val_check_interval": (1.0,),
    "barebones": (False,),
    "world_size": (1,),
}
"""Of the Trainer, the values that the bare loop knows."""

KINDS = {
    "strategy": ("strategies.SingleDeviceStrategy", "another strategy than one device"),
    "accelerator": ("accelerators.CPUAccelerator", "the device is not the CPU"),
    "precision_plugin": ("plugins.Precision", "another precision than 32-true"),
    "profiler": ("profilers.PassThroughProfiler", "the Trainer has a profiler"),
}


def why_not_plain(module: Any, trainer: Any, datamodule: Any, ranks: Ranks) -> str:
    """Why this fit must be Lightning's; empty where nothing declared speaks against a bare loop."""
    for why in _reasons(module, trainer, datamodule, ranks):
        return why
    return ""


def _reasons(module: Any, trainer: Any, datamodule: Any, ranks: Ranks) -> Iterator[str]:
    if ranks.size > 1:
        yield f"the run has {ranks.size} processes"
    if getattr(module, "full_batch", False):
        yield "the task is fitted to all items at once"
    if not module.automatic_optimization:
        yield "the module optimises by hand"
    if own := [name for name in hooks() if name not in SUPPORTED and overrides(name, module)]:
        yield f"the module overrides {own[0]}"
    if own := [name for name in TRANSFERS if overrides(name, datamodule)]:
        yield f"the data module overrides {own[0]}"
    yield from _of_trainer(trainer)
    for callback in trainer.callbacks:
        if not _known(callback):
            yield f"the callback {type(callback).__name__}"


def _of_trainer(trainer: Any) -> Iterator[str]:
    if type(trainer) not in kinds("Trainer"):
        yield f"the Trainer is a {type(trainer).__name__}"
    for name, (path, why) in KINDS.items():
        if type(getattr(trainer, name)) not in kinds(path):
            yield why
    for name, values in SETTINGS.items():
        if (value := getattr(trainer, name)) not in values:
            yield f"the Trainer has {name}={value}"
    for kind in ("train", "val", "test"):
        limit = getattr(trainer, f"limit_{kind}_batches")
        if isinstance(limit, float) and limit not in (0.0, 1.0):
            yield f"the Trainer has limit_{kind}_batches={limit}"
    if not isinstance(trainer.check_val_every_n_epoch, int):
        yield "the Trainer validates by steps"
    if detects_anomalies(trainer):
        yield "the Trainer detects anomalies"
    if trainer.loggers:
        yield "loggers want each step"


def _known(callback: Any) -> bool:
    """Whether a callback is one of ours, or one of two of Lightning's, and no subclass of them."""
    from lightning_al.callbacks import ActiveLearning, CollectSWAG, Pruning  # inside: a sibling

    known = (ActiveLearning, CollectSWAG, Pruning, *kinds("callbacks.EarlyStopping"))
    if type(callback) in (*known, *kinds("callbacks.ModelCheckpoint")):
        return not getattr(callback, "save_on_exception", False)
    return False


@functools.cache
def hooks() -> list[str]:
    """All methods that a LightningModule has beyond a module of PyTorch."""
    ours = set(dir(LightningModule)) - set(dir(nn.Module))
    return sorted(
        name
        for name in ours
        if not name.startswith("_")
        and inspect.isfunction(inspect.getattr_static(LightningModule, name))
    )
