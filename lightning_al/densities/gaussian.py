"""Gaussian predictive densities, outputs independent."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from .density import PredictiveDensity, Units

__all__ = ["LOG_2_PI", "GaussianDensity", "normal_pdf"]

LOG_2_PI = math.log(2 * math.pi)


def normal_pdf(z: Tensor) -> Tensor:
    """Standard normal density of each element."""
    return torch.exp(-0.5 * (z.square() + LOG_2_PI))


class GaussianDensity(PredictiveDensity):
    """Normal densities with a mean and a standard deviation an output.

    Args:
        loc: means of z [*batch, D].
        std: deviations of z [*batch, D], above 0.
        units: of the target.
    """

    exact_crps: ClassVar[bool] = True

    def __init__(self, loc: Tensor, std: Tensor, units: Units | None = None) -> None:
        super().__init__(loc.shape[:-1], loc, loc.shape[-1], units)
        self.loc, self.std = loc, std

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density [..., *batch] at z [..., *batch, D]."""
        off = (z - self.loc) / self.std
        each = off.square() + 2 * self.std.log() + LOG_2_PI
        return -0.5 * each.sum(-1)

    def marginals(self, z: Tensor) -> Tensor:
        """Distribution function of each output."""
        return torch.special.ndtr((z - self.loc) / self.std)

    def at_scores(self, scores: Tensor) -> Tensor:
        """Quantiles of each output, at standard normal scores."""
        return self.loc + self.std * scores.to(self.loc)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [*batch, D]."""
        return self.loc, self.std.square()

    def push(self, points: Tensor) -> Tensor:
        """Draws [M, *batch, D] of uniform points [M, *batch, D]."""
        return self.at_scores(torch.special.ndtri(points))

    def ranked(self, z: Tensor) -> Tensor:
        """CRPS [*batch, D], exactly.

        Source: Gneiting, Raftery, Westveld, Goldman (2005), equation 5.
        """
        off = (z - self.loc) / self.std
        inner = off * (2 * torch.special.ndtr(off) - 1) + 2 * normal_pdf(off)
        return self.std * (inner - 1 / math.sqrt(math.pi))
