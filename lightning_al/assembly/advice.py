"""The next experiments from past measurements: those of a trained policy, and a process's own.

Neither is fitted by a run: the policy is trained beforehand, and the Gaussian process, its
hyper-parameters integrated out, is fitted to the measurements once a place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_al.policies import Policy
from lightning_al.policies.shipped import fitting
from lightning_al.randomness import generator, seeded
from lightning_al.records import Box
from lightning_al.strategies.sequential.frames import unit_of
from lightning_al.strategies.sequential.safe import safe_first
from lightning_al.tasks import MarginalGPRegression

__all__ = ["Advice", "Past", "advise"]

WIDE = 1.96  # deviations of a 95 % interval
DRAWN = 5000  # places that the process compares


@dataclass(frozen=True)
class Past:
    """Measurements so far, in their own units; float64."""

    box: Box
    x: Tensor  # [n, D]
    y: Tensor  # [n]
    z: Tensor | None  # [n], safe from 0 on

    @property
    def unit(self) -> Tensor:
        """Places in the unit cube [n, D]."""
        return ((self.x - self.box.low) / (self.box.high - self.box.low)).clamp(0.0, 1.0)

    def and_(self, x: Tensor, outcomes: Tensor) -> Past:
        """With one more place x [D] and what it is taken to give, [1 or 2]."""
        z = None if self.z is None else torch.cat([self.z, outcomes[1:2]])
        return replace(
            self, x=torch.cat([self.x, x[None]]), y=torch.cat([self.y, outcomes[:1]]), z=z
        )


@dataclass(frozen=True)
class Advice:
    """A place to measure next, and what a Gaussian process expects of its outcome there."""

    by: str  # who asks for it: the policy's name, or "gaussian process"
    x: Tensor  # [D], in the units of the measurements
    mean: float
    low: float  # of the 95 % interval of the outcome, noise included
    high: float
    safe: float | None  # probability of z >= 0; None where no safety is measured


def advise(
    past: Past, k: int, policy: str = "auto", *, gamma: float = 0.05, seed: int = 0
) -> list[Advice]:
    """The next k places by a policy, then k by a Gaussian process.

    Within a batch what the process expects stands in for outcomes that are not there yet
    (Ginsbourger, Le Riche, Carraro, 2010, the "kriging believer").

    Args:
        past: one measurement at least; a policy sees the latest ones, where there are more than it
            was trained on.
        k: 1 or more.
        policy: "auto" for the shipped one with as many inputs, or a name or path.
        gamma: probability of being unsafe that the process tolerates in places of its own.
        seed: of places that the process compares, and of its hyper-parameters.

    Raises:
        LookupError: no shipped policy has as many inputs.
        ValueError: no measurement, k below 1, or what the policy refuses.
    """
    if not len(past.x):
        raise ValueError("nothing was measured yet; measure a place first, any of the box will do")
    if k < 1:
        raise ValueError(f"k is 1 or more places, got {k}")
    name = fitting(past.x.shape[1], past.z is not None) if policy == "auto" else policy
    trained = Policy.load(name)

    def by_policy(now: Past, task: MarginalGPRegression, draws: torch.Generator) -> Tensor:
        return _asked(trained, now)

    def by_process(now: Past, task: MarginalGPRegression, draws: torch.Generator) -> Tensor:
        places = torch.rand(DRAWN, now.x.shape[1], generator=draws, dtype=torch.float64)
        raw = task.raw(places)
        above = torch.ones(DRAWN) if now.z is None else raw[:, 1] / raw[:, 3].sqrt()
        limit = 0.5 if now.z is None else gamma
        rows, _ = safe_first(raw[:, raw.shape[1] // 2], above, 1, draws, gamma=limit)
        return places[rows[0]]

    asks = {str(name): by_policy, "gaussian process": by_process}
    return [a for who, ask in asks.items() for a in _batch(past, k, who, ask, seed)]


def _batch(
    past: Past,
    k: int,
    who: str,
    ask: Callable[[Past, MarginalGPRegression, torch.Generator], Tensor],
    seed: int,
) -> list[Advice]:
    """K places one by one, each with the process's guess as the outcome of those before."""
    found, now = [], past
    for place in range(k):
        task = MarginalGPRegression(1 if now.z is None else 2, safety=now.z is not None)
        with seeded(seed, len(now.x), "advice"):
            task.learn(now.unit, now.y if now.z is None else torch.stack([now.y, now.z], 1))
        unit = ask(now, task, generator(seed, place, "advice"))
        said = task.raw(unit[None])[0]
        mean, variance = said.chunk(2)
        half = WIDE * float(variance[0].sqrt())
        safe = None if now.z is None else float(torch.special.ndtr(mean[1] / variance[1].sqrt()))
        x = now.box.low + unit.to(now.x) * (now.box.high - now.box.low)
        middle = float(mean[0])
        found.append(Advice(who, x, middle, middle - half, middle + half, safe))
        now = now.and_(x, mean)
    return found


def _asked(policy: Policy, past: Past) -> Tensor:
    """A policy's next place [D] in the unit cube; it is told the latest points that it can take."""
    last = slice(-policy.card.history, None)
    y, z = past.y, past.z
    y = (y - y.mean()) / unit_of(y)
    if z is not None:  # its 0 is the limit, and it may hardly vary: scaled by its mean square
        size = z.square().mean().sqrt()
        z = (z / torch.where(size > 0, size, 1.0))[last]
    return policy.query(past.unit[last], y[last], 1, z).double()
