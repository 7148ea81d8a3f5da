"""Classification by a linear layer on features that stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from lightning_al.networks import build, spec_of
from lightning_al.networks.probe import Probe

from .classification import Classification
from .metric_specs import MetricSpec
from .task import OptimizerName

__all__ = ["LinearProbe"]


class LinearProbe(Classification):
    """Cross-entropy of a linear layer on frozen features, which are its embedding as well.

    A run that is given the same ``features`` has them computed once, and strategies that ask for
    the embedding and those that ask for the input of the head look at the same numbers.

    Args:
        features: network inputs -> [n, E], such as :class:`~lightning_al.features.Backbone`, which
            is frozen; None takes the inputs, flattened.
        classes: C.
        in_features: E; None takes the ``width`` that the features name.
        lr: learning rate.
        weight_decay: of the optimiser.
        optimizer: "adam", "adamw", "nadam" or "sgd" (with momentum 0.9).
        class_weights: C weights of the loss; "balanced" takes them from the labelled set.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: features of which nobody says how many they are.

    Source: Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes
    (2016).
    """

    def __init__(
        self,
        features: nn.Module | None = None,
        classes: int | None = None,
        in_features: int | None = None,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adam",
        class_weights: list[float] | Literal["balanced"] | None = None,
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        frozen = None if features is None else build(features)
        width = getattr(frozen, "width", None) or in_features
        if width is None:
            raise ValueError(
                "how many features there are is not known; give in_features, or features with an "
                "attribute `width`"
            )
        if classes is None or classes < 2:
            raise ValueError(f"a classification needs 2 classes or more, got {classes}")
        super().__init__(
            Probe(frozen, int(width), classes),
            classes,
            lr=lr,
            weight_decay=weight_decay,
            optimizer=optimizer,
            class_weights=class_weights,
            metrics=metrics,
        )
        spec = None if frozen is None else spec_of(frozen)
        told = {} if spec is None else {"features": spec}  # those without one are given again
        self.save_hyperparameters({"in_features": int(width), **told})
