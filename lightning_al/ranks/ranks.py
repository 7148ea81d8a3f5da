"""Every rank runs the same driver; this is how they agree.

Control messages travel over a gloo group of their own, whatever backend trains. A rank that waits
there waits as long as it takes (rank 0 may be asking a person); one that dies closes its
connections, which ends the wait of the others at once.
"""

from __future__ import annotations

import atexit
import logging
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_al.compat import is_a, load_weights, lonely, start_method

from .orphans import LOST, children_watch_this_process, die_with_parent, watch_children

__all__ = ["ALONE", "Ranks", "fitting", "join"]

log = logging.getLogger(__name__)
T = TypeVar("T")

WHOLE = ("SingleDeviceStrategy", "DDPStrategy")  # every process holds the whole model
SUPPORTED = "auto, ddp, ddp_find_unused_parameters_true, ddp_find_unused_parameters_false"
PATIENCE = timedelta(days=7)  # a rank may wait while rank 0 asks a person; see above
BLOCK = 2**24  # bytes a message
_control: list[Any] = []  # the process group that the control group belongs to, and the latter


@dataclass(frozen=True)
class Ranks:
    """One process among ``size``; ``group`` carries the control messages."""

    rank: int = 0
    size: int = 1
    group: Any = None

    def broadcast(self, value: T) -> T:
        """The value of rank 0, on every rank."""
        if self.size == 1:
            return value
        box = [value if self.rank == 0 else None]
        with _talking():
            dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]  # type: ignore[return-value]

    def all_gather(self, value: T) -> list[T]:
        """The values of all ranks, on every rank."""
        if self.size == 1:
            return [value]
        out: list[Any] = [None] * self.size
        with _talking():
            dist.all_gather_object(out, value, group=self.group)
        return out

    def gather_rows(self, mine: Tensor, whole: Tensor | None) -> None:
        """Put each rank's rows at [rank::size] of ``whole`` [N, ...], which only rank 0 gives.

        Rows travel in blocks, so that neither side lays them out in memory once more.

        Args:
            mine: rows [n, ...] of this rank, on the CPU, all ranks' of one dtype and item shape.
            whole: where they go, on rank 0.
        """
        item = mine.shape[1:]
        rows = max(1, BLOCK // max(1, item.numel() * mine.element_size()))
        if self.rank:
            for block in mine.split(rows):
                if block.numel():
                    with _talking():
                        dist.send(_bytes(block.contiguous()), dst=0, group=self.group)
            return
        assert whole is not None
        whole[:: self.size] = mine
        for rank in range(1, self.size):
            for target in whole[rank :: self.size].split(rows):
                if target.numel():
                    block = torch.empty(target.shape, dtype=target.dtype)
                    with _talking():
                        dist.recv(_bytes(block), src=rank, group=self.group)
                    target.copy_(block)

    def on_zero(self, work: Callable[[], T]) -> T:
        """Do something on rank 0 alone; its result, or its error, on every rank."""
        if self.size == 1:
            return work()
        result: Any = None
        error: Exception | None = None
        told = b""
        if self.rank == 0:
            try:
                with lonely():
                    result = work()
                told = pickle.dumps((result, None))
            except Exception as caught:
                error = caught
                told = pickle.dumps((None, _portable(error)))
        told = self.broadcast(told)
        if error is not None:
            raise error
        if self.rank:
            result, error = pickle.loads(told)
            if error is not None:
                raise error
        return result  # type: ignore[no-any-return]

    def together(self, work: Callable[[], T]) -> T:
        """Do something on every rank; an error of one rank is raised on all.

        ``work`` must not send messages itself: a rank that fails would leave the others waiting.
        """
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
                other.add_note(f"raised on rank {rank} of {self.size}")
                raise other
        return result  # type: ignore[no-any-return]

    def agree(self, value: str, what: str) -> None:
        """Refuse to go on when ranks hold different values.

        Raises:
            RuntimeError: they do.
        """
        values = self.all_gather(value)
        if len(set(values)) > 1:
            raise RuntimeError(
                f"the ranks disagree about {what}: {values}; every rank must read the same data "
                "and settings (look for unseeded draws in the data set or in `initial`)"
            )

    def sync_weights(self, task: torch.nn.Module) -> None:
        """Parameters and buffers of rank 0, on every rank (batch statistics differ after a fit).

        A state of another shape than here, or of more than tensors (a task that was fitted on rank
        0 alone), goes through the task's ``load_state_dict``.
        """
        if self.size == 1:
            return
        state = task.state_dict()
        layouts = self.all_gather({name: _layout(value) for name, value in state.items()})
        if any(layout != layouts[0] for layout in layouts) or None in layouts[0].values():
            zeros = self.on_zero(lambda: {name: _on_cpu(v) for name, v in state.items()})
            self.together(lambda: load_weights(task, zeros) if self.rank else None)
            return
        for tensor in state.values():
            value = tensor.detach().cpu().contiguous()
            if value.numel():
                with _talking():
                    dist.broadcast(_bytes(value), src=0, group=self.group)
            with torch.no_grad():
                tensor.copy_(value)


def _bytes(tensor: Tensor) -> Tensor:
    """The same memory as plain bytes: any dtype can be sent."""
    return tensor.view(-1).view(torch.uint8)


def _layout(value: Any) -> tuple[torch.dtype, torch.Size] | None:
    return (value.dtype, value.shape) if isinstance(value, Tensor) else None


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


@contextmanager
def _talking() -> Iterator[None]:
    """Say what it means when the line breaks."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(LOST) from error


BROKEN = re.compile(
    r"(closed|reset) by peer|connection (closed|reset|refused)|broken pipe|gloo|nccl", re.IGNORECASE
)
"""How the libraries that carry gradients between processes say that one of them is gone."""


@contextmanager
def fitting(ranks: Ranks) -> Iterator[None]:
    """Say what it means when the line breaks in the middle of a fit or a test."""
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if ranks.size == 1 or LOST in text or not BROKEN.search(text):
            raise
        raise RuntimeError(f"{LOST} ({text[:120]})") from error


def _portable(error: Exception) -> Exception:
    """The same error where it can be sent to another process, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


ALONE = Ranks()


def check_strategy(trainer: Trainer) -> None:
    """Refuse Trainer strategies that cannot hold a run.

    Raises:
        ValueError: spawn and fork lose the driver's state; sharded ones were never measured.
    """
    strategy = trainer.strategy
    if (method := start_method(trainer)) is not None:
        raise ValueError(
            f"strategy {type(strategy).__name__} with start method {method!r} starts new processes "
            "inside each fit and loses the state of the run between rounds; choose one of: "
            f"{SUPPORTED}"
        )
    derived = {kind.__name__ for kind in type(strategy).__mro__}
    known = any(is_a(strategy, f"strategies.{name}") for name in WHOLE)
    if not known or derived & {"DeepSpeedStrategy", "XLAStrategy", "SingleDeviceXLAStrategy"}:
        raise ValueError(
            f"strategy {type(strategy).__name__} is not supported in an active-learning run, where "
            f"every process must hold the whole model; choose one of: {SUPPORTED}"
        )


def _nothing() -> None:
    """What the launcher has to call once the processes are there."""


def _leave() -> None:
    """Close the groups while Python still runs: gloo's threads may abort a process that ends."""
    _control.clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def join(trainer: Trainer) -> Ranks:
    """Start the other ranks if need be, join the process group, and return this rank's place.

    Each later Trainer with the same strategy finds the group and starts nothing.

    Raises:
        ValueError: a Trainer strategy that cannot hold a run.
    """
    check_strategy(trainer)
    if trainer.world_size == 1:
        return ALONE
    if not (dist.is_available() and dist.is_initialized()):
        die_with_parent()
        launcher = trainer.strategy.launcher
        if launcher is not None:
            with children_watch_this_process():
                launcher.launch(_nothing, trainer=trainer)
            watch_children(getattr(launcher, "procs", ()))
        trainer.strategy.setup_environment()
        atexit.register(_leave)
    if not _control or _control[0] is not dist.group.WORLD:
        _control[:] = dist.group.WORLD, dist.new_group(backend="gloo", timeout=PATIENCE)
    return Ranks(rank=dist.get_rank(), size=dist.get_world_size(), group=_control[1])
