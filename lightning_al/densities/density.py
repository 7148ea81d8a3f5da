"""What a predictive density is: a torch distribution in the units of the target, batch by batch.

A density is made in standardised units and speaks in those of the target, y = scale z + shift. All
that its subclasses say is about z; the base class turns it into y, in float64, so that targets far
from zero keep the digits by which they differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from lightning_al.scores.numerics import wide

__all__ = ["PredictiveDensity", "Units", "midpoints", "sobol"]

QUANTILES = 128  # by which a CRPS without a closed form is taken
EDGE = 1e-7  # points of the unit cube keep so far from its faces
SCRAMBLE = 20_250_102  # of the Sobol points: they are one fixed rule


@dataclass(frozen=True)
class Units:
    """Where targets lie: y = scale z + shift, each [D] and float64."""

    shift: Tensor
    scale: Tensor

    @classmethod
    def plain(cls, outputs: int, like: Tensor) -> Units:
        """Those of z itself."""
        zero = wide(torch.zeros(outputs, device=like.device))
        return cls(zero, torch.ones_like(zero))

    def standard(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Targets [..., D] -> z."""
        return ((wide(y) - self.shift) / self.scale).to(dtype)

    def target(self, z: Tensor) -> Tensor:
        """Targets [..., D] of z, float64."""
        return wide(z) * self.scale + self.shift


def midpoints(count: int, like: Tensor) -> Tensor:
    """Standard normal scores of the levels (i + ½) / count: [count], in the precision of ``like``.

    >>> midpoints(2, torch.zeros(1))
    tensor([-0.6745,  0.6745])
    """
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.special.ndtri(levels).to(like)


def sobol(count: int, width: int, like: Tensor) -> Tensor:
    """The first points of a scrambled Sobol sequence in the unit cube: [count, width].

    They are a rule of quadrature, the same for all items, members, rounds and ranks.

    Source: Sobol (1967); the scrambling: Owen (1995).
    """
    engine = torch.quasirandom.SobolEngine(width, scramble=True, seed=SCRAMBLE)
    points = engine.draw(count, dtype=torch.float64).clamp(EDGE, 1 - EDGE)
    return points.to(like.device)


class PredictiveDensity(Distribution):
    """Densities of targets [D] for a batch of items and members, ``batch_shape`` [n, S] or [n].

    Whatever has an axis of draws has it first, as with all torch distributions. ``cdf``, ``icdf``
    and ``crps`` are those of each output by itself (marginals).

    A subclass gives, about z [..., *batch, D]: ``log_density``, ``marginals``, ``at_scores``,
    ``moments`` and ``push``; and ``ranked`` where its CRPS has a closed form.

    Args:
        batch: its batch shape.
        like: a parameter of its, for device and precision.
        outputs: D.
        units: of the target; None for those of z.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = False
    exact_crps: ClassVar[bool] = False

    def __init__(
        self, batch: torch.Size, like: Tensor, outputs: int, units: Units | None = None
    ) -> None:
        super().__init__(batch, torch.Size([outputs]), validate_args=False)
        self.like, self.outputs = like, outputs
        self.units = Units.plain(outputs, like) if units is None else units

    # --- about z: what a subclass gives --------------------------------------------------------

    @property
    def width(self) -> int:
        """Uniform numbers that a draw takes."""
        return self.outputs

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density [..., *batch] at z [..., *batch, D]."""
        raise NotImplementedError

    def marginals(self, z: Tensor) -> Tensor:
        """Distribution function of each output [..., *batch, D] at z."""
        raise NotImplementedError

    def both(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and distribution function [..., *batch] at z [..., *batch, 1]; D is 1."""
        return self.log_density(z), self.marginals(z)[..., 0]

    def at_scores(self, scores: Tensor) -> Tensor:
        """Quantiles z of each output, at levels given as standard normal scores.

        Args:
            scores: [..., *batch, D], or of sizes 1 there.

        Returns:
            [..., *batch, D].
        """
        raise NotImplementedError

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [*batch, D] of z."""
        raise NotImplementedError

    def push(self, points: Tensor) -> Tensor:
        """Draws z [M, *batch, D] of uniform points [M, *batch, W], or of sizes 1 there."""
        raise NotImplementedError

    def ranked(self, z: Tensor) -> Tensor:
        """CRPS [*batch, D] of each output at z [*batch, D].

        By :data:`QUANTILES` quantiles as a sorted sample (Hersbach 2000; Gneiting, Raftery 2007,
        equation 21): (2/S²) Σ_s (z_s - z) (S [z < z_s] - s + ½).
        """
        scores = midpoints(QUANTILES, self.like).reshape(-1, *(1 for _ in z.shape))
        sample = self.at_scores(scores.expand(-1, *z.shape))
        rank = torch.arange(1, QUANTILES + 1, device=z.device).to(z).reshape_as(scores)
        sides = QUANTILES * (z < sample).to(z) - rank + 0.5
        return 2 * ((sample - z) * sides).mean(0) / QUANTILES

    # --- about the target --------------------------------------------------------------------

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density [..., *batch] at targets [..., *batch, D], per unit of the target."""
        return self.log_density(self.standard(value)) - self.log_scale

    @property
    def log_scale(self) -> Tensor:
        """What a log-density of z loses in the units of the target."""
        return self.units.scale.log().sum().to(self.like)

    def standard(self, value: Tensor) -> Tensor:
        """Targets as z, in the precision of the density."""
        return self.units.standard(value, self.like.dtype)

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function of each output, [..., *batch, D]."""
        return self.marginals(self.standard(value))

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of each output: levels [..., *batch, D] (or sizes 1) -> targets, float64."""
        return self.units.target(self.at_scores(torch.special.ndtri(wide(value)).to(self.like)))

    @property
    def mean(self) -> Tensor:
        """Means [*batch, D], float64."""
        return self.units.target(self.moments()[0])

    @property
    def variance(self) -> Tensor:
        """Variances [*batch, D], float64."""
        return wide(self.moments()[1]) * self.units.scale.square()

    @property
    def median(self) -> Tensor:
        """Median of each output [*batch, D], float64."""
        shape = (*(1 for _ in self.batch_shape), self.outputs)
        return self.units.target(self.at_scores(self.like.new_zeros(shape)))

    def crps(self, value: Tensor) -> Tensor:
        """Continuous ranked probability score [*batch, D] of each output, in target units, >= 0.

        Source: Matheson, Winkler (1976); Gneiting, Raftery (2007), equation 20.
        """
        return wide(self.ranked(self.standard(value))) * self.units.scale

    def pushed(self, points: Tensor) -> Tensor:
        """Draws [M, *batch, D] of uniform points [M, W], the same points for all; float64."""
        shape = (len(points), *(1 for _ in self.batch_shape), points.shape[-1])
        return self.units.target(self.push(points.reshape(shape)))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws [*sample_shape, *batch, D] by torch's own generator, float64."""
        count = math.prod(sample_shape)
        shape = (count, *self.batch_shape, self.width)
        points = torch.rand(shape, device=self.like.device, dtype=torch.float64)
        with torch.no_grad():
            drawn = self.units.target(self.push(points.clamp(EDGE, 1 - EDGE)))
        return drawn.reshape(*sample_shape, *self.batch_shape, self.outputs)
