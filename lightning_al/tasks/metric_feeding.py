"""How metrics are fed what a task predicts: a family of metrics, and others' metrics in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from lightning_al.registry import Registry

__all__ = [
    "Fed",
    "MetricFamily",
    "as_they_are",
    "class_example",
    "class_fed",
    "class_offers",
    "label_example",
    "label_fed",
    "label_offers",
    "output_example",
    "output_fed",
    "output_offers",
]

Batch = tuple[Tensor, ...]
View = Callable[..., Batch]


class Fed(WrapperMetric):
    """Another's metric, fed from what a task predicts: ``metric.update(*view(*batch))``.

    An empty batch (places without labels) is passed over: torchmetrics refuses it.

    Args:
        metric: takes what ``view`` gives; it syncs by itself.
        view: of a batch, a function of a module.
        mean: log the mean of what it computes, where that is one number an output.
    """

    full_state_update = False

    def __init__(self, metric: Metric, view: View, mean: bool = False) -> None:
        super().__init__()
        self.metric, self.view, self.mean = metric, view, mean

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """As the metric says."""
        return self.metric.higher_is_better

    def update(self, *batch: Tensor) -> None:
        """Feed one batch of the family's form."""
        if len(batch[-1]):
            self.metric.update(*self.view(*batch))

    def compute(self) -> Any:
        """What the metric computes."""
        value = self.metric.compute()
        return value.mean() if self.mean else value

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self.metric.reset()


class MetricFamily(Registry[Metric]):
    """Metrics of one kind of prediction: some by short names, and how any other is fed.

    Args:
        kind: what they are, for messages ("classification metric").
        feeds: what a metric of torchmetrics, or of a user's own, is fed, in words.
        offers: from the sizes of a task the arguments of torchmetrics' classes, of which a class
            is given those that it takes.
        fed: a metric and the sizes -> a metric that is updated with a batch of this family.
            Raises ValueError for one that cannot be.
        example: from the sizes a small batch that all such metrics can be tried on.
    """

    def __init__(
        self,
        kind: str,
        *,
        feeds: str,
        offers: Callable[[Mapping[str, int]], dict[str, Any]],
        fed: Callable[[Metric, Mapping[str, int]], Metric],
        example: Callable[[Mapping[str, int]], Batch],
    ) -> None:
        super().__init__(kind)
        self.feeds, self.offers, self.fed, self.example = feeds, offers, fed, example

    def copied(self, kind: str | None = None) -> MetricFamily:
        """A family that begins with the members of this one."""
        other = MetricFamily(
            kind or self.kind,
            feeds=self.feeds,
            offers=self.offers,
            fed=self.fed,
            example=self.example,
        )
        for name in self.names():
            other.register(name)(self.factory(name))
        return other


def as_they_are(*batch: Tensor) -> Batch:
    """The batch."""
    return batch


def _of_kind(metric: Metric, kind: str) -> bool:
    """Whether it is one of torchmetrics' classes of that kind ("Binary"), or derived from one."""
    return any(
        base.__name__.startswith(kind) and base.__module__.startswith("torchmetrics.")
        for base in type(metric).__mro__
    )


# --- classes -------------------------------------------------------------------------------------


def class_offers(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Arguments that torchmetrics' classes take: the number of classes."""
    return {"num_classes": sizes["classes"], "task": "multiclass"}


def _probs(log_probs: Tensor, labels: Tensor) -> Batch:
    # rounding must not take them above 1: torchmetrics would read them as logits
    return log_probs.exp().clamp_max(1.0), labels


def _second(log_probs: Tensor, labels: Tensor) -> Batch:
    return log_probs[:, 1].exp().clamp_max(1.0), labels


def class_fed(metric: Metric, sizes: Mapping[str, int]) -> Metric:
    """A metric fed probabilities [n, C], or of class 1 alone [n], and labels [n]."""
    if not _of_kind(metric, "Binary"):
        return Fed(metric, _probs)
    if sizes["classes"] != 2:
        name = type(metric).__name__
        raise ValueError(
            f"it is for 2 classes, and the task has {sizes['classes']}; "
            f"take {name.replace('Binary', 'Multiclass')}"
        )
    return Fed(metric, _second)


def class_example(sizes: Mapping[str, int]) -> Batch:
    """Log-probabilities [n, C] and labels [n]."""
    count = sizes["classes"]
    rows = torch.arange(min(max(8, 2 * count), 64))
    wave = (rows[:, None] * (1.0 + torch.arange(count))).sin()
    return wave.log_softmax(1), rows % count


# --- labels --------------------------------------------------------------------------------------


def label_offers(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Arguments that torchmetrics' classes take: the number of labels."""
    return {"num_labels": sizes["labels"], "task": "multilabel"}


def label_fed(metric: Metric, sizes: Mapping[str, int]) -> Metric:
    """A metric fed probabilities [n, L] and targets [n, L] as they are."""
    return Fed(metric, as_they_are)


def label_example(sizes: Mapping[str, int]) -> Batch:
    """Probabilities [n, L] and targets [n, L]."""
    count = sizes["labels"]
    rows = torch.arange(8)
    wave = (rows[:, None] * (1.0 + torch.arange(count))).sin()
    return wave.sigmoid(), (rows[:, None] + torch.arange(count)) % 2


# --- numbers -------------------------------------------------------------------------------------


def output_offers(sizes: Mapping[str, int]) -> dict[str, Any]:
    """Arguments that torchmetrics' classes take: the number of outputs."""
    return {"num_outputs": sizes["outputs"]}


def _pooled(mean: Tensor, variance: Tensor, targets: Tensor) -> Batch:
    """Mean and targets as [n D], all outputs alike."""
    return mean.reshape(-1), targets.reshape(-1)


def _each(mean: Tensor, variance: Tensor, targets: Tensor) -> Batch:
    return mean, targets


def output_fed(metric: Metric, sizes: Mapping[str, int]) -> Metric:
    """A metric fed mean and targets [n, D] ([n] where D is 1), or the variance too."""
    needed = [
        p
        for p in inspect.signature(metric.update).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(needed) == 3:
        return Fed(metric, as_they_are)
    return Fed(metric, _each, mean=True) if sizes["outputs"] > 1 else Fed(metric, _pooled)


def output_example(sizes: Mapping[str, int]) -> Batch:
    """Mean, variance and targets [n, D]."""
    wave = torch.linspace(0.1, 3.0, 8 * sizes["outputs"]).sin().reshape(8, -1)
    return wave, torch.full_like(wave, 0.5), wave + 0.1 * (7.0 * wave).cos()
