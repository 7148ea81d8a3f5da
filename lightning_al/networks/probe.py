"""A linear layer on features that stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .network_specs import build, needed, record, spec_of

__all__ = ["Probe"]


class Probe(nn.Module):
    """A linear layer on frozen features: inputs -> features [n, E] -> outputs [n, outputs].

    The features stay in eval mode and take no gradients; the layer is ``head``, and the embedding
    its input.

    Args:
        features: network inputs -> [n, E], or its spec; None takes the inputs, flattened.
        in_features: E.
        outputs: of the layer.
    """

    embedding_layer = "head:input"

    def __init__(
        self, features: nn.Module | dict[str, Any] | None, in_features: int, outputs: int
    ) -> None:
        super().__init__()
        needed("Probe", in_features=in_features, outputs=outputs)
        frozen: nn.Module = nn.Flatten() if features is None else build(features)
        self.features = frozen.eval().requires_grad_(False)
        self.head = nn.Linear(in_features, outputs)
        spec = None if features is None else spec_of(frozen)
        if features is None or spec is not None:
            record(self, Probe, features=spec, in_features=in_features, outputs=outputs)

    def train(self, mode: bool = True) -> Probe:
        """The head's mode; the features stay as they are."""
        super().train(mode)
        self.features.eval()
        return self

    def forward(self, *inputs: Any) -> Tensor:
        """Outputs [n, outputs]."""
        with torch.no_grad():
            found = self.features(*inputs)
        return self.head(found.float())  # type: ignore[no-any-return]
