"""SWAG: a Gaussian over all weights, from those that stochastic gradient descent passed by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parameters_to_vector

from lightning_al.networks import build, spec_of
from lightning_al.networks.network_specs import (
    embedding_layer,
    gives_members,
    member_count,
    record,
)
from lightning_al.randomness import generator

from .protocol import Drawn, Reader, ShapeFree

__all__ = ["SWAG", "SWAGNetwork", "SWAGSession", "moments_of"]


class SWAGNetwork(nn.Module):
    """A network that remembers the moments of its weights over the end of a fit.

    The moments are buffers, so that checkpoints hold them: mean and mean square of all P
    parameters, and the last ``rank`` deviations from the mean, (rank + 2) P numbers. The callback
    ``lightning_al.callbacks.CollectSWAG`` feeds them.

    Maddox, Garipov, Izmailov, Vetrov, Wilson (2019), "A Simple Baseline for Bayesian Uncertainty
    in Deep Learning", section 3 and algorithm 1.

    Args:
        network: module, or spec; outputs and embedding are its own.
        rank: columns of the low-rank part, at least 2.
    """

    mean: Tensor  # [P]
    square: Tensor  # [P]
    deviations: Tensor  # [rank, P], a ring
    seen: Tensor  # [], how many weights were taken in

    def __init__(self, network: nn.Module | dict[str, Any], rank: int = 20) -> None:
        super().__init__()
        if rank < 2:
            raise ValueError(f"SWAG needs rank 2 or more, got {rank}")
        self.network, self.rank = build(network), rank
        count = sum(p.numel() for p in self.network.parameters())
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("square", torch.zeros(count))
        self.register_buffer("deviations", torch.zeros(rank, count))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        if (spec := spec_of(self.network)) is not None:
            record(self, SWAGNetwork, network=spec, rank=rank)

    @property
    def gives_members(self) -> bool:
        """Whether the network inside does."""
        return gives_members(self.network)

    @property
    def member_count(self) -> int:
        """Of the network inside."""
        return member_count(self.network)

    def forward(self, *inputs: Any) -> Tensor:
        """The network's outputs under the weights that it has now."""
        outputs: Tensor = self.network(*inputs)
        return outputs

    @property
    def embedding_layer(self) -> str | tuple[str, ...] | None:
        """Where the network's embedding lies."""
        place = embedding_layer(self.network)
        if place is None or isinstance(place, str):
            return place and f"network.{place}"
        return tuple(f"network.{name}" for name in place)

    def restart(self) -> None:
        """Forget the moments."""
        for buffer in (self.mean, self.square, self.deviations, self.seen):
            buffer.zero_()

    @torch.no_grad()
    def collect(self) -> None:
        """Take the weights of this moment into the moments."""
        weights = parameters_to_vector(self.network.parameters()).to(self.mean)
        n = int(self.seen)
        self.mean.mul_(n / (n + 1)).add_(weights, alpha=1 / (n + 1))
        self.square.mul_(n / (n + 1)).add_(weights.square(), alpha=1 / (n + 1))
        self.deviations[n % self.rank] = weights - self.mean
        self.seen += 1

    def draw(self, drawn: torch.Generator, scale: float) -> Tensor:
        """Weights [P] of one member (equation 1), on the CPU.

        Raises:
            ValueError: fewer than two weights were taken in.
        """
        if int(self.seen) < 2:
            raise ValueError(
                f"SWAG saw the weights {int(self.seen)} times, and needs 2 or more: put "
                "callbacks.CollectSWAG into the Trainer, with enough epochs"
            )
        used = min(int(self.seen), self.rank)
        mean = self.mean.cpu()
        variance = (self.square.cpu() - mean.square()).clamp_min(1e-30)
        first = torch.randn(mean.shape, generator=drawn)
        second = torch.randn(used, generator=drawn)
        low_rank = second @ self.deviations[:used].cpu() / math.sqrt(2 * (used - 1))
        return mean + math.sqrt(scale) * (variance.sqrt() * first / math.sqrt(2) + low_rank)


def moments_of(module: nn.Module) -> SWAGNetwork:
    """The one :class:`SWAGNetwork` inside a module.

    Raises:
        LookupError: none is there, or several.
    """
    found = [m for m in module.modules() if isinstance(m, SWAGNetwork)]
    if len(found) != 1:
        raise LookupError(
            f"{type(module).__name__} holds {len(found)} SWAGNetworks, one is needed: build the "
            "task on SWAGNetwork(network)"
        )
    return found[0]


