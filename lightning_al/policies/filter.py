"""A check of safety at run time: what a policy proposes is moved where it is not safe enough.

Policies have learnt to be safe on average over simulated functions; nothing holds them to it on
the function at hand. A filter fits a Gaussian process to the safety measurements so far and asks
of each proposal whether z >= 0 there with probability 1 - gamma. Off by default, as published.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_al.gp import ExactGP, Prior, fit_exact
from lightning_al.scores.safety import needed_deviations

__all__ = ["Guard", "Moved", "SafetyFilter", "leave_one_out", "toward", "upper_quantile"]

BLOCK = 2**22  # elements of a covariance [m, n] looked at together: 32 MiB
LENGTH, LEVEL, NOISE = (
    Prior(0.5, 1.0, 1e-2, 1e2),
    Prior(1.0, 1.0, 1e-2, 1e2),
    Prior(1e-2, 2.0, 1e-6),
)
"""Priors for inputs in [0, 1] and measurements of mean square 1."""


@dataclass(frozen=True)
class Moved:
    """Where a proposal went."""

    row: int  # of the candidates, in the order in which they were shown; -1: it stays
    probability: float  # P(z >= 0) under the process, at the proposal
    safe: bool  # whether the place that was taken is safe enough


@dataclass(frozen=True)
class Guard:
    """What is known of z: its process, and how far below the mean the bound lies.

    A place is safe enough where ``mean - quantile * deviation >= 0``, noise included.
    """

    process: ExactGP  # of z in units of `scale`
    scale: float
    quantile: float

    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [m] of a measurement of z at points [m, D], noise included."""
        points = points.to(self.process.x)
        rows = max(1, BLOCK // max(1, len(self.process.x)))
        parts = [self.process.moments(part) for part in points.split(rows)]
        mean, variance = (torch.cat(values) for values in zip(*parts, strict=True))
        return mean * self.scale, (variance + self.process.noise).sqrt() * self.scale

    def lower(self, points: Tensor) -> Tensor:
        """Lower bound [m] of z at points [m, D]: safe enough where it is at least 0."""
        mean, deviation = self.moments(points)
        if math.isinf(self.quantile):
            return torch.full_like(mean, -self.quantile)
        return mean - self.quantile * deviation

    def deviations(self, points: Tensor) -> Tensor:
        """Deviations [m] by which z is expected above 0: the order of safety."""
        mean, deviation = self.moments(points)
        return mean / deviation

    def settle(self, proposal: Tensor, candidates: Iterable[Tensor]) -> Moved:
        """Keep a proposal [D] that is safe enough, or find the first candidate that is.

        Args:
            proposal: in [0, 1].
            candidates: blocks [m, D], in the order of preference (the nearest first); they are
                read as far as needed. Where none is safe enough, the safest one is taken: of all
                candidates and the proposal, the one whose z is most deviations above 0.
        """
        here = proposal.reshape(1, -1)
        best, row = float(self.deviations(here)), -1
        probability = float(torch.special.ndtr(torch.tensor(best, dtype=torch.float64)))
        if bool(self.lower(here) >= 0):
            return Moved(-1, probability, True)
        seen = 0
        for block in candidates:
            enough = (self.lower(block) >= 0).nonzero().flatten()
            if len(enough):
                return Moved(seen + int(enough[0]), probability, True)
            ratio = self.deviations(block)
            if len(block) and float(ratio.max()) > best:
                best, row = float(ratio.max()), seen + int(ratio.argmax())
            seen += len(block)
        return Moved(row, probability, False)


@dataclass(frozen=True)
class SafetyFilter:
    """How a proposal is checked.

    Args:
        kind: "gp" asks for P(z >= 0) >= 1 - gamma under the process. "conformal" does not take its
            word for the deviations: its bound lies as many of them below the mean as 1 - gamma of
            the measurements so far did at most, each predicted from the others (a jackknife).
            With fewer than 1/gamma - 1 measurements no such share can be told; then it is the
            largest of these, and no less than "gp" asks for. Queries are no random sample, so this
            is a calibration, and no guarantee.
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

        The process has mean zero, so that far from all measurements safe and unsafe are as likely.

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
        x, z = x.double(), z.double()
        scale = float(z.square().mean().sqrt()) or 1.0
        kernel, noise, _ = fit_exact(x, z / scale, "rbf", LENGTH, LEVEL, NOISE)
        return self.guard(ExactGP.given(kernel, noise, x, z / scale), scale)

    def guard(self, process: ExactGP, scale: float = 1.0) -> Guard:
        """The guard of a process that is there already, of z in units of ``scale``."""
        needed = needed_deviations(self.gamma)
        if self.kind == "gp":
            return Guard(process, scale, needed)
        mean, deviation = leave_one_out(process)
        values = (process.factor @ process.white.unsqueeze(-1)).squeeze(-1)
        below = (mean - values) / deviation
        found = upper_quantile(below, self.gamma)
        return Guard(process, scale, max(float(below.max()), needed) if found is None else found)


def leave_one_out(process: ExactGP) -> tuple[Tensor, Tensor]:
    """Each value predicted from all the others: mean and deviation [n], noise included.

    With K the covariance of the n noisy values y: mean_i = y_i - (K^-1 y)_i / (K^-1)_ii and
    variance_i = 1 / (K^-1)_ii; the hyper-parameters stay.

    Source: Rasmussen and Williams (2006), equation 5.12.
    """
    weights = torch.linalg.solve_triangular(
        process.factor.mT, process.white.unsqueeze(-1), upper=True
    )
    precision = torch.cholesky_inverse(process.factor).diagonal(dim1=-2, dim2=-1)
    values = (process.factor @ process.white.unsqueeze(-1)).squeeze(-1)
    return values - weights.squeeze(-1) / precision, precision.rsqrt()


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
