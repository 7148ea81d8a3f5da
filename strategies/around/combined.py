"""Strategies made of strategies: a weighted sum, a filter before a chooser, epsilon-greedy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool

from ..score_strategy import Relative, acquired, resolution_of, select
from ..selection import check_k, quantise, top_k
from ..strategy_registry import STRATEGIES, resolve
from .composition import Composition, broken, ranks, rows_of, total

__all__ = ["EpsilonGreedy", "FilterThenChoose", "WeightedSum"]


def _normalise(scores: Tensor, how: str) -> Tensor:
    """Scores [N] on a common scale over the pool; NaN and infinities stay."""
    if how == "none":
        return scores
    valid = scores.isfinite()
    values = scores[valid]
    if values.numel() == 0:
        return scores
    if how == "rank":
        _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
        middle = count.cumsum(0) - (count + 1) / 2  # mean rank of the tied, from 0
        out = scores.clone()
        out[valid] = (middle / max(1, values.numel() - 1)).to(scores.dtype)[place]
        return out
    low, width = (
        (values.mean(), values.std(correction=0))
        if how == "zscore"
        else (values.min(), values.max() - values.min())
    )
    return (scores - low) / width if bool(width > 0) else scores - low


@STRATEGIES.register("weighted-sum", kind="classification", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class WeightedSum(Composition):
    """Weighted sum of scores, each normalised over the pool (no paper of its own).

    Args:
        parts: strategies that score (names, specifications or objects).
        weights: one a part, default all 1; a negative one turns a score round.
        normalise: "zscore", "minmax", "rank" (mean rank of the tied, in [0, 1]) or "none".
    """

    parts: Sequence[Any] = ("bald", "posterior-entropy")
    weights: Sequence[float] | None = None
    normalise: str = "zscore"

    def __post_init__(self) -> None:
        parts = tuple(resolve(p) for p in self.parts)
        weights = (1.0,) * len(parts) if self.weights is None else tuple(map(float, self.weights))
        if not parts:
            raise ValueError("weighted-sum needs at least one part, got none")
        if len(weights) != len(parts):
            raise ValueError(
                f"weighted-sum got {len(parts)} parts and {len(weights)} weights; "
                "give one weight a part"
            )
        if silent := [p for p in parts if not ranks(p)]:
            raise ValueError(f"weighted-sum needs parts that score; {silent[0]!r} does not")
        if self.normalise not in ("zscore", "minmax", "rank", "none"):
            raise ValueError(
                f"normalise is 'zscore', 'minmax', 'rank' or 'none', got {self.normalise!r}"
            )
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "weights", weights)

    @property
    def inside(self) -> tuple[Any, ...]:
        """The parts."""
        return tuple(self.parts)

    @property
    def relative(self) -> Relative:
        """Whether the sum is in arbitrary units: raw scores of which one is."""
        found = [getattr(p, "relative", False) for p in self.parts]
        if self.normalise != "none":
            return False
        return "range" if "range" in found else any(found)

    def combine(self, scores: Tensor) -> Tensor:
        """The sum: columns [N, m] -> [N], float64."""
        result = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
        for part, weight, own in zip(
            self.parts, self.weights or (), self.split(scores), strict=True
        ):
            assert own is not None  # every part scores, see __post_init__
            score = total(part, own)
            step = resolution_of(score, getattr(part, "relative", False))
            result += weight * _normalise(quantise(score, step), self.normalise)
        return result

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The k highest sums."""
        scores = self.combine(self.table(candidates))
        rows = select(top_k, scores, k, generator, relative=self.relative)
        return acquired(candidates, rows, scores)


@STRATEGIES.register("filter-then-choose", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class FilterThenChoose(Composition):
    """One strategy shortens the list, another chooses from it (no paper of its own).

    Args:
        filter: chooses the shortlist.
        then: chooses from the shortlist.
        keep: length of the shortlist: a float is a factor of k (``10.0``), an int a count.
    """

    filter: Any = "entropy"
    then: Any = "random"
    keep: int | float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "filter", resolve(self.filter))
        object.__setattr__(self, "then", resolve(self.then))
        if not self.keep >= 1:
            raise ValueError(
                f"keep is a factor (float) or a count (int) of at least 1, got {self.keep}"
            )

    @property
    def inside(self) -> tuple[Any, ...]:
        """The filter and the chooser."""
        return (self.filter, self.then)

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Shorten, then choose k.

        Raises:
            ValueError: a count that is smaller than k.
        """
        check_k(candidates.index, k)
        length = math.ceil(self.keep * k) if isinstance(self.keep, float) else self.keep
        if length < k:
            raise ValueError(
                f"the filter keeps {length} candidates, fewer than the {k} to choose; "
                f"raise keep (a float is a factor: {float(self.keep)})"
            )
        candidates = replace(candidates, scores=self.table(candidates))
        first, second = self.views(candidates)
        usable = len(candidates) - int(broken(self.table(candidates)).sum())
        short = self.filter.choose(first, min(length, max(k, usable)), generator)
        rows = rows_of(candidates, short, self.filter).sort().values
        chosen: Acquisition = self.then.choose(second.subset(rows), k, generator)
        return chosen


@STRATEGIES.register("epsilon-greedy", kind="regression")
@dataclass(frozen=True, repr=False, eq=False)
class EpsilonGreedy(Composition):
    """Another strategy, each pick random with probability epsilon (Watkins 1989).

    Source: Watkins (1989); Sutton and Barto (2018), section 2.2.

    Args:
        strategy: the one to follow.
        epsilon: share of random picks, 0 to 1.
    """

    strategy: Any = "greedy"
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", resolve(self.strategy))
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is a probability, 0 to 1, got {self.epsilon}")

    @property
    def inside(self) -> tuple[Any, ...]:
        """The one strategy."""
        return (self.strategy,)

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The strategy's picks first, then the random ones among the rest."""
        check_k(candidates.index, k)
        candidates = replace(candidates, scores=self.table(candidates))
        view, device = self.views(candidates)[0], candidates.index.device
        coins = torch.rand(k, generator=generator, device=generator.device)
        explore = int((coins < self.epsilon).sum())
        rows = torch.empty(0, dtype=torch.int64, device=device)
        if explore < k:
            picked = self.strategy.choose(view, k - explore, generator)
            rows = rows_of(candidates, picked, self.strategy)
        left = torch.ones(len(candidates), dtype=torch.bool, device=device)
        left[rows] = False
        rest = left.nonzero().squeeze(1)
        last = broken(self.table(candidates)).to(device)[rest]
        even = torch.zeros(len(rest), device=device).masked_fill(last, torch.nan)
        rows = torch.cat([rows, rest[top_k(even, explore, generator)]])
        scores = view.scores if ranks(self.strategy) else None
        scores = None if scores is None else total(self.strategy, scores)
        return replace(acquired(candidates, rows, scores), notes={"explored": explore})
