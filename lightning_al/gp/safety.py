"""The Gaussian process of a safety measurement z, safe where z >= 0: sure of little, and late.

Three things differ from a process that is to predict. Its hyper-parameters are integrated out: a
single estimate of them claims far too much safety. Far from all measurements z lies below the
limit, by as much as measurements are large. And it is rough and short, as a fall from what is
safe need not show in what was measured of it. How much each brings: ``benchmarks/safety.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .hyperpriors import Prior
from .marginal import MixtureGP
from .nodes import equal_nodes, posterior_nodes

__all__ = ["COUNT", "SHAPE", "SafeProcess", "probability_deviations", "safe_values", "unit_of"]

SHAPE = "matern52"
FAR = -1.0  # mean far from all measurements, in units of their root mean square
COUNT = 64  # processes of the mixture
LENGTH = 0.25  # median of a length scale, for inputs in [0, 1]
SPREAD = 0.4  # deviation of its logarithm
LEAST_LOG = -690.0  # of a probability: what float64 holds
LEVEL, NOISE = Prior(1.0, 1.0, 1e-2, 1e2), Prior(1e-2, 2.0, 1e-6)
"""Prior variance and noise, of measurements of mean square 1."""


def safe_values(
    x: Tensor, z: Tensor, count: int = COUNT, *, length: float = LENGTH, ard: bool = True
) -> Tensor:
    """Hyper-parameters [count, d + 2] that are equally likely: x [n, d], z [n] of mean square 1.

    Args:
        x: float64.
        z: less the mean far away, :data:`FAR`.
        count: of them.
        length: median of a length scale, in units of x.
        ard: one length scale a feature.

    Raises:
        ValueError: no positive-definite covariance.
    """
    priors = Prior(length, SPREAD, length / 50, 400 * length), LEVEL, NOISE
    return equal_nodes(*posterior_nodes(SHAPE, priors, x, z, ard=ard), count)


def unit_of(z: Tensor) -> float:
    """Root mean square of measurements z [n]; 1 where all are 0, or there are none."""
    return (float(z.square().mean().sqrt()) if len(z) else 0.0) or 1.0


@dataclass(frozen=True)
class SafeProcess:
    """A mixture of processes of z, equally likely; made by :meth:`given`."""

    mixture: MixtureGP  # of z in units of `unit`, less `far`
    unit: float
    far: float

    @classmethod
    def given(cls, x: Tensor, z: Tensor, count: int = COUNT) -> SafeProcess:
        """Condition on measurements z [n] at x [n, d] in [0, 1]; n >= 1.

        Raises:
            ValueError: no positive-definite covariance.
        """
        x, z = x.double(), z.double()
        unit = unit_of(z)
        white = z / unit - FAR
        values = safe_values(x, white, count)
        return cls(MixtureGP.given(SHAPE, values, x, white), unit, FAR)

    def answers(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation [S, m] of a measurement at points [m, d], under each process."""
        gp = self.mixture.members
        mean, variance = self.mixture.each(points.to(gp.x))
        deviation = (variance + gp.noise.unsqueeze(-1)).sqrt()
        return (mean + self.far) * self.unit, deviation * self.unit

    def deviations(self, points: Tensor) -> Tensor:
        """Deviations r [m] with Phi(r) the probability that a measurement is at least 0."""
        return probability_deviations(*self.answers(points))

    def left_out(self) -> Tensor:
        """Each measurement, predicted from the others: deviations [n] that it lies below.

        Phi of it is the probability of a larger one. Each process predicts in closed form, and is
        weighed by how it predicts the measurement, which its weight had counted.

        Source: Rasmussen and Williams (2006), equation 5.12, for one process.
        """
        gp = self.mixture.members
        weights = torch.linalg.solve_triangular(gp.factor.mT, gp.white.unsqueeze(-1), upper=True)
        deviation = torch.cholesky_inverse(gp.factor).diagonal(dim1=-2, dim2=-1).rsqrt()
        above = weights.squeeze(-1) * deviation  # value less mean, in deviations
        log_density = -0.5 * above.square() - deviation.log()
        return probability_deviations(-above, torch.ones_like(above), (-log_density).softmax(0))


def probability_deviations(
    mean: Tensor, deviation: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Deviations r [m] with Phi(r) = sum_s w_s Phi(mean_s / deviation_s): mean, deviation [S, m].

    Args:
        mean: of each normal.
        deviation: above 0.
        weights: [S, m], of sum 1; equal by default.

    Returns:
        Of several normals between -37 and 37.
    """
    ratio = mean / deviation
    if len(ratio) == 1:
        return ratio[0]
    shares = torch.full_like(ratio, 1 / len(ratio)) if weights is None else weights
    tails = [
        (shares.log() + torch.special.log_ndtr(side)).logsumexp(0).clamp_min(LEAST_LOG)
        for side in (-ratio, ratio)  # logarithms: ndtr itself is 0 from -9 on
    ]
    below, above = (torch.special.ndtri(tail.exp()) for tail in tails)
    return torch.where(tails[0] < tails[1], -below, above)
