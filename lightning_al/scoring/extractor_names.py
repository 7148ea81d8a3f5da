"""Feature extractors by name."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from lightning_al.registry import Registry

from .extractors import Backbone, Raw
from .hub_extractors import Sentences, Timm, Transformer

__all__ = ["FEATURES", "FeatureExtractor"]


class FeatureExtractor(Protocol):
    """What an item looks like before any label."""

    def __call__(self, inputs: Any) -> Tensor:
        """Features [n, E] of a batch of inputs."""
        ...


FEATURES: Registry[Any] = Registry("feature extractor", contract=FeatureExtractor)
for _kind in (Backbone, Raw, Sentences, Timm, Transformer):
    FEATURES.register(_kind.__name__)(_kind)
