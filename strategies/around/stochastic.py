"""Random choice, and random batches whose odds follow a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool

from .. import selection
from ..score_strategy import Described, Relative, acquired, select
from ..strategy_registry import STRATEGIES, resolve
from .composition import Composition, ranks, total

__all__ = [
    "Random",
    "Reselected",
    "power",
    "power_bald",
    "random",
    "soft_rank",
    "softmax",
    "softmax_bald",
]


@dataclass(frozen=True, repr=False, eq=False)
class Random(Described):
    """Any k candidates, all sets equally likely; the model is not run."""

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False
    asks_model: ClassVar[bool] = False

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Draw k of the candidates."""
        selection.check_k(candidates.index, k)
        order = selection.shuffled(len(candidates), generator, candidates.index.device)
        return acquired(candidates, order[:k])


@dataclass(frozen=True, repr=False, eq=False)
class Reselected(Composition):
    """The score of one strategy under another selector.

    Args:
        strategy: any strategy that ranks by a score (or its specification).
        selector: scores [N], k, generator -> rows [K].
    """

    strategy: Any
    selector: Callable[..., Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", resolve(self.strategy))
        if not ranks(self.strategy):
            raise ValueError(f"a selector needs a strategy that scores; {self.strategy!r} does not")

    @property
    def inside(self) -> tuple[Any, ...]:
        """The one strategy."""
        return (self.strategy,)

    @property
    def relative(self) -> Relative:
        """As the strategy's own."""
        found: Relative = getattr(self.strategy, "relative", False)
        return found

    def combine(self, scores: Tensor) -> Tensor:
        """The strategy's score: [N, m] -> [N]."""
        own = self.split(scores)[0]
        assert own is not None  # the strategy scores, see __post_init__
        return total(self.strategy, own)

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Select by the strategy's score."""
        scores = self.combine(self.table(candidates))
        rows = select(self.selector, scores, k, generator, relative=self.relative)
        return acquired(candidates, rows, scores)


@STRATEGIES.register("random")
def random() -> Random:
    """Uniform random choice: the baseline (no paper of its own)."""
    return Random()


@STRATEGIES.register("power", kind="classification", members=20)
def power(score: Any = "bald", beta: float = 1.0) -> Reselected:
    """Sample with odds score^beta (Kirsch et al. 2021; TMLR 2023).

    Args:
        score: a strategy that scores >= 0, by name or specification.
        beta: > 0; towards 0 random, towards infinity top-k.
    """
    return Reselected(score, partial(selection.power, beta=beta))


@STRATEGIES.register("softmax", kind="classification", members=20)
def softmax(score: Any = "bald", beta: float = 1.0) -> Reselected:
    """Sample with odds exp(beta score / spread) (Kirsch et al. 2021; TMLR 2023).

    The spread is the standard deviation of the pool's scores, so that units do not matter.

    Args:
        score: a strategy that scores, by name or specification.
        beta: > 0, inverse temperature, in inverse deviations of the score.
    """
    return Reselected(score, partial(selection.softmax, beta=beta))


@STRATEGIES.register("soft-rank", kind="classification", members=20)
def soft_rank(score: Any = "bald", beta: float = 1.0) -> Reselected:
    """Sample with odds rank^-beta, the best having rank 1 (Kirsch et al. 2021; TMLR 2023).

    Args:
        score: a strategy that scores, by name or specification; only its order counts.
        beta: > 0; towards 0 random, towards infinity top-k.
    """
    return Reselected(score, partial(selection.soft_rank, beta=beta))


@STRATEGIES.register("power-bald", kind="classification", members=20)
def power_bald(beta: float = 1.0) -> Reselected:
    """PowerBALD: sample with odds BALD^beta (Kirsch et al. 2021; TMLR 2023).

    Args:
        beta: > 0; towards 0 random, towards infinity top-k.
    """
    return power("bald", beta)


@STRATEGIES.register("softmax-bald", kind="classification", members=20)
def softmax_bald(beta: float = 1.0) -> Reselected:
    """SoftmaxBALD: sample with odds exp(beta BALD / spread) (Kirsch et al. 2021; TMLR 2023).

    The spread is the standard deviation of the pool's scores.

    Args:
        beta: > 0, inverse temperature; towards 0 random, towards infinity top-k.
    """
    return softmax("bald", beta)
