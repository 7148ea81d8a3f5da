"""Regression by a model that reads the labelled set and fits nothing: what such tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_al.posteriors import LatentQuantiles
from lightning_al.readings import Numbers

from .adapter import Adapter
from .full_batch import FullBatch
from .gaussian_process import halves
from .metric_specs import MetricSpec
from .metrics import REGRESSION_METRICS
from .standardisation import standardised

__all__ = ["InContextRegression", "Predictive", "Spread", "spread_check"]

Spread = Literal["latent", "predictive", "entropy"]
SPREADS = ("latent", "predictive", "entropy")
LEAST = 1e-3  # of the predictive variance, that is of the function whatever the noise is said to be
BLOCK = 4096  # points that are asked for at once
TWO_PI_E = 2 * torch.pi * torch.e


class Predictive(Protocol):
    """Distributions of answers at M points."""

    def mean(self) -> Tensor:
        """[M]."""
        ...

    def variance(self) -> Tensor:
        """[M]."""
        ...

    def entropy(self) -> Tensor:
        """[M], differential, nats."""
        ...


def spread_check(variance: str) -> Spread:
    """The option ``variance`` of these tasks.

    Raises:
        ValueError: another word.
    """
    for known in SPREADS:
        if variance == known:
            return known  # type: ignore[return-value]
    raise ValueError(f"variance is one of {', '.join(SPREADS)}, got {variance!r}")


class InContextRegression(FullBatch):
    """A task whose labelled set is the context of a model that was trained beforehand.

    Subclasses give :meth:`ask`. Predictions are a mean and a variance in target units; strategies
    that compare members are given :class:`~lightning_al.posteriors.LatentQuantiles`, functions
    ``mean + z std`` with the noise as their own variance.

    Args:
        outputs: D, one model's pass each.
        standardize: take targets to mean 0 and deviation 1 by the labelled set.
        variance: what spreads the members: "latent", the variance of the function; "predictive",
            that of an answer, noise included; "entropy", the variance of the normal with the
            answer's entropy, so that the strategy ``variance`` asks where entropy is largest.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        settings: further hyper-parameters, plain values.

    Raises:
        ValueError: settings that make no sense; in a fit, data that are not finite.
    """

    x: Tensor  # [L, d], float64, as they came
    y: Tensor  # [L, D], standardised
    target_mean: Tensor  # [D]
    target_std: Tensor  # [D]

    def __init__(
        self,
        outputs: int | None,
        standardize: bool,
        variance: Spread,
        metrics: Sequence[MetricSpec] | None,
        settings: Mapping[str, Any],
    ) -> None:
        if outputs is None or outputs < 1:
            raise ValueError(f"a regression needs 1 output or more, got {outputs}")
        kept = {"outputs": outputs, "variance": variance}
        super().__init__(
            metrics=metrics,
            known=REGRESSION_METRICS,
            settings={**kept, **settings},
            metric_arguments={"outputs": outputs},
        )
        self.outputs, self.standardize = outputs, bool(standardize)
        self.variance = spread_check(variance)
        self.register_buffer("x", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("y", torch.zeros(0, outputs, dtype=torch.float64))
        self.register_buffer("target_mean", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("target_std", torch.ones(outputs, dtype=torch.float64))

    def ask(self, output: int, points: Tensor) -> tuple[Predictive, Tensor]:
        """Distributions of answers at points [M, d], and the variance of their noise [] or [M].

        Both in standardised units; at least one item is labelled.
        """
        raise NotImplementedError

    @property
    def adapter(self) -> Adapter:
        """Moments in target units."""
        return Adapter("predictions", "features", Numbers(self.outputs, halves))

    @property
    def posterior(self) -> LatentQuantiles:
        """What strategies that compare members score with, where the run names no posterior."""
        return LatentQuantiles()

    @property
    def problems(self) -> int:
        """How many functions there are: D."""
        return self.outputs

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Keep the labelled set; nothing is fitted."""
        self.forget()
        features, goal = self.features(inputs), self._targets(targets)
        if not bool(features.isfinite().all() and goal.isfinite().all()):
            raise ValueError("features or targets of the labelled set hold NaN or infinities")
        self.x, self.y = features, goal
        self.target_mean, self.target_std = (
            goal.new_zeros(self.outputs),
            goal.new_ones(self.outputs),
        )
        if self.standardize:
            self.target_mean, self.target_std, self.y = standardised(goal)

    def _targets(self, targets: Tensor) -> Tensor:
        shaped = targets.unsqueeze(1) if targets.ndim == 1 else targets
        if shaped.ndim != 2 or shaped.shape[1] != self.outputs:
            raise ValueError(f"targets must be [n, {self.outputs}], got {list(targets.shape)}")
        return shaped.double()

    @torch.no_grad()
    def moments(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, members' variance, their noise, variance of an answer [n, D]; target units."""
        points = self.features(inputs)
        if not len(self.x):  # nothing is labelled yet
            mean = self.target_mean.expand(len(points), -1)
            return mean, torch.ones_like(mean), torch.zeros_like(mean), torch.ones_like(mean)
        parts = [
            torch.cat([self._moments(d, block) for block in points.split(BLOCK)])
            for d in range(self.outputs)
        ]
        mean, *variances = torch.stack(parts, 1).unbind(-1)  # each [n, D]
        spread, noise, total = (each * self.target_std.square() for each in variances)
        return mean * self.target_std + self.target_mean, spread, noise, total

    def _moments(self, output: int, points: Tensor) -> Tensor:
        """As :meth:`moments` [m, 4], of one output, standardised."""
        told, noise = self.ask(output, points)
        mean, total = told.mean().double(), told.variance().double()
        noise = torch.minimum(noise.double().to(total), (1 - LEAST) * total)
        spread = {
            "latent": lambda: total - noise,
            "predictive": lambda: total,
            "entropy": lambda: torch.exp(2 * told.entropy().double()) / TWO_PI_E,
        }[self.variance]()
        own = noise if self.variance == "latent" else torch.zeros_like(noise)
        return torch.stack([mean, spread, own, total], -1)

    def predictions(self, inputs: Any) -> Tensor:
        """Mean and variance side by side [n, 2 D], in target units, float64."""
        return torch.cat(self.moments(inputs)[:2], dim=1)

    def at_quantiles(self, inputs: Any, z: Tensor) -> Tensor:
        """Functions ``mean + z std`` and the noise: z [S, D] -> [n, S, 2 D]."""
        mean, variance, noise, _ = self.moments(inputs)
        values = mean.unsqueeze(1) + z.to(mean) * variance.sqrt().unsqueeze(1)
        return torch.cat([values, noise.unsqueeze(1).expand_as(values)], dim=-1)

    def raw(self, inputs: Any) -> Tensor:
        """Mean and predictive variance [n, 2 D]: what metrics are fed."""
        mean, _, _, total = self.moments(inputs)
        return torch.cat([mean, total], dim=1)

    def forward(self, inputs: Any) -> Tensor:
        """Predictive mean [n, D] in target units."""
        return self.moments(inputs)[0]

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch, in target units."""
        mean, variance = raw.chunk(2, dim=1)
        for metric in metrics:
            metric.update(mean, variance, self._targets(targets))

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """``mean`` and predictive ``variance`` [n, D] of a batch, or of a bare tensor."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        mean, variance = self.raw(inputs).chunk(2, dim=1)
        return {"mean": mean, "variance": variance}
