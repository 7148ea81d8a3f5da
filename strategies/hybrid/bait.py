"""BAIT: the batch that leaves least of the pool's Fisher information unexplained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..kernels.greedy_fisher import bait
from ..sets import SetStrategy, covered, mean_probs
from ..strategy_registry import STRATEGIES

__all__ = ["Bait"]


@STRATEGIES.register("bait", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Bait(SetStrategy):
    """BAIT: batch of largest Fisher information on the last layer (Ash et al. 2021).

    Minimises tr((ridge I + sum of I_x over labelled and chosen)^-1 I_pool) on the last layer.
    ``I_x = (diag(p) - p p^T) x h h^T`` is the Fisher information of an item, ``I_pool`` that of
    candidates and labelled items together. Greedy: twice k are added, then k are taken away again.

    Source: Ash, Goel, Krishnamurthy and Kakade, Gone Fishing: Neural Active Learning with Fisher
    Embeddings (2021). Where C E is large the embedding is sketched by a random projection
    (Holzmüller et al. 2023).

    Args:
        ridge: regularisation, > 0.
        oversample: how many times k are added before the rest is taken away; 1 is forward only.
        sketch: C E at most (the matrices are of that size squared); a longer embedding is
            projected to ``sketch / C`` features, drawn by the generator.
        candidates: how many are looked at, at most; of a larger pool a random part, drawn by the
            generator (the pool's information stays that of all).
    """

    ridge: float = 1.0
    oversample: float = 2.0
    sketch: int = 1024
    candidates: int = 100_000

    needs: ClassVar[tuple[str, ...]] = ("probs", "head_input")
    keeps: ClassVar[tuple[str, ...]] = ("probs", "head_input")

    def __post_init__(self) -> None:
        least = min(self.sketch, self.candidates)
        if not (self.ridge > 0 and self.oversample >= 1 and least >= 1):
            raise ValueError(
                "bait needs ridge > 0, oversample >= 1, sketch >= 1 and candidates >= 1, got "
                f"{self.ridge}, {self.oversample}, {self.sketch} and {self.candidates}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Forward and backward greedy search."""
        points, probs = pool.head_input, mean_probs(pool.probs, "bait")
        known, known_probs = points[:0], probs[:0]
        labelled = covered(pool)
        if labelled is not None and labelled.head_input is not None and labelled.probs is not None:
            known = labelled.head_input.to(points.device)
            known_probs = mean_probs(labelled.probs, "bait").to(points.device)
        width = max(1, self.sketch // probs.shape[1])
        if points.shape[1] > width:
            drawn = torch.randn(
                points.shape[1], width, generator=generator, device=generator.device
            ).to(points.device)
            drawn /= math.sqrt(width)
            points, known = points.float() @ drawn, known.float() @ drawn
        return bait(
            *(points, probs, known, known_probs, k, generator),
            ridge=self.ridge,
            oversample=self.oversample,
            candidates=self.candidates,
        )
