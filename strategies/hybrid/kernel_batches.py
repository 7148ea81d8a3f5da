"""Greedy batches under the last layer's kernel: largest cluster, largest determinant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.records import Pool

from ..selection import RESOLUTION, shuffled
from ..sets import BLOCK, SetStrategy, closest, covered_embedding
from ..strategy_registry import STRATEGIES

__all__ = ["Lcmd", "MaxDet", "largest_cluster_maximum_distance", "maximum_determinant"]

HELD = 2**28  # bytes of features that are held in float64; above, they are converted in blocks


@STRATEGIES.register("lcmd")
@dataclass(frozen=True, repr=False, eq=False)
class Lcmd(SetStrategy):
    """LCMD: the farthest item of the largest cluster (Holzmüller et al. 2023).

    The item is then a centre of its own.
    Labelled and chosen items are the centres; each item belongs to its nearest, and a cluster's
    size is the sum of its squared distances. The kernel is the last layer's, so distances are
    those of embeddings. Without labelled items the item of largest norm is first.

    Source: Holzmüller, Zaverkin, Kästner and Steinwart, A Framework and Benchmark for Deep Batch
    Active Learning for Regression (2023), there LCMD-TP.
    """

    needs: ClassVar[tuple[str, ...]] = ("head_input",)
    keeps: ClassVar[tuple[str, ...]] = ("head_input",)

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Largest cluster, maximum distance."""
        labelled = covered_embedding(pool, "head_input")
        return largest_cluster_maximum_distance(pool.head_input, labelled, k, generator)


