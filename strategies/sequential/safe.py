"""Strategies for a task that also measures how safe a place is: the last output z, safe if >= 0.

All take predictions of an answer, noise included: the members' spread and the noise that each
predicts (a Gaussian process task brings both). They are as safe as the task's word for z:
``MarginalGPRegression(2, safety=True)`` keeps it, one estimate of the hyper-parameters, as in
``GPRegression``, calls places safe of which a quarter is not (``benchmarks/safety.py``).

A batch is the k best one by one. Where fewer candidates than asked for are safe enough,
``fallback`` says what comes behind them: "safest", the most probably safe of the others first, or
"all", the strategy's own order among them, which is what the published baselines do when no
candidate at all is safe enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Context, Pool, Predictions
from lightning_al.scores.safety import min_unsafe_entropy as minimise_unsafe
from lightning_al.scores.safety import needed_deviations, predictive_entropy, safe_deviations

from ..score_strategy import Described, ScoreStrategy
from ..selection import check_k, top_k
from ..strategy_registry import STRATEGIES

__all__ = ["SafeRandom", "SafeScore", "SafeVariance", "min_unsafe_entropy", "safe_first"]

Fallback = Literal["safest", "all"]


def safe_first(
    wanted: Tensor,
    safety: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    gamma: float,
    fallback: Fallback = "safest",
) -> tuple[Tensor, int]:
    """The k best of those that are safe enough: wanted [N], safety [N] -> rows [K], how many are.

    Args:
        wanted: scores; NaN comes last.
        safety: deviations by which z is expected above 0, see
            :func:`lightning_al.scores.regression.safe_deviations`; NaN is not safe.
        k: how many.
        generator: breaks ties.
        gamma: probability of being unsafe that is tolerated.
        fallback: the order of the others.

    Raises:
        ValueError: more asked than there are.
    """
    check_k(wanted, k)
    wanted = wanted.masked_fill(safety.isnan(), torch.nan)
    safety = safety.masked_fill(wanted.isnan(), torch.nan)
    enough = safety >= needed_deviations(gamma)
    first, others = (which.nonzero().squeeze(1) for which in (enough, ~enough))
    count = min(k, len(first))
    rows = first[top_k(wanted[first], count, generator)]
    if count < k:
        behind = (safety if fallback == "safest" else wanted)[others]
        rows = torch.cat([rows, others[top_k(behind, k - count, generator)]])
    return rows, count


def _check(gamma: float, fallback: str = "all") -> None:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is a probability above 0, at most 1, got {gamma}")
    if fallback not in ("safest", "all"):
        raise ValueError(f"fallback is 'safest' or 'all', got {fallback!r}")


@dataclass(frozen=True, repr=False, eq=False)
class _Safe(Described):
    """What both strategies with a constraint share."""

    gamma: float = 0.05
    fallback: Fallback = "safest"
    aleatoric: bool = True

    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "many"
    privileged: ClassVar[bool] = False
    kind: ClassVar[str] = "safe"

    def __post_init__(self) -> None:
        _check(self.gamma, self.fallback)

    @property
    def needs(self) -> tuple[str, ...]:
        """The means, and the noise where it counts."""
        return ("mean", "variance") if self.aleatoric else ("mean",)

    def _scores(self, candidates: Pool) -> Tensor:
        if candidates.scores is None:
            raise ValueError(f"{self!r} chooses by score, but the candidates carry no scores")
        return candidates.scores


@STRATEGIES.register("safe-variance")
@dataclass(frozen=True, repr=False, eq=False)
class SafeVariance(_Safe):
    """Highest variance among what is probably safe; targets (y, z) (Schreiter et al. 2015).

    That of y, among the candidates with P(z >= 0) >= 1 - gamma.
    The safe form of ``variance``; of several y the entropy decides, as if they were independent.

    Source: Schreiter, Nguyen-Tuong, Eberts, Bischoff, Markert and Toussaint (2015); as a baseline
    ("Safe GP-AL") in Li, Toussaint, Rakitsch and Zimmer (2026), there with ``fallback="all"``.

    Args:
        gamma: probability of being unsafe that is tolerated.
        fallback: what comes when too few are safe enough: "safest" or "all".
        aleatoric: add the noise that each member itself predicts (needs a task with a variance).
    """

    columns: ClassVar[int] = 2

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Entropy of y and deviations of z above 0, [n, 2], of one batch.

        Raises:
            ValueError: a task with one output.
        """
        mean, variance = _fields(batch, self.needs)
        parts = predictive_entropy(mean, variance), safe_deviations(mean, variance)
        return torch.stack(parts, dim=1)

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose the k most uncertain of those that are safe enough.

        Raises:
            ValueError: candidates without scores, or more asked than there are.
        """
        wanted, safety = self._scores(candidates).unbind(1)
        rows, safe = safe_first(
            wanted, safety, k, generator, gamma=self.gamma, fallback=self.fallback
        )
        return _acquired(candidates, rows, wanted, safe)


@STRATEGIES.register("safe-random")
@dataclass(frozen=True, repr=False, eq=False)
class SafeRandom(_Safe):
    """Uniform among what is probably safe; targets (y, z) (Li et al. 2026).

    Any of the candidates with P(z >= 0) >= 1 - gamma, all equally likely.
    The safe baseline of comparisons.

    Source: Li, Toussaint, Rakitsch and Zimmer (2026).

    Args:
        gamma: probability of being unsafe that is tolerated.
        fallback: what comes when too few are safe enough: "safest", or any ("all").
        aleatoric: add the noise that each member itself predicts (needs a task with a variance).
    """

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Deviations [n] of z above 0, of one batch.

        Raises:
            ValueError: a task with one output.
        """
        return safe_deviations(*_fields(batch, self.needs))

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Draw k of those that are safe enough.

        Raises:
            ValueError: candidates without scores, or more asked than there are.
        """
        safety = self._scores(candidates)
        alike = torch.zeros(len(safety), device=safety.device)  # ties, which are drawn
        rows, safe = safe_first(
            alike, safety, k, generator, gamma=self.gamma, fallback=self.fallback
        )
        return _acquired(candidates, rows, safety, safe)


@dataclass(frozen=True, repr=False, eq=False)
class SafeScore(ScoreStrategy):
    """A :class:`ScoreStrategy` for a task whose last output is the safety measurement."""

    kind: ClassVar[str] = "safe"


@STRATEGIES.register("min-unsafe-entropy", kind="safe")
def min_unsafe_entropy(gamma: float = 0.05, aleatoric: bool = True) -> SafeScore:
    """Highest H(y) - log P(unsafe), safer than 1 - gamma being no better (Li et al. 2026).

    A constraint made soft: very informative places may be a little unsafe.

    Args:
        gamma: probability of being unsafe that is tolerated.
        aleatoric: add the noise that each member itself predicts (needs a task with a variance).
    """
    _check(gamma)
    return SafeScore(
        partial(minimise_unsafe, gamma=float(gamma)),
        needs=("mean", "variance") if aleatoric else ("mean",),
        members="many",
    )


def _fields(batch: Predictions, needs: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
    given = batch.keep(needs).tensors()
    return given["mean"], given.get("variance")


def _acquired(candidates: Pool, rows: Tensor, scores: Tensor, safe: int) -> Acquisition:
    index = candidates.index[rows.to(candidates.index.device)]
    return Acquisition(index, scores=scores[rows], notes={"safe enough": safe})
