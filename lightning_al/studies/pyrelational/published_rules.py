"""Strategies as PyRelationAL's published code chose (Scherer et al. 2022).

They choose on scores in float64 and by the first of equal ones, not by a random one. For
everything else there are the registered strategies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool
from lightning_al.scores.regression import expected_improvement

__all__ = ["PublishedStrategy"]

Scores = Callable[[Pool, Tensor], Tensor]


def _moments(pool: Pool, inputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = pool.bench.task.moments(inputs)
    return mean[:, 0], variance[:, 0]


def _probs(pool: Pool, inputs: Tensor) -> Tensor:
    """Class probabilities [N, C], sorted, the largest first."""
    probs: Tensor = pool.bench.task.probabilities(inputs)
    return probs.reshape(len(inputs), -1).double().sort(dim=1, descending=True).values


def _least_confidence(pool: Pool, inputs: Tensor) -> Tensor:
    if pool.context.classes is None:
        return _moments(pool, inputs)[1].sqrt()
    return 1 - _probs(pool, inputs)[:, 0]


def _bald(pool: Pool, inputs: Tensor) -> Tensor:
    return 0.5 * torch.log1p(_moments(pool, inputs)[1])


def _improvement(pool: Pool, inputs: Tensor) -> Tensor:
    mean, variance = _moments(pool, inputs)
    targets = pool.context.targets
    best = -math.inf if targets is None else float(targets.double().max())
    members = mean.double()[:, None, None], variance.double()[:, None, None]  # [N, S = 1, D = 1]
    return expected_improvement(*members, best=best, xi=0.01)


def _margin(pool: Pool, inputs: Tensor) -> Tensor:
    probs = _probs(pool, inputs)
    return 1 - (probs[:, 0] - probs[:, 1])


def _entropy(pool: Pool, inputs: Tensor) -> Tensor:
    return torch.special.entr(_probs(pool, inputs)).sum(1)


def _representative(pool: Pool, inputs: Tensor) -> Tensor:
    return -(inputs.double() - inputs.double().mean(0)).square().sum(1)


RULES: dict[str, Scores] = {
    "least-confidence": _least_confidence,
    "bald": _bald,
    "expected-improvement": _improvement,
    "margin": _margin,
    "entropy": _entropy,
    "representative": _representative,
}


@dataclass(frozen=True)
class PublishedStrategy:
    """A strategy of the tables, on a Gaussian process with ``hyperparameters="published"``.

    "representative" is the item nearest to the mean of the pool, which k-means with one centre
    comes to when one item is asked for at a time.

    Args:
        rule: one of ``RULES``.
    """

    rule: str

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule is one of {', '.join(RULES)}, got {self.rule!r}")

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The k best, the first of equal ones first."""
        batches = list(candidates.bench.inputs(candidates.index))
        inputs = torch.cat([b.flatten(1) for b in batches])
        scores = RULES[self.rule](candidates, inputs)
        rows = np.argsort(-scores.numpy(), kind="stable")[:k]
        chosen = torch.from_numpy(rows.copy())
        return Acquisition(candidates.index[chosen], scores=scores[chosen])
