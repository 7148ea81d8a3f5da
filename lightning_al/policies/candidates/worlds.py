"""Simulated functions that are asked point by point, drawn exactly, with what is known of them.

An outcome is drawn from its distribution given all outcomes before it, under the true
hyper-parameters: that is a draw of function and noise, and gives the process's own knowledge at
once. With rows in the order in which they were measured and W the inverse of the lower Cholesky
factor of their covariance, noise included, the leading n x n block of W belongs to the first n.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..likelihood import Given
from ..priors import Hyper
from ..simulators import CENTRE, Simulator
from ..streams import Streams

__all__ = ["Asked", "Known", "World"]

SOUGHT = 8  # places looked at for each safe one at the start


@dataclass(frozen=True)
class Known:
    """What is known of one outcome of R functions after n points; float64."""

    hyper: Hyper
    x: Tensor  # [R, n, D]
    inverse: Tensor  # [R, n, n], of the lower Cholesky factor
    white: Tensor  # [R, n], inverse (outcome - prior mean)
    seen: Tensor | None = None  # [R, n], 1 of the first points, as many as each function has, or 0

    @classmethod
    def of(cls, hyper: Hyper, x: Tensor, y: Tensor) -> Known:
        """From outcomes y [R, n] at x [R, n, D], n >= 1."""
        given = Given.of(hyper, x, y)
        unit = torch.eye(x.shape[1]).to(x).expand_as(given.factor)
        inverse = torch.linalg.solve_triangular(given.factor, unit, upper=False)
        return cls(hyper, x, inverse, given.white)

    def head(self, count: int | Tensor) -> Known:
        """After the first points; as many of each function as counts [R] say, or of all."""
        if isinstance(count, Tensor):
            seen = torch.arange(self.x.shape[1], device=count.device) < count[:, None]
            return Known(self.hyper, self.x, self.inverse, self.white, seen.to(self.x))
        return Known(
            self.hyper,
            self.x[:, :count],
            self.inverse[:, :count, :count],
            self.white[:, :count],
        )

    def side(self, places: Tensor) -> Tensor:
        """The product inverse K(x, places) [R, n, A]; differentiable in places [R, A, D]."""
        side = self.inverse @ self.hyper.covariance(self.x, places)
        return side if self.seen is None else side * self.seen.unsqueeze(-1)

    def variance(self, side: Tensor) -> Tensor:
        """Of the noisy outcome at places with that side [R, A]."""
        prior = (self.hyper.outputscale + self.hyper.noise).unsqueeze(-1)
        return (prior - side.square().sum(-2)).clamp_min(1e-12)

    def mean(self, side: Tensor, places: Tensor) -> Tensor:
        """Expected outcome [R, A]."""
        return self.hyper.mean_at(places) + (self.white.unsqueeze(-2) @ side).squeeze(-2)


class _Walk:
    """One outcome of R functions, with room for `most` points."""

    def __init__(self, hyper: Hyper, x: Tensor, white: Tensor) -> None:
        rows, most = white.shape
        self.known = Known(hyper, x, white.new_zeros(rows, most, most), white)
        self.y = white.new_zeros(rows, most)
        self.count = 0

    def begin(self, y: Tensor) -> None:
        """The first outcomes are y [R, n]; their points stand in `x`."""
        self.count = y.shape[1]
        known = Known.of(self.known.hyper, self.known.x[:, : self.count], y)
        self.known.inverse[:, : self.count, : self.count] = known.inverse
        self.known.white[:, : self.count] = known.white
        self.y[:, : self.count] = y

    def start(self, count: int) -> None:
        """Draw the outcomes of the first points, which stand in `x`."""
        x, hyper = self.known.x[:, :count], self.known.hyper
        covariance = hyper.covariance(x, x)
        covariance.diagonal(dim1=-2, dim2=-1).add_(hyper.noise.unsqueeze(-1))
        drawn = torch.linalg.cholesky(covariance) @ self.known.white[:, :count, None]
        self.begin(hyper.mean_at(x) + drawn.squeeze(-1))

    def go(self) -> None:
        """Draw the outcome of the next point, which stands in `x`."""
        n, all_ = self.count, self.known
        place, known = all_.x[:, n : n + 1], all_.head(n)
        side = known.side(place)  # [R, n, 1]
        deviation = known.variance(side).sqrt()  # [R, 1]
        self.y[:, n] = (known.mean(side, place) + deviation * all_.white[:, n : n + 1]).squeeze(-1)
        all_.inverse[:, n, :n] = -(side.mT @ known.inverse).squeeze(-2) / deviation
        all_.inverse[:, n, n] = 1 / deviation.squeeze(-1)
        self.count += 1


@dataclass(frozen=True)
class Asked:
    """R functions after all of their queries; float64."""

    x: Tensor  # [R, N, D], initial points first
    y: Tensor  # [R, N]
    z: Tensor | None  # [R, N]
    known: Known
    safety: Known | None
    active: Tensor  # [R, D], 1 or 0
    share: float  # of one process among several: what its sums are multiplied by

    def __len__(self) -> int:
        return self.x.shape[1]


@dataclass(frozen=True)
class World:
    """R functions that nobody has asked yet.

    Made by :meth:`of`. Row r depends on the streams and on ``index[r]`` alone, whoever holds it.
    """

    law: Simulator
    streams: Streams
    index: Tensor  # [R], numbers of the functions
    active: Tensor  # [R, D], 1 or 0
    y: Hyper
    z: Hyper | None
    share: float

    @classmethod
    def of(
        cls,
        law: Simulator,
        streams: Streams,
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ) -> World:
        """The functions rank, rank + world, ... of a law; of a kernel it has `functions` each.

        Raises:
            ValueError: more processes than functions.
        """
        total = law.batch.size
        if rank >= total:
            raise ValueError(f"{world} processes share {total} functions; raise batch.kernels")
        index = torch.arange(rank, total, world, device=device)
        kernels = index // (law.batch.functions * law.batch.replicates)
        active = torch.ones(len(index), law.dimension, dtype=torch.float64, device=index.device)
        if law.flexible:
            count = streams.between("active", index, 1, law.dimension)
            active *= torch.arange(law.dimension, device=index.device) < count[:, None]
        y, z = law.prior.draw(streams, "y", kernels, law.dimension, 0.0), None
        if law.safety is not None:
            prior = law.safety.kernel or law.prior
            drawn = prior.draw(streams, "z", kernels, law.dimension, law.safety.share)
            mean = law.safety.mean(streams, kernels, active)
            z = Hyper(drawn.lengthscale, drawn.outputscale, drawn.noise, mean)
        return cls(law, streams, index, active, y, z, world * len(index) / total)

    def uniform(self, role: str, *shape: int) -> Tensor:
        """Uniform numbers [R, *shape] of these functions."""
        return self.streams.uniform(role, self.index, *shape)

    def places(self, role: str, count: int) -> Tensor:
        """Uniform places [R, count, D] of the box; 0 along inputs that do not count."""
        return self.uniform(role, count, self.law.dimension) * self.active[:, None]

    def play(
        self,
        ask: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        queries: int | None = None,
        start: Tensor | None = None,
    ) -> Asked:
        """Draw the initial points, then ask and answer.

        Args:
            ask: from points [R, n, D] and outcomes [R, n] (z too, or None) to queries [R, D].
            queries: how many; the law's horizon by default.
            start: [1, N0, D], where all functions start, safe or not; else each has its own
                initial points, as many as the law says at most.
        """
        first = self.law.starts[1] if start is None else start.shape[1]
        most = first + (self.law.horizon if queries is None else queries)
        x = self.active.new_zeros(len(self.index), most, self.law.dimension)
        walks = [self._walk("y", self.y, x)]
        if self.z is not None:
            walks.append(self._walk("z", self.z, x))
        if start is not None:
            x[:, :first] = start
            for walk in walks:
                walk.start(first)
        elif self.z is None:
            x[:, :first] = self.places("initial", first)
            walks[0].start(first)
        else:
            x[:, :first], z = self._safe(self.z, first)
            walks[0].start(first)
            walks[1].begin(z)
        for n in range(first, most):
            x[:, n] = ask(x[:, :n], *(w.y[:, :n] for w in walks), *[None] * (2 - len(walks)))
            for walk in walks:
                walk.go()
        safety = walks[1] if len(walks) > 1 else None
        return Asked(
            x,
            walks[0].y,
            None if safety is None else safety.y,
            walks[0].known,
            None if safety is None else safety.known,
            self.active,
            self.share,
        )

    def _walk(self, name: str, hyper: Hyper, x: Tensor) -> _Walk:
        return _Walk(hyper, x, self.streams.normal(f"{name}/white", self.index, x.shape[1]))

    def _safe(self, hyper: Hyper, count: int) -> tuple[Tensor, Tensor]:
        """Initial points of a safe problem [R, count, D] and their z [R, count], z >= 0.

        The first safe ones of :data:`SOUGHT` times as many in the middle of the box; where there
        are too few, the safest others. What was not taken is forgotten: the function goes on from
        the points that were.
        """
        tried, (low, high) = SOUGHT * count, CENTRE
        x = (low + (high - low) * self.places("initial", tried)) * self.active[:, None]
        covariance = hyper.covariance(x, x)
        covariance.diagonal(dim1=-2, dim2=-1).add_(hyper.noise.unsqueeze(-1))
        white = self.streams.normal("z/initial", self.index, tried, 1)
        z = hyper.mean_at(x) + (torch.linalg.cholesky(covariance) @ white).squeeze(-1)
        early = 1.0 - torch.arange(tried).to(z) / tried
        rank = torch.where(z >= 0, 1.0 + early, z.clamp_max(0.0).exp() - 1.0)
        taken = rank.argsort(dim=-1, descending=True)[:, :count]
        return x.gather(1, taken[..., None].expand(-1, -1, x.shape[-1])), z.gather(1, taken)
