"""An optimiser's step without what only a profiler or a GPU needs; its arithmetic is untouched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim import optimizer as shared

__all__ = ["forgetting", "quick_step", "spare_capture_check"]


def spare_capture_check(optimizer: Optimizer) -> None:
    """Let an optimiser's steps not ask whether a CUDA graph is captured, where there is no GPU.

    Where torch was built for CUDA, and asked as Lightning has it ask, that loads the driver's
    library each time: a third of a millisecond a step.
    """
    asks = hasattr(optimizer, "_accelerator_graph_capture_health_check")
    if asks and not torch.accelerator.is_available():
        optimizer.__dict__["_accelerator_graph_capture_health_check"] = lambda: None


def quick_step(optimizer: Optimizer) -> Callable[..., Any]:
    """The step of an optimiser; bare of the wrapper for profilers where nobody watches."""
    spare_capture_check(optimizer)
    step: Any = type(optimizer).step
    watching = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        shared._global_optimizer_pre_hooks,
        shared._global_optimizer_post_hooks,
    )
    if "step" in vars(optimizer) or any(watching) or not getattr(step, "hooked", False):
        return optimizer.step  # a schedule, or somebody's hook, counts the steps
    return partial(step.__wrapped__, optimizer)


def forgetting(optimizer: Optimizer) -> Callable[[], None]:
    """What drops the gradients: ``zero_grad``, without what only its profiler needs."""
    if type(optimizer).zero_grad is not Optimizer.zero_grad:
        return optimizer.zero_grad

    def forget() -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    return forget
