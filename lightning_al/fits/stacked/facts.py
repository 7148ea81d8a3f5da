"""Whether fits can be, and are worth being, done as one: told from what is declared, and counted.

Stacking pays where a bare loop waits for small operations more than it computes. Measured on one
core, the break-even lies where a bare loop reaches about 20 billion floating-point operations a
second. What it reaches is reckoned here from counts of one training step, by a nominal machine, and
not timed: which fits are grouped must be a function of the module and its batches alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lightning_al.compat import is_a, overrides
from lightning_al.fits.lean_trainer import Limits
from lightning_al.fits.plain import why_not_plain
from lightning_al.ranks.ranks import ALONE

from .member import Member

__all__ = ["LEAST", "LIMIT", "nominal_rate", "why_not_stacked"]

LEAST = 4  # members below which a bare loop for each is as fast
LIMIT = 20e9  # floating-point operations a second of a bare loop, above which stacking loses
EACH = 7e-6  # seconds that the nominal machine takes for an operation of no size
PEAK = 60e9  # operations a second in large products

INSIDE = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward"),
    *("on_after_backward", "on_before_optimizer_step"),
    *("on_validation_batch_start", "on_validation_batch_end"),
)
"""Hooks within a step, of which there is one for all."""


def why_not_stacked(members: Sequence[Member]) -> str:
    """Why these fits cannot be one, as far as it is declared; empty where nothing speaks against.

    Args:
        members: of the stack.
    """
    for each in members:
        if why := why_not_plain(each.module, each.trainer, each.datamodule, ALONE):
            return why
    for why in _reasons(members):
        return why
    return ""


def _reasons(members: Sequence[Member]) -> Iterator[str]:
    first = members[0]
    if any(type(each.module) is not type(first.module) for each in members):
        yield "the modules are of several classes"
    if own := [name for name in INSIDE if overrides(name, first.module)]:
        yield f"the module overrides {own[0]}, which is one replica's"
    if layers := [part for part in first.module.modules() if isinstance(part, nn.RNNBase)]:
        yield f"the module has a layer {type(layers[0]).__name__}, which vmap does not know"
    limits = [Limits.of(each.trainer) for each in members]
    if any(each != limits[0] for each in limits):
        yield "the Trainers differ in their limits"
    clips = {
        (each.trainer.gradient_clip_val, each.trainer.gradient_clip_algorithm) for each in members
    }
    if len(clips) > 1:
        yield "the Trainers clip gradients differently"
    stops = any(is_a(c, "callbacks.EarlyStopping") for c in first.trainer.callbacks)
    if stops and limits[0].min_steps:
        yield "min_steps may end an early stop inside an epoch"
    if any(each.recipe.restore != first.recipe.restore for each in members):
        yield "the runs differ in restore"


class _Counts(TorchDispatchMode):
    """Counts operations that do something."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def nominal_rate(module: Any, batch: Any) -> float:
    """Floating-point operations a second that a bare loop reaches on a nominal machine.

    Those of one training step, forward and backward, over the time of as many operations: each
    takes a fixed time, and its arithmetic beside.

    Args:
        module: attached to a trainer; a copy takes the step.
        batch: of the usual size.
    """
    attached, module.trainer = module.trainer, None
    twin = copy.deepcopy(module)
    module.trainer = twin.trainer = attached
    twin.__dict__["log"] = lambda *_, **__: None
    before = torch.get_rng_state()
    flops = FlopCounterMode(display=False)
    with torch.enable_grad(), _Counts() as operations, flops:
        made = twin.training_step(batch, 0)
        loss = made["loss"] if isinstance(made, dict) else made
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
    torch.set_rng_state(before)
    total = flops.get_total_flops()
    return total / (EACH * operations.count + total / PEAK)
