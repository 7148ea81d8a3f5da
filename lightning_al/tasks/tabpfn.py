"""TabPFN as a regression or classification task: an optional extra, with weights of its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_al.readings import Classes

from .adapter import Adapter
from .classification import check_labels, feed_probabilities
from .full_batch import FullBatch
from .in_context import InContextRegression, Predictive, Spread
from .metric_specs import MetricSpec
from .metrics import CLASSIFICATION

__all__ = ["TabPFNClassification", "TabPFNRegression"]

SAME = 1e-3  # deviation of answers where all labels are alike, in units of their size


def _made(name: str, estimators: int) -> Any:
    """A fresh estimator of the library.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        library = importlib.import_module("tabpfn")
    except ModuleNotFoundError as error:
        if error.name != "tabpfn":
            raise
        raise ModuleNotFoundError(
            "TabPFN is not installed; `pip install 'lightning-al[tabpfn]'`, and look at the "
            "licence of its weights",
            name="tabpfn",
        ) from None
    return getattr(library, name)(n_estimators=estimators, random_state=0)


def _fitted(estimator: Any, kind: str, x: Any, y: Any) -> Any:
    """The estimator with its context.

    Raises:
        LookupError: its weights are not there, and could not be fetched.
    """
    try:
        return estimator.fit(x, y)
    except (OSError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise LookupError(
            f"TabPFN has no weights for a {kind}: {said}; fetch its {kind} weights (a "
            f"tabpfn-*-{kind}*.ckpt file) on a machine with internet, and set "
            "TABPFN_MODEL_CACHE_DIR to the folder with the file"
        ) from error


class TabPFNRegression(InContextRegression):
    """Predictions of targets [n] or [n, D] by TabPFN, which reads the labelled set.

    Hollmann et al. (2025), "Accurate predictions on small data with a tabular foundation model".
    Its distribution over buckets gives mean, variance and entropy in closed form; the noise is not
    told apart, so members have the variance of an answer. Where all labels are alike (or there is
    but one) the prediction is that value.

    Args:
        outputs: D.
        estimators: passes that are averaged; the library's own default is 8.
        variance: "predictive" or "entropy", see
            :class:`~lightning_al.tasks.in_context.InContextRegression`.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: settings that make no sense; in a fit, data that are not finite.
        ModuleNotFoundError: the library is not installed.
        LookupError: in a fit, its weights are not there.
    """

    def __init__(
        self,
        outputs: int | None = 1,
        estimators: int = 1,
        variance: Spread = "predictive",
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        if estimators < 1:
            raise ValueError(f"estimators must be at least 1, got {estimators}")
        if variance == "latent":
            raise ValueError(
                "TabPFN does not tell the noise from the function; variance is 'predictive' or "
                "'entropy'"
            )
        super().__init__(outputs, True, variance, metrics, {"estimators": estimators})
        self.estimators = estimators
        self._fits: dict[int, Any] = {}
        _made("TabPFNRegressor", estimators)

    def forget(self) -> None:
        """Drop the estimators; they take the context again when they are wanted."""
        self._fits = {}

    def ask(self, output: int, points: Tensor) -> tuple[Predictive, Tensor]:
        """Buckets of the library, in standardised units."""
        y = self.y[:, output]
        if len(y) < 2 or bool((y == y[0]).all()):
            return _Point(y[0].expand(len(points))), points.new_zeros(())
        if output not in self._fits:
            fresh = _made("TabPFNRegressor", self.estimators)
            self._fits[output] = _fitted(fresh, "regressor", self.x.cpu().numpy(), y.cpu().numpy())
        told = self._fits[output].predict(points.cpu().numpy(), output_type="full")
        return _Buckets(told["criterion"], told["logits"], points), points.new_zeros(())


class _Buckets:
    """The library's distribution, its moments on the device of the points."""

    def __init__(self, criterion: Any, logits: Tensor, like: Tensor) -> None:
        self.criterion, self.logits, self.like = criterion, logits, like

    def mean(self) -> Tensor:
        """[M]."""
        return self.criterion.mean(self.logits).to(self.like)

    def variance(self) -> Tensor:
        """[M]."""
        return self.criterion.variance(self.logits).to(self.like)

    def entropy(self) -> Tensor:
        """[M]: of the buckets, each of them uniform."""
        log_probs = self.logits.double().log_softmax(-1)
        widths = self.criterion.bucket_widths.to(log_probs)
        inside = widths.log() - log_probs
        probs = log_probs.exp()
        return torch.where(probs > 0, probs * inside, 0.0).sum(-1).to(self.like)


class _Point:
    """A value that all labels have."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def mean(self) -> Tensor:
        """[M]."""
        return self.value

    def variance(self) -> Tensor:
        """[M]."""
        return torch.full_like(self.value, SAME**2)

    def entropy(self) -> Tensor:
        """[M], of a normal."""
        variance = torch.tensor(SAME**2, dtype=self.value.dtype)
        return torch.full_like(self.value, float(0.5 * (2 * torch.pi * torch.e * variance).log()))


class TabPFNClassification(FullBatch):
    """Class probabilities [n, C] by TabPFN, which reads the labelled set.

    Ask by ``margin``, ``coreset`` or ``entropy``: what Treerath, Pittorino (2026), "Tab-AICL",
    arXiv 2603.27385, asks by is among the strategies for any classifier. Classes that no labelled
    item has get probability 0; with labels of one class the prediction is that class.

    Args:
        classes: C.
        estimators: passes that are averaged.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: settings that make no sense; in a fit, labels outside 0..C-1.
        ModuleNotFoundError: the library is not installed.
        LookupError: in a fit, its weights are not there.
    """

    x: Tensor
    y: Tensor

    def __init__(
        self,
        classes: int | None = None,
        estimators: int = 1,
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        if classes is None or classes < 2:
            raise ValueError(f"a classification needs 2 classes or more, got {classes}")
        if estimators < 1:
            raise ValueError(f"estimators must be at least 1, got {estimators}")
        super().__init__(
            metrics=metrics,
            known=CLASSIFICATION,
            settings={"classes": classes, "estimators": estimators},
            metric_arguments={"classes": classes},
        )
        self.classes, self.estimators = classes, estimators
        self.register_buffer("x", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("y", torch.zeros(0, dtype=torch.int64))
        self._fit: Any = None
        _made("TabPFNClassifier", estimators)

    @property
    def adapter(self) -> Adapter:
        """Probabilities."""
        return Adapter("raw", "features", Classes(self.classes, "probs"))

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Keep the labelled set; nothing is fitted."""
        self.forget()
        check_labels(targets, self.classes)
        self.x, self.y = self.features(inputs), targets.long()

    def forget(self) -> None:
        """Drop the estimator."""
        self._fit = None

    def raw(self, inputs: Any) -> Tensor:
        """Probabilities [n, C], float64."""
        points = self.features(inputs)
        seen = self.y.unique()
        probs = points.new_zeros(len(points), self.classes)
        if len(seen) < 2:
            return probs + 1 / self.classes if not len(seen) else probs.index_fill(1, seen, 1.0)
        if self._fit is None:
            fresh = _made("TabPFNClassifier", self.estimators)
            x, y = self.x.cpu().numpy(), self.y.cpu().numpy()
            self._fit = _fitted(fresh, "classifier", x, y)
        found = torch.as_tensor(self._fit.predict_proba(points.cpu().numpy())).to(probs)
        probs[:, seen] = found / found.sum(1, keepdim=True)
        return probs

    def forward(self, inputs: Any) -> Tensor:
        """Probabilities [n, C]."""
        return self.raw(inputs)

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch."""
        feed_probabilities(metrics, raw, targets, self.classes)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities [n, C] of a batch, or of a bare tensor of inputs."""
        return self.raw(batch if isinstance(batch, Tensor) else self.split(batch)[0])
