"""What a strategy is given that needs more of a model than its outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_al.randomness import seeded
from lightning_al.records import Learner, Predictions
from lightning_al.tasks import Adapter

__all__ = ["Plain", "adapter_for", "build_learner"]

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


@dataclass(frozen=True)
class Plain:
    """A plan to run the plain network and keep what it says; the strategy of a bare pass."""

    needs: Collection[str]

    members: ClassVar[str] = "one"

    @property
    def keeps(self) -> Collection[str]:
        """All of it."""
        return self.needs


def adapter_for(module: Any, task: LightningModule, adapter: Adapter) -> Adapter:
    """How a module is read in a run whose ``task`` is read by ``adapter``.

    A module of the task's class as the task is: by the adapter that the run was given, or by its
    own where that was the task's own. A module of another class by its own, where it has one.
    """
    own = isinstance(getattr(module, "adapter", None), Adapter)
    given = adapter != Adapter.for_task(task)
    if not own or (given and type(module) is type(task)):
        return adapter
    return Adapter.for_task(module)


class _Inputs:
    """Batches of inputs out of batches (positions, inputs)."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return (inputs for _, inputs in self.loader)


def build_learner(
    task: LightningModule,
    datamodule: Any,
    device: torch.device,
    seed: int,
    round: int,
    *,
    index: Tensor,
    predict: Callable[[Any, Tensor, Collection[str]], Predictions],
    make_head: Callable[[], Callable[[Tensor], Tensor]],
) -> Learner:
    """A learner on one device; its fits are seeded, each by its place in the round.

    Args:
        task: the fitted task of the round.
        datamodule: gives the loaders, the unlabelled one without labels.
        device: where fits run.
        seed: of the run.
        round: of the run.
        index: positions [N] of the candidates in the data set.
        predict: what a module says of the items at some positions.
        make_head: finds the head of the task.
    """
    count = itertools.count()
    chosen: Any = 1 if device.index is None or device.type == "cpu" else [device.index]
    place = {"accelerator": device.type, "devices": chosen}

    def fit(module: LightningModule, loader: Iterable[Any], **arguments: Any) -> LightningModule:
        with seeded(seed, round, f"learner-{next(count)}"):
            Trainer(**(QUIET | place | arguments)).fit(module, loader)
        return module

    def of(rows: Tensor | None) -> Tensor:
        return index if rows is None else index[rows]

    return Learner(
        task=task,
        fit=fit,
        labelled_loader=datamodule.labelled_loader,
        unlabelled_loader=lambda rows=None: _Inputs(datamodule.bare_batches(of(rows))),
        predict=lambda module, needs, rows=None: predict(module, of(rows), needs),
        predict_labelled=lambda module, needs: predict(module, datamodule.labelled, needs),
        make_head=make_head,
    )
