"""When a query is due, and of how many items: one rule for rounds with a fit and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_al.records import Due

from .records import Round

__all__ = ["QueryRule"]


@dataclass(frozen=True)
class QueryRule:
    """Looks at a round that was fitted and tested, and says what follows.

    Args:
        query_size: items a query asks for.
        budget: items that may be bought in all.
        bought: items bought in earlier rounds.
        stopping: functions of the rounds so far that give a reason to stop, or None.
        unpaid: why nothing can be paid any more; empty where something can.
    """

    query_size: int
    budget: int
    bought: int = 0
    stopping: Sequence[Callable[[Sequence[Round]], str | None]] = ()
    unpaid: str = ""

    def __call__(self, here: Round, done: Sequence[Round]) -> Due:
        """What follows after the round ``here``, with the rounds before it."""
        if not here.n_pool:
            return Due(0, "the pool is empty")
        if self.bought >= self.budget:
            return Due(0, "the budget is spent")
        for rule in self.stopping:
            if reason := rule([*done, here]):
                return Due(0, reason)
        if self.unpaid:
            return Due(0, self.unpaid)
        return Due(min(self.query_size, self.budget - self.bought, here.n_pool))
