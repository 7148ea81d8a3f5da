"""What was chosen and what was answered, as the journal holds it; the status of an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

__all__ = ["Acquisition", "Answers", "Due", "Later", "Status", "positions"]


@dataclass(frozen=True)
class Due:
    """What follows a fit: a query of so many items, or the end of the run and why."""

    count: int
    stop: str = ""  # the reason to end the run after this round; empty while it goes on


class Status(IntEnum):
    """State of one item of the training data; stored as int8."""

    POOL = 0  # may be chosen
    ASKED = 1  # chosen, answer pending
    LABELLED = 2
    REFUSED = 3  # the oracle would not answer; never asked again
    HELD = 4  # belongs to validation or test


@dataclass(frozen=True)
class Acquisition:
    """What a strategy chose: ``index`` in a data set, or places ``x`` in a Box.

    In the journal of a continuous domain it is both: the places, and the positions that their
    measurements take in the data set.
    """

    index: Tensor | None = None  # [K] int64, first choice first
    x: Tensor | None = None  # [K, D]
    scores: Tensor | None = None  # [K]
    seconds: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)  # plain values only

    def __len__(self) -> int:
        chosen = self.index if self.index is not None else self.x
        return 0 if chosen is None else chosen.shape[0]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the journal."""
        return {
            "index": None if self.index is None else self.index.tolist(),
            "x": None if self.x is None else self.x.tolist(),
            "scores": None if self.scores is None else self.scores.tolist(),
            "seconds": self.seconds,
            "notes": dict(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Acquisition:
        """The inverse of :meth:`to_json`."""

        def tensor(name: str, dtype: torch.dtype) -> Tensor | None:
            return None if data[name] is None else torch.tensor(data[name], dtype=dtype)

        return cls(
            index=tensor("index", torch.int64),
            x=tensor("x", torch.float64),
            scores=tensor("scores", torch.float64),
            seconds=data["seconds"],
            notes=data["notes"],
        )


@dataclass(frozen=True)
class Answers:
    """What an oracle said of K items: named outputs, what they cost, and which it refused.

    Rows of ``values`` that belong to refused and pending items are ignored. An item's cost is
    paid when it is asked for, also where its answer comes in a later round.
    """

    values: Mapping[str, Tensor]  # name ("y", "z") -> [K, ...]
    cost: Tensor | None = None  # [K], in the oracle's own unit; default 1 an item
    refused: Tensor | None = None  # [K] bool
    pending: Tensor | None = None  # [K] bool: no answer yet, it comes in a later round
    by: Sequence[str] | None = None  # [K], who answered

    def mask(self, name: str, n: int) -> Tensor:
        """``refused`` or ``pending`` of the ``n`` items, bool [n]; False where it is not set."""
        given: Tensor | None = getattr(self, name)
        return torch.zeros(n, dtype=torch.bool) if given is None else given.bool()

    def rows(self, rows: Tensor) -> Answers:
        """The answers of some items (positions, or a mask over the items), in that order."""

        def of(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows]

        by = self.by
        if by is not None:
            by = [by[i] for i in torch.arange(len(by))[rows].tolist()]
        return Answers(
            values={name: value[rows] for name, value in self.values.items()},
            cost=of(self.cost),
            refused=of(self.refused),
            pending=of(self.pending),
            by=by,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values with the dtypes, for the journal."""
        late = {} if self.pending is None else {"pending": self.pending.tolist()}
        return {
            "values": {
                name: {"dtype": str(v.dtype).removeprefix("torch."), "data": v.tolist()}
                for name, v in self.values.items()
            },
            "cost": None if self.cost is None else self.cost.tolist(),
            "refused": None if self.refused is None else self.refused.tolist(),
            **late,
            **({} if self.by is None else {"by": list(self.by)}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answers:
        """The inverse of :meth:`to_json`."""
        values = {
            name: torch.tensor(v["data"], dtype=getattr(torch, v["dtype"]))
            for name, v in data["values"].items()
        }

        def tensor(name: str, dtype: torch.dtype) -> Tensor | None:
            given = data.get(name)
            return None if given is None else torch.tensor(given, dtype=dtype)

        return cls(
            values=values,
            cost=tensor("cost", torch.float64),
            refused=tensor("refused", torch.bool),
            pending=tensor("pending", torch.bool),
            by=data.get("by"),
        )


@dataclass(frozen=True)
class Later:
    """What an oracle gives that cannot answer before somebody has done something.

    The run ends in good order, nothing is lost, and the same command asks again.
    """

    what: str  # who must do what, and where


def positions(index: Sequence[int] | Tensor) -> Tensor:
    """Any list of integer positions as an int64 tensor [K].

    Raises:
        ValueError: not one-dimensional, or not whole numbers.
    """
    tensor = torch.as_tensor(index)
    if tensor.numel() == 0:
        return tensor.reshape(-1).to(torch.int64)
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(
            f"positions must be whole numbers of shape [K], got {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor.to(torch.int64)
