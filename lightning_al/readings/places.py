"""Outputs that are class scores of every place of an item: pixels, tokens."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .classes import check_classes, check_form, class_fields
from .reading import READINGS, check_fields, expected

__all__ = ["Places"]


@READINGS.register("places")
@dataclass(frozen=True)
class Places:
    """A class for every place of an item: outputs [n, C, *P] or [n, *P, C], members before C.

    Args:
        axis: where the classes stand: "first", before the places ([n, C, H, W]), or "last", behind
            them ([n, T, C]); it must be said, for sizes do not tell.
        classes: C; None takes it from the output.
        given: "logits", "probs" or "log_probs".
        ignore: the mark of places without a label, which do not count.
        members: the output has the posterior samples on its second axis.
    """

    axis: str = "first"
    classes: int | None = None
    given: str = "logits"
    ignore: int = -100
    members: bool = False

    kind: ClassVar[str] = "classification"
    gives: ClassVar[frozenset[str]] = frozenset({"probs", "logits"})

    def __post_init__(self) -> None:
        check_form(self.given)
        if self.axis not in ("first", "last"):
            raise ValueError(f"axis is 'first' or 'last', got {self.axis!r}")

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """probs, logits [n, S, C, *P]."""
        wanted = check_fields(self, needs)
        return class_fields(self.turned(raw), self.given, wanted, axis=2)

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Targets are one whole number a place."""
        turned = self.turned(raw)
        if targets is None:
            return
        n, places = turned.shape[0], turned.shape[3:]
        if targets.shape != (n, *places):
            other = "last" if self.axis == "first" else "first"
            raise ValueError(
                f"a class a place was declared, the classes {self.axis}: targets must be "
                f"{[n, *places]}, got {list(targets.shape)}; Places(axis={other!r}) if the classes "
                "stand there"
            )
        check_classes(targets, turned.shape[2], self.ignore)

    def turned(self, raw: Tensor) -> Tensor:
        """The output as [n, S, C, *P].

        Raises:
            ValueError: no places, or another number of classes.
        """
        if raw.ndim < 4:
            raise expected(
                "a class a place, [n, C, *P] or [n, *P, C]",
                raw,
                "one class an item is Classes(), independent labels are Labels()",
            )
        found = raw if self.axis == "first" else raw.movedim(-1, 2)
        if found.shape[2] < 2 or (self.classes is not None and found.shape[2] != self.classes):
            wanted = "2 or more" if self.classes is None else str(self.classes)
            raise expected(
                f"{wanted} classes a place, the classes {self.axis}",
                raw,
                "name the axis of the classes: Places(axis='first') or Places(axis='last')",
            )
        return found
