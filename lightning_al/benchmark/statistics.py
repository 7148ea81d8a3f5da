"""What the runs of a benchmark allow to say: intervals, paired tests, ranks, and their power.

A ``table`` holds one value a block and a strategy: [B, M]. Blocks are what is independent: seeds of
one data set for a claim about that data set, data sets for a claim about strategies in general.
Every strategy has a value in every block (runs are paired by design).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "Comparison",
    "Interval",
    "average_ranks",
    "bootstrap_mean",
    "cliques",
    "compare_all",
    "friedman",
    "holm",
    "penalty_matrix",
    "seeds_needed",
    "wilcoxon",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with a confidence interval over ``n`` values."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """Two strategies over the same blocks."""

    first: str
    second: str
    difference: float  # mean of first - second
    p: float  # of the paired test
    p_adjusted: float  # by Holm over all pairs compared
    different: bool  # at the level asked for
    n: int


def bootstrap_mean(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Mean of ``values`` [n] with a bootstrap interval, bias-corrected and accelerated.

    Source: Efron (1987). Equal values have an interval of no width, a single value an infinite one.

    Raises:
        ValueError: no values, or some that are not finite.
    """
    x = _finite(values)
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    if bool((x == x[0]).all()):
        return Interval(mean, mean, mean, len(x))
    found = stats.bootstrap(
        (x,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(x))


def _finite(values: ArrayLike) -> Array:
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"expected at least one finite value, got {x.tolist()}")
    return x


def _table(table: ArrayLike, least: int = 2) -> Array:
    x = np.asarray(table, dtype=np.float64)
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < least or not np.isfinite(x).all():
        raise ValueError(
            f"expected a table [blocks, strategies] of finite values with at least {least} "
            f"strategies and one block, got shape {x.shape}"
            + ("" if np.isfinite(x).all() else "; leave out blocks with failed runs")
        )
    return x


def wilcoxon(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of paired values [B] (Pratt's zeros, 1959).

    1 where all pairs are equal.
    """
    difference = _finite(np.asarray(first, dtype=np.float64) - np.asarray(second))
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p: ArrayLike) -> Array:
    """Holm's step-down adjusted p values [m] (Holm 1979): reject where they are <= alpha.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, dtype=np.float64)
    order = raw.argsort(kind="stable")
    steps = raw[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare_all(table: ArrayLike, names: Sequence[str], *, alpha: float = 0.05) -> list[Comparison]:
    """All pairs of strategies by the paired Wilcoxon test with Holm's correction.

    Args:
        table: [B, M].
        names: of the M strategies.
        alpha: level of the family of all pairs.
    """
    x = _table(table)
    pairs = list(itertools.combinations(range(x.shape[1]), 2))
    raw = [wilcoxon(x[:, i], x[:, j]) for i, j in pairs]
    return [
        Comparison(
            names[i],
            names[j],
            float((x[:, i] - x[:, j]).mean()),
            p,
            float(corrected),
            bool(corrected <= alpha),
            len(x),
        )
        for (i, j), p, corrected in zip(pairs, raw, holm(raw), strict=True)
    ]


def average_ranks(table: ArrayLike) -> Array:
    """Mean rank of each strategy over the blocks [M]; 1 is the highest, ties share the mean."""
    ranks: Array = stats.rankdata(-_table(table, least=1), axis=1).mean(0)
    return ranks


def friedman(table: ArrayLike) -> float:
    """Friedman's test (1937) that all strategies are alike: its p; NaN below three of them.

    1 where every block has all strategies equal.
    """
    x = _table(table)
    if x.shape[1] < 3 or x.shape[0] < 2:
        return math.nan
    if bool((x == x[:, :1]).all()):
        return 1.0
    return float(stats.friedmanchisquare(*x.T).pvalue)


def cliques(comparisons: Sequence[Comparison], names: Sequence[str]) -> list[list[str]]:
    """Largest groups in which no pair differs, two or more in each, in the order of ``names``.

    Source: Bron and Kerbosch (1973), with the pivot of Tomita, Tanaka and Takahashi (2006).
    """
    alike: dict[str, set[str]] = {name: set() for name in names}
    for pair in comparisons:
        if not pair.different:
            alike[pair.first].add(pair.second)
            alike[pair.second].add(pair.first)

    def grow(group: set[str], open_: set[str], closed: set[str]) -> Iterator[set[str]]:
        if not open_ and not closed:
            yield group
            return
        pivot = max(open_ | closed, key=lambda name: len(open_ & alike[name]))
        for name in open_ - alike[pivot]:
            yield from grow(group | {name}, open_ & alike[name], closed & alike[name])
            open_, closed = open_ - {name}, closed | {name}

    place = {name: i for i, name in enumerate(names)}
    found = [sorted(g, key=place.__getitem__) for g in grow(set(), set(names), set()) if len(g) > 1]
    return sorted(found, key=lambda group: [place[name] for name in group])


def penalty_matrix(curves: Sequence[ArrayLike], *, alpha: float = 0.1) -> Array:
    """Pairwise penalty matrix [M, M] of Ash et al. (2020): how often row i beats column j.

    Summed over data sets; the lower the mean of a column, the better its strategy. At each of the
    T label counts of a data set a paired two-sided t-test over the seeds at level ``alpha`` says
    whether i beats j; each such win adds 1 / T.

    Args:
        curves: one table [seeds, M, T] a data set, the higher the better.
        alpha: level of each t-test.
    """
    total: Array | None = None
    for table in curves:
        x = np.asarray(table, dtype=np.float64)
        if x.ndim != 3 or (total is not None and x.shape[1] != len(total)):
            raise ValueError(
                f"curves are [seeds, strategies, fits] with the same strategies in each, "
                f"got shape {x.shape}"
            )
        m, fits = x.shape[1:]
        total = np.zeros((m, m)) if total is None else total
        if len(x) < 2:
            continue
        for i, j in itertools.permutations(range(m), 2):
            gap = x[:, i] - x[:, j]  # [seeds, T]
            mean, spread = gap.mean(0), gap.std(0, ddof=1) / math.sqrt(len(x))
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.where(spread > 0, mean / spread, np.sign(mean) * np.inf)
            t = np.where(mean == 0, 0.0, t)
            total[i, j] += float((t > stats.t.ppf(1 - alpha / 2, len(x) - 1)).sum()) / fits
    return np.zeros((0, 0)) if total is None else total


def seeds_needed(
    differences: ArrayLike, effect: float, *, power: float = 0.8, alpha: float = 0.05
) -> int:
    """How many paired seeds are needed to see a true difference of ``effect``.

    By the paired two-sided t-test at the spread of the ``differences`` [n] that were observed
    (Cohen 1988, through the noncentral t distribution).

    Raises:
        ValueError: fewer than two differences, or an effect that is not positive.
    """
    x = _finite(differences)
    if len(x) < 2 or not effect > 0:
        raise ValueError(
            f"needs at least two differences and a positive effect, got {len(x)} and {effect}"
        )
    spread = float(x.std(ddof=1))
    if spread == 0:
        return 2

    def reached(n: int) -> bool:
        limit = stats.t.ppf(1 - alpha / 2, n - 1)
        shift = effect / spread * math.sqrt(n)
        return bool(
            stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift) >= power
        )

    high = 2
    while not reached(high):
        high *= 2
        if high > 10**7:
            return high
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if middle >= 2 and reached(middle) else (middle, high)
    return high
