"""Strategies that choose diverse or representative items by their embeddings.

All of them work without labelled items, so the first batch can be chosen instead of drawn. Items
whose embedding is NaN or infinite come last. Ties are broken by the generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..kernels.cover import facility_location, max_herding, prob_cover, purity_radius
from ..kernels.k_center import k_center_greedy
from ..kernels.lazy_cover import SAMPLE
from ..kernels.plus_plus import kmeans_plus_plus
from ..kernels.typiclust import LIMIT, typiclust
from ..selection import relative_resolution, top_k
from ..sets import SetStrategy, closest, covered_embedding, unit
from ..strategy_registry import STRATEGIES

__all__ = [
    "FacilityLocation",
    "KCenter",
    "KMeansPlusPlus",
    "MaxHerding",
    "ProbCover",
    "RelativeDistance",
    "TypiClust",
]


@STRATEGIES.register("k-center")
@dataclass(frozen=True, repr=False, eq=False)
class KCenter(SetStrategy):
    """Core-set: the item farthest from all labelled or chosen (Sener and Savarese 2018).

    Again and again; the greedy form.

    Source: Sener and Savarese, Active Learning for CNNs: A Core-Set Approach (2018), algorithm 1;
    Gonzalez (1985). Without labelled items the first pick is drawn.
    """

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy k-center."""
        return k_center_greedy(pool.embedding, covered_embedding(pool), k, generator)


@STRATEGIES.register("relative-distance")
@dataclass(frozen=True, repr=False, eq=False)
class RelativeDistance(SetStrategy):
    """Farthest from the labelled ones, in a single shot (Scherer et al. 2022).

    Distances are *not* updated after each pick, so a batch may be one clump; ``k-center`` updates
    them, and equals this for k = 1. Without labelled items all are equally far: k are drawn.

    Source: the RelativeDistance strategy of Scherer et al., PyRelationAL (2022).

    Args:
        metric: "euclidean" or "cosine" (one minus the cosine).
    """

    metric: Literal["euclidean", "cosine"] = "euclidean"

    def __post_init__(self) -> None:
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric is 'euclidean' or 'cosine', got {self.metric!r}")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The k largest distances to the nearest labelled item."""
        points, labelled = pool.embedding, covered_embedding(pool)
        if len(labelled) == 0:
            return top_k(torch.zeros(len(points), device=points.device), k, generator)
        if self.metric == "cosine":  # half the squared distance of unit vectors
            distance = closest(unit(points), unit(labelled))[0]
        else:
            distance = closest(points, labelled)[0].sqrt()
        return top_k(distance, k, generator, resolution=relative_resolution(distance))


@STRATEGIES.register("k-means-plus-plus")
@dataclass(frozen=True, repr=False, eq=False)
class KMeansPlusPlus(SetStrategy):
    """Drawn by squared distance to the nearest labelled one (Arthur and Vassilvitskii 2007).

    Draws items with odds of the squared distance to the nearest labelled or chosen one.

    Source: Arthur and Vassilvitskii, k-means++ (2007), section 2.2. Without labelled items, or
    with ``use_labelled=False``, the first pick is uniform.

    Args:
        use_labelled: whether labelled items count as chosen before.
    """

    use_labelled: bool = True

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """k-means++ seeding."""
        start = covered_embedding(pool) if self.use_labelled else None
        return kmeans_plus_plus(pool.embedding, k, generator, start=start)


