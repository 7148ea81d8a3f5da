"""A run's dealings with its oracle: prices, answers that are checked, and those still to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Answers, Box, Later

from .wrapper import price

__all__ = ["Desk", "located", "same_items"]


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

    def ask(self, index: Tensor, round: int) -> Answers | Later:
        """Answers for the items ``index`` [K], fit for the journal; or who must act first.

        Raises:
            TypeError, ValueError: answers that are no such thing, or not one for each item.
        """
        answers: Answers | Later = self.oracle.ask(index, self.datamodule, round)
        if not isinstance(answers, Later):
            self._check(index, answers)
        return answers

    def collect(self, index: Tensor, asked: Tensor, round: int) -> Answers | Later:
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
        answers: Answers | Later = self.oracle.collect(index, asked, self.datamodule, round)
        if isinstance(answers, Later):
            return answers
        if isinstance(answers, Answers) and answers.cost is None:  # paid when they were asked for
            answers = replace(answers, cost=torch.zeros(len(index), dtype=torch.float64))
        self._check(index, answers)
        return answers

    def _check(self, index: Tensor, answers: Answers) -> None:
        self.datamodule.check_answers(index, answers)
        n = len(index)
        if bool((answers.mask("refused", n) & answers.mask("pending", n)).any()):
            raise ValueError("an item is refused or pending, not both at once")
        if answers.by is not None and len(answers.by) != n:
            raise ValueError(f"{n} items were asked, 'by' has {len(answers.by)} entries")
        cost = answers.cost
        if cost is not None and not bool((cost.isfinite() & (cost >= 0)).all()):
            raise ValueError(f"costs must be finite numbers from 0, got {cost[:5].tolist()}")

    # --- the cost budget ---------------------------------------------------------------------

    def unpaid(self, spent: float) -> str:
        """Why nothing in the pool can be paid any more; empty where something can."""
        if self.cost_budget is None or not len(self.datamodule.pool):
            return ""
        least = float(price(self.oracle, self.datamodule.pool, self.datamodule).min())
        if least <= self._left(spent):
            return ""
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
    if not isinstance(datamodule.domain, Box):
        return chosen
    x = datamodule.coordinates(chosen.index) if chosen.x is None else chosen.x.double()
    first = datamodule.measured
    datamodule.place(x, first)
    return replace(chosen, x=x, index=torch.arange(first, first + len(x)))


def same_items(index: Tensor, before: Sequence[str], datamodule: Any) -> None:
    """Refuse answers to items [K] that are others now than when they were asked for.

    Args:
        index: positions in the data set.
        before: what each was then; empty where nobody knows.
        datamodule: says what they are now.

    Raises:
        ValueError: one of them is another.
    """
    now = datamodule.contents(index)
    pairs = zip(index.tolist(), before, now, strict=True)
    changed = [item for item, old, new in pairs if old and old != new]
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(index)} items are others now than when they were asked "
            f"for, first: item {changed[0]}: the data changed in between (sorted, or edited), "
            "and the answers would go to wrong items. Bring the old data back and give the "
            "same command again"
        )
