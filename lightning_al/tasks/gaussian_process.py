"""Exact Gaussian process regression as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torchmetrics import Metric

from lightning_al.gp import AnyPrior, ExactGP, GammaPrior, Prior, Stationary, cholesky, fit_exact
from lightning_al.gp.foreign import Foreign, fit_foreign
from lightning_al.randomness import generator
from lightning_al.readings import Numbers
from lightning_al.threads import working_alone

from . import amortised
from .adapter import Adapter
from .gp_base import MODES, GaussianProcess
from .metric_specs import MetricSpec
from .metrics import REGRESSION_METRICS
from .standardisation import away_from, standardised, with_last

__all__ = ["GPRegression", "Priors", "Process", "RegressionMode", "Variance", "halves"]

RegressionMode = Literal["map", "evidence", "gamma", "fixed", "published", "amortised"]
Variance = Literal["latent", "predictive"]
Priors = tuple[AnyPrior, AnyPrior, AnyPrior]
LEAST_NOISE = 1e-6  # in squared standard deviations of the targets
GAMMA = 2.0, 2.0  # shape and rate of every length scale's prior under "gamma"
GAMMA_SEARCHES = 5


class Process(Protocol):
    """A Gaussian function given data, in standardised units."""

    def moments(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [m] at points [m, d]."""
        ...

    def joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [m] and covariance [m, m] at points [m, d]."""
        ...


class GPRegression(GaussianProcess):
    """Exact Gaussian process regression of targets [n] or [n, D], one process an output.

    Fitted on all labelled items at once, in float64: an L-BFGS search for the hyper-parameters
    and one Cholesky. Give the Trainer ``max_epochs=1`` (more are cut off after the first).
    Features are flattened; with ``standardize`` features and targets are taken to mean 0 and
    deviation 1 by the labelled set, and length scales, ``outputscale`` and ``noise`` are in those
    units; predictions and metrics are in the target's own.

    A prediction is the mean [n, 1, D] and, as its variance [n, 1, D], that of the function without
    noise ("latent"), which is what an answer can reduce, or of a new answer ("predictive").
    Strategies that compare members (``variance``, ``ucb``, ``regression-bald``) are given
    :class:`~lightning_al.posteriors.LatentQuantiles` where the run names no posterior: members
    with exactly that mean and latent variance, whose own variance is the noise.

    Logged: ``val/`` and ``test/`` ``mse``, ``rmse``, ``mae``, ``nll`` (of noisy targets: the noise
    counts).

    Args:
        outputs: D.
        kernel: "rbf", "matern12", "matern32", "matern52", or a ``gpytorch.kernels.Kernel`` (shared
            by all outputs, fitted by autograd through the same likelihood, with its own priors).
        ard: one length scale a feature.
        hyperparameters: "map" maximises evidence times log-normal priors, "evidence" the evidence
            alone, "fixed" takes those given; "gamma" is the model that active learning policies
            are compared with (Li et al. 2026, "Amortized Safe Active Learning"): data as they are
            (bring targets to mean 0 and deviation 1), ``outputscale`` fixed, by default to 1, each
            length scale under a Gamma prior of shape 2 and rate 2, the noise under none, the best
            of 5 searches from length scales of 0.2 and noise 0.01; the prior is the density of
            the length scale itself, without a Jacobian, as in GPflow 2; "published" is the fixed
            ``1.0 * RBF(1.0)`` with noise 1e-10 on raw data rounded to float32, which the
            regression tables of Scherer et al. (2022), "PyRelationAL", were computed with;
            "amortised" asks a network that was trained beforehand, without a search: for the
            kernel "rbf" with a length scale a feature
            (:class:`~lightning_al.surrogates.AmortisedGP`).
        lengthscale: value, or where the search starts; with "fixed" and "gamma" 1 a feature where
            wanted.
        outputscale: the same, prior variance.
        noise: the same, variance of the noise.
        standardize: see above; on unless "published" or "gamma".
        variance: "latent" or "predictive".
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        starts: searches, of which the best counts: the first from where it should start, the
            others from there with each inverse softplus times U[0.5, 1.5], drawn by torch's seed
            (that of the round, in a run). None: 5 with "gamma", else 1.
        safety: the last output is the safety measurement, never taken to mean 0, and left out of
            the metrics. None: no, or what the data say, from the command line. One estimate of the
            hyper-parameters, as here, claims too much to be safe
            (:class:`~lightning_al.tasks.MarginalGPRegression` does not).
        surrogate: for "amortised", name or path of a trained network; by default "amortised-gp".

    Raises:
        ValueError: settings that make no sense; in a fit, data that are not finite.
        LookupError: an unknown kernel, metric or network.
    """

    y: Tensor  # [L, D], standardised
    noise: Tensor  # [D]
    target_mean: Tensor  # [D]
    target_std: Tensor  # [D]

    def __init__(
        self,
        outputs: int | None = 1,
        kernel: str | nn.Module = "rbf",
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
        surrogate: str | None = None,
    ) -> None:
        if outputs is None or outputs < 1:
            raise ValueError(f"a regression needs 1 output or more, got {outputs}")
        if variance not in ("latent", "predictive"):
            raise ValueError(f"variance is 'latent' or 'predictive', got {variance!r}")
        if noise is not None and not noise > 0:
            raise ValueError(f"noise is a variance above 0, got {noise}")
        if safety and outputs < 2:
            raise ValueError(
                f"safety=True needs 2 outputs or more, the last one of them the safety "
                f"measurement, got {outputs}"
            )
        if starts is not None and starts < 1:
            raise ValueError(f"starts must be at least 1, got {starts}")
        if hyperparameters == "gamma":
            lengthscale = 0.2 if lengthscale is None else lengthscale
            outputscale = 1.0 if outputscale is None else outputscale
            noise = 0.01 if noise is None else noise
        raw = None if standardize is not False else standardize
        given = (lengthscale, outputscale, noise, starts, raw, safety or None)
        amortised.check(hyperparameters == "amortised", surrogate, ard and kernel == "rbf", given)
        self.surrogate = surrogate
        ours = isinstance(kernel, str)
        if ours:
            Stationary(str(kernel), torch.ones(1), torch.ones(()))  # refuses unknown names
        super().__init__(
            problems=outputs,
            kernel=str(kernel) if ours else "rbf",
            ard=ard,
            hyperparameters=hyperparameters,
            values={"lengthscale": lengthscale, "outputscale": outputscale, "noise": noise},
            standardize=standardize,
            metrics=metrics,
            known=REGRESSION_METRICS,
            settings={
                "outputs": outputs,
                "variance": variance,
                "starts": starts,
                "safety": safety,
                **({} if surrogate is None else {"surrogate": surrogate}),
                **({"kernel": kernel} if ours else {}),
            },
            metric_arguments={"outputs": outputs - bool(safety)},
            modes=(*MODES, "gamma", "amortised"),
        )
        self.outputs, self.variance, self.safety = outputs, variance, bool(safety)
        self.starts = starts or (GAMMA_SEARCHES if hyperparameters == "gamma" else 1)
        self.foreign = None if isinstance(kernel, str) else kernel.double()
        if self.foreign is not None and (self.starts > 1 or hyperparameters == "gamma"):
            raise ValueError(
                f"a kernel of GPyTorch is fitted by one search under its own priors; leave out "
                f"starts={self.starts} and 'gamma', or name one of our kernels"
            )
        if noise is None:
            noise = 1e-10 if self.published else 0.1
        self.register_buffer("y", torch.zeros(0, outputs, dtype=torch.float64))
        self.register_buffer("noise", torch.full((outputs,), noise, dtype=torch.float64))
        self.register_buffer("target_mean", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("target_std", torch.ones(outputs, dtype=torch.float64))
        self._given: Sequence[Process] | None = None

    @property
    def adapter(self) -> Adapter:
        """Moments in target units."""
        return Adapter("predictions", "scaled", Numbers(self.outputs, halves))

    # --- the fit -----------------------------------------------------------------------------

    @working_alone(lambda self, inputs, targets: len(targets) ** 3)
    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Condition on all labelled items, after the search for hyper-parameters."""
        self.forget()
        started = len(self.x) > 0  # weights="warm": the search starts where the last one ended
        self._take_features(inputs)
        goal = self._targets(targets)
        goal = goal.float().double() if self.published else goal
        if not bool(goal.isfinite().all()):
            raise ValueError("targets of the labelled set hold NaN or infinities")
        self.target_mean, self.target_std, self.y = self._units(goal)
        if self.hyperparameters in ("map", "evidence", "gamma"):
            self._search(started)
        elif self.hyperparameters == "amortised":
            found = amortised.ask(self.surrogate, self.x, self.y)
            self.lengthscale, self.outputscale, self.noise = found

    def _units(self, goal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is taken from targets [n, D], what they are divided by [D], and what they become.

        Nothing is taken from a safety measurement, or its limit would move.
        """
        mean, std, y = torch.zeros_like(self.target_mean), torch.ones_like(self.target_std), goal
        if self.standardize:
            mean, std, y = standardised(goal)
        if self.safety and self.standardize:
            mean, std, y = with_last(mean, std, y, *away_from(goal[:, -1], 0.0))
        return mean, std, y

    def _search(self, started: bool) -> None:
        if self.foreign is not None:
            found, _ = fit_foreign(
                Foreign(self.foreign),
                self.x,
                self.y,
                self._noise_prior(),
                priors=self.hyperparameters == "map",
            )
            self.noise = found.to(self.x).expand(self.outputs).contiguous()
            return
        for d in range(self.outputs):
            logs = [*self.lengthscale[d], self.outputscale[d], self.noise[d]]
            known = started or self.hyperparameters == "gamma"  # there the buffers hold the start
            start = torch.stack(logs).log().cpu().numpy() if known else None
            kernel, self.noise[d] = self._fit(
                d,
                self._all_priors(),
                ard=self.ard,
                start=start,
                starts=self.starts,
                generator=self._drawing("starts", d),
            )
            self.lengthscale[d], self.outputscale[d] = kernel.lengthscale, kernel.outputscale

    def _fit(self, d: int, priors: Priors, **how: Any) -> tuple[Stationary, Tensor]:
        """Kernel and noise of one output."""
        return fit_exact(self.x, self.y[:, d], self.kernel, *priors, **how)[:2]

    def _drawing(self, role: str, d: int) -> torch.Generator:
        """For one output's draws, keyed by the seed that the fit runs under."""
        return generator(torch.initial_seed(), len(self.x), role, d)

    def _all_priors(self) -> Priors:
        """Of length scales, output scale and noise."""
        if self.hyperparameters != "gamma":
            return (*self._priors(), self._noise_prior())
        begin = torch.as_tensor(self.values["lengthscale"], dtype=torch.float64)
        low, high = min(1e-3, float(begin.min())), max(1e3, float(begin.max()))
        fixed = float(self.values["outputscale"])
        scale = GammaPrior(*GAMMA, float(begin.flatten()[0]), low, high)
        return scale, Prior(fixed, None, fixed, fixed), self._noise_prior()

    def _noise_prior(self) -> Prior:
        median = 0.1 if self.values["noise"] is None else float(self.values["noise"])
        sigma = 2.0 if self.hyperparameters == "map" else None
        return Prior(median, sigma, min(LEAST_NOISE, median), max(1e3, median))

    def _targets(self, targets: Tensor) -> Tensor:
        shaped = targets.unsqueeze(1) if targets.ndim == 1 else targets
        if shaped.ndim != 2 or shaped.shape[1] != self.outputs:
            raise ValueError(f"targets must be [n, {self.outputs}], got {list(targets.shape)}")
        return shaped.double()

    # --- predictions -------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop the factors; they are computed from the state when they are wanted."""
        self._given = None

    def processes(self) -> Sequence[Any]:
        """The process of each output, conditioned on the labelled set; in standardised units."""
        if self._given is None:
            with torch.no_grad():
                self._given = [self._process(d) for d in range(self.outputs)]
        return self._given

    def _process(self, d: int) -> Process:
        kernel = self.stationary(d) if self.foreign is None else Foreign(self.foreign)
        return ExactGP.given(kernel, self.noise[d], self.x, self.y[:, d])

    @working_alone(lambda self, inputs: len(self.x) ** 2 * len(inputs), blas=False)
    def moments(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, D] of the function, in target units, float64."""
        if not len(self.x):  # nothing is labelled yet: the prior
            mean = self.target_mean.expand(len(inputs), -1)
            return mean, self.outputscale.expand(len(inputs), -1)
        points = self.scaled(inputs)
        with torch.no_grad():
            pairs = [gp.moments(points) for gp in self.processes()]
        mean, variance = (torch.stack(part, dim=1) for part in zip(*pairs, strict=True))
        return mean * self.target_std + self.target_mean, variance * self.target_std.square()

    def noise_variance(self) -> Tensor:
        """Of answers [D], in squared target units."""
        return self.noise * self.target_std.square()

    def predictions(self, inputs: Any) -> Tensor:
        """Mean and variance side by side [n, 2 D], in target units, float64."""
        mean, variance = self.moments(inputs)
        if self.variance == "predictive":
            variance = variance + self.noise_variance()
        return torch.cat([mean, variance], dim=1)

    @working_alone(lambda self, inputs, z: (len(self.x) ** 2 + len(z)) * len(inputs), blas=False)
    def at_quantiles(self, inputs: Any, z: Tensor) -> Tensor:
        """Functions ``mean + z std`` and the noise: z [S, D] -> [n, S, 2 D]."""
        mean, variance = self.moments(inputs)
        values = mean.unsqueeze(1) + z.to(mean) * variance.sqrt().unsqueeze(1)
        return torch.cat([values, self.noise_variance().expand_as(values)], dim=-1)

    @property
    def problems(self) -> int:
        """How many Gaussian functions there are: D."""
        return self.outputs

    @property
    def integrates_safety(self) -> bool:
        """Whether z has its hyper-parameters integrated out; one estimate claims too much."""
        return False

    @working_alone(lambda self, inputs: (len(self.x) + len(inputs)) ** 3, blas=False)
    def joint(self, inputs: Any) -> MultivariateNormal:
        """Joint distribution over n items, in target units: events [n], a batch [D] where D > 1.

        Of the function, or of answers, as ``variance`` says. Float64; where rounding leaves the
        covariance indefinite, 1e-10 of its diagonal or more is added.
        """
        points = self.scaled(inputs)
        means, factors = [], []
        for d, gp in enumerate(self.processes() if len(self.x) else []):
            with torch.no_grad():
                mean, covariance = gp.joint(points)
            if self.variance == "predictive":
                covariance.diagonal().add_(self.noise[d])
            means.append(mean * self.target_std[d] + self.target_mean[d])
            factors.append(cholesky(covariance, "the posterior covariance") * self.target_std[d])
        if not means:
            raise LookupError("a joint prediction needs labelled items: fit the task first")
        if self.outputs == 1:
            return MultivariateNormal(means[0], scale_tril=factors[0], validate_args=False)
        return MultivariateNormal(
            torch.stack(means), scale_tril=torch.stack(factors), validate_args=False
        )

    def raw(self, inputs: Any) -> Tensor:
        """Mean and predictive variance [n, 2 D]: what metrics are fed."""
        mean, variance = self.moments(inputs)
        return torch.cat([mean, variance + self.noise_variance()], dim=1)

    def forward(self, inputs: Any) -> Tensor:
        """Predictive mean [n, D] in target units."""
        return self.moments(inputs)[0]

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch, in target units; the safety measurement is left out."""
        parts = (*raw.chunk(2, dim=1), self._targets(targets))
        seen = [part[:, :-1] for part in parts] if self.safety else parts
        for metric in metrics:
            metric.update(*seen)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """``mean`` and predictive ``variance`` [n, D] of a batch, or of a bare tensor."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        mean, variance = self.raw(inputs).chunk(2, dim=1)
        return {"mean": mean, "variance": variance}


def halves(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [..., D] of values [..., 2 D]."""
    mean, variance = raw.chunk(2, dim=-1)
    return mean, variance
