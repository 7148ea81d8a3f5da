"""Metrics of predictive distributions, summed over batches and ranks of any size.

Classification metrics are fed log-probabilities [n, C] and labels [n]; regression metrics mean,
variance and targets, each [n, D], in target units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_al.registry import Registry

__all__ = ["CLASSIFICATION", "REGRESSION", "gaussian_nll", "metric_dict"]

CLASSIFICATION: Registry[Metric] = Registry("classification metric")
REGRESSION: Registry[Metric] = Registry("regression metric")


def metric_dict(
    registry: Registry[Metric], names: Sequence[str] | None, **kwargs: Any
) -> nn.ModuleDict:
    """The named metrics, or all, each for itself.

    Raises:
        LookupError: an unknown name; the message lists the valid ones.
    """
    chosen = registry.names() if names is None else names
    return nn.ModuleDict({name: registry.build(name, **kwargs) for name in chosen})


def gaussian_nll(mean: Tensor, variance: Tensor, targets: Tensor) -> Tensor:
    """Negative log-density in nats, [n, D] each -> [n], added over the outputs."""
    each = math.log(2 * math.pi) + variance.log() + (targets - mean).square() / variance
    return each.sum(-1) / 2


class _Mean(Metric):
    """Mean over items of ``values``."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, classes: int | None = None) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def values(self, *batch: Tensor) -> Tensor:
        raise NotImplementedError

    def update(self, *batch: Tensor) -> None:
        values = self.values(*batch)
        self.total += values.sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        return self.total / self.count


@CLASSIFICATION.register("accuracy")
class Accuracy(_Mean):
    """Share of items whose most probable class is the label."""

    higher_is_better = True

    def values(self, *batch: Tensor) -> Tensor:
        log_probs, labels = batch
        return (log_probs.argmax(1) == labels).float()


@CLASSIFICATION.register("nll")
class NegativeLogLikelihood(_Mean):
    """Mean of -log p(label), in nats."""

    def values(self, *batch: Tensor) -> Tensor:
        log_probs, labels = batch
        return -log_probs.gather(1, labels[:, None])[:, 0]


@CLASSIFICATION.register("balanced_accuracy")
class BalancedAccuracy(Metric):
    """Mean over the classes that occur of the share of their items that is recognised."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    right: Tensor
    count: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("right", torch.zeros(classes), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(classes), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        hits = labels[log_probs.argmax(1) == labels]
        self.right += torch.bincount(hits, minlength=self.classes)
        self.count += torch.bincount(labels, minlength=self.classes)

    def compute(self) -> Tensor:
        recall: Tensor = (self.right / self.count)[self.count > 0].mean()
        return recall


@CLASSIFICATION.register("ece")
class CalibrationError(Metric):
    """Expected calibration error of the most probable class over 15 equal bins.

    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks".
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    sums: Tensor

    def __init__(self, classes: int | None = None, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("sums", torch.zeros(3, bins), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        confidence, label = log_probs.exp().max(1)
        bin = (confidence * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)
        right = (label == labels).to(confidence.dtype)
        each = torch.stack([torch.ones_like(right), confidence, right])
        self.sums.index_add_(1, bin, each.to(self.sums.dtype))

    def compute(self) -> Tensor:
        count, confidence, right = self.sums
        return (confidence - right).abs().sum() / count.sum()


@CLASSIFICATION.register("auroc")
class AUROC(Metric):
    """Area under the ROC curve, one class against the rest, mean over the classes that occur.

    A class without positive or without negative items is left out; nan where none is left.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    rows: list[Tensor]

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        # one flat state: a rank without items takes part in the sync with an empty vector
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        rows = torch.cat([log_probs, labels[:, None].to(log_probs.dtype)], 1)
        self.rows.append(rows.flatten())

    def compute(self) -> Tensor:
        rows = dim_zero_cat(self.rows).reshape(-1, self.classes + 1)
        scores, labels = rows[:, :-1], rows[:, -1]
        areas = []
        for c in range(self.classes):
            positive, negative = scores[labels == c, c], scores[labels != c, c].sort().values
            if len(positive) and len(negative):
                below = torch.searchsorted(negative, positive)
                upto = torch.searchsorted(negative, positive, right=True)
                areas.append((below + upto).float().mean() / (2 * len(negative)))
        return torch.stack(areas).mean() if areas else scores.new_tensor(torch.nan)


@REGRESSION.register("mae")
class AbsoluteError(_Mean):
    """Mean absolute error, in target units."""

    def values(self, *batch: Tensor) -> Tensor:
        mean, _, targets = batch
        return (mean - targets).abs()


@REGRESSION.register("rmse")
class RootSquaredError(_Mean):
    """Root of the mean squared error, in target units."""

    def values(self, *batch: Tensor) -> Tensor:
        mean, _, targets = batch
        return (mean - targets).square()

    def compute(self) -> Tensor:
        return super().compute().sqrt()


@REGRESSION.register("nll")
class GaussianNegativeLogLikelihood(_Mean):
    """Mean of -log p(target) in nats, under a Gaussian with the predictive mean and variance."""

    def values(self, *batch: Tensor) -> Tensor:
        return gaussian_nll(*batch)