@STRATEGIES.register("typiclust", example=["neighbours", "max_clusters", "min_size"])
@dataclass(frozen=True, repr=False, eq=False)
class TypiClust(SetStrategy):
    """TypiClust: typical items of the largest unlabelled clusters (Hacohen et al. 2022).

    Of each cluster the most typical item.

    Source: Hacohen, Dekel and Weinshall, Active Learning on a Budget (2022), section 3.

    Args:
        neighbours: over how many nearest neighbours typicality is measured.
        max_clusters: L + K clusters are made, this many at most.
        min_size: smaller clusters wait until all others are used.
        limit: size of a cluster up to which neighbours are exact; beyond, an index finds them.
    """

    neighbours: int = 20
    max_clusters: int = 500
    min_size: int = 6
    limit: int = LIMIT

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Typical items of uncovered clusters."""
        return typiclust(
            pool.embedding,
            covered_embedding(pool),
            k,
            generator,
            neighbours=self.neighbours,
            max_clusters=self.max_clusters,
            min_size=self.min_size,
            limit=self.limit,
        )


@STRATEGIES.register("prob-cover", example=["radius", "purity", "clusters"])
@dataclass(frozen=True, repr=False, eq=False)
class ProbCover(SetStrategy):
    """ProbCover: balls that cover the pool (Yehuda et al. 2022).

    Greedy; when all is covered, the farthest item is next.

    Source: Yehuda, Dekel, Hacohen and Weinshall, Active Learning Through a Covering Lens (2022),
    algorithm 1, and its purity rule for the radius.

    Args:
        radius: of a ball, in the embedding's units; None takes the purity rule: the largest radius
            at which a share ``purity`` of the balls holds items of one k-means cluster only.
        purity: that share, in (0, 1).
        clusters: of the k-means; None takes the number of classes, 10 where there are none.
        limit: in a larger pool, coverage is measured on this many items drawn from it.
    """

    radius: float | None = None
    purity: float = 0.95
    clusters: int | None = None
    limit: int = SAMPLE

    def __post_init__(self) -> None:
        if self.radius is not None and not self.radius > 0:
            raise ValueError(f"radius is positive or None, got {self.radius}")
        if not 0 < self.purity < 1:
            raise ValueError(f"purity is a share in (0, 1), got {self.purity}; 0.95 is the paper's")
        if self.clusters is not None and self.clusters < 2:
            raise ValueError(f"the purity rule needs clusters >= 2, got {self.clusters}")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy cover."""
        radius = self._radius(pool, generator) if self.radius is None else self.radius
        labelled = covered_embedding(pool)
        return prob_cover(pool.embedding, labelled, k, generator, radius=radius, sample=self.limit)

    def _radius(self, pool: Pool, generator: torch.Generator) -> float:
        points = pool.embedding
        clusters = min(self.clusters or max(2, pool.context.classes or 10), len(points))
        if clusters < 2 or bool((points == points[:1]).all()):
            return 1.0  # items that are one point: every radius gives the same
        radius = purity_radius(points, clusters, generator, alpha=self.purity)
        if radius > 0:
            return radius
        # duplicates in two clusters: the smallest ball there is, which covers duplicates alone
        spread = float((points - points.mean(0)).square().sum(1).max().sqrt())
        return max(1e-6 * spread, 1e-15)


@STRATEGIES.register("max-herding", example=["width"])
@dataclass(frozen=True, repr=False, eq=False)
class MaxHerding(SetStrategy):
    """MaxHerding: generalised coverage of the pool (Bae et al. 2024).

    Greedy, under a Gaussian similarity of the embeddings as they are, not at unit length.

    Source: Bae, Noh and Sutherland, Generalized Coverage for More Robust Low-Budget Active
    Learning (2024).

    Args:
        width: of the Gaussian, in the embedding's units; None takes the pool's root mean square
            distance from its mean.
        limit: in a larger pool, coverage is measured on this many items drawn from it.
    """

    width: float | None = None
    limit: int = SAMPLE

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy coverage."""
        labelled = covered_embedding(pool)
        return max_herding(
            pool.embedding, labelled, k, generator, width=self.width, sample=self.limit
        )


@STRATEGIES.register("facility-location", example=["similarity"])
@dataclass(frozen=True, repr=False, eq=False)
class FacilityLocation(SetStrategy):
    """Items that the rest of the pool is near to (Wei et al. 2015).

    Greedy k-medoids given the labelled items.

    Source: Wei, Iyer and Bilmes, Submodularity in Data Subset Selection and Active Learning
    (2015); Nemhauser, Wolsey and Fisher (1978).

    Args:
        similarity: "euclidean" (a constant minus the distance) or "cosine".
        limit: in a larger pool, coverage is measured on this many items drawn from it.
    """

    similarity: Literal["euclidean", "cosine"] = "euclidean"
    limit: int = SAMPLE

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Greedy facility location."""
        labelled = covered_embedding(pool)
        return facility_location(
            pool.embedding,
            labelled,
            k,
            generator,
            similarity=self.similarity,
            sample=self.limit,
        )
