"""Metrics of predictive distributions by name, one family for each kind of prediction.

What a batch of a family is, and what a metric of torchmetrics or of a user's own in it is fed:

- ``CLASSIFICATION``: log-probabilities [n, C] and labels [n] (int64); others' metrics are fed
  probabilities, those of torchmetrics for two classes ("Binary…") the probability of class 1 [n].
- ``PLACES``: the same of every place in every item, see :func:`places_as_items`; [M, C] and [M].
- ``MULTILABEL``: probabilities [n, L] and targets [n, L] of 0 and 1 (int64), for all alike.
- ``REGRESSION``: mean, variance, targets, each [n, D], in target units; others' metrics are fed
  mean and targets ([n] where D is 1), or all three where their ``update`` takes three. Over several
  outputs the mean of what they compute for each is logged.

Where torchmetrics has a metric in the meaning that a name has here, it is torchmetrics'; the rest
is in :mod:`~lightning_al.tasks.metric_classes` and ``ranking_metrics``, which say why.
"""

from __future__ import annotations

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassJaccardIndex,
    MultilabelAccuracy,
    MultilabelExactMatch,
    MultilabelF1Score,
)

from . import metric_classes as own
from . import metric_feeding as feeding
from .metric_classes import gaussian_nll
from .metric_feeding import Fed, MetricFamily, as_they_are
from .ranking_metrics import AUROC, LabelsAUROC

__all__ = [
    "CLASSIFICATION",
    "MULTILABEL",
    "PLACES",
    "REGRESSION",
    "REGRESSION_METRICS",
    "gaussian_nll",
    "places_as_items",
]

IGNORED = -100  # PyTorch's mark for places without a label

CLASSIFICATION = MetricFamily(
    "classification metric",
    feeds="probabilities [n, C] and labels [n]",
    offers=feeding.class_offers,
    fed=feeding.class_fed,
    example=feeding.class_example,
)
MULTILABEL = MetricFamily(
    "multi-label metric",
    feeds="probabilities [n, L] and targets 0 or 1 [n, L]",
    offers=feeding.label_offers,
    fed=feeding.label_fed,
    example=feeding.label_example,
)
REGRESSION = MetricFamily(
    "regression metric",
    feeds="mean and targets, or mean, variance and targets, each [n, D] ([n] where D is 1)",
    offers=feeding.output_offers,
    fed=feeding.output_fed,
    example=feeding.output_example,
)


# --- classes -------------------------------------------------------------------------------------


@CLASSIFICATION.register("accuracy")
def _accuracy(classes: int) -> Metric:
    return own.Accuracy(classes)


@CLASSIFICATION.register("balanced_accuracy")
def _balanced_accuracy(classes: int) -> Metric:
    return own.BalancedAccuracy(classes)


@CLASSIFICATION.register("auroc")
def _auroc(classes: int) -> Metric:
    return AUROC(classes)


@CLASSIFICATION.register("nll")
def _nll(classes: int) -> Metric:
    return own.NegativeLogLikelihood()


@CLASSIFICATION.register("ece")
def _ece(classes: int, bins: int = 15) -> Metric:
    return own.CalibrationError(bins)


# --- places --------------------------------------------------------------------------------------

PLACES = MetricFamily(
    "metric of places",
    feeds="probabilities [M, C] and labels [M] of all places",
    offers=feeding.class_offers,
    fed=feeding.class_fed,
    example=feeding.class_example,
)
for _name in CLASSIFICATION:
    if _name != "auroc":  # it keeps C + 1 numbers a place until the end
        PLACES.register(_name)(CLASSIFICATION.factory(_name))


@PLACES.register("mean_iou")
def _mean_iou(classes: int) -> Metric:
    """Intersection over union of each class over all places, mean over those that occur.

    A class occurs where a place has it or is taken for it.
    """
    return Fed(MulticlassJaccardIndex(classes, validate_args=False), as_they_are)


def places_as_items(log_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities [n, C, *P], labels [n, *P] -> [M, C], [M]: places not marked -100."""
    told = labels != IGNORED
    return log_probs.movedim(1, -1)[told], labels[told]


# --- labels --------------------------------------------------------------------------------------


@MULTILABEL.register("accuracy")
def _labels_accuracy(labels: int) -> Metric:
    """Share of labels, over all items, that are told right at probability 0.5."""
    return Fed(MultilabelAccuracy(labels, average="micro", validate_args=False), as_they_are)


@MULTILABEL.register("exact_match")
def _exact_match(labels: int) -> Metric:
    """Share of items whose labels are all told right at probability 0.5."""
    return Fed(MultilabelExactMatch(labels, validate_args=False), as_they_are)


@MULTILABEL.register("macro_f1")
def _macro_f1(labels: int) -> Metric:
    """Mean over labels of F1 at probability 0.5; 0 for a label that neither occurs nor is told."""
    return Fed(MultilabelF1Score(labels, average="macro", validate_args=False), as_they_are)


@MULTILABEL.register("auroc")
def _labels_auroc(labels: int) -> Metric:
    return LabelsAUROC(labels)


@MULTILABEL.register("nll")
def _labels_nll(labels: int) -> Metric:
    return own.LabelsNegativeLogLikelihood()


# --- numbers -------------------------------------------------------------------------------------


@REGRESSION.register("mae")
def _mae(outputs: int = 1) -> Metric:
    """Mean absolute error over items and outputs, in target units."""
    return own.AbsoluteError()


@REGRESSION.register("rmse")
def _rmse(outputs: int = 1) -> Metric:
    """Root of the mean squared error over items and outputs, in target units."""
    return own.SquaredError(root=True)


@REGRESSION.register("nll")
def _gaussian_nll(outputs: int = 1) -> Metric:
    return own.GaussianNegativeLogLikelihood()


REGRESSION_METRICS = REGRESSION.copied()
"""Of tasks that are fitted to all labelled items at once: ``mse`` beside the others."""


@REGRESSION_METRICS.register("mse")
def _mse(outputs: int = 1) -> Metric:
    """Mean squared error over items and outputs, in squared target units; summed in float64."""
    return own.SquaredError(double=True)
