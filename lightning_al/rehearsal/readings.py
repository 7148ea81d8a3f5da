"""Whether the output of a model, its targets and the kind of its task go together."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_al.scoring.running import Running
from lightning_al.tasks import Adapter

__all__ = ["check_reading"]

ITEMS = 8
HIDDEN = {"embedding", "head_input"}


def check_reading(
    task: Any, adapter: Adapter, datamodule: Any, needs: Any, trainer: Any = None
) -> None:
    """Compare the output for a few items, and their labels where they have any.

    Args:
        task: the module.
        adapter: how it is read.
        datamodule: of the items.
        needs: fields that strategies ask for; nothing is compared where none is an output.
        trainer: for its device and precision.

    Raises:
        ValueError, LookupError: what does not go together, with the mend.
    """
    if not set(needs) - HIDDEN:
        return
    index = datamodule.labelled[:ITEMS]
    targets: Tensor | None = datamodule.labels(index) if len(index) else None
    if not len(index):
        index = datamodule.pool[:ITEMS]
    if not len(index):
        return
    ((_, inputs),) = datamodule.bare_batches(index, len(index))
    running = Running(task, trainer)
    with running.ready(), running.forward() as bring:
        raw = adapter.sampled(adapter.outputs(task, bring(inputs)))
        adapter.reading.check(raw, None if targets is None else targets.to(raw.device))
