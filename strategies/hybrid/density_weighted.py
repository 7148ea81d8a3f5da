"""Uncertainty weighted by how typical of the pool an item is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool

from ..around.composition import Composition, ranks, total
from ..score_strategy import acquired
from ..selection import RESOLUTION, relative_resolution, top_k
from ..sets import BLOCK, choose_rows, unit
from ..strategy_registry import STRATEGIES, resolve

__all__ = ["DensityWeighted", "density_weighted", "mean_cosine"]


@dataclass(frozen=True, repr=False, eq=False)
class DensityWeighted(Composition):
    """The k highest products of uncertainty and density^beta.

    The density of an item is the mean cosine between its embedding and those of the pool, where
    negative it counts as 0; in one pass, without the N x N similarities.

    Source: Settles and Craven, An Analysis of Active Learning Strategies for Sequence Labeling
    Tasks (2008): information density.

    Args:
        strategy: one that scores >= 0, by name or specification.
        beta: >= 0, the weight of the density; 0 is the score alone.
    """

    strategy: Any = "entropy"
    beta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", resolve(self.strategy))
        if not ranks(self.strategy):
            raise ValueError(
                f"density-weighted needs a strategy that scores; {self.strategy!r} does not"
            )
        if not self.beta >= 0:
            raise ValueError(f"beta is at least 0, got {self.beta}")

    @property
    def inside(self) -> tuple[Any, ...]:
        """The strategy that scores."""
        return (self.strategy,)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the score needs, and embeddings."""
        return tuple(dict.fromkeys((*super().needs, "embedding")))

    @property
    def keeps(self) -> tuple[str, ...]:
        """What the score keeps, and embeddings."""
        return tuple(dict.fromkeys((*super().keeps, "embedding")))

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The k highest weighted scores.

        Raises:
            ValueError: a negative score.
        """
        candidates = replace(candidates, scores=self.table(candidates))
        return acquired(candidates, choose_rows(self._pick, candidates, k, generator))

    def _pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        own = self.split(self.table(pool))[0]
        assert own is not None  # it scores, see __post_init__
        score = total(self.strategy, own).double()
        if bool((score < -RESOLUTION).any()):
            raise ValueError(
                f"density-weighted needs scores >= 0, got {float(score.min()):.4g}; "
                "choose an uncertainty such as entropy"
            )
        density = mean_cosine(pool.embedding).to(score.device)
        weighted = score.clamp_min(0) * density.clamp_min(0) ** self.beta
        return top_k(weighted, k, generator, resolution=relative_resolution(weighted))


@STRATEGIES.register("density-weighted", kind="classification")
def density_weighted(score: Any = "entropy", beta: float = 1.0) -> DensityWeighted:
    """Uncertainty x (mean cosine to the pool)^beta (Settles and Craven 2008).

    Args:
        score: a strategy that scores >= 0, by name or specification.
        beta: >= 0, the weight of the density; 0 is the score alone.
    """
    return DensityWeighted(score, beta)


def mean_cosine(points: Tensor) -> Tensor:
    """Mean cosine between each row and all rows, itself included: [N, E] -> float64 [N].

    A zero row is at right angles to all.
    """
    rows = max(1, BLOCK // max(1, points.shape[1]))
    mean = torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
    for part in points.split(rows):
        mean += unit(part).sum(0, dtype=torch.float64)
    mean /= max(1, len(points))
    return torch.cat([unit(part).double() @ mean for part in points.split(rows)])
