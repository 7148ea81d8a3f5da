"""Metrics that torchmetrics has not, or has in another meaning; each says why it is here.

All are summed over batches and ranks of any size: a rank without items takes part in the sync with
states of the same shape as the others'.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric
from torchmetrics.classification import MulticlassAccuracy

__all__ = [
    "AbsoluteError",
    "Accuracy",
    "BalancedAccuracy",
    "CalibrationError",
    "GaussianNegativeLogLikelihood",
    "LabelsNegativeLogLikelihood",
    "MeanOf",
    "NegativeLogLikelihood",
    "SquaredError",
    "gaussian_nll",
]

LOG_2_PI = math.log(2 * math.pi)


def gaussian_nll(mean: Tensor, variance: Tensor, targets: Tensor) -> Tensor:
    """Negative log-density in nats, [n, D] each -> [n], added over the outputs."""
    each = _twice_nll(mean, variance, targets)
    return (each.sum(-1) + each.shape[-1] * LOG_2_PI) / 2


def _twice_nll(mean: Tensor, variance: Tensor, targets: Tensor) -> Tensor:
    """[n, D], without log 2π."""
    return torch.addcdiv(variance.log(), (targets - mean).square(), variance)


class MeanOf(Metric):
    """Mean over items of ``values``; nan where there are none."""

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def values(self, *batch: Tensor) -> Tensor:
        """One number an item [n]."""
        raise NotImplementedError

    def update(self, *batch: Tensor) -> None:
        """Add a batch."""
        values = self.values(*batch)
        self.total.add_(values.sum())  # += would go through nn.Module.__setattr__
        self.count.add_(values.numel())

    def compute(self) -> Tensor:
        """The figure so far."""
        return self.total / self.count


class NegativeLogLikelihood(MeanOf):
    """Mean of -log p(label), in nats: log-probabilities [n, C], labels [n].

    torchmetrics has it for text only (``Perplexity``).
    """

    def values(self, *batch: Tensor) -> Tensor:
        """One number an item [n]."""
        log_probs, labels = batch
        return -log_probs.gather(1, labels[:, None])[:, 0]


class LabelsNegativeLogLikelihood(MeanOf):
    """Mean over items of -log p(all labels), in nats: probabilities [n, L], targets 0 or 1 [n, L].

    The labels of an item are independent given the prediction: their terms are added, as the
    outputs of a regression are. torchmetrics has none.
    """

    def values(self, *batch: Tensor) -> Tensor:
        """One number an item [n]."""
        probs, targets = batch
        least = torch.finfo(probs.dtype).tiny
        right = torch.where(targets.bool(), probs, 1 - probs)
        return -right.clamp_min(least).log().sum(1)


class GaussianNegativeLogLikelihood(MeanOf):
    """Mean of -log p(target) in nats, under a Gaussian: mean, variance, targets, each [n, D].

    Added over the outputs, as :func:`gaussian_nll` is. torchmetrics has none.
    """

    def update(self, *batch: Tensor) -> None:
        """Add a batch."""
        each = _twice_nll(*batch)
        self.total.add_(each.sum().add_(each.numel() * LOG_2_PI))
        self.count.add_(len(each))

    def compute(self) -> Tensor:
        """The figure so far."""
        return self.total / (2 * self.count)


class AbsoluteError(MeanAbsoluteError):
    """Mean absolute error over items and outputs, in target units; torchmetrics'."""

    def update(self, mean: Tensor, variance: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """Add a batch, each [n, D]."""
        super().update(mean.contiguous(), targets.contiguous())


class SquaredError(MeanSquaredError):
    """Mean squared error over items and outputs, in squared target units; torchmetrics'.

    Args:
        root: take its root.
        double: take differences and sums in float64.
    """

    def __init__(self, root: bool = False, double: bool = False) -> None:
        super().__init__(squared=not root)
        self.double_sums = double
        if double:
            self.set_dtype(torch.float64)

    def update(self, mean: Tensor, variance: Tensor, targets: Tensor) -> None:  # type: ignore[override]
        """Add a batch, each [n, D]."""
        if self.double_sums:
            mean, targets = mean.double(), targets.double()
        super().update(mean.contiguous(), targets.contiguous())


class Accuracy(MulticlassAccuracy):
    """Share of items whose most probable class is the label: log-probabilities [n, C], labels [n].

    torchmetrics', but nan where there are no items, instead of 0, and a batch may be empty.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes, average="micro", validate_args=False)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch."""
        if len(target):
            super().update(preds, target)

    def compute(self) -> Tensor:
        """The figure so far."""
        seen: Any = self.tp + self.fn  # type: ignore[operator]
        return torch.where(seen.sum() > 0, super().compute(), torch.nan)


class BalancedAccuracy(Metric):
    """Mean over the classes that occur of the share of their items that is recognised.

    Fed log-probabilities [n, C] and labels [n]. The macro recall of torchmetrics counts a class
    that never occurs as 0 as soon as one item is taken for it, and holds C² numbers a batch.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    right: Tensor
    count: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("right", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        hits = labels[log_probs.argmax(1) == labels]
        self.right.add_(torch.bincount(hits, minlength=self.classes))
        self.count.add_(torch.bincount(labels, minlength=self.classes))

    def compute(self) -> Tensor:
        """The figure so far."""
        recall: Tensor = (self.right / self.count)[self.count > 0].mean()
        return recall


class CalibrationError(Metric):
    """Expected calibration error of the most probable class over equal bins (lower, upper].

    Fed log-probabilities [n, C] and labels [n]. That of torchmetrics gives confidences of exactly 1
    a bin of their own, beside the ``bins`` of the paper, and keeps every item until the end.

    Guo, Pleiss, Sun, Weinberger (2017), "On Calibration of Modern Neural Networks".
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    sums: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        self.bins = bins
        self.add_state("sums", torch.zeros(3, bins), dist_reduce_fx="sum")

    def update(self, log_probs: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        top, label = log_probs.max(1)
        confidence = top.exp()
        bin = (confidence * self.bins).ceil().long().sub(1).clamp(0, self.bins - 1)
        right = (label == labels).to(confidence.dtype)
        each = torch.stack([torch.ones_like(right), confidence, right])
        self.sums.index_add_(1, bin, each.to(self.sums.dtype))

    def compute(self) -> Tensor:
        """The figure so far."""
        count, confidence, right = self.sums
        return (confidence - right).abs().sum() / count.sum()
