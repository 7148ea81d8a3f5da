"""Mixtures: of Gaussians as a member's density, and of the members as one prediction."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.scores.numerics import wide

from .density import PredictiveDensity, Units
from .gaussian import LOG_2_PI, GaussianDensity, normal_pdf
from .quantiles import bracketed, solve

__all__ = ["MixtureDensity", "PooledDensity", "pooled"]

TABLE, REACH = 17, 6.0  # scores of each component between which quantiles are first looked for


class MixtureDensity(PredictiveDensity):
    """Mixtures of K Gaussians, outputs independent inside a component.

    Bishop (1994), "Mixture Density Networks".

    Args:
        log_weights: [*batch, K]; they are normalised here.
        loc: means of z [*batch, K, D].
        std: deviations of z [*batch, K, D], above 0.
        units: of the target.
    """

    exact_crps: ClassVar[bool] = True

    def __init__(
        self, log_weights: Tensor, loc: Tensor, std: Tensor, units: Units | None = None
    ) -> None:
        super().__init__(loc.shape[:-2], loc, loc.shape[-1], units)
        self.log_weights = log_weights.log_softmax(-1)
        self.loc, self.std = loc, std

    @property
    def width(self) -> int:
        """One number chooses the component."""
        return self.outputs + 1

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density [..., *batch] at z [..., *batch, D]."""
        off = (z.unsqueeze(-2) - self.loc) / self.std
        each = -0.5 * (off.square() + 2 * self.std.log() + LOG_2_PI).sum(-1)
        return torch.logsumexp(each + self.log_weights, -1)

    def marginals(self, z: Tensor) -> Tensor:
        """Distribution function of each output."""
        off = (z.unsqueeze(-2) - self.loc) / self.std
        return (torch.special.ndtr(off) * self.log_weights.exp().unsqueeze(-1)).sum(-2)

    def at_scores(self, scores: Tensor) -> Tensor:
        """Quantiles of each output, at standard normal scores; found between their components'."""
        score = scores.to(self.loc).unsqueeze(-2)
        each = self.loc + self.std * score  # [..., *batch, K, D]
        low, high = each.amin(-2), each.amax(-2)
        below, above = self._table(scores.expand_as(low))
        low, high = torch.maximum(low, below), torch.minimum(high, above)
        upper = (scores > 0).expand_as(low)  # tails are small numbers on both sides: mirrored
        sign = torch.where(upper, -1.0, 1.0).to(low)
        loc, weights = sign.unsqueeze(-2) * self.loc, self.log_weights.exp().unsqueeze(-1)

        def curve(z: Tensor) -> tuple[Tensor, Tensor]:
            off = (z.unsqueeze(-2) - loc) / self.std
            slope = (normal_pdf(off) / self.std * weights).sum(-2)
            return (torch.special.ndtr(off) * weights).sum(-2), slope

        levels = torch.special.ndtr(-scores.abs()).to(low).expand_as(low)
        mirrored = torch.where(upper, -high, low), torch.where(upper, -low, high)
        return sign * solve(curve, levels, *mirrored)

    def _table(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Quantiles of components that enclose those of the mixture, at scores [..., *batch, D]."""
        spread = torch.linspace(-REACH, REACH, TABLE).to(self.loc)
        nodes = self.loc.unsqueeze(-1) + self.std.unsqueeze(-1) * spread  # [*batch, K, D, T]
        nodes = nodes.movedim(-3, -2).flatten(-2).sort(-1).values  # [*batch, D, K T]
        values = self.marginals(nodes.movedim(-1, 0)).movedim(0, -1)
        shape = (*self.batch_shape, self.outputs)
        lead = scores.shape[: scores.ndim - len(shape)]
        levels = torch.special.ndtr(scores).to(self.loc).reshape(-1, *shape).movedim(0, -1)
        found = bracketed(nodes, values.contiguous(), levels.contiguous())
        below, above = (part.movedim(-1, 0).reshape(*lead, *shape) for part in found)
        return below, above

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [*batch, D]."""
        weights = self.log_weights.exp().unsqueeze(-1)
        mean = (weights * self.loc).sum(-2)
        away = (self.loc - mean.unsqueeze(-2)).square()
        return mean, (weights * (self.std.square() + away)).sum(-2)

    def push(self, points: Tensor) -> Tensor:
        """Draws [M, *batch, D]; the first of their uniform numbers chooses the component."""
        share = self.log_weights.exp().cumsum(-1)  # [*batch, K]
        chosen = (points[..., :1] > share[..., :-1]).sum(-1)  # [M, *batch]
        index = chosen[..., None, None].expand(*chosen.shape, 1, self.outputs)
        shape = (*chosen.shape, *self.loc.shape[-2:])
        chosen_of = (part.expand(shape).gather(-2, index) for part in (self.loc, self.std))
        loc, std = (part[..., 0, :] for part in chosen_of)
        return loc + std * torch.special.ndtri(points[..., 1:]).to(loc)

    def ranked(self, z: Tensor) -> Tensor:
        """CRPS [*batch, D], exactly.

        Source: Grimit, Gneiting, Berrocal, Johnson (2006), equation 5.
        """
        weights = self.log_weights.exp().unsqueeze(-1)  # [*batch, K, 1]
        first = (weights * _absolute(z.unsqueeze(-2) - self.loc, self.std)).sum(-2)
        apart = self.loc.unsqueeze(-2) - self.loc.unsqueeze(-3)  # [*batch, K, K, D]
        both = torch.hypot(self.std.unsqueeze(-2), self.std.unsqueeze(-3))
        pairs = weights.unsqueeze(-2) * weights.unsqueeze(-3)
        return first - 0.5 * (pairs * _absolute(apart, both)).sum((-3, -2))


def _absolute(mean: Tensor, std: Tensor) -> Tensor:
    """E|X| of normal X, element by element."""
    off = mean / std
    return 2 * std * normal_pdf(off) + mean * (2 * torch.special.ndtr(off) - 1)


class PooledDensity(PredictiveDensity):
    """The members of a density as one prediction: [n, S] -> [n], all members alike.

    Args:
        members: with the members on the last axis of the batch.
    """

    def __init__(self, members: PredictiveDensity) -> None:
        super().__init__(members.batch_shape[:-1], members.like, members.outputs, members.units)
        self.members = members
        self.count = members.batch_shape[-1]

    @property
    def width(self) -> int:
        """One number chooses the member."""
        return self.members.width + 1

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density [..., n] at z [..., n, D]."""
        each = self.members.log_density(z.unsqueeze(-2))
        return each.logsumexp(-1) - math.log(self.count)

    def marginals(self, z: Tensor) -> Tensor:
        """Distribution function of each output."""
        return self.members.marginals(z.unsqueeze(-2)).mean(-2)

    def at_scores(self, scores: Tensor) -> Tensor:
        """Quantiles of each output, at standard normal scores; found between the members'."""
        each = wide(self.members.at_scores(scores.unsqueeze(-2)))
        low, high = each.amin(-2), each.amax(-2)
        step = 1e-3

        def curve(z: Tensor) -> tuple[Tensor, Tensor]:
            level = wide(self.marginals(z.to(self.like)))
            ahead = wide(self.marginals((z + step).to(self.like)))
            return level, (ahead - level).clamp_min(0) / step

        levels = torch.special.ndtr(wide(scores)).expand_as(low)
        return solve(curve, levels, low, high).to(self.like)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, D]."""
        mean, variance = self.members.moments()
        return mean.mean(-2), variance.mean(-2) + mean.var(-2, correction=0)

    def push(self, points: Tensor) -> Tensor:
        """Draws [M, n, D]; the first of their uniform numbers chooses the member."""
        each = self.members.push(points[..., 1:].unsqueeze(-2))  # [M, n, S, D]
        chosen = (points[..., :1] * self.count).long().clamp_max(self.count - 1)
        index = chosen.unsqueeze(-1).expand(*each.shape[:-2], 1, self.outputs)
        return each.gather(-2, index)[..., 0, :]


def pooled(density: PredictiveDensity) -> PredictiveDensity:
    """The members [n, S] of a density as one prediction [n]; in closed form where there is one."""
    if isinstance(density, GaussianDensity):
        even = density.loc.new_zeros(density.loc.shape[:-1])
        return MixtureDensity(even, density.loc, density.std, density.units)
    if isinstance(density, MixtureDensity):
        log_weights = density.log_weights.flatten(-2)
        loc, std = (part.flatten(-3, -2) for part in (density.loc, density.std))
        return MixtureDensity(log_weights, loc, std, density.units)
    return PooledDensity(density)
