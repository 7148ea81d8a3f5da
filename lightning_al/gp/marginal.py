"""Gaussian processes with their hyper-parameters integrated out: a mixture over samples of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .exact import ExactGP
from .kernels import Stationary

__all__ = ["MixtureGP"]

BLOCK = 2**22  # numbers in a block of members, points and data


@dataclass(frozen=True)
class MixtureGP:
    """S equally likely processes given the same data; made by :meth:`given`."""

    members: ExactGP  # a batch [S]

    @classmethod
    def given(cls, shape: str, values: Tensor, x: Tensor, y: Tensor) -> MixtureGP:
        """Condition each on y [n] at x [n, d].

        Args:
            shape: name of the kernel.
            values: ``[lengthscale (d or 1), outputscale, noise]`` of each member [S, p].
            x: float64.
            y: of mean 0.

        Raises:
            ValueError: no positive-definite covariance.
        """
        kernel = Stationary(shape, values[:, :-2], values[:, -2])
        many = len(values)
        gp = ExactGP.given(kernel, values[:, -1], x.expand(many, -1, -1), y.expand(many, -1))
        return cls(gp)

    def each(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [S, m] of every member's function at points [m, d]."""
        many, n = self.members.x.shape[:2]
        parts = [
            self.members.moments(block.expand(many, -1, -1))
            for block in points.split(max(1, BLOCK // (many * n)))
        ]
        mean, variance = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
        return mean, variance

    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [m] of the mixture of functions at points [m, d].

        The law of total variance: the mean of the variances plus the variance of the means.
        """
        mean, variance = self.each(points)
        return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)

    def joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and covariance [m, m] of the mixture of functions at points [m, d]."""
        gp = self.members
        means: list[Tensor] = []
        total = points.new_zeros(len(points), len(points))
        for s in range(len(gp.x)):
            kernel = gp.kernel
            if isinstance(kernel, Stationary):
                kernel = Stationary(kernel.shape, kernel.lengthscale[s], kernel.outputscale[s])
            one = ExactGP(kernel, gp.noise[s], gp.x[s], gp.factor[s], gp.white[s])
            mean, covariance = one.joint(points)
            means.append(mean)
            total += covariance
        stacked = torch.stack(means)
        off = stacked - stacked.mean(0)
        return stacked.mean(0), (total + off.mT @ off) / len(means)
