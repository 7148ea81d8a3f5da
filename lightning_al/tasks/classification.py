"""Classification: one class an item, by one network or an ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from lightning_al.networks.network_specs import gives_members
from lightning_al.readings import Binary, Classes, Reading

from .adapter import Adapter, call
from .loss_head import LossHead
from .metric_specs import MetricSpec
from .metrics import CLASSIFICATION
from .task import OptimizerName, Task, network_adapter

__all__ = ["Classification", "balanced_weights", "check_labels", "class_weights_of"]
__all__ += ["feed_probabilities"]

IGNORED = -100  # PyTorch's mark for places without a label


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels outside 0..C-1 (places may be marked -100, "no label").

    Raises:
        ValueError: a label that is no class, or labels that are no whole numbers.
    """
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels must be whole numbers 0 to {classes - 1}, got {labels.dtype}")
    if labels.numel() == 0:
        return
    low, high = (int(v) for v in torch.aminmax(labels))
    if low == IGNORED and labels.ndim > 1:
        low = int(labels[labels != IGNORED].min()) if high != IGNORED else 0
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise ValueError(
            f"label {wrong} is none of the {classes} classes 0 to {classes - 1}; "
            "mend the labels or set classes"
        )


def feed_probabilities(
    metrics: Sequence[Metric], probs: Tensor, targets: Tensor, classes: int
) -> None:
    """Feed metrics with probabilities [n, C] as they come out of a model that has no logits.

    Raises:
        ValueError: a label that is no class.
    """
    check_labels(targets, classes)
    log_probs = probs.clamp_min(torch.finfo(torch.float32).tiny).log()
    for metric in metrics:
        metric.update(log_probs, targets.long())


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights [C] that make the classes that occur count alike; mean 1 over the items.

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 3)
    tensor([0.6667, 2.0000, 1.0000])
    """
    count = torch.bincount(labels[labels != IGNORED].flatten(), minlength=classes).float()
    occurs = count > 0
    weights = count.sum() / (occurs.sum() * count.clamp_min(1))
    return torch.where(occurs, weights, torch.ones_like(weights))


def class_weights_of(
    given: Sequence[float] | Literal["balanced"] | None, classes: int
) -> Tensor | None:
    """Weights [C] of a loss as they are given; ones where they are to be balanced.

    Raises:
        ValueError: not C numbers from 0.
    """
    if given is None:
        return None
    weights = torch.ones(classes) if isinstance(given, str) else torch.tensor(given).float()
    wrong = weights.shape != (classes,) or bool((weights < 0).any())
    if wrong or (isinstance(given, str) and given != "balanced"):
        raise ValueError(f"class_weights are {classes} numbers >= 0 or 'balanced', got {given}")
    return weights


class Classification(Task):
    """Cross-entropy on logits [n, C], or on members [n, S, C] of an ensemble.

    With an :class:`~lightning_al.networks.Ensemble` the loss is the sum of the members' mean
    losses, and the prediction the mean of their probabilities. Logged: ``train/loss``, and
    ``val/`` and ``test/`` ``accuracy``, ``balanced_accuracy``, ``auroc``, ``nll``, ``ece``.

    Several labels an item are :class:`MultiLabelClassification`, a class for each of its places
    :class:`PlaceClassification`.

    Args:
        network: module, or spec; its outputs are logits.
        classes: C.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        class_weights: C weights of the loss; "balanced" takes them from the labelled set at the
            start of each fit; None for none.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        loss_head: a head that learns, beside the task, to rank items by their loss; what the
            strategy ``learning-loss`` scores by.
        one_logit: of two classes, the network gives one number, [n] or [n, 1] ([n, S, 1] with
            members), which speaks for class 1.

    Raises:
        ValueError: settings that make no sense; in a fit, labels outside 0..C-1 (on a GPU they are
            looked at once, before the fit, where the datamodule has ``labelled_targets()``).
        LookupError: an unknown metric or optimiser.
    """

    class_weights: Tensor | None

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
        one_logit: bool = False,
    ) -> None:
        if classes is None or classes < 2:
            raise ValueError(f"a classification needs 2 classes or more, got {classes}")
        if one_logit and classes != 2:
            raise ValueError(f"one_logit is for 2 classes, got {classes}")
        super().__init__(
            network,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            metrics=metrics,
            known=CLASSIFICATION,
            settings={
                "classes": classes,
                "class_weights": class_weights,
                **({"one_logit": True} if one_logit else {}),
            },
            metric_arguments={"classes": classes},
            loss_head=loss_head,
        )
        self.classes = classes
        self.balanced = class_weights == "balanced"
        self.register_buffer("class_weights", class_weights_of(class_weights, classes))
        members = gives_members(self.network)
        self.reading: Reading = Binary(members=members)
        if not one_logit:
            self.reading = Classes(classes, members=members)
        self._checked = False  # whether the labels of the running fit were looked at as a whole

    @property
    def adapter(self) -> Adapter:
        """Logits from the network (from ``forward`` in a subclass that overrides it)."""
        plain = type(self).forward is Classification.forward
        return network_adapter(self, self.reading, "network" if plain else "forward")

    def forward(self, *inputs: Any) -> Tensor:
        """Logits [n, C], or [n, S, C] of an ensemble."""
        return self.network(*inputs)  # type: ignore[no-any-return]

    def raw(self, inputs: Any) -> Tensor:
        """What :meth:`forward` returns."""
        return call(self, inputs)  # type: ignore[no-any-return]

    def _logits(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Logits [n, S, C] of raw outputs."""
        logits = raw if self.reading.members else raw.unsqueeze(1)
        if isinstance(self.reading, Binary):
            return self.reading.fields(logits, ["logits"])["logits"]
        if logits.ndim != 3 or logits.shape[2] != self.classes or targets.shape != raw.shape[:1]:
            raise ValueError(
                f"{self.classes} classes and targets {list(targets.shape)} do not go with logits "
                f"{list(raw.shape)}; the network's outputs must be the classes of each item "
                "(several labels an item: MultiLabelClassification, a class a place: "
                "PlaceClassification)"
            )
        return logits

    def loss(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy; the sum over members."""
        if not self._checked and targets.device.type == "cpu":  # on a GPU a look would stall it
            check_labels(targets, self.classes)
        if raw.shape == (*targets.shape, self.classes) and not self.reading.members:
            return F.cross_entropy(raw, targets.long(), weight=self.class_weights)
        logits = self._logits(raw, targets.reshape(len(raw)))
        members = logits.shape[1]
        repeated = targets.long().reshape(-1).repeat_interleave(members, 0)
        loss = F.cross_entropy(logits.flatten(0, 1), repeated, weight=self.class_weights)
        return loss * members

    def item_losses(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of each item [n], averaged over members."""
        logits = self._logits(raw, targets.reshape(len(raw)))
        repeated = targets.long().reshape(-1).repeat_interleave(logits.shape[1], 0)
        each = F.cross_entropy(
            logits.flatten(0, 1), repeated, weight=self.class_weights, reduction="none"
        )
        return each.reshape(len(targets), -1).mean(1)

    def log_probs(self, raw: Tensor, targets: Tensor) -> Tensor:
        """Log of the members' mean probabilities [n, C]."""
        each = self._logits(raw, targets.reshape(len(raw))).float().log_softmax(2)
        return each.logsumexp(1) - math.log(each.shape[1])

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch."""
        check_labels(targets, self.classes)
        log_probs, targets = self.log_probs(raw, targets), targets.long().reshape(len(raw))
        for metric in metrics:
            metric.update(log_probs, targets)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities [n, C] of a batch as in testing, or of a bare tensor of inputs."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        adapter = self.adapter
        raw = adapter.sampled(adapter.outputs(self, inputs))
        return self.reading.fields(raw, ["probs"])["probs"].mean(1)

    def on_fit_start(self) -> None:
        """Look at the labels once; set balanced weights."""
        labels = self.labelled_targets()
        if labels is not None:
            check_labels(labels, self.classes)
        self._checked = labels is not None
        if self.balanced and self.class_weights is not None:
            if labels is None:
                raise ValueError(
                    "class_weights='balanced' needs a datamodule with labelled_targets(); "
                    "give the weights as a list"
                )
            self.class_weights.copy_(balanced_weights(labels.cpu(), self.classes))

    def on_fit_end(self) -> None:
        """Look at the labels of each batch again."""
        self._checked = False
