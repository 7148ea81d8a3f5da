"""Gaussian process classification as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_al.gp import BinaryLaplace, Stationary, fit_laplace, sigmoid_mean
from lightning_al.readings import Classes
from lightning_al.threads import working_alone

from .adapter import Adapter
from .classification import check_labels, feed_probabilities
from .gp_base import GaussianProcess, Mode
from .metric_specs import MetricSpec
from .metrics import CLASSIFICATION

__all__ = ["GPClassification"]


class GPClassification(GaussianProcess):
    """Gaussian process classification by Laplace's approximation, logistic link.

    Two classes are one process; more are one process against the rest each, their probabilities
    divided by the sum. Classes that no labelled item has are learnt as absent. Fitted on all
    labelled items at once, in float64, O(L³) a class. Predictions are probabilities [n, 1, C],
    the latent function integrated out; strategies that compare members (``bald``) are given those
    of :class:`~lightning_al.posteriors.LatentQuantiles`, [n, S, C], where the run names no
    posterior.

    Source: Rasmussen, Williams (2006), "Gaussian Processes for Machine Learning", chapter 3.

    Logged: ``val/`` and ``test/`` ``accuracy``, ``balanced_accuracy``, ``auroc``, ``nll``,
    ``ece``.

    Args:
        classes: C.
        kernel: "rbf", "matern12", "matern32" or "matern52".
        ard: one length scale a feature.
        hyperparameters: "map", "evidence" or "fixed", see :class:`GPRegression`; "published" is
            the fixed ``1.0 * RBF(1.0)`` on raw data rounded to float32, over the classes that
            occur (others have probability 0), and equals scikit-learn's
            ``GaussianProcessClassifier(1.0 * RBF(1.0), optimizer=None)``.
        lengthscale: value, or where the search starts.
        outputscale: the same, prior variance of the latent function.
        standardize: take features to mean 0 and deviation 1; on unless "published".
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: settings that make no sense; in a fit, labels outside 0..C-1.
        LookupError: an unknown kernel or metric.
    """

    y: Tensor  # [L] int64

    def __init__(
        self,
        classes: int | None = None,
        kernel: str = "rbf",
        ard: bool = True,
        hyperparameters: Mode = "map",
        lengthscale: float | list[float] | None = None,
        outputscale: float | None = None,
        standardize: bool | None = None,
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        if classes is None or classes < 2:
            raise ValueError(f"a classification needs 2 classes or more, got {classes}")
        Stationary(kernel, torch.ones(1), torch.ones(()))  # refuses unknown names
        super().__init__(
            problems=1 if classes == 2 else classes,
            kernel=kernel,
            ard=ard,
            hyperparameters=hyperparameters,
            values={"lengthscale": lengthscale, "outputscale": outputscale},
            standardize=standardize,
            metrics=metrics,
            known=CLASSIFICATION,
            settings={"classes": classes, "kernel": kernel},
            metric_arguments={"classes": classes},
        )
        self.classes = classes
        self.register_buffer("y", torch.zeros(0, dtype=torch.int64))
        self._given: list[BinaryLaplace] | None = None

    @property
    def adapter(self) -> Adapter:
        """Probabilities."""
        return Adapter("probabilities", "scaled", Classes(self.classes, "probs"))

    @working_alone(lambda self, inputs, targets: len(targets) ** 3)
    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Find the modes for all labelled items, after the search for hyper-parameters."""
        self.forget()
        check_labels(targets, self.classes)
        if targets.ndim != 1:
            raise ValueError(f"labels must be [n], one an item, got {list(targets.shape)}")
        started = len(self.x) > 0
        self._take_features(inputs)
        self.y = targets.long()
        if self.hyperparameters not in ("map", "evidence"):
            return
        scale, output = self._priors()
        for p, cls in enumerate(self._positives()):
            logs = torch.cat([self.lengthscale[p], self.outputscale[p : p + 1]]).log()
            start = logs.cpu().numpy() if started else None
            labels = (self.y == cls).double()
            kernel, _ = fit_laplace(
                self.x, labels, self.kernel, scale, output, ard=self.ard, start=start
            )
            self.lengthscale[p], self.outputscale[p] = kernel.lengthscale, kernel.outputscale

    def _positives(self) -> list[int]:
        """The class that each process tells from the rest."""
        if not self.published:
            return [1] if self.classes == 2 else list(range(self.classes))
        seen: list[int] = self.y.unique().tolist()
        return seen[1:] if len(seen) == 2 else seen

    def forget(self) -> None:
        """Drop the modes; they are found again from the state when they are wanted."""
        self._given = None

    def processes(self) -> list[BinaryLaplace]:
        """The processes given the labelled set, one a class, or one for two classes."""
        if self._given is None:
            self._given = [
                BinaryLaplace.given(self.stationary(p), self.x, (self.y == cls).double())
                for p, cls in enumerate(self._positives())
            ]
        return self._given

    @working_alone(lambda self, inputs: len(self.x) ** 2 * len(inputs))
    def latent(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, processes] of the latent functions, float64."""
        if not len(self.x):
            variance = self.outputscale.expand(len(inputs), -1)
            return torch.zeros_like(variance), variance
        points = self.scaled(inputs)
        pairs = [process.moments(points) for process in self.processes()]
        mean, variance = (torch.stack(part, dim=1) for part in zip(*pairs, strict=True))
        return mean, variance

    def _spread(self, each: Tensor) -> Tensor:
        """Probabilities [..., C] from those of each process alone [..., processes]."""
        positives = self._positives() if len(self.x) else []
        if self.published and positives:
            seen = self.y.unique().tolist()
            probs = each.new_zeros(*each.shape[:-1], self.classes)
            if len(seen) == 1:
                probs[..., seen[0]] = 1.0
            elif len(seen) == 2:
                probs[..., seen[0]], probs[..., seen[1]] = 1 - each[..., 0], each[..., 0]
            else:
                probs[..., seen] = each / each.sum(-1, keepdim=True)
            return probs
        if self.classes == 2:
            return torch.cat([1 - each, each], dim=-1)
        return each / each.sum(-1, keepdim=True)

    def probabilities(self, inputs: Any) -> Tensor:
        """Probabilities [n, C], float64."""
        mean, variance = self.latent(inputs)
        return self._spread(sigmoid_mean(mean, variance, self.published).clamp(0.0, 1.0))

    @working_alone(lambda self, inputs, z: (len(self.x) ** 2 + len(z)) * len(inputs))
    def at_quantiles(self, inputs: Any, z: Tensor) -> Tensor:
        """Probabilities under latent functions ``mean + z std``: z [S, processes] -> [n, S, C]."""
        mean, variance = self.latent(inputs)
        z = z[:, : mean.shape[1]].to(mean)
        return self._spread((mean.unsqueeze(1) + z * variance.sqrt().unsqueeze(1)).sigmoid())

    @property
    def problems(self) -> int:
        """How many latent functions there are."""
        return len(self.outputscale)

    def raw(self, inputs: Any) -> Tensor:
        """Probabilities [n, C]."""
        return self.probabilities(inputs)

    def forward(self, inputs: Any) -> Tensor:
        """Probabilities [n, C]."""
        return self.probabilities(inputs)

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch."""
        feed_probabilities(metrics, raw, targets, self.classes)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities [n, C] of a batch as in testing, or of a bare tensor of inputs."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        return self.probabilities(inputs)
