"""What asking at a place is worth, in closed form, under the true hyper-parameters.

Nothing here goes through a network or a rollout: a target is a function of the points measured and
of one place more, differentiable in it. Higher is better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .worlds import Asked, Known, World

__all__ = ["Target", "Worth"]

OFFSET = 1e-5  # keeps the logarithm of a probability finite
TINY = 1e-12  # of a variance


@dataclass(frozen=True)
class Target:
    """What a policy learns to want.

    Args:
        kind: "entropy" of the outcome, up to a constant (log of its standard deviation, nats);
            "mutual" information of the outcome and noisy outcomes on a grid (nats); "ivr", half
            the log of the variance that asking takes away, averaged over the box (active learning
            Cohn; Cohn, Ghahramani, Jordan, 1996).
        gamma: being unsafe with a probability up to this is as good as never; for a safe policy.
            Give less than what is to be promised. "- log P(unsafe)" is added.
        points: of the grid, or over which "ivr" averages.

    Raises:
        ValueError: another kind, a gamma that is no probability in between, no points.
    """

    kind: Literal["entropy", "mutual", "ivr"] = "entropy"
    gamma: float = 0.02
    points: int = 100

    def __post_init__(self) -> None:
        if self.kind not in ("entropy", "mutual", "ivr"):
            raise ValueError(f"no target named {self.kind!r}; choose one of entropy, mutual, ivr")
        if not 0 < self.gamma < 1:
            raise ValueError(f"gamma is a probability in (0, 1), got {self.gamma}")
        if self.points < 1:
            raise ValueError(f"points are 1 or more, got {self.points}")

    def of(self, world: World, asked: Asked, inputs: Tensor | None = None) -> Worth:
        """What it is worth to ask the functions of a world, at any length of their history.

        Args:
            world: names the random numbers of grids.
            asked: the same functions after all of their queries.
            inputs: [M, D], where the function is wanted, such as a pool; "ivr" averages over some
                of these instead of the box.
        """
        dim = asked.active.shape[1]
        grid: Known | None = None
        over: Tensor | None = None
        if self.kind == "mutual":
            u = torch.sin(0.5 * torch.pi * world.uniform("grid", self.points, dim)).square()
            x = torch.cat([u * asked.active[:, None], asked.x], 1)
            grid = Known.of(world.y, x, torch.zeros_like(x[..., 0]))
        if self.kind == "ivr":
            over = world.places("over", self.points)
            if inputs is not None:
                taken = (world.uniform("over", self.points) * len(inputs)).long()
                over = inputs.to(over)[taken.clamp_max(len(inputs) - 1)] * asked.active[:, None]
        return Worth(self, asked, grid, over)


@dataclass(frozen=True)
class Worth:
    """A target for R functions; :meth:`at` gives it after the first n points."""

    target: Target
    asked: Asked
    grid: Known | None  # given the grid, then the points measured; outcomes do not matter
    over: Tensor | None  # [R, M, D]

    def at(self, count: int | Tensor, places: Tensor) -> Tensor:
        """Worth [R, A] of places [R, A, D] after the first points, of each `count` [R]; float64."""
        known = self.asked.known.head(count)
        side = known.side(places)
        variance = known.variance(side)
        if self.over is not None:
            worth = 0.5 * self._reduction(known, side, variance, places).log()
        else:
            worth = 0.5 * variance.log()
        if self.grid is not None:
            more = self.grid.head(self.target.points + count)
            worth = worth - 0.5 * more.variance(more.side(places)).log()
        if self.asked.safety is None:
            return worth
        return worth - torch.log(self.unsafe(count, places).clamp_min(self.target.gamma) + OFFSET)

    def unsafe(self, count: int | Tensor, places: Tensor) -> Tensor:
        """P(z < 0) [R, A], noise included, after the first points."""
        if self.asked.safety is None:
            raise ValueError("functions without z have no safety; simulate with a SafetyPrior")
        known = self.asked.safety.head(count)
        side = known.side(places)
        above = known.mean(side, places) / known.variance(side).sqrt()
        return torch.special.ndtr(-above)

    def _reduction(self, known: Known, side: Tensor, variance: Tensor, places: Tensor) -> Tensor:
        """Mean over `over` of the variance that an outcome at places takes away [R, A]."""
        if self.over is None:
            raise ValueError("there is nothing to average over")
        prior = known.hyper.covariance(places, self.over)  # [R, A, M]
        common = prior - side.mT @ known.side(self.over)
        return (common.square().mean(-1) / variance).clamp_min(TINY)
