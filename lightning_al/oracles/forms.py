"""What an answer to an item of some data looks like, and how it is read off text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Outcomes

__all__ = ["Form", "form_of"]

SKIP = ("skip", "refuse")
MOST_NUMBERS = 16  # answer columns
SOME = 12  # class names that a message lists


@dataclass(frozen=True)
class Form:
    """An answer: one class, or one or several numbers.

    Args:
        dtype: of the answers.
        shape: of one answer: () or [D].
        classes: how many; None where unknown, or where answers are numbers.
        names: of the classes.
        outcomes: what an answer measures.
    """

    dtype: torch.dtype
    shape: tuple[int, ...] = ()
    classes: int | None = None
    names: Sequence[str] = ()
    outcomes: Outcomes = Outcomes()

    @property
    def columns(self) -> list[str]:
        """Of a table: ``answer``, or ``answer_1``, ``answer_2``, …, or several outcomes' names."""
        if len(self.outcomes) > 1:
            return list(self.outcomes.names)
        n = math.prod(self.shape)
        return ["answer"] if n == 1 else [f"answer_{d + 1}" for d in range(n)]

    @property
    def expected(self) -> str:
        """What may stand in a column, in words."""
        if self.dtype.is_floating_point:
            return "a number, or skip"
        if self.names and len(self.names) <= SOME:
            return f"one of {', '.join(self.names)}, or skip"
        if self.classes is None:
            return "the number of a class from 0, or skip"
        named = "a class name or " if self.names else ""
        return f"{named}a number from 0 to {self.classes - 1}, or skip"

    def read(self, cells: Sequence[str]) -> tuple[list[float] | list[int] | None, str]:
        """(value, fault) of the cells of one answer; the value is None for a skipped item.

        A class name counts before a number, where names are numbers themselves.
        """
        words = [c.lower() for c in cells if c]
        if words and all(w in SKIP for w in words) and cells[0] not in self.names:
            return None, ""
        values = [self._one(cell) for cell in cells]
        for column, cell, value in zip(self.columns, cells, values, strict=True):
            if value is None:
                got = repr(cell) if cell else "nothing"
                return None, f"{column}: expected {self.expected}; got {got}"
        return values, ""  # type: ignore[return-value]

    def _one(self, cell: str) -> float | int | None:
        if not self.dtype.is_floating_point and cell in self.names:
            return list(self.names).index(cell)
        try:
            value = float(cell)
        except ValueError:
            return None
        if not math.isfinite(value):
            return None
        if self.dtype.is_floating_point:
            return value
        fits = value.is_integer() and 0 <= value < (self.classes or math.inf)
        return int(value) if fits else None

    def answers(
        self, values: Sequence[Sequence[float] | Sequence[int] | None]
    ) -> dict[str, Tensor]:
        """Read values by the name of the outcome."""
        return self.outcomes.named(self.tensor(values))

    def tensor(self, values: Sequence[Sequence[float] | Sequence[int] | None]) -> Tensor:
        """Read values as one tensor [K, *shape]; zeros where an item was skipped."""
        n = math.prod(self.shape)
        rows = [[0] * n if value is None else list(value) for value in values]
        return torch.tensor(rows, dtype=self.dtype).reshape(len(values), *self.shape)


def form_of(datamodule: Any) -> Form:
    """The form of the answers: of the labels that the data carry, or of the test set's.

    Raises:
        ValueError: labels that do not fit into a few columns of a table.
    """
    outcomes: Outcomes = datamodule.outcomes
    if len(outcomes) > 1:
        return Form(torch.float32, (len(outcomes),), outcomes=outcomes)
    example = _example(datamodule)
    classes = getattr(datamodule, "classes", None)
    names = tuple(map(str, getattr(datamodule, "class_names", None) or ()))
    if example is None:
        outputs = getattr(datamodule, "outputs", None) or 1
        return Form(torch.float32, () if outputs == 1 else (outputs,))
    shape = tuple(example.shape)
    numbers = example.is_floating_point()
    if math.prod(shape) > MOST_NUMBERS or len(shape) > 1 or (shape and not numbers):
        raise ValueError(
            f"a file of answers holds one class or up to {MOST_NUMBERS} numbers an item, these "
            f"labels are {example.dtype} of the shape {list(shape)}; write an oracle of your own"
        )
    return Form(example.dtype, shape, None if numbers else classes, () if numbers else names)


def _example(datamodule: Any) -> Tensor | None:
    """One label as the data set has it."""
    known = datamodule.has_label(torch.arange(len(datamodule.items))).nonzero().flatten()
    if len(known):
        label: Tensor = datamodule.items.labels(known[:1])[0]
        return label
    if getattr(datamodule, "classes", None) is not None:
        return torch.tensor(0)
    for batch in datamodule.test_dataloader():
        labels = batch[-1] if isinstance(batch, (tuple, list)) else None
        return labels[0].cpu() if isinstance(labels, Tensor) else None
    return None
