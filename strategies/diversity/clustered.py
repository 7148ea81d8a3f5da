"""Strategies that cluster the pool and take the item at the heart of each cluster."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..selection import quantise, relative_resolution, shuffled
from ..sets import A_PICK, Picked, SetStrategy, closest, drawn_rows, looked_at
from ..strategy_registry import STRATEGIES

__all__ = ["KMeans", "Representative", "representatives"]

EXEMPLARS = ("cluster_centers_indices_", "medoid_indices_")
CENTRES = ("cluster_centers_", "medoids_", "centroids_")


@STRATEGIES.register("k-means")
@dataclass(frozen=True, repr=False, eq=False)
class KMeans(SetStrategy):
    """Clusters of the pool by k-means, the item nearest to each centre (Xu et al. 2003).

    As many clusters as items are asked for.
    Labelled items are not looked at. Where fewer than k clusters have items, see
    :func:`representatives`.

    Source: Xu et al., Representative Sampling for Text Classification (2003), without their
    margin; Lloyd (1982). The clustering is faiss's (Johnson, Douze and Jégou 2019).

    Args:
        iterations: of k-means.
        per_centre: points a cluster from which centres are learned, at most.
    """

    iterations: int = 20
    per_centre: int = 256

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The hearts of k clusters."""
        return self.hearts(pool.embedding, k, generator)

    def hearts(self, points: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """Rows [K] at the hearts of k clusters of points [N, E]."""
        import faiss

        origin = points.mean(0, dtype=torch.float64)
        about = (points - origin.to(points.dtype)).float()
        kmeans = faiss.Kmeans(
            points.shape[1],
            k,
            niter=self.iterations,
            seed=_seed(generator),
            min_points_per_centroid=1,
            max_points_per_centroid=self.per_centre,
        )
        kmeans.train(about.cpu().numpy())
        centres = torch.from_numpy(kmeans.centroids).to(points.device)
        squared, cluster = closest(about, centres)
        return representatives(squared.sqrt(), cluster, k, generator)


@STRATEGIES.register("representative", example=["clusterer"])
@dataclass(frozen=True, repr=False, eq=False)
class Representative(SetStrategy):
    """The hearts of clusters by any clusterer of scikit-learn (Xu et al. 2003).

    The heart is the cluster's exemplar or medoid where the clusterer names one, else the item
    nearest to its centre, else the item nearest to its mean. Labelled items are not looked at.
    More clusters than k: the largest k. Fewer: see :func:`representatives`; items that the
    clusterer calls noise (-1) are no cluster and come last. Many clusterers compare all pairs, so
    in a pool of more than ``limit`` items that many, drawn from it, are clustered, and the others
    join the cluster whose centre is nearest. The acquisition's notes say how many were clustered.

    Source: Xu et al. (2003); the RepresentativeSampling strategy of Scherer et al., PyRelationAL
    (2022).

    Args:
        clusterer: a class of ``sklearn.cluster`` by name.
        arguments: for it; ``n_clusters`` (default k) and ``random_state`` are filled in.
        limit: items that are clustered at most, but at least ten a pick.
    """

    clusterer: str = "KMeans"
    arguments: Mapping[str, Any] | None = None
    limit: int = 20_000

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit is at least 1, got {self.limit}; 20_000 is the default")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Picked:
        """The hearts of the clusters."""
        points = pool.embedding
        drawn = drawn_rows(len(points), max(self.limit, A_PICK * k), generator, points.device)
        mend = "raise limit to have more clustered; the others join the nearest centre"
        notes = looked_at("representative", len(drawn), len(points), mend)
        return Picked(self._hearts(points, drawn, k, generator), notes)

    def _hearts(self, points: Tensor, drawn: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """Rows [K] at the hearts of the clusters of the drawn ones."""
        if len(points) == 1:  # some clusterers refuse a single item
            return torch.zeros(1, dtype=torch.int64, device=points.device)
        some = points[drawn]
        clusterer = self._build(min(k, len(points)), _seed(generator))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fewer clusters than asked: they are filled up
            clusterer.fit(some.double().cpu().numpy())
        cluster = torch.as_tensor(clusterer.labels_, dtype=torch.int64, device=points.device)
        centres = _centres(clusterer, some, cluster)
        if len(some) < len(points) and len(centres):
            squared, cluster = closest(points, centres)
            return representatives(squared.sqrt(), cluster, k, generator)
        if len(some) < len(points):  # all is noise
            cluster = cluster.new_full((len(points),), -1)
        own = centres[cluster.clamp_min(0)] if len(centres) else points.double()
        distance = (points.double() - own).square().sum(1).sqrt()
        return representatives(distance, cluster, k, generator)

    def _build(self, k: int, seed: int) -> Any:
        import sklearn.cluster
        from sklearn.base import ClusterMixin

        kind = getattr(sklearn.cluster, self.clusterer, None)
        if not (inspect.isclass(kind) and issubclass(kind, ClusterMixin)):
            known = [
                name
                for name in sklearn.cluster.__all__
                if inspect.isclass(found := getattr(sklearn.cluster, name))
                and issubclass(found, ClusterMixin)
            ]
            raise LookupError(
                f"scikit-learn has no clusterer named {self.clusterer!r}; choose one of "
                f"{', '.join(sorted(known))}"
            )
        takes = inspect.signature(kind).parameters
        given = {"n_clusters": k, "random_state": seed}
        arguments = {name: value for name, value in given.items() if name in takes}
        return kind(**(arguments | dict(self.arguments or {})))


def _centres(clusterer: Any, points: Tensor, cluster: Tensor) -> Tensor:
    """A point for each cluster [m, E], float64: exemplars, centres, or means."""
    count = int(cluster.max()) + 1 if len(cluster) else 0
    for name in EXEMPLARS:
        rows = getattr(clusterer, name, None)
        if rows is not None and len(rows) >= count:
            return points[torch.as_tensor(rows, device=points.device)].double()
    for name in CENTRES:
        found = getattr(clusterer, name, None)
        if found is not None and found.shape[1:] == points.shape[1:] and len(found) >= count:
            return torch.as_tensor(found, dtype=torch.float64, device=points.device)
    inside = cluster >= 0
    sums = points.new_zeros(max(count, 0), points.shape[1], dtype=torch.float64)
    sums.index_add_(0, cluster[inside], points[inside].double())
    sizes = cluster[inside].bincount(minlength=max(count, 0))
    return sums / sizes[:, None].clamp_min(1)


def representatives(
    distance: Tensor, cluster: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    """The hearts of clusters: distance to the own centre [N], cluster [N] -> rows [K].

    First the nearest item of each cluster, the largest cluster first; then the second nearest of
    each, and so on until there are k. Items of cluster -1 (noise) come last, in random order.
    Ties by the generator.
    """
    noise = cluster < 0
    distance = distance.masked_fill(noise, 0.0)
    sizes = cluster[~noise].bincount()
    order = shuffled(len(sizes), generator, sizes.device)
    order = order[sizes[order].argsort(descending=True, stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    place = torch.cat([place, place.new_tensor([len(sizes)])])  # the last one for noise

    rows = shuffled(len(cluster), generator, cluster.device)
    near = quantise(distance[rows], relative_resolution(distance))
    rows = rows[near.argsort(stable=True)]
    own = place[torch.where(noise, len(sizes), cluster)[rows]]
    by_cluster = own.argsort(stable=True)
    rows, own = rows[by_cluster], own[by_cluster]
    counts = own.bincount(minlength=len(place))
    rank = torch.arange(len(own), device=own.device) - (counts.cumsum(0) - counts)[own]
    rank[own == len(sizes)] += len(cluster)
    return rows[(rank * len(place) + own).argsort()[:k]]


def _seed(generator: torch.Generator) -> int:
    drawn = torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device)
    return int(drawn)
