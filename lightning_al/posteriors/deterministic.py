"""The trained network as it is: one member, or those of an ensemble."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.records import Predictions

from .protocol import Reader, ShapeFree

__all__ = ["Deterministic"]


@dataclass(frozen=True)
class Deterministic(ShapeFree):
    """The plain network, dropout off: S = 1, or the S of an ensemble. It is its own session.

    Args:
        members: None: those of the network itself.
    """

    members: int | None = None

    def start(self, seed: int, round: int) -> Deterministic:
        """Nothing is drawn."""
        return self

    def predict(
        self,
        task: nn.Module,
        adapter: Reader,
        index: Tensor,
        inputs: Any,
        needs: Collection[str],
    ) -> Predictions:
        """Predictions for one batch, embeddings from the same pass."""
        task.eval()
        with torch.no_grad():
            raw, embedding = adapter.run(task, inputs, embedding="embedding" in needs)
            fields: dict[str, Any] = dict(adapter.fields(raw, needs))
        return Predictions(index=index, embedding=embedding, **fields)
