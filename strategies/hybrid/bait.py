"""BAIT: the batch that leaves least of the pool's Fisher information unexplained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..kernels.greedy_fisher import bait
from ..kernels.top_classes import bait_of_top_classes
from ..sets import A_PICK, Picked, SetStrategy, covered, looked_at, mean_probs
from ..strategy_registry import STRATEGIES

__all__ = ["Bait"]

MEMORY = 2**28  # bytes of the candidates' systems, which more candidates may exceed
LEAST = 10_000  # candidates that are looked at in any case
MANY = 40  # classes up to which the expectation is over all of them


@STRATEGIES.register("bait", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Bait(SetStrategy):
    """BAIT: batch of largest Fisher information on the last layer (Ash et al. 2021).

    Minimises tr((ridge I + (sum of I_x over labelled + k sum of I_x over chosen) / (L + k))^-1
    I_pool) on the last layer, the authors' scaling: L are labelled, and a pick counts as k items.
    ``I_x`` is the Fisher information of an item, ``I_pool`` that of candidates and labelled items
    together. Greedy: twice k are added, then k are taken away again.

    Up to 40 classes ``I_x = (diag(p) - p p^T) x h h^T``. With more it is the expectation over the
    ``top`` likeliest classes (Huseljic et al. 2024). Where C E is large a random projection makes
    it shorter (Holzmüller et al. 2023): of the embedding up to 40 classes, of the gradients above.

    In a large pool a random part is looked at, of 10,000 candidates and ten a pick at the least; a
    warning tells, and the notes of the acquisition say how many. The pool's information stays that
    of all.

    Source: Ash, Goel, Krishnamurthy and Kakade, Gone Fishing: Neural Active Learning with Fisher
    Embeddings (2021), algorithm 1; Huseljic, Hahn, Herde, Rauch and Sick, Fast Fishing (2024).

    Args:
        ridge: regularisation, > 0; the authors' lambda.
        oversample: how many times k are added before the rest is taken away; 1 is forward only.
        sketch: numbers that a gradient is projected to, half as many above 40 classes.
        top: likeliest classes that count where there are more than 40.
        candidates: how many are looked at, at most, but at least ten a pick.
    """

    ridge: float = 1.0
    oversample: float = 2.0
    sketch: int = 1024
    top: int = 5
    candidates: int = 100_000

    needs: ClassVar[tuple[str, ...]] = ("probs", "head_input")
    keeps: ClassVar[tuple[str, ...]] = ("probs", "head_input")

    def __post_init__(self) -> None:
        least = min(self.sketch, self.candidates, self.top)
        if not (self.ridge > 0 and self.oversample >= 1 and least >= 1):
            raise ValueError(
                "bait needs ridge > 0, oversample >= 1, and sketch, top and candidates >= 1, got "
                f"{self.ridge}, {self.oversample}, {self.sketch}, {self.top} and {self.candidates}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Picked:
        """Forward and backward greedy search."""
        points, probs = pool.head_input, mean_probs(pool.probs, "bait")
        known, known_probs = points[:0], probs[:0]
        labelled = covered(pool)
        if labelled is not None and labelled.head_input is not None and labelled.probs is not None:
            known = labelled.head_input.to(points.device)
            known_probs = mean_probs(labelled.probs, "bait").to(points.device)
        most = min(len(points), self.seen(probs.shape[1], k))
        mend = "raise candidates, or choose fewer at a time"
        notes = looked_at("bait", most, len(points), mend)
        ridge, weight = self.scaled(len(known), k)
        if probs.shape[1] > MANY:
            rows = bait_of_top_classes(
                *(points, probs, known, known_probs, k, generator),
                top=self.top,
                width=self._width,
                ridge=ridge,
                weight=weight,
                oversample=self.oversample,
                candidates=most,
            )
        else:
            points, known = self._projected(points, known, probs.shape[1], generator)
            rows = bait(
                *(points, probs, known, known_probs, k, generator),
                ridge=ridge,
                weight=weight,
                oversample=self.oversample,
                candidates=most,
            )
        return Picked(rows, notes)

    def scaled(self, labelled: int, k: int) -> tuple[float, float]:
        """Ridge, and weight of a labelled item, where a pick's weight is 1 (not k / (L + k))."""
        return self.ridge * (labelled + k) / k, 1 / k

    @property
    def _width(self) -> int:
        return max(1, self.sketch // 2)

    def seen(self, classes: int, k: int) -> int:
        """Candidates that are looked at, at most."""
        each = 16 * (classes - 1) ** 2 if classes <= MANY else 4 * self.top * self._width
        fits = max(LEAST, MEMORY // max(1, each))
        return max(A_PICK * k, min(fits, self.candidates))

    def _projected(
        self, points: Tensor, known: Tensor, classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of ``sketch / C`` features at most."""
        width = max(1, self.sketch // classes)
        if points.shape[1] <= width:
            return points, known
        drawn = torch.randn(
            points.shape[1], width, generator=generator, device=generator.device
        ).to(points.device)
        drawn /= math.sqrt(width)
        return points.float() @ drawn, known.float() @ drawn
