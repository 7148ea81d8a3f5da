"""The trained network as it is: one member, or those of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .protocol import Drawn, Reader, ShapeFree

__all__ = ["Deterministic", "DeterministicSession"]


@dataclass(frozen=True)
class Deterministic:
    """The plain network, dropout off: S = 1, or the S of an ensemble.

    Args:
        members: None: those of the network itself.
    """

    members: int | None = None

    def start(self, seed: int, round: int) -> DeterministicSession:
        """Nothing is drawn."""
        return DeterministicSession()


class DeterministicSession(ShapeFree):
    """One scoring pass of :class:`Deterministic`."""

    def members(
        self,
        task: nn.Module,
        adapter: Reader,
        inputs: Any,
        n: int,
        *,
        outputs: bool = True,
        embedding: bool = False,
    ) -> Drawn:
        """Outputs [n, S, ...] of one batch, embeddings from the same pass."""
        task.eval()
        with torch.no_grad():
            raw, hidden = adapter.run(task, inputs, embedding=embedding)
        return Drawn(adapter.sampled(raw) if outputs else None, hidden)
