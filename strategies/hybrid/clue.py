"""CLUE: clusters of the pool in which uncertain items weigh more, and the heart of each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Context, Pool, Predictions

from ..diversity.clustered import representatives
from ..selection import shuffled
from ..sets import BLOCK, SetStrategy, closest
from ..strategy_registry import STRATEGIES

__all__ = ["Clue"]


@STRATEGIES.register("clue", kind="classification")
@dataclass(frozen=True, repr=False, eq=False)
class Clue(SetStrategy):
    """CLUE: k clusters weighted by entropy, each one's heart (Prabhu et al. 2021).

    By k-means; of each cluster the item nearest to its centre.
    Labelled items are not looked at. Where one item is nearest to several centres, or fewer than
    k items differ, the batch is filled up with the next nearest of the clusters, largest first.
    Where all entropies are 0, all items weigh the same.

    Source: Prabhu et al., Active Domain Adaptation via Clustering Uncertainty-weighted Embeddings
    (2021). The clustering is scikit-learn's, from one k-means++ start (the original: the best of
    ten).

    Args:
        temperature: divides the log-probabilities before the entropy.
        iterations: of k-means, at most.
        limit: in a larger pool, centres are learned from this many items drawn from it (ten a
            cluster, where that is more); all items are looked at for the nearest.
    """

    temperature: float = 1.0
    iterations: int = 50
    limit: int = 20_000

    needs: ClassVar[tuple[str, ...]] = ("probs", "embedding")

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is positive, got {self.temperature}; 1 changes nothing")
        if self.iterations < 1 or self.limit < 1:
            raise ValueError(
                "clue needs iterations and limit of at least 1, got "
                f"{self.iterations} and {self.limit}"
            )

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Entropy [n] of the members' mean under the temperature; the mean over places."""
        kept = batch.keep(["probs"]).probs
        assert kept is not None  # kept in the line above
        return measures.over_places(partial(measures.of_mean, self._entropy), kept, mask=batch.mask)

    def _entropy(self, probs: Tensor) -> Tensor:
        if self.temperature != 1:
            probs = (probs.clamp_min(1e-30).log() / self.temperature).softmax(-1)
        return measures.entropy(probs)

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """The hearts of k weighted clusters."""
        if pool.scores is None:
            raise ValueError(f"{self!r} weights by score, but the candidates carry no scores")
        device, order = pool.embedding.device, shuffled(len(pool), generator, pool.index.device)
        points = pool.embedding[order.to(device)]  # so that data order breaks no tie
        points = (points - points.mean(0, dtype=torch.float64).to(points)).float()
        weights = pool.scores[order].double().clamp_min(0).to(device)
        if not bool((weights > 0).any()):
            weights = torch.ones_like(weights)
        centres = self._centres(points, weights, k, generator)
        squared, cluster = closest(points, centres)
        hearts = _nearest(points, centres).tolist()
        spare = representatives(squared.sqrt(), cluster, len(points), generator).tolist()
        rows = list(dict.fromkeys([*hearts, *spare]))[:k]
        return order[torch.tensor(rows, dtype=torch.int64, device=order.device)]

    def _centres(
        self, points: Tensor, weights: Tensor, k: int, generator: torch.Generator
    ) -> Tensor:
        from sklearn.cluster import KMeans as Weighted

        size = max(self.limit, 10 * k)
        if len(points) > size:  # shuffled before: the first ones are a draw
            points, weights = points[:size], weights[:size]
        if not bool((weights > 0).any()):
            weights = torch.ones_like(weights)
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
        means = Weighted(k, n_init=1, max_iter=self.iterations, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fewer different items than clusters
            means.fit(points.cpu().numpy(), sample_weight=weights.cpu().numpy())
        return torch.from_numpy(means.cluster_centers_).to(points)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """The row of the point [N, E] nearest to each centre [m, E] -> [m]; the first of several."""
    origin = centres.double().mean(0)
    about = centres.double() - origin
    best = torch.full((len(centres),), torch.inf, dtype=torch.float64, device=points.device)
    which = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    size = max(1, BLOCK // max(len(centres), points.shape[1]))
    for start in range(0, len(points), size):
        part = points[start : start + size].double() - origin
        near, row = torch.addmm(part.square().sum(1), about, part.T, alpha=-2).min(1)
        closer = near < best
        best[closer], which[closer] = near[closer], row[closer] + start
    return which
