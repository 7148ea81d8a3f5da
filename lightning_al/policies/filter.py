"""A check of safety at run time: what a policy proposes is moved where it is not safe enough.

Policies have learnt to be safe on average over simulated functions; nothing holds them to it on
the function at hand. A filter learns from the safety measurements so far and asks of each proposal
whether z >= 0 there with probability 1 - gamma. Off by default, as published.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_al.gp.safety import SafeProcess
from lightning_al.scores.safety import needed_deviations

__all__ = ["Guard", "Moved", "SafetyFilter", "toward", "upper_quantile"]

READ = 256  # candidates looked at together


@dataclass(frozen=True)
class Moved:
    """Where a proposal went."""

    row: int  # of the candidates, in the order in which they were shown; -1: it stays
    probability: float  # P(z >= 0) under the process, at the proposal
    safe: bool  # whether the place that was taken is safe enough


@dataclass(frozen=True)
class Guard:
    """What is known of z: its process, and how many deviations above 0 are asked for.

    Phi of the deviations of a place is the probability that z >= 0 there, noise included.
    """

    process: SafeProcess
    needed: float

    def deviations(self, points: Tensor) -> Tensor:
        """Deviations [m] by which z is expected above 0 at points [m, D]: the order of safety."""
        return self.process.deviations(points)

    def enough(self, points: Tensor) -> Tensor:
        """Whether points [m, D] are safe enough, bool [m]."""
        return self.deviations(points) >= self.needed

    def settle(self, proposal: Tensor, candidates: Iterable[Tensor]) -> Moved:
        """Keep a proposal [D] that is safe enough, or find the first candidate that is.

        Args:
            proposal: in [0, 1].
            candidates: blocks [m, D], in the order of preference (the nearest first); they are
                read as far as needed. Where none is safe enough, the safest one is taken: of all
                candidates and the proposal, the one whose z is most deviations above 0.
        """
        best, row = float(self.deviations(proposal.reshape(1, -1))), -1
        probability = float(torch.special.ndtr(torch.tensor(best, dtype=torch.float64)))
        if best >= self.needed:
            return Moved(-1, probability, True)
        seen = 0
        for block in candidates:
            for part in block.split(READ):
                above = self.deviations(part)
                enough = (above >= self.needed).nonzero().flatten()
                if len(enough):
                    return Moved(seen + int(enough[0]), probability, True)
                if len(part) and float(above.max()) > best:
                    best, row = float(above.max()), seen + int(above.argmax())
                seen += len(part)
        return Moved(row, probability, False)


@dataclass(frozen=True)
class SafetyFilter:
    """How a proposal is checked.

    Args:
        kind: "gp" asks for P(z >= 0) >= 1 - gamma under a Gaussian process whose hyper-parameters
            are integrated out (:class:`lightning_al.gp.safety.SafeProcess`). "conformal" does not
            take its word for it: it asks for as many deviations as 1 - gamma of the measurements so
            far lay below what the others made expect (a jackknife), and for no fewer than "gp".
            With fewer than 1/gamma - 1 measurements no such share can be told; then it is the
            largest of these. Queries are no random sample, so this is a calibration, and no
            guarantee.
        gamma: probability of being unsafe that is tolerated.
    """

    kind: Literal["gp", "conformal"] = "gp"
    gamma: float = 0.05

    def __post_init__(self) -> None:
        if self.kind not in ("gp", "conformal"):
            raise ValueError(f"a safety filter is 'gp' or 'conformal', got {self.kind!r}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is a probability above 0, at most 1, got {self.gamma}")

    def fit(self, x: Tensor, z: Tensor) -> Guard:
        """Learn from measurements z [n] at x [n, D] in [0, 1]; n >= 1.

        Far from all measurements places are rather unsafe than safe.

        Raises:
            ValueError: shapes that do not go together, or numbers that are not finite.
        """
        if x.ndim != 2 or z.shape != x.shape[:1] or not len(z):
            raise ValueError(
                f"a safety filter learns from x [n, D] and z [n], n >= 1, got {list(x.shape)} and "
                f"{list(z.shape)}"
            )
        if not bool(x.isfinite().all() and z.isfinite().all()):
            raise ValueError("x or z holds NaN or infinities; leave such points out")
        return self.guard(SafeProcess.given(x, z))

    def guard(self, process: SafeProcess) -> Guard:
        """The guard of a process that is there already."""
        needed = needed_deviations(self.gamma)
        if self.kind == "gp" or math.isinf(needed):
            return Guard(process, needed)
        below = process.left_out()
        found = upper_quantile(below, self.gamma)
        return Guard(process, max(float(below.max()) if found is None else found, needed))


def upper_quantile(residuals: Tensor, gamma: float) -> float | None:
    """The least value that a new one exceeds with probability gamma at most: residuals [n].

    The ceil((n + 1)(1 - gamma))-th smallest, were all n + 1 in random order; minus infinity at
    gamma = 1, None where n is too small to tell.

    Source: Vovk, Gammerman and Shafer (2005); of leave-one-out residuals: Barber, Candes, Ramdas
    and Tibshirani (2021).

    >>> upper_quantile(torch.arange(19.0), 0.05), upper_quantile(torch.arange(18.0), 0.05)
    (18.0, None)
    """
    n = len(residuals)
    rank = math.ceil((n + 1) * (1 - gamma) - 1e-9)
    if rank < 1:
        return -math.inf
    return None if rank > n else float(residuals.sort().values[rank - 1])


def toward(place: Tensor, goal: Tensor, steps: int = 64) -> Tensor:
    """Points [steps, D] on the way from a place [D] to a goal [D], which is the last."""
    share = torch.arange(1, steps + 1, dtype=torch.float64, device=place.device) / steps
    return place.double() + share[:, None] * (goal.double() - place.double())
