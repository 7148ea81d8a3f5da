"""Densities by normalising flows, of zuko or of anything with its ``transform`` and ``base``."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lightning_al.scores.numerics import wide

from .density import PredictiveDensity, Units, sobol
from .gaussian import normal_pdf

__all__ = ["DRAWS", "FlowDensity"]

DRAWS = 256  # that stand for a marginal of several outputs, which has no formula
NODES, REACH = 65, 5.0  # of the quadrature for moments of one output, in standard normal scores


class FlowDensity(PredictiveDensity):
    """Densities that a flow turns into independent standard normals.

    Of one output the transform is increasing, so it gives distribution function and quantiles too.
    Of several, marginals and moments are those of :data:`DRAWS` draws by a rule of quadrature.

    Papamakarios, Nalisnick, Rezende, Mohamed, Lakshminarayanan (2021), "Normalizing Flows for
    Probabilistic Modeling and Inference"; the splines: Durkan, Bekasov, Murray, Papamakarios
    (2019), "Neural Spline Flows".

    Args:
        flow: a distribution of z [*batch, D] with a ``transform`` to the normals and their
            ``base`` (:class:`zuko.distributions.NormalizingFlow`).
        like: a tensor for device and precision.
        units: of the target.
    """

    def __init__(self, flow: Any, like: Tensor, units: Units | None = None) -> None:
        super().__init__(flow.batch_shape, like, flow.event_shape[0], units)
        self.flow = flow

    def _batched(self, z: Tensor) -> Tensor:
        """Of the whole batch, whatever had size 1 in it."""
        lead = z.shape[: z.ndim - 1 - len(self.batch_shape)]
        return z.to(self.like.dtype).expand(*lead, *self.batch_shape, z.shape[-1])

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Normals [..., *batch, D] and log-density [..., *batch]."""
        normal, slope = self.flow.transform.call_and_ladj(self._batched(z))
        for _ in range(self.flow.reinterpreted):
            slope = slope.sum(-1)
        return normal, self.flow.base.log_prob(normal) + slope

    def log_density(self, z: Tensor) -> Tensor:
        """Log-density [..., *batch] at z [..., *batch, D]."""
        return self._forward(z)[1]

    def both(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and distribution function, from one pass of the transform; D is 1."""
        normal, log_density = self._forward(z)
        return log_density, torch.special.ndtr(normal[..., 0])

    def marginals(self, z: Tensor) -> Tensor:
        """Distribution function of each output."""
        if self.outputs == 1:
            return torch.special.ndtr(self.flow.transform(self._batched(z)))
        sample = self._sorted
        given = self._batched(z)
        lead = given.shape[: given.ndim - sample.ndim + 1]
        values = given.reshape(-1, *sample.shape[:-1]).movedim(0, -1).contiguous()
        below = torch.searchsorted(sample, values, right=True).movedim(-1, 0)
        return below.reshape(*lead, *sample.shape[:-1]).to(self.like) / DRAWS

    def at_scores(self, scores: Tensor) -> Tensor:
        """Quantiles of each output, at standard normal scores."""
        given = self._batched(scores)
        if self.outputs == 1:
            return self.flow.transform.inv(given)
        sample = self._sorted
        place = (torch.special.ndtr(wide(given)) * DRAWS - 0.5).clamp(0, DRAWS - 1)
        place = place.expand(*given.shape[:-1], self.outputs)
        low = place.long().clamp_max(DRAWS - 2)
        each = sample.expand(*low.shape, DRAWS)
        first, second = (each.gather(-1, (low + k).unsqueeze(-1))[..., 0] for k in (0, 1))
        return torch.lerp(first, second, (place - low).to(first))

    @cached_property
    def _sorted(self) -> Tensor:
        """Draws of each output in order, [*batch, D, DRAWS]."""
        return self._drawn().movedim(0, -1).sort(-1).values.contiguous()

    def _drawn(self) -> Tensor:
        """Draws z [DRAWS, *batch, D]."""
        points = sobol(DRAWS, self.outputs, self.like)
        return self.push(points.reshape(DRAWS, *(1 for _ in self.batch_shape), self.outputs))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [*batch, D]."""
        if self.outputs > 1:
            drawn = self._drawn()
            return drawn.mean(0), drawn.var(0, correction=0)
        scores = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
        weights = normal_pdf(scores)
        shape = (-1, *(1 for _ in self.batch_shape), 1)
        weights = (weights / weights.sum()).to(self.like).reshape(shape)
        z = self.at_scores(scores.to(self.like).reshape(shape))
        mean = (weights * z).sum(0)
        return mean, (weights * (z - mean).square()).sum(0)

    def push(self, points: Tensor) -> Tensor:
        """Draws [M, *batch, D] of uniform points [M, *batch, D]."""
        return self.flow.transform.inv(self._batched(torch.special.ndtri(wide(points))))
