"""What a surrogate is, and which there are."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from lightning_al.registry import Registry

from .functions import Problems

__all__ = ["KINDS", "Surrogate"]

KINDS: Registry[nn.Module] = Registry("surrogate", contract=nn.Module)
"""Networks that may be loaded from a file, by the name of their class."""


@runtime_checkable
class Surrogate(Protocol):
    """A network that is trained on simulated problems by a loss of its own."""

    def loss(self, problems: Problems) -> Tensor:
        """Mean loss of a batch of problems, []."""
        ...
