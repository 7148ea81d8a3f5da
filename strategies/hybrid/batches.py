"""Strategies that look at uncertainty and diversity together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Context, Pool, Predictions

from ..kernels.batch_bald import informed_batch_bald
from ..kernels.linkage import LIMIT, average_linkage
from ..kernels.plus_plus import badge
from ..selection import check_k, shuffled, top_k
from ..sets import Picked, SetStrategy, mean_probs
from ..strategy_registry import STRATEGIES
from .saturation import saturation

__all__ = ["Badge", "BatchBald", "ClusterMargin"]


@STRATEGIES.register("badge", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Badge(SetStrategy):
    """BADGE: k-means++ on the gradients of the last layer (Ash et al. 2020).

    The gradients [N, C E] are those under the predicted label, and are never built. Over several
    members the mean prediction counts.

    Source: Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds
    (2020), algorithm 1.

    Args:
        first: "largest" begins with the largest gradient, as the authors' code does; "uniform"
            is k-means++ to the letter.
    """

    first: Literal["largest", "uniform"] = "largest"

    needs: ClassVar[tuple[str, ...]] = ("probs", "head_input")
    keeps: ClassVar[tuple[str, ...]] = ("probs", "head_input")

    def __post_init__(self) -> None:
        if self.first not in ("largest", "uniform"):
            raise ValueError(f"first is 'largest' or 'uniform', got {self.first!r}")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """k-means++ on gradients."""
        probs = mean_probs(pool.probs, "badge")
        return badge(pool.head_input, probs, k, generator, first=self.first)


@STRATEGIES.register("batch-bald", kind="classification", members=100)
@dataclass(frozen=True, repr=False, eq=False)
class BatchBald(SetStrategy):
    """BatchBALD: joint mutual information of the batch (Kirsch et al. 2019).

    The batch whose labels together say most about the model, found greedily. Of S members they say
    log S nats at the most: the notes of the acquisition hold how much, and a warning tells when it
    is more than 0.9 log S. So many members are needed, more for larger batches.

    Source: Kirsch, van Amersfoort and Gal, BatchBALD (2019).

    Args:
        samples: label configurations by which the joint distribution is known; while all of them
            fit, the choice is exact.
    """

    samples: int = 10_000

    needs: ClassVar[tuple[str, ...]] = ("probs",)
    keeps: ClassVar[tuple[str, ...]] = ("probs",)
    members: ClassVar[str] = "many"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples is at least 1, got {self.samples}; 10_000 is customary")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Picked:
        """Greedy joint mutual information."""
        probs = pool.probs
        mean_probs(probs[:1], "batch-bald")  # refuses items with places
        rows, told = informed_batch_bald(probs.log(), k, generator, samples=self.samples)
        return Picked(rows, saturation("batch-bald", told, probs.shape[1]))


@STRATEGIES.register("cluster-margin", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class ClusterMargin(SetStrategy):
    """Cluster-Margin: small margins, spread over clusters (Citovsky et al. 2021).

    Round robin from the smallest cluster on.
    The ``factor * k`` items of smallest margin are clustered by average linkage into groups of
    ``cluster_size`` on average, and into k at least; then each group in turn, smallest first, gives
    a random item. The original clusters the whole pool once, before the first round; here the
    shortlist is clustered under the current embedding. With many more clusters than picks (the
    original's, or a smaller ``cluster_size``) the smallest are odd items far from all others.

    Source: Citovsky et al., Batch Active Learning at Scale (2021).

    Args:
        factor: length of the shortlist as a multiple of k.
        cluster_size: mean number of items a cluster; below ``factor`` there are more clusters than
            picks.
        limit: items all pairs of which are compared (4 bytes a pair, and as much again); a longer
            shortlist is split into groups of near items first (:func:`average_linkage`).
    """

    factor: float = 10.0
    cluster_size: float = 10.0
    limit: int = LIMIT

    needs: ClassVar[tuple[str, ...]] = ("probs", "embedding")

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and self.cluster_size >= 1 and self.limit >= 1):
            raise ValueError(
                "cluster-margin needs factor, cluster_size and limit of at least 1, got "
                f"{self.factor}, {self.cluster_size} and {self.limit}"
            )

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """One minus the lead of the best class [n], of the members' mean."""
        probs = batch.keep(["probs"]).probs
        assert probs is not None  # kept in the line above
        return measures.over_places(
            partial(measures.of_mean, measures.margin), probs, mask=batch.mask
        )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Picked:
        """Round robin over the clusters of the shortlist."""
        if pool.scores is None:
            raise ValueError(f"{self!r} shortens by score, but the candidates carry no scores")
        length = min(len(pool), math.ceil(self.factor * k))
        short = top_k(pool.scores, length, generator)
        cluster = average_linkage(
            pool.embedding[short],
            max(k, math.ceil(length / self.cluster_size)),
            generator,
            limit=self.limit,
        )
        rows = short[round_robin(cluster, k, generator)]
        return Picked(rows, {"looked at": length})


def round_robin(cluster: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """A random item of each cluster [n] in turn, the smallest cluster first -> rows [K]."""
    check_k(cluster, k)
    sizes = cluster.bincount()
    rows = shuffled(len(cluster), generator, cluster.device)
    order = shuffled(len(sizes), generator, sizes.device)
    order = order[sizes[order].argsort(stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    own = place[cluster[rows]]
    by_cluster = own.argsort(stable=True)
    rows, own = rows[by_cluster], own[by_cluster]
    counts = own.bincount(minlength=len(place))
    turn = torch.arange(len(own), device=own.device) - (counts.cumsum(0) - counts)[own]
    return rows[(turn * len(place) + own).argsort()[:k]]
