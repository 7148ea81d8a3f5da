"""Every rank runs the same driver; this is how they agree.

Control messages travel over a gloo group of their own, whatever backend trains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

__all__ = ["ALONE", "World", "join"]

log = logging.getLogger(__name__)
T = TypeVar("T")

SUPPORTED = "auto, ddp, ddp_find_unused_parameters_true, ddp_find_unused_parameters_false"
_groups: dict[int, Any] = {}


@dataclass(frozen=True)
class World:
    """One process among ``size``; ``group`` is None for a process alone."""

    rank: int = 0
    size: int = 1
    group: Any = None

    def broadcast(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks, on rank 0; None elsewhere."""
        if self.size == 1:
            return [value]
        out: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, out, dst=0, group=self.group)
        return out

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks, on every rank."""
        if self.size == 1:
            return [value]
        out: list[Any] = [None] * self.size
        dist.all_gather_object(out, value, group=self.group)
        return out

    def on_zero(self, work: Callable[[], T]) -> T:
        """Do something on rank 0 alone; its result, or its error, on every rank."""
        if self.size == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                result = work()
            except Exception as caught:
                error = caught
        result, message = self.broadcast((result, None if error is None else _portable(error)))
        if error is not None:
            raise error
        if message is not None:
            raise message
        return result  # type: ignore[no-any-return]

    def together(self, work: Callable[[], T]) -> T:
        """Do something on every rank; an error of one rank is raised on all."""
        if self.size == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        try:
            result = work()
        except Exception as caught:
            error = caught
        errors = self.all_gather(None if error is None else _portable(error))
        if error is not None:
            raise error
        for rank, other in enumerate(errors):
            if other is not None:
                raise RuntimeError(f"rank {rank}: {other}") from other
        return result  # type: ignore[no-any-return]

    def agree(self, value: str, what: str) -> None:
        """Refuse to go on when ranks hold different values.

        Raises:
            RuntimeError: they do.
        """
        values = self.all_gather(value)
        if len(set(values)) > 1:
            raise RuntimeError(f"the ranks disagree about {what}: {values}; the run stops here")

    def sync_weights(self, task: LightningModule) -> None:
        """Parameters and buffers of rank 0, on every rank (batch statistics differ after a fit)."""
        if self.size == 1:
            return
        for tensor in task.state_dict().values():
            if isinstance(tensor, Tensor):
                value = tensor.detach().cpu().contiguous()
                dist.broadcast(value, src=0, group=self.group)
                with torch.no_grad():
                    tensor.copy_(value)


def _portable(error: Exception) -> Exception:
    """The same error where it can be sent to another process, else its text."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


ALONE = World()


def check_strategy(trainer: Trainer) -> None:
    """Refuse Trainer strategies that cannot hold a run.

    Raises:
        ValueError: spawn and fork lose the driver's state; sharded ones were never measured.
    """
    from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
    from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher

    strategy = trainer.strategy
    launcher = strategy.launcher
    if isinstance(launcher, _MultiProcessingLauncher):
        raise ValueError(
            f"strategy {type(strategy).__name__} with start method "
            f"{launcher._start_method!r} starts new processes inside each fit and loses the state "
            f"of the run between rounds; choose one of: {SUPPORTED}"
        )
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise ValueError(
            f"strategy {type(strategy).__name__} is not supported in an active-learning run; "
            f"choose one of: {SUPPORTED}"
        )


def _nothing() -> None:
    """What the launcher has to call once the processes are there."""


def join(trainer: Trainer) -> World:
    """Start the other ranks if need be, join the process group, and return this rank's place.

    Each later Trainer with the same strategy finds the group and starts nothing.
    """
    check_strategy(trainer)
    if trainer.world_size == 1:
        return ALONE
    if not (dist.is_available() and dist.is_initialized()):
        launcher = trainer.strategy.launcher
        if launcher is not None:
            launcher.launch(_nothing, trainer=trainer)
        trainer.strategy.setup_environment()
    size = dist.get_world_size()
    if size not in _groups:
        _groups[size] = dist.new_group(backend="gloo") if dist.get_backend() != "gloo" else None
    return World(rank=dist.get_rank(), size=size, group=_groups[size])
