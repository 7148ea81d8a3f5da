"""The output of a module of which nobody said what it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .classes import Classes

__all__ = ["Undeclared"]

WAYS = (
    "say what the output is with Adapter(reading=…): Classes() for one class an item, Binary() for "
    "one logit, Labels() for independent labels, Places(axis='first' or 'last') for a class a "
    "place, Numbers() for a regression; members=True in each for outputs of an ensemble"
)


@dataclass(frozen=True)
class Undeclared:
    """Logits [n, C] of one class an item are taken as such; everything else must be declared."""

    members: bool = False

    kind: ClassVar[str] = "classification"
    gives: ClassVar[frozenset[str]] = frozenset({"probs", "logits"})

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """probs, logits [n, S, C]."""
        self._refuse(raw)
        return Classes().fields(raw, needs)

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are one class an item."""
        self._refuse(raw)
        if targets is None:
            return
        if targets.shape != raw.shape[:1] or targets.is_floating_point():
            raise ValueError(
                f"outputs [n, {raw.shape[2]}] and targets {targets.dtype} {list(targets.shape)} "
                f"are no classes of {len(raw)} items; {WAYS}"
            )
        Classes().check(raw, targets)

    @staticmethod
    def _refuse(raw: Tensor) -> None:
        if raw.ndim != 3 or raw.shape[2] < 2:
            shape = [raw.shape[0], *raw.shape[2:]]
            raise ValueError(f"what the output {shape} means cannot be told from its shape; {WAYS}")
