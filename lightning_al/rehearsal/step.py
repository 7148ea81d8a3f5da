"""A step of the untrained module, to be timed: forwards and backwards on one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lightning_al.tasks import Adapter

__all__ = ["step_of"]


def step_of(task: Any, adapter: Adapter, datamodule: Any) -> Callable[[], None] | None:
    """What a fit does most of the time, again and again; None where it cannot be done so.

    One batch goes through the module and its gradients come back; no hook, loss or optimiser is
    met, so that nothing is logged, and modules of any kind will do.

    Args:
        task: a copy, which is changed.
        adapter: says what gives the outputs.
        datamodule: at the start of the run.
    """
    size = getattr(datamodule, "batch_size", None) or datamodule.eval_batch_size
    index = datamodule.labelled[:size]
    index = index if len(index) else datamodule.pool[:size]
    task.train()

    def step() -> None:
        task.zero_grad(set_to_none=True)
        with torch.enable_grad():
            adapter.outputs(task, inputs).float().square().mean().backward()  # type: ignore[no-untyped-call]

    try:
        ((_, inputs),) = datamodule.bare_batches(index, len(index))
        step()
    except Exception:  # a module that wants more than inputs, or has nothing to learn
        return None
    return step
