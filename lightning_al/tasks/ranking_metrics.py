"""Areas under ROC curves, of classes that occur, over batches and ranks of any size."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["AUROC", "LabelsAUROC"]


class AUROC(Metric):
    """Area under the ROC curve, one class against the rest, mean over the classes that occur.

    Fed log-probabilities [n, C], whose order is finer than that of the probabilities near 1, and
    labels [n]. A class without positive or without negative items is left out (torchmetrics counts
    it as 0); nan where none is left. A tie of two items counts half. torchmetrics keeps batches of
    several shapes, which a rank without items cannot sync.
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
        """Add a batch."""
        rows = torch.cat([log_probs, labels[:, None].to(log_probs.dtype)], 1)
        self.rows.append(rows.flatten())

    def compute(self) -> Tensor:
        """The figure so far."""
        rows = dim_zero_cat(self.rows).reshape(-1, self.classes + 1)
        labels = rows[:, -1].long().cpu().numpy()
        areas = _areas(rows[:, :-1], [labels == c for c in range(self.classes)])
        return rows.new_tensor(areas)


class LabelsAUROC(Metric):
    """Area under the ROC curve of each label, mean over the labels that are 0 and 1 of some items.

    Fed probabilities [n, L] and targets 0 or 1 [n, L]; for the rest see :class:`AUROC`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    rows: list[Tensor]

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, probs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        self.rows.append(torch.cat([probs, targets.to(probs.dtype)], 1).flatten())

    def compute(self) -> Tensor:
        """The figure so far."""
        rows = dim_zero_cat(self.rows).reshape(-1, 2 * self.labels)
        scores, targets = rows.split(self.labels, 1)
        return rows.new_tensor(_areas(scores, list(targets.bool().T.cpu().numpy())))


def _areas(scores: Tensor, positives: list[np.ndarray]) -> float:
    """Mean area under the curves of the columns of scores [n, C], positives C times [n].

    The share of pairs (positive, negative) in which the positive one scores higher: among all
    scores in order, those before and up to each positive one are counted, pairs of two positives
    taken off. NumPy sorts several times faster than torch.
    """
    columns = np.ascontiguousarray(scores.detach().double().cpu().numpy().T)
    areas = []
    for column, positive in zip(columns, positives, strict=True):
        p = int(positive.sum())
        if 0 < p < len(column):
            mine, everyone = np.sort(column[positive]), np.sort(column)
            below = int(np.searchsorted(everyone, mine).sum())
            upto = int(np.searchsorted(everyone, mine, side="right").sum())
            areas.append((below + upto - p * p) / (2 * p * (len(column) - p)))
    return float(np.mean(areas)) if areas else math.nan
