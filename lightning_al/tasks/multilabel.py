"""Several labels an item, each there or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from lightning_al.networks.network_specs import gives_members
from lightning_al.readings import Labels

from .adapter import Adapter
from .loss_head import LossHead
from .metric_specs import MetricSpec
from .metrics import MULTILABEL
from .task import OptimizerName, Task, network_adapter

__all__ = ["MultiLabelClassification"]


class MultiLabelClassification(Task):
    """Binary cross-entropy on independent logits [n, L], or on members [n, S, L] of an ensemble.

    Targets are 0 or 1, [n, L]. The loss is the mean over items and labels; with an
    :class:`~lightning_al.networks.Ensemble` its sum over the members, and the prediction the mean
    of their probabilities. Logged: ``train/loss``, and ``val/`` and ``test/`` ``accuracy`` (share
    of labels told right), ``exact_match``, ``macro_f1``, ``auroc``, ``nll``.

    Args:
        network: module, or spec; its outputs are logits, one a label.
        labels: L.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        positive_weights: L factors of the loss where a label is there; None for none.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        loss_head: a head that learns, beside the task, to rank items by their loss.

    Raises:
        ValueError: settings that make no sense; in a fit, targets other than 0 and 1.
        LookupError: an unknown metric or optimiser.
    """

    positive_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        labels: int | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        positive_weights: list[float] | None = None,
        metrics: Sequence[MetricSpec] | None = None,
        loss_head: LossHead | None = None,
    ) -> None:
        if labels is None or labels < 1:
            raise ValueError(f"a multi-label classification needs 1 label or more, got {labels}")
        super().__init__(
            network,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            metrics=metrics,
            known=MULTILABEL,
            settings={"labels": labels, "positive_weights": positive_weights},
            metric_arguments={"labels": labels},
            loss_head=loss_head,
        )
        self.labels = labels
        weights = None if positive_weights is None else torch.tensor(positive_weights).float()
        if weights is not None and (weights.shape != (labels,) or bool((weights < 0).any())):
            raise ValueError(f"positive_weights are {labels} numbers >= 0, got {positive_weights}")
        self.register_buffer("positive_weights", weights)
        self.reading = Labels(labels, members=gives_members(self.network))

    @property
    def adapter(self) -> Adapter:
        """Logits from the network."""
        return network_adapter(self, self.reading)

    def _each(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy of every member and label, [n, S, L]."""
        logits = raw if self.reading.members else raw.unsqueeze(1)
        self.reading.check(logits, targets)
        wanted = targets.to(logits.dtype).unsqueeze(1).expand_as(logits)
        return F.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=self.positive_weights, reduction="none"
        )

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy; the sum over members."""
        each = self._each(raw, targets)
        return each.mean() * each.shape[1]

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy of each item [n], mean over members and labels."""
        return self._each(raw, targets).flatten(1).mean(1)

    def probabilities(self, raw: Tensor) -> Tensor:
        """Probability of each label [n, L], mean over the members."""
        logits = raw if self.reading.members else raw.unsqueeze(1)
        return logits.float().sigmoid().mean(1)

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch."""
        logits = raw if self.reading.members else raw.unsqueeze(1)
        self.reading.check(logits, targets)
        for metric in metrics:
            metric.update(self.probabilities(raw), targets.long())

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities [n, L] of a batch as in testing, or of a bare tensor of inputs."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        return self.probabilities(self.raw(inputs))
