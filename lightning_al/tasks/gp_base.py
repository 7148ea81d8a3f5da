"""What the Gaussian process tasks share: scaled features, hyper-parameters and their priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.gp import Prior, Stationary
from lightning_al.posteriors import LatentQuantiles

from .full_batch import FullBatch
from .metric_feeding import MetricFamily
from .metric_specs import MetricSpec
from .standardisation import standardised

__all__ = ["GaussianProcess", "Mode"]

Mode = Literal["map", "evidence", "fixed", "published"]
MODES = ("map", "evidence", "fixed", "published")


class GaussianProcess(FullBatch):
    """What both tasks share: features, their standardisation, hyper-parameters as buffers."""

    x: Tensor  # [L, d], as the kernel sees them
    feature_mean: Tensor  # [d]
    feature_std: Tensor  # [d]
    lengthscale: Tensor  # [problems, d or 1]
    outputscale: Tensor  # [problems]

    def __init__(
        self,
        *,
        problems: int,
        kernel: str,
        ard: bool,
        hyperparameters: str,
        values: dict[str, Any],
        standardize: bool | None,
        metrics: Sequence[MetricSpec] | None,
        known: MetricFamily,
        settings: dict[str, Any],
        metric_arguments: dict[str, int],
        modes: Sequence[str] = MODES,
    ) -> None:
        if hyperparameters not in modes:
            raise ValueError(
                f"hyperparameters is one of {', '.join(modes)}, got {hyperparameters!r}"
            )
        self_given = [name for name, value in values.items() if value is not None]
        self_given += ["standardize"] if standardize else []
        if hyperparameters == "published" and (self_given or kernel != "rbf"):
            raise ValueError(
                "hyperparameters='published' means 1.0 * RBF(1.0) on data as they are; leave out "
                f"{', '.join(self_given or ['kernel'])}, or use 'fixed'"
            )
        super().__init__(
            metrics=metrics,
            known=known,
            settings={
                "ard": ard,
                "hyperparameters": hyperparameters,
                **values,
                "standardize": standardize,
                **settings,
            },
            metric_arguments=metric_arguments,
        )
        self.kernel, self.hyperparameters = kernel, hyperparameters
        self.published = hyperparameters == "published"
        self.ard = ard and not self.published
        raw = hyperparameters in ("gamma", "published")
        self.standardize = not raw if standardize is None else standardize
        self.values = values
        scale = values["lengthscale"]
        first = torch.as_tensor(1.0 if scale is None else scale, dtype=torch.float64).reshape(1, -1)
        outputscale = 1.0 if values["outputscale"] is None else float(values["outputscale"])
        if not (bool((first > 0).all()) and outputscale > 0):
            raise ValueError(
                f"lengthscale and outputscale must be above 0, got {scale}, {outputscale}"
            )
        self.register_buffer("x", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("feature_mean", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("feature_std", torch.ones(1, dtype=torch.float64))
        self.register_buffer("lengthscale", first.repeat(problems, 1))
        self.register_buffer(
            "outputscale", torch.full((problems,), outputscale, dtype=torch.float64)
        )

    @property
    def posterior(self) -> LatentQuantiles:
        """What strategies that compare members score with, where the run names no posterior."""
        return LatentQuantiles()

    def scaled(self, inputs: Any) -> Tensor:
        """Features as the kernel sees them [n, d]."""
        features = self.features(inputs)
        if self.published:
            features = features.float().double()
        return (features - self.feature_mean) / self.feature_std

    def _take_features(self, inputs: Any) -> None:
        features = self.features(inputs)
        width = features.shape[1]
        self.feature_mean = features.new_zeros(width)
        self.feature_std = features.new_ones(width)
        if self.standardize:
            self.feature_mean, self.feature_std, _ = standardised(features)
        self.x = self.scaled(inputs)
        if not bool(self.x.isfinite().all()):
            raise ValueError("features of the labelled set hold NaN or infinities")
        given = self.lengthscale.shape[1]
        count = width if self.ard else max(given, 1)
        if given not in (1, width):
            raise ValueError(f"{given} length scales for {width} features; give one, or {width}")
        self.lengthscale = self.lengthscale.expand(-1, count).contiguous()

    def _priors(self) -> tuple[Prior, Prior]:
        """Of length scales and output scale, for standardised data."""
        if self.hyperparameters == "evidence":
            return Prior(self._median("lengthscale", 1.0)), Prior(self._median("outputscale", 1.0))
        # longer in more dimensions, as distances are: Hvarfner, Hellsten, Nardi (2024)
        typical = math.sqrt(max(self.x.shape[1], 1)) * 2.0
        return (
            Prior(self._median("lengthscale", typical), 1.0, 1e-3, 1e4),
            Prior(self._median("outputscale", 1.0), 1.0, 1e-3, 1e3),
        )

    def _median(self, name: str, default: float) -> float:
        value = self.values[name]
        if value is None:
            return default
        if not isinstance(value, (int, float)):
            raise ValueError(f"a search starts from one {name}, got {value}; use 'fixed'")
        return float(value)

    def stationary(self, problem: int) -> Stationary:
        """The kernel of one output or class."""
        return Stationary(self.kernel, self.lengthscale[problem], self.outputscale[problem])
