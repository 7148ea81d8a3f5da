"""k-center on the main directions of the embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..kernels.k_center import k_center_greedy
from ..sets import SetStrategy, covered_embedding
from ..strategy_registry import STRATEGIES

__all__ = ["PcaKCenter", "principal"]

BLOCK = 2**14


@STRATEGIES.register("pca-k-center")
@dataclass(frozen=True, repr=False, eq=False)
class PcaKCenter(SetStrategy):
    """Core-set on the first principal components of the embeddings (Zhan et al. 2022).

    Components are those of pool and labelled items together; with as many as the embedding has
    numbers it is ``k-center``.

    Source: Zhan et al., A Comparative Survey of Deep Active Learning (2022), whose KCenterGreedyPCA
    this is, in float64 instead of half precision.

    Args:
        components: how many; all that there are where an embedding has fewer.
    """

    components: int = 50

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(f"components is at least 1, got {self.components}; 50 is customary")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy k-center."""
        points, labelled = pool.embedding, covered_embedding(pool)
        if points.shape[1] > self.components:
            points, labelled = principal(points, labelled, self.components)
        return k_center_greedy(points, labelled, k, generator)


def principal(points: Tensor, labelled: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Both sets [N, E] and [L, E] on the main directions of their union: [N, c] and [L, c].

    About the mean, float32; from the covariance, in float64 and in blocks.
    """
    origin = torch.cat([points.mean(0, dtype=torch.float64)[None]])
    total = torch.zeros(points.shape[1], points.shape[1], dtype=torch.float64, device=points.device)
    every = len(points) + len(labelled)
    mean = torch.zeros_like(origin)
    for part in (*points.split(BLOCK), *labelled.split(BLOCK)):
        about = part.double() - origin
        mean += about.sum(0, keepdim=True) / every
        total += about.T @ about
    total -= every * mean.T @ mean
    directions = torch.linalg.eigh(total).eigenvectors[:, -components:]

    def onto(some: Tensor) -> Tensor:
        parts = [((p.double() - origin - mean) @ directions).float() for p in some.split(BLOCK)]
        return torch.cat(parts) if parts else some.new_zeros(0, components)

    return onto(points), onto(labelled)
