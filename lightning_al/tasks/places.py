"""A class for every place of an item: pixels of a picture, tokens of a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from lightning_al.networks.network_specs import gives_members
from lightning_al.readings import Places

from .adapter import Adapter
from .classification import IGNORED, balanced_weights, check_labels, class_weights_of
from .loss_head import LossHead
from .metric_specs import MetricSpec
from .metrics import PLACES, places_as_items
from .task import OptimizerName, Task, network_adapter

__all__ = ["PlaceClassification"]


class PlaceClassification(Task):
    """Cross-entropy on logits [n, C, *P] or [n, *P, C]; targets [n, *P].

    Places whose target is -100 (padding, unlabelled pixels) do not count, neither in the loss nor
    in the metrics. With an :class:`~lightning_al.networks.Ensemble` outputs have the members on
    their second axis. Logged: ``train/loss``, and ``val/`` and ``test/`` ``accuracy``,
    ``balanced_accuracy``, ``nll``, ``ece``, ``mean_iou``, over all places that count.

    Args:
        network: module, or spec; its outputs are logits.
        classes: C.
        axis: where the classes stand in the output: "first" ([n, C, H, W]) or "last" ([n, T, C]);
            sizes do not tell.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        class_weights: C weights of the loss; "balanced" takes them from the labelled set at the
            start of each fit; None for none.
        mask: of inputs that are mappings, the key that says which places count, [n, *P], when the
            pool is scored, where no target marks padding; None where all count.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        loss_head: a head that learns, beside the task, to rank items by their loss.

    Raises:
        ValueError: settings that make no sense; in a fit, labels outside 0..C-1 other than -100.
        LookupError: an unknown metric or optimiser.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        axis: Literal["first", "last"] = "first",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        class_weights: list[float] | Literal["balanced"] | None = None,
        mask: str | None = None,
        metrics: Sequence[MetricSpec] | None = None,
        loss_head: LossHead | None = None,
    ) -> None:
        if classes is None or classes < 2:
            raise ValueError(f"a classification needs 2 classes or more, got {classes}")
        super().__init__(
            network,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            metrics=metrics,
            known=PLACES,
            settings={
                "classes": classes,
                "axis": axis,
                "class_weights": class_weights,
                "mask": mask,
            },
            metric_arguments={"classes": classes},
            loss_head=loss_head,
        )
        self.classes, self.mask = classes, mask
        self.balanced = class_weights == "balanced"
        self.register_buffer("class_weights", class_weights_of(class_weights, classes))
        members = gives_members(self.network)
        self.reading = Places(axis, classes, members=members)

    @property
    def adapter(self) -> Adapter:
        """Logits from the network; its embedding is averaged over the places."""
        return network_adapter(self, self.reading, pool="mean", mask=self.mask)

    def _logits(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Logits [n, S, C, *P] of raw outputs."""
        logits = raw if self.reading.members else raw.unsqueeze(1)
        turned = self.reading.turned(logits)
        if targets.shape != (len(raw), *turned.shape[3:]):
            self.reading.check(logits, targets)  # says what is wrong
        return turned

    def _each(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of every member and place, [n, S, *P]; 0 where a place does not count."""
        logits = self._logits(raw, targets)
        members = logits.shape[1]
        repeated = targets.long().repeat_interleave(members, 0)
        each = F.cross_entropy(
            logits.flatten(0, 1),
            repeated,
            weight=self.class_weights,
            ignore_index=IGNORED,
            reduction="none",
        )
        return each.unflatten(0, (len(targets), members))

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, mean over the places that count; the sum over members."""
        check_labels(targets, self.classes)
        each = self._each(raw, targets)
        told = targets != IGNORED
        if self.class_weights is None:
            weight = told.sum()
        else:
            weight = self.class_weights[targets[told].long()].sum()
        return each.sum() / weight.clamp_min(1e-12)

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each item [n], mean over members and places that count."""
        each = self._each(raw, targets).mean(1)
        told = (targets != IGNORED).flatten(1).sum(1)
        return each.flatten(1).sum(1) / told.clamp_min(1)

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch; places are the items of the metrics."""
        check_labels(targets, self.classes)
        each = self._logits(raw, targets).float().log_softmax(2)
        log_probs = each.logsumexp(1) - math.log(each.shape[1])
        rows, labels = places_as_items(log_probs, targets.long())
        for metric in metrics:
            metric.update(rows, labels)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities [n, C, *P] of a batch as in testing, or of a bare tensor of inputs."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        raw = self.raw(inputs)
        logits = raw if self.reading.members else raw.unsqueeze(1)
        return self.reading.fields(logits, ["probs"])["probs"].mean(1)

    def on_fit_start(self) -> None:
        """Set balanced weights."""
        if self.balanced and self.class_weights is not None:
            labels = self.labelled_targets()
            if labels is None:
                raise ValueError(
                    "class_weights='balanced' needs a datamodule with labelled_targets(); "
                    "give the weights as a list"
                )
            told = labels[labels != IGNORED].cpu()
            self.class_weights.copy_(balanced_weights(told, self.classes))
