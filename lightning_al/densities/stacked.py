"""Members with densities of their own makes, side by side: an ensemble of flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .density import PredictiveDensity

__all__ = ["StackedDensity"]


class StackedDensity(PredictiveDensity):
    """Members in turns: member s of the whole is member s // R of part s % R.

    Args:
        parts: R densities of one batch shape [..., S / R], one number of outputs and one unit.
    """

    def __init__(self, parts: Sequence[PredictiveDensity]) -> None:
        first = parts[0]
        count = len(parts) * first.batch_shape[-1]
        batch = torch.Size([*first.batch_shape[:-1], count])
        super().__init__(batch, first.like, first.outputs, first.units)
        self.parts = parts

    @property
    def width(self) -> int:
        """As its parts."""
        return self.parts[0].width

    def _each(
        self,
        values: Tensor,
        function: Callable[[PredictiveDensity, Tensor], Tensor],
        scalar: bool = False,
    ) -> Tensor:
        """Values [..., *batch, W] -> what a function of each part gives, in the members' order."""
        lead = values.shape[: values.ndim - 1 - len(self.batch_shape)]
        values = values.expand(*lead, *self.batch_shape, values.shape[-1])
        count = len(self.parts)
        given = [function(part, values[..., i::count, :]) for i, part in enumerate(self.parts)]
        axis = -1 if scalar else -2
        return torch.stack(given, axis).flatten(axis - 1, axis)

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density [..., *batch] at z [..., *batch, D]."""
        return self._each(z, lambda part, at: part.log_density(at), scalar=True)

    def marginals(self, z: Tensor) -> Tensor:
        """Distribution function of each output."""
        return self._each(z, lambda part, at: part.marginals(at))

    def at_scores(self, scores: Tensor) -> Tensor:
        """Quantiles of each output, at standard normal scores."""
        return self._each(scores, lambda part, at: part.at_scores(at))

    def push(self, points: Tensor) -> Tensor:
        """Draws [M, *batch, D] of uniform points [M, *batch, W]."""
        return self._each(points, lambda part, at: part.push(at))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [*batch, D]."""
        mean, variance = zip(*(part.moments() for part in self.parts), strict=True)
        return torch.stack(mean, -2).flatten(-3, -2), torch.stack(variance, -2).flatten(-3, -2)
