"""Metrics of predictive densities by name: each is fed a density [n] and targets [n, D].

Those of torchmetrics, or of a user's own, are fed median and targets ([n] where D is 1), or mean,
variance and targets where their ``update`` takes three. Of several outputs the mean over outputs is
logged, save for ``nll``, which is that of all together.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_al.densities import GaussianDensity, PredictiveDensity, sobol

from .metric_classes import MeanOf
from .metric_feeding import Fed, MetricFamily, output_offers

__all__ = ["DENSITY", "PITHistogram"]


def _example(sizes: Mapping[str, int]) -> tuple[Any, ...]:
    wave = torch.linspace(0.1, 3.0, 8 * sizes["outputs"]).sin().reshape(8, -1)
    return GaussianDensity(wave, torch.full_like(wave, 0.5)), wave + 0.1 * (7.0 * wave).cos()


def _median(density: PredictiveDensity, targets: Tensor) -> tuple[Tensor, ...]:
    return density.median, targets


def _median_of_one(density: PredictiveDensity, targets: Tensor) -> tuple[Tensor, ...]:
    return density.median.reshape(-1), targets.reshape(-1)


def _moments(density: PredictiveDensity, targets: Tensor) -> tuple[Tensor, ...]:
    return density.mean, density.variance, targets


def _fed(metric: Metric, sizes: Mapping[str, int]) -> Metric:
    needed = [
        p
        for p in inspect.signature(metric.update).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(needed) == 3:
        return Fed(metric, _moments)
    if sizes["outputs"] > 1:
        return Fed(metric, _median, mean=True)
    return Fed(metric, _median_of_one)


DENSITY = MetricFamily(
    "density metric",
    feeds="median and targets, or mean, variance and targets, each [n, D] ([n] where D is 1)",
    offers=output_offers,
    fed=_fed,
    example=_example,
)


class _Score(MeanOf):
    """Mean over items (and outputs) of one number of a density and its target."""

    def update(self, density: PredictiveDensity, targets: Tensor) -> None:  # type: ignore[override]
        """Add a batch: a density of n items, targets [n, D]."""
        if len(targets):
            super().update(self.value(density, targets))

    def values(self, *batch: Tensor) -> Tensor:
        """They are given."""
        return batch[0]

    def value(self, density: PredictiveDensity, targets: Tensor) -> Tensor:
        """One number an item, or an item and output."""
        raise NotImplementedError


class DensityNLL(_Score):
    """Mean of -log p(target) in nats, per unit of the target."""

    def value(self, density: PredictiveDensity, targets: Tensor) -> Tensor:
        """One number an item [n]."""
        return -density.log_prob(targets)


class DensityCRPS(_Score):
    """Mean continuous ranked probability score over items and outputs, in target units.

    Exact for Gaussians and mixtures of them, by 128 quantiles as a sorted sample for flows.
    """

    def value(self, density: PredictiveDensity, targets: Tensor) -> Tensor:
        """[n, D]."""
        return density.crps(targets)


class _PointError(_Score):
    """Mean error of a point prediction.

    Args:
        squared: square errors, and take the root of their mean.
        mode: of the likeliest of so many draws, as BALSA's authors have it (64); None for the
            median of each output. Draws are a fixed rule of quadrature.
    """

    def __init__(self, squared: bool = False, mode: int | None = None) -> None:
        super().__init__()
        self.squared, self.mode = squared, mode

    def value(self, density: PredictiveDensity, targets: Tensor) -> Tensor:
        """[n, D]."""
        off = self._point(density) - targets
        return off.square() if self.squared else off.abs()

    def _point(self, density: PredictiveDensity) -> Tensor:
        if self.mode is None:
            return density.median
        drawn = density.pushed(sobol(self.mode, density.width, density.like))  # [M, n, D]
        best = density.log_prob(drawn).argmax(0)
        return drawn.gather(0, best[None, :, None].expand(1, -1, drawn.shape[-1]))[0]

    def compute(self) -> Tensor:
        """The figure so far."""
        mean = super().compute()
        return mean.sqrt() if self.squared else mean


class Coverage(_Score):
    """Share of targets inside the central interval of so much probability, output by output.

    Args:
        level: its probability, between 0 and 1.
    """

    higher_is_better = None  # type: ignore[assignment]

    def __init__(self, level: float) -> None:
        super().__init__()
        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, got {level}")
        self.level = level

    def value(self, density: PredictiveDensity, targets: Tensor) -> Tensor:
        """[n, D]."""
        inside: Tensor = (2 * density.cdf(targets) - 1).abs() <= self.level
        return inside.float()


class PITHistogram(Metric):
    """Where targets fall in their predictive distributions: even if the densities are right.

    ``compute`` gives one number, the total variation distance of the histogram of the distribution
    functions at the targets from an even one: 0 where calibrated, at most 1 - 1 / bins.
    ``histogram`` has the shares [bins], over all items and outputs.

    Dawid (1984), "Statistical Theory: The Prequential Approach"; Gneiting, Balabdaoui, Raftery
    (2007), "Probabilistic forecasts, calibration and sharpness".

    Args:
        bins: of equal width.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    counts: Tensor

    def __init__(self, bins: int = 10) -> None:
        super().__init__()
        if bins < 2:
            raise ValueError(f"a PIT histogram needs 2 bins or more, got {bins}")
        self.bins = bins
        self.add_state("counts", torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, density: PredictiveDensity, targets: Tensor) -> None:
        """Add a batch: a density of n items, targets [n, D]."""
        place = (density.cdf(targets) * self.bins).long().clamp(0, self.bins - 1)
        self.counts.add_(torch.bincount(place.flatten(), minlength=self.bins))

    @property
    def histogram(self) -> Tensor:
        """Shares of the bins so far [bins]."""
        return self.counts / self.counts.sum()

    def compute(self) -> Tensor:
        """The distance from an even histogram."""
        return 0.5 * (self.histogram - 1 / self.bins).abs().sum()


@DENSITY.register("nll")
def _nll(outputs: int = 1) -> Metric:
    return DensityNLL()


@DENSITY.register("crps")
def _crps(outputs: int = 1) -> Metric:
    return DensityCRPS()


@DENSITY.register("mae")
def _mae(outputs: int = 1) -> Metric:
    """Mean absolute error of the median, in target units."""
    return _PointError()


@DENSITY.register("rmse")
def _rmse(outputs: int = 1) -> Metric:
    """Root mean squared error of the median, in target units."""
    return _PointError(squared=True)


@DENSITY.register("mae_mode")
def _mae_mode(outputs: int = 1, draws: int = 64) -> Metric:
    """Mean absolute error of the likeliest of some draws, in target units."""
    return _PointError(mode=draws)


@DENSITY.register("rmse_mode")
def _rmse_mode(outputs: int = 1, draws: int = 64) -> Metric:
    """Root mean squared error of the likeliest of some draws, in target units."""
    return _PointError(squared=True, mode=draws)


@DENSITY.register("coverage_50")
def _coverage_50(outputs: int = 1) -> Metric:
    return Coverage(0.5)


@DENSITY.register("coverage_90")
def _coverage_90(outputs: int = 1) -> Metric:
    return Coverage(0.9)


@DENSITY.register("pit")
def _pit(outputs: int = 1, bins: int = 10) -> Metric:
    return PITHistogram(bins)