@STRATEGIES.register("max-det")
@dataclass(frozen=True, repr=False, eq=False)
class MaxDet(SetStrategy):
    """MaxDet: largest posterior variance under the last layer (Holzmüller et al. 2023).

    Again and again, each item given those before it.
    The greedy maximisation of the determinant of the batch's kernel matrix given the labelled
    items, for a Bayesian linear model on the embedding.

    Source: Holzmüller, Zaverkin, Kästner and Steinwart (2023), there MaxDet-TP;
    Seo et al. (2000).

    Args:
        noise: variance of an observation's noise, in units of the mean squared norm of labelled
            and candidate embeddings; > 0.
    """

    noise: float = 0.01

    needs: ClassVar[tuple[str, ...]] = ("head_input",)
    keeps: ClassVar[tuple[str, ...]] = ("head_input",)

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise ValueError(f"max-det needs noise > 0, got {self.noise}; 0.01 is the default")

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Maximum determinant."""
        labelled = covered_embedding(pool, "head_input")
        return maximum_determinant(pool.head_input, labelled, k, generator, noise=self.noise)


def largest_cluster_maximum_distance(
    points: Tensor, labelled: Tensor, k: int, generator: torch.Generator
) -> Tensor:
    """LCMD: points [N, E], labelled [L, E] -> rows [K], in the order of choice (see :class:`Lcmd`).

    Distances in float64. Values within 1e-6 of the largest are ties, drawn by the generator. An
    item that is equally near to two centres belongs to the earlier one.
    """
    priority = shuffled(len(points), generator, points.device)
    chosen: list[int] = []
    features = _Rows(points, points.mean(0, dtype=torch.float64))
    near = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
    owner = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    centres = len(labelled)
    order = priority.new_empty(centres + k)  # of tied clusters
    order[shuffled(centres + k, generator, points.device)] = torch.arange(
        centres + k, device=points.device
    )
    if centres:
        near, owner = closest(points, labelled)
    free = torch.ones(len(points), dtype=torch.bool, device=points.device)
    for _ in range(k):
        if centres + len(chosen) == 0:
            value = torch.cat([p.double().square().sum(1) for p in points.split(features.step)])
            row = _best(value, free, priority)
        else:
            sizes = torch.zeros(len(order), dtype=torch.float64, device=points.device)
            sizes.index_add_(0, owner, near)
            some = sizes >= sizes.max() * (1 - RESOLUTION)
            largest = int(order.masked_fill(~some, len(order)).argmin())
            inside = free & (owner == largest) if float(sizes[largest]) > 0 else free
            row = _best(near, inside, priority)
        distance, tiny = features.squared(row)
        nearer = distance < near - tiny
        near = torch.where(nearer, distance, near)
        owner[nearer] = centres + len(chosen)
        near[row], free[row] = 0.0, False
        chosen.append(row)
    return torch.tensor(chosen, dtype=torch.int64, device=points.device)


def maximum_determinant(
    points: Tensor, labelled: Tensor, k: int, generator: torch.Generator, *, noise: float = 0.01
) -> Tensor:
    """MaxDet: points [N, E], labelled [L, E] -> rows [K], in the order of choice.

    Keeps the posterior covariance of the weights [E, E] and the items' variances [N], so the
    kernel matrix is never built. Variances within 1e-6 of the largest possible are ties.
    """
    priority = shuffled(len(points), generator, points.device)
    features = _Rows(points)
    squares = torch.cat([p.square().sum(1) for p in features.blocks()])
    total = float(squares.sum()) + float(labelled.double().square().sum())
    scale = total / (len(points) + len(labelled)) or 1.0
    sigma = noise * scale
    known = labelled.double()
    precision = known.T @ known / sigma
    precision.diagonal().add_(1.0)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
    variance = torch.cat([((p @ covariance) * p).sum(1) for p in features.blocks()])
    unit = RESOLUTION * float(squares.max()) or 1.0
    free = torch.ones(len(points), dtype=torch.bool, device=points.device)
    chosen: list[int] = []
    for _ in range(k):
        row = _best(variance, free, priority, unit)
        along = covariance @ features.row(row)  # [E]
        spread = float(features.row(row) @ along) + sigma
        variance -= features.times(along).square_() / spread
        covariance -= torch.outer(along, along) / spread
        free[row] = False
        chosen.append(row)
    return torch.tensor(chosen, dtype=torch.int64, device=points.device)


def _best(value: Tensor, free: Tensor, priority: Tensor, unit: float | None = None) -> int:
    """The free row of largest value [N]; of those that are tied the first by priority."""
    top = value[free].max()
    slack = RESOLUTION * float(top.abs()) if unit is None else unit
    tied = (free & (value >= top - slack)).nonzero().squeeze(1)
    return int(tied[priority[tied].argmin()])


class _Rows:
    """Features [N, E] in float64 about an origin, held where they fit, else block by block."""

    def __init__(self, points: Tensor, origin: Tensor | None = None) -> None:
        self.points, self.origin = points, origin
        self.step = max(1, BLOCK // max(1, points.shape[1]))
        self.held = [self._made(p) for p in points.split(self.step)] if self._fits() else None
        self.norms: Tensor | None = None

    def _fits(self) -> bool:
        return 8 * self.points.numel() <= HELD

    def _made(self, part: Tensor) -> Tensor:
        part = part.double()
        return part if self.origin is None else part - self.origin

    def blocks(self) -> Iterator[Tensor]:
        """The rows, some at a time."""
        if self.held is not None:
            yield from self.held
        else:
            yield from map(self._made, self.points.split(self.step))

    def row(self, row: int) -> Tensor:
        """One row [E]."""
        return self._made(self.points[row])

    def times(self, vector: Tensor) -> Tensor:
        """Inner products [N] with a vector [E]."""
        return self._each(lambda part: part @ vector)

    def squared(self, row: int) -> tuple[Tensor, Tensor]:
        """Squared distances [N] to one of the rows, and what is rounding in them [N]."""
        if self.norms is None:
            self.norms = self._each(lambda part: part.square().sum(1))
        centre = self.row(row)
        total = self.norms + self.norms[row]
        squared, tiny = total - 2 * self.times(centre), 2.0**-44 * total
        return squared.masked_fill_(squared <= tiny, 0.0), tiny

    def _each(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([function(part) for part in self.blocks()])
