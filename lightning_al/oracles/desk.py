"""A run's dealings with its oracle: prices, answers that are checked, and those still to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Answers, Status

from . import price

__all__ = ["Desk", "located", "place", "settle"]


@dataclass(frozen=True)
class Desk:
    """Where a run asks.

    Args:
        oracle: who answers.
        datamodule: whose items are asked for.
        cost_budget: what all answers may cost together; None for no limit.
    """

    oracle: Any
    datamodule: Any
    cost_budget: float | None = None

    def ask(self, index: Tensor, round: int) -> Answers:
        """Answers for the items ``index`` [K], fit for the journal.

        Raises:
            TypeError, ValueError: answers that are no such thing, or not one for each item.
        """
        answers: Answers = self.oracle.ask(index, self.datamodule, round)
        self._check(index, answers)
        return answers

    def collect(self, index: Tensor, asked: Tensor, round: int) -> Answers:
        """What has come for the items [W] that wait since the rounds ``asked`` [W].

        Raises:
            TypeError: the oracle left items pending and has no ``collect``.
            ValueError: see :meth:`ask`.
        """
        if not callable(getattr(self.oracle, "collect", None)):
            raise TypeError(
                f"{type(self.oracle).__name__} left {len(index)} item(s) pending, and has no "
                "method collect(index, asked, datamodule, round) to answer them later"
            )
        answers: Answers = self.oracle.collect(index, asked, self.datamodule, round)
        if isinstance(answers, Answers) and answers.cost is None:  # paid when they were asked for
            answers = replace(answers, cost=torch.zeros(len(index), dtype=torch.float64))
        self._check(index, answers)
        return answers

    def _check(self, index: Tensor, answers: Answers) -> None:
        if not isinstance(answers, Answers) or answers.pending is None:
            self.datamodule.check_answers(index, answers)
        else:
            n = len(index)
            of_items = {"pending": answers.pending, "refused": answers.refused}
            for name, value in {**of_items, "cost": answers.cost, **answers.values}.items():
                if value is not None and len(value) != n:
                    raise ValueError(f"{n} items were asked, but {name!r} has {len(value)} entries")
            now = ~answers.mask("pending", n)
            if bool((answers.mask("refused", n) & ~now).any()):
                raise ValueError("an item is refused or pending, not both at once")
            self.datamodule.check_answers(index[now], replace(answers, by=None).rows(now))
        if answers.by is not None and len(answers.by) != len(index):
            raise ValueError(f"{len(index)} items were asked, 'by' has {len(answers.by)} entries")
        cost = answers.cost
        if cost is not None and not bool((cost.isfinite() & (cost >= 0)).all()):
            raise ValueError(f"costs must be finite numbers from 0, got {cost[:5].tolist()}")

    # --- the cost budget ---------------------------------------------------------------------

    def why_stop(self, spent: float) -> str | None:
        """The reason to stop where nothing in the pool can be paid any more."""
        if self.cost_budget is None or not len(self.datamodule.pool):
            return None
        least = float(price(self.oracle, self.datamodule.pool, self.datamodule).min())
        if least <= self._left(spent):
            return None
        return (
            f"the cost budget is spent: {spent:g} of {self.cost_budget:g}, the cheapest item "
            f"costs {least:g}"
        )

    def affordable(self, chosen: Acquisition, spent: float) -> Acquisition:
        """The chosen items that can be paid, in the order of choice: a dear one is left out."""
        if self.cost_budget is None:
            return chosen
        assert chosen.index is not None
        left, kept = self._left(spent), []
        for row, cost in enumerate(price(self.oracle, chosen.index, self.datamodule).tolist()):
            if cost <= left:
                left -= cost
                kept.append(row)
        if len(kept) == len(chosen):
            return chosen
        rows = torch.tensor(kept, dtype=torch.int64)
        scores = None if chosen.scores is None else chosen.scores[rows]
        if chosen.x is not None:  # measurements follow each other without a gap
            return replace(chosen, index=chosen.index[: len(rows)], x=chosen.x[rows], scores=scores)
        return replace(chosen, index=chosen.index[rows], scores=scores)

    def _left(self, spent: float) -> float:
        """What may still be spent; sums of costs are off by their rounding."""
        assert self.cost_budget is not None
        return self.cost_budget - spent + 1e-9 * max(1.0, self.cost_budget)


def located(chosen: Acquisition, datamodule: Any) -> Acquisition:
    """A choice as the journal has it: of a box, the places and the positions they will take.

    The places lie in the datamodule then, so that prices can be asked for.
    """
    if getattr(datamodule, "box", None) is None:
        return chosen
    x = datamodule.coordinates(chosen.index) if chosen.x is None else chosen.x.double()
    first = datamodule.measured
    found = replace(chosen, x=x, index=torch.arange(first, first + len(x)))
    place(found, datamodule)
    return found


def place(acquisition: Acquisition, datamodule: Any) -> Tensor:
    """Positions [K] of what was chosen; places of a box are put into the data set first."""
    index = acquisition.index
    assert index is not None
    if acquisition.x is not None and len(index):
        datamodule.place(acquisition.x, int(index[0]))
    return index


def settle(index: Tensor, answers: Answers, datamodule: Any) -> None:
    """Put answers into the datamodule: items [K] are labelled or refused, or wait."""
    late = answers.mask("pending", len(index))
    if bool(late.any()):
        waiting = index[late]
        states = datamodule.status[waiting]
        datamodule.ask(waiting[states == int(Status.POOL)])  # those that wait already stay
    now = ~late
    if bool(now.any()):
        datamodule.acquire(index[now], answers if bool(now.all()) else answers.rows(now))
