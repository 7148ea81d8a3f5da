"""Sparse Gaussian process regression as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_al.gp import SparseGP, Stationary, fit_sparse
from lightning_al.gp.sparse import greedy_points

from .gaussian_process import GPRegression, Priors, Process, RegressionMode, Variance
from .metric_specs import MetricSpec

__all__ = ["SparseGPRegression"]


class SparseGPRegression(GPRegression):
    """Gaussian process regression through inducing points, one process an output; O(L M²).

    The collapsed bound of Titsias (2009), "Variational Learning of Inducing Variables in Sparse
    Gaussian Processes", in place of the evidence; all else is :class:`GPRegression`. The inducing
    points start at labelled items of greatest conditional variance and are optimised together with
    the hyper-parameters; with "fixed" they stay at the items. With ``points`` of at least L they
    are all items, and it is the exact process.

    Args:
        outputs: D.
        points: M, the inducing points.
        kernel: "rbf", "matern12", "matern32" or "matern52".
        ard: one length scale a feature.
        hyperparameters: "map", "evidence", "gamma" or "fixed", see :class:`GPRegression`; the
            bound stands for the evidence.
        lengthscale: value, or where the search starts.
        outputscale: the same, prior variance.
        noise: the same, variance of the noise.
        standardize: features and targets; on unless "gamma".
        variance: "latent" or "predictive".
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        starts: searches, of which the best counts.
        safety: whether the last output is the safety measurement.

    Raises:
        ValueError: settings that make no sense; in a fit, data that are not finite.
        LookupError: an unknown kernel or metric.
    """

    inducing: Tensor  # [D, M, d], as the kernel sees features

    def __init__(
        self,
        outputs: int | None = 1,
        points: int = 15,
        kernel: str = "rbf",
        ard: bool = True,
        hyperparameters: RegressionMode = "map",
        lengthscale: float | list[float] | None = None,
        outputscale: float | None = None,
        noise: float | None = None,
        standardize: bool | None = None,
        variance: Variance = "latent",
        metrics: Sequence[MetricSpec] | None = None,
        starts: int | None = None,
        safety: bool | None = None,
    ) -> None:
        if points < 1:
            raise ValueError(f"a sparse process needs 1 inducing point or more, got {points}")
        if not isinstance(kernel, str) or hyperparameters in ("published", "amortised"):
            raise ValueError(
                "a sparse process needs one of our kernels by name, not 'published' or "
                f"'amortised', got {kernel!r}, {hyperparameters!r}; use GPRegression"
            )
        super().__init__(
            outputs,
            kernel,
            ard,
            hyperparameters,
            lengthscale,
            outputscale,
            noise,
            standardize,
            variance,
            metrics,
            starts,
            safety,
        )
        self.save_hyperparameters({"points": points})
        self.points = points
        self.register_buffer("inducing", torch.zeros(self.outputs, 0, 0, dtype=torch.float64))

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Condition on all labelled items, after the search for hyper-parameters and points."""
        self._found: list[Tensor] = []
        super().learn(inputs, targets)
        if self.hyperparameters == "fixed":
            kernels = [self.stationary(d) for d in range(self.outputs)]
            self._found = [self.x[greedy_points(it, self.x, self.points)] for it in kernels]
        self.inducing = torch.stack(self._found)

    def _fit(self, d: int, priors: Priors, **how: Any) -> tuple[Stationary, Tensor]:
        kernel, noise, z, _ = fit_sparse(
            self.x, self.y[:, d], self.kernel, *priors, points=self.points, **how
        )
        self._found.append(z)
        return kernel, noise

    def _process(self, d: int) -> Process:
        kernel = self.stationary(d)
        return SparseGP.given(kernel, self.noise[d], self.inducing[d], self.x, self.y[:, d])
