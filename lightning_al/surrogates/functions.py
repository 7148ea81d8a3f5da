"""Simulated regression problems: noisy values of Gaussian process functions, a batch at once.

The functions are those that policies are trained on (:mod:`lightning_al.policies.priors`; Li et al.
2026, "Amortized Safe Active Learning"), and, where wanted, smoother, rougher and noisier ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.policies.priors import Hyper, KernelPrior
from lightning_al.policies.streams import Streams
from lightning_al.values import whole

__all__ = ["FunctionPrior", "Law", "Problems"]

Law = Literal["gamma", "gamma-smooth", "uniform", "wide"]
LAWS = ("gamma", "gamma-smooth", "uniform", "wide")
WIDE_SCALES = 0.05, 10.0  # length scales of the law "wide", log-uniform, in units of the box
WIDE_NOISE = 1e-5, 0.3  # variance of its noise, log-uniform, where a function has about 1
JITTER = 1e-9


@dataclass(frozen=True)
class Problems:
    """B regression problems, the first n points of each the context; float64."""

    x: Tensor  # [B, n + m, D], in [0, 1]
    y: Tensor  # [B, n + m], noisy
    truth: Tensor  # [B, n + m], without noise
    hyper: Hyper  # [B]
    context: int  # n

    @property
    def given(self) -> tuple[Tensor, Tensor]:
        """Points [B, n, D] and values [B, n] of the context."""
        return self.x[:, : self.context], self.y[:, : self.context]

    @property
    def asked(self) -> tuple[Tensor, Tensor]:
        """Points [B, m, D] and noisy values [B, m] to predict."""
        return self.x[:, self.context :], self.y[:, self.context :]

    def take(self, rows: Any) -> Problems:
        """Some of the problems."""
        hyper = self.hyper.take(rows)
        return Problems(self.x[rows], self.y[rows], self.truth[rows], hyper, self.context)


@dataclass(frozen=True)
class FunctionPrior:
    """A law of regression problems on the box [0, 1]^D.

    All problems of a batch have the same D and the same number of context points, drawn for the
    batch, so that nothing is padded.

    Args:
        dimension: D; or the least and the most inputs, of which few are likelier (1 / D).
        context: least and most context points; their logarithm is uniform.
        ahead: points to predict.
        batch: problems of a step, where ``most`` allows.
        most: numbers n D of the contexts of a batch together; larger problems come in smaller
            batches, so that steps take about the same time. None for no limit.
        laws: of length scales and noise, each as likely as the others: those of
            :class:`~lightning_al.policies.KernelPrior`, and "wide" (log-uniform length scales from
            0.05 to 10, and noise variances from 1e-5 to 0.3).
        arcsine: share of the problems whose points crowd at the border (arcsine law); those of
            the others are uniform.

    Raises:
        ValueError: sizes that make no sense, or no such law.
    """

    dimension: int | Sequence[int] = 1
    context: Sequence[int] = (2, 64)
    ahead: int = 32
    batch: int = 64
    most: int | None = None
    laws: Sequence[Law] = field(default=("gamma",))
    arcsine: float = 0.0

    def __post_init__(self) -> None:
        sizes = {"dimension": self.dimensions[0], "ahead": self.ahead, "batch": self.batch}
        for name, value in (*sizes.items(), ("context", self.context[0])):
            whole(1)(name, value)
        if len(self.context) != 2 or self.context[1] < self.context[0]:
            raise ValueError(f"context is the least and the most points, got {self.context}")
        if self.dimensions[1] < self.dimensions[0]:
            raise ValueError(f"dimension is D, or the least and most, got {self.dimension}")
        if unknown := [law for law in self.laws if law not in LAWS] or not self.laws:
            raise ValueError(f"laws are some of {', '.join(LAWS)}, got {unknown or self.laws}")
        if not 0 <= self.arcsine <= 1:
            raise ValueError(f"arcsine is a share from 0 to 1, got {self.arcsine}")

    @property
    def dimensions(self) -> tuple[int, int]:
        """Least and most inputs."""
        if isinstance(self.dimension, int):
            return self.dimension, self.dimension
        low, high = self.dimension
        return low, high

    def __call__(
        self,
        streams: Streams,
        *,
        context: int | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> Problems:
        """Draw a batch.

        Args:
            streams: the random numbers of this step.
            context: so many context points, instead of a drawn number.
            rank: which process; it takes the problems rank, rank + world, ...
            world: how many processes.
            device: where everything lies.
        """
        one = torch.zeros(1, dtype=torch.int64)
        n = context or self._context(streams, one)
        dim = self._dimension(streams, one)
        batch = self.batch
        if self.most is not None:
            batch = max(world, min(batch, self.most // (n * dim)))
        index = torch.arange(rank, batch, world, device=device)
        total = n + self.ahead
        x = streams.uniform("x", index, total, dim)
        crowded = streams.uniform("arcsine", index) < self.arcsine
        x = torch.where(crowded[:, None, None], torch.sin(0.5 * math.pi * x).square(), x)
        hyper = self.hyper(streams, index, dim)
        covariance = hyper.covariance(x, x)
        covariance.diagonal(dim1=-2, dim2=-1).add_(JITTER)
        factor = torch.linalg.cholesky(covariance)
        truth = (factor @ streams.normal("values", index, total).unsqueeze(-1)).squeeze(-1)
        noise = streams.normal("noise", index, total) * hyper.noise.sqrt().unsqueeze(-1)
        return Problems(x, truth + noise, truth, hyper, n)

    def hyper(self, streams: Streams, index: Tensor, dim: int) -> Hyper:
        """True hyper-parameters of the problems index [B], of D inputs."""
        which = streams.between("law", index, 0, len(self.laws) - 1)
        drawn = [self._law(law, streams, index, dim) for law in self.laws]
        rows = torch.arange(len(index), device=index.device)
        return Hyper(
            torch.stack([h.lengthscale for h in drawn], 1)[rows, which],
            torch.stack([h.outputscale for h in drawn], 1)[rows, which],
            torch.stack([h.noise for h in drawn], 1)[rows, which],
        )

    @staticmethod
    def _law(law: Law, streams: Streams, index: Tensor, dim: int) -> Hyper:
        if law != "wide":
            return KernelPrior(law).draw(streams, f"hyper/{law}", index, dim, 0.0)
        scale = _between(streams.uniform("hyper/wide/lengthscale", index, dim), WIDE_SCALES)
        noise = _between(streams.uniform("hyper/wide/noise", index), WIDE_NOISE)
        return Hyper(scale, torch.ones_like(noise), noise)

    def _context(self, streams: Streams, one: Tensor) -> int:
        low, high = self.context
        share = float(streams.uniform("context", one))
        return min(high, int(low * ((high + 1) / low) ** share))

    def _dimension(self, streams: Streams, one: Tensor) -> int:
        low, high = self.dimensions
        chance = 1 / torch.arange(low, high + 1, dtype=torch.float64)
        below = (chance.cumsum(0) / chance.sum()) < streams.uniform("dimension", one)
        return low + int(below.sum())


def _between(u: Tensor, ends: tuple[float, float]) -> Tensor:
    """Log-uniform numbers from uniform ones."""
    low, high = map(math.log, ends)
    return torch.exp(low + (high - low) * u)
