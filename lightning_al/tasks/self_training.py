"""A classifier that also learns from what it is sure of in the pool: CEAL's pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_al.values import number

from .classification import Classification
from .loss_head import LossHead
from .metric_specs import MetricSpec
from .task import OptimizerName

__all__ = ["SelfTraining"]


class SelfTraining(Classification):
    """Classification whose batches hold inputs of the pool too; those it is sure of teach it.

    In each step the items of the pool whose prediction has an entropy below a threshold count as
    labelled with their likeliest class. The threshold falls with the rounds: a better
    network has to be surer. Behind any strategy this is cost-effective active learning.

    Source: Wang, Zhang, Li, Zhang and Lin, Cost-Effective Active Learning for Deep Image
    Classification (2017), section III-C, whose threshold and decay are the defaults. There the
    labels are given once a round, by the network of the round before; here in each step, by the
    network itself.

    Args:
        network: module, or spec; its outputs are logits.
        classes: C.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw" or "sgd" (with momentum 0.9).
        class_weights: as in :class:`Classification`.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        loss_head: as in :class:`Classification`.
        threshold: entropy in nats below which a prediction counts, in round 0.
        decay: by how much it falls each round.
        weight: of the mean loss over the pool's items, of which those that do not count have none.
    """

    uses_unlabelled = True

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        class_weights: list[float] | Literal["balanced"] | None = None,
        metrics: Sequence[MetricSpec] | None = None,
        loss_head: LossHead | None = None,
        threshold: float = 0.05,
        decay: float = 0.0033,
        weight: float = 1.0,
    ) -> None:
        super().__init__(
            network,
            classes=classes,
            lr=lr,
            weight_decay=weight_decay,
            optimizer=optimizer,
            class_weights=class_weights,
            metrics=metrics,
            loss_head=loss_head,
        )
        self.threshold, self.decay = number(0)("threshold", threshold), number(0)("decay", decay)
        self.weight = number(0)("weight", weight)
        more = {"threshold": self.threshold, "decay": self.decay, "weight": self.weight}
        self.save_hyperparameters(more)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of the labelled items, and of those of the pool that the network is sure of."""
        if not (isinstance(batch, Mapping) and "unlabelled" in batch):
            return super().training_step(batch, batch_idx)
        loss = super().training_step(batch["labelled"], batch_idx)
        raw = self.raw(batch["unlabelled"])
        sure, classes = self.sure_of(raw.detach())
        if not bool(sure.any()):
            return loss
        return loss + self.weight * self.item_losses(raw[sure], classes[sure]).sum() / len(raw)

    def sure_of(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Which items of raw outputs [n, ...] count, bool [n], and the likeliest classes [n]."""
        unknown = torch.zeros(len(raw), dtype=torch.int64, device=raw.device)
        probs = self.log_probs(raw, unknown).exp()
        entropy = torch.special.entr(probs).sum(1)
        return entropy < self.limit, probs.argmax(1)

    @property
    def limit(self) -> float:
        """The threshold of this round."""
        datamodule = getattr(self._trainer, "datamodule", None)
        return max(0.0, self.threshold - self.decay * int(getattr(datamodule, "round", 0)))