@dataclass(frozen=True)
class SWAG:
    """Members are networks with weights drawn from the SWAG Gaussian (diagonal plus low rank).

    Each batch runs the network S times. All members' weights are held on the CPU, S P numbers.
    Where the network has batch normalisation, each member's statistics are taken anew from the
    labelled set, as the paper does. Embeddings are those of the trained weights.

    Args:
        members: S.
        scale: of the covariance; the paper uses 1, and 0.5 where that does better.
    """

    members: int = 20
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"SWAG needs 2 members or more, got {self.members}")
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")

    def rehearse(self, task: nn.Module, callbacks: Iterable[Any]) -> None:
        """Let an untrained task be scored: it takes in its weights as they are.

        Args:
            task: built on a :class:`SWAGNetwork`.
            callbacks: of the run's Trainer.

        Raises:
            LookupError: no such network, or nobody who will feed it.
        """
        network = moments_of(task)
        if not any(getattr(c, "collects_moments", False) for c in callbacks):
            raise LookupError(
                "SWAG needs callbacks.CollectSWAG among the Trainer's callbacks, which takes the "
                "weights in while they are trained"
            )
        network.collect()
        network.collect()

    def start(self, seed: int, round: int) -> SWAGSession:
        """Begin a scoring pass."""
        return SWAGSession(self, seed, round)


class SWAGSession(ShapeFree):
    """One scoring pass of :class:`SWAG`."""

    def __init__(self, settings: SWAG, seed: int, round: int) -> None:
        self.it, self.seed, self.round = settings, seed, round
        self._weights: list[Tensor] = []
        self._statistics: list[list[Tensor]] = []  # of batch normalisation, by member

    def _drawn(self, task: nn.Module) -> list[Tensor]:
        if not self._weights:
            source = moments_of(task)
            for s in range(self.it.members):
                drawn = generator(self.seed, self.round, "swag", s)
                self._weights.append(source.draw(drawn, self.it.scale))
        return self._weights

    def learn(self, task: nn.Module, adapter: Reader, batches: Callable[[], Iterable[Any]]) -> None:
        """Take each member's batch statistics over the labelled set; nothing without such layers.

        Args:
            task: the trained module.
            adapter: how it is read.
            batches: gives batches of the labelled items' inputs, on the task's device.
        """
        norms = _norms(task)
        if not norms:
            return
        for weights in self._drawn(task):
            with _wearing(task, weights), torch.no_grad():
                task.eval()
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # the plain mean over batches
                    norm.train()
                for inputs in batches():
                    adapter.run(task, inputs)
                self._statistics.append([b.clone() for b in _buffers(norms)])
        task.eval()

    def members(
        self,
        task: nn.Module,
        adapter: Reader,
        inputs: Any,
        n: int,
        *,
        outputs: bool = True,
        embedding: bool = False,
    ) -> Drawn:
        """Outputs [n, S, ...] for one batch.

        Raises:
            LookupError: a task without a :class:`SWAGNetwork`.
            ValueError: moments of fewer than two weights.
            RuntimeError: batch normalisation, and :meth:`learn` was not called.
        """
        task.eval()
        norms = _norms(task)
        with torch.no_grad():
            hidden = adapter.run(task, inputs, embedding=True)[1] if embedding else None
            if not outputs:
                return Drawn(None, hidden)
            parts = []
            for s, weights in enumerate(self._drawn(task)):
                with _wearing(task, weights):
                    if norms and not self._statistics:
                        raise RuntimeError("SWAG needs the labelled set: call session.learn first")
                    for buffer, value in zip(
                        _buffers(norms), self._statistics[s] if norms else [], strict=True
                    ):
                        buffer.copy_(value)
                    parts.append(adapter.sampled(adapter.run(task, inputs)[0]))
        return Drawn(torch.cat(parts, dim=1), hidden)


def _norms(module: nn.Module) -> list[_BatchNorm]:
    found = moments_of(module).modules()
    return [m for m in found if isinstance(m, _BatchNorm) and m.track_running_stats]


def _buffers(norms: Iterable[_BatchNorm]) -> list[Tensor]:
    return [buffer for norm in norms for buffer in norm.buffers()]


@contextmanager
def _wearing(task: nn.Module, weights: Tensor) -> Iterator[None]:
    """The task under other weights; weights and batch statistics are put back after."""
    network = moments_of(task).network
    norms = _norms(task)
    parameters = list(network.parameters())
    own = parameters_to_vector(parameters).detach().clone()
    statistics = [b.clone() for b in _buffers(norms)]
    momenta = [norm.momentum for norm in norms]
    try:
        with torch.no_grad():
            _put(weights.to(own), parameters)
        yield
    finally:
        with torch.no_grad():
            _put(own, parameters)
            for buffer, value in zip(_buffers(norms), statistics, strict=True):
                buffer.copy_(value)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _put(weights: Tensor, parameters: list[nn.Parameter]) -> None:
    """Write [P] into parameters, in place."""
    at = 0
    for p in parameters:
        p.copy_(weights[at : at + p.numel()].view_as(p))
        at += p.numel()
