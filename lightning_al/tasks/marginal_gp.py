"""Gaussian process regression with its hyper-parameters integrated out, as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.gp import MixtureGP, Prior, sample_posterior
from lightning_al.gp import safety as of_z
from lightning_al.gp.evidence import evidence, numbers
from lightning_al.posteriors import LatentQuantiles
from lightning_al.readings import Numbers
from lightning_al.threads import working_alone

from .adapter import Adapter
from .gaussian_process import GPRegression, Process, RegressionMode, Variance, halves
from .metric_specs import MetricSpec
from .standardisation import away_from, with_last

__all__ = ["MarginalGPRegression"]

UNIFORM = 12**-0.5  # deviation of inputs that are uniform on [0, 1]


class MarginalGPRegression(GPRegression):
    """A mixture of exact Gaussian processes under S draws of their hyper-parameters.

    The draws are of the posterior of the logarithms of length scales, output scale and noise, by
    Hamiltonian Monte Carlo from the mode; one chain an output. A prediction is the mean and the
    variance of the mixture; ``joint`` is the Gaussian with its mean and covariance. All else is
    :class:`GPRegression`.

    A safety measurement is modelled to be safe, whatever the other settings: by
    :mod:`lightning_al.gp.safety`, so that of the places of which a strategy is told that they are
    safe with probability 1 - gamma no larger share than gamma is not.

    Members. Strategies are given functions of all S processes, two each
    (:class:`~lightning_al.posteriors.LatentQuantiles`), whose spread is the variance of the
    mixture: ``variance`` ranks as the entropy of the Gaussian with its moments does. With the
    posterior :class:`~lightning_al.posteriors.Deterministic` members are the S processes
    themselves, [n, S, D], each with a variance of its own: then ``variance`` without ``aleatoric``
    and ``regression-bald`` are about the disagreement of hyper-parameters alone, as in Riis,
    Antunes, Hüttel, Azevedo, Pereira (2022), "Bayesian Active Learning with Fully Bayesian Gaussian
    Processes".

    Args:
        outputs: D.
        samples: S; 1 is the mode, that is :class:`GPRegression`.
        kernel: "rbf", "matern12", "matern32" or "matern52".
        ard: one length scale a feature.
        hyperparameters: whose priors, see :class:`GPRegression`: "map" (log-normal ones) or "gamma"
            (length scales under Gamma(2, 2), fixed output scale). The noise is log-normal under
            both, median ``noise`` and deviation 2 of the logarithm: a flat one cannot be sampled.
        lengthscale: median, or where the search starts under "gamma".
        outputscale: median, or the value under "gamma".
        noise: median of the variance of the noise.
        standardize: features and targets; on unless "gamma".
        variance: "latent" or "predictive".
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        starts: searches for the mode, of which the best counts.
        safety: whether the last output is the safety measurement; see above.
        warm_up: trajectories before the first draw.
        thin: trajectories a draw.

    Raises:
        ValueError: settings that make no sense; in a fit, data that are not finite.
        LookupError: an unknown kernel or metric.
    """

    drawn: Tensor  # [D, S, d + 2]: length scales, output scale, noise; standardised units

    def __init__(
        self,
        outputs: int | None = 1,
        samples: int = 30,
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
        warm_up: int = 60,
        thin: int = 3,
    ) -> None:
        if samples < 1 or warm_up < 0 or thin < 1:
            raise ValueError(
                "samples and thin must be at least 1, warm_up at least 0, got "
                f"{samples}, {thin}, {warm_up}"
            )
        if not isinstance(kernel, str) or hyperparameters not in ("map", "gamma"):
            raise ValueError(
                "hyper-parameters are drawn for one of our kernels by name under 'map' or 'gamma', "
                f"got {kernel!r}, {hyperparameters!r}; use GPRegression"
            )
        self.samples = samples
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
        self.save_hyperparameters({"samples": samples, "warm_up": warm_up, "thin": thin})
        self.warm_up, self.thin = warm_up, thin
        self.register_buffer("drawn", torch.zeros(self.outputs, 0, 0, dtype=torch.float64))

    @property
    def adapter(self) -> Adapter:
        """The S processes, in target units."""
        return Adapter("members", "scaled", Numbers(self.outputs, halves, members=True))

    @property
    def posterior(self) -> LatentQuantiles:
        """Two functions of each process: they have its mean and variance."""
        return LatentQuantiles(2)

    def _noise_prior(self) -> Prior:
        prior = super()._noise_prior()
        if self.samples == 1:
            return prior
        return Prior(prior.median, 2.0, prior.low, prior.high)

    @property
    def integrates_safety(self) -> bool:
        """Whether z has a model of its own, its hyper-parameters integrated out."""
        return self.safety and self.samples > 1

    def _units(self, goal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, std, y = super()._units(goal)
        if self.integrates_safety:
            mean, std, y = with_last(mean, std, y, *away_from(goal[:, -1], of_z.FAR))
        return mean, std, y

    @working_alone(lambda self, started: len(self.x) ** 3)
    def _search(self, started: bool) -> None:
        super()._search(started)
        scale, output, noise = self._all_priors()
        priors = [scale] * self.lengthscale.shape[1] + [output, noise]
        x = numbers(self.x - self.x.mean(0))
        parts = [self.lengthscale, self.outputscale[:, None], self.noise[:, None]]
        modes = torch.cat(parts, dim=1).unsqueeze(1)
        draws = []
        for d, mode in enumerate(numbers(modes[:, 0].log())) if self.samples > 1 else ():
            if self.integrates_safety and d == self.outputs - 1:
                length = of_z.LENGTH / (UNIFORM if self.standardize else 1.0)
                found = of_z.safe_values(
                    self.x, self.y[:, d], self.samples, length=length, ard=self.ard
                )
                draws.append(numbers(found.log()))
                continue
            y = numbers(self.y[:, d])

            def objective(theta: Any, y: Any = y) -> Any:
                return evidence(self.kernel, x, y, theta, self.ard)

            low, high = np.log([[p.low, p.high] for p in priors]).T
            draws.append(
                sample_posterior(
                    objective,
                    priors,
                    np.clip(mode, low, high),
                    self.samples,
                    self._drawing("hyper-parameters", d),
                    warm_up=self.warm_up,
                    thin=self.thin,
                )
            )
        self.drawn = torch.from_numpy(np.exp(np.stack(draws))).to(self.x) if draws else modes
        self.noise = self.drawn[:, :, -1].mean(1)

    def _process(self, d: int) -> Process:
        cautious = self.integrates_safety and d == self.outputs - 1
        kernel = of_z.SHAPE if cautious else self.kernel
        return MixtureGP.given(kernel, self.drawn[d], self.x, self.y[:, d])

    def members(self, inputs: Any) -> Tensor:
        """Mean and variance of each process side by side [n, S, 2 D], in target units, float64."""
        if not len(self.x):
            return self.predictions(inputs).unsqueeze(1)
        mean, variance = self._each(inputs)
        if self.variance == "predictive":
            variance = variance + self._own_noise()
        return torch.cat([mean, variance], dim=-1)

    def at_quantiles(self, inputs: Any, z: Tensor) -> Tensor:
        """Functions ``mean + z std`` of each process, and its noise: z [Q, D] -> [n, S Q, 2 D]."""
        if not len(self.x):
            return super().at_quantiles(inputs, z)
        mean, variance = self._each(inputs)
        values = mean.unsqueeze(2) + z.to(mean) * variance.sqrt().unsqueeze(2)  # [n, S, Q, D]
        noise = self._own_noise().unsqueeze(1).expand_as(values)
        return torch.cat([values, noise], dim=-1).flatten(1, 2)

    def _each(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, S, D] of each process, in target units."""
        points = self.scaled(inputs)
        with torch.no_grad():
            pairs = [process.each(points) for process in self.processes()]
        mean, variance = (
            torch.stack(part, dim=-1).transpose(0, 1) for part in zip(*pairs, strict=True)
        )
        return mean * self.target_std + self.target_mean, variance * self.target_std.square()

    def _own_noise(self) -> Tensor:
        """Of each process [S, D], in squared target units."""
        return self.drawn[:, :, -1].T * self.target_std.square()
