"""The radius of a ball that holds one cluster only, by which ProbCover is set."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..selection import RESOLUTION, check_k, shuffled
from .distances import CLOSE, MEMORY, check_rows
from .k_means import assign, kmeans
from .points import Points

__all__ = ["purity_radius"]

_ROWS, _COLUMNS = 256, 2048  # of a block of distances: 2 MiB, about a core's cache
_GPU_COLUMNS = 2**16
_NOISE = 2.0**-18  # of the squared norm: by how much a squared distance may be wrong


def purity_radius(
    embedding: Tensor,
    clusters: int,
    generator: torch.Generator,
    *,
    alpha: float = 0.95,
    sample: int = 10_000,
    memory: int = MEMORY,
) -> float:
    """The radius for :func:`~.cover.prob_cover` by the purity rule: embedding [N, E] -> radius.

    The largest radius at which a share ``alpha`` of the balls is pure: holds no item of another
    k-means cluster than its centre's. An item's ball is pure up to its distance to the nearest
    item of another cluster, so the radius is a quantile of these distances, without a grid.

    Source: Yehuda, Dekel, Hacohen and Weinshall (2022).

    Args:
        embedding: the pool.
        clusters: for k-means, the number of classes.
        generator: for k-means, and for the sample.
        alpha: the least share of pure balls.
        sample: balls that are looked at in a larger pool, drawn from it; each against all items.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E], NaN or infinite rows, alpha not in (0, 1), or one cluster only.
    """
    check_k(embedding, 0, axes=2)
    if not 0 < alpha < 1:
        raise ValueError(f"purity_radius needs alpha between 0 and 1, got {alpha}; try 0.95")
    check_rows(embedding, "the pool's embedding")
    cluster = assign(embedding, kmeans(embedding, clusters, generator, memory=memory), memory)[0]
    if not bool((cluster != cluster[0]).any()):
        raise ValueError(
            f"purity_radius needs items in at least two clusters, got one of {len(embedding)} "
            "items; give clusters >= 2 and an embedding whose rows differ, or choose a radius"
        )
    points = Points(embedding, memory // 4)
    rows = torch.arange(len(points), device=embedding.device)
    if len(points) > sample:
        rows = shuffled(len(points), generator, embedding.device)[:sample]
    wide = max(1, min(_COLUMNS if rows.device.type == "cpu" else _GPU_COLUMNS, memory // 64))
    nearest, norms = _stranger(points, cluster, rows, wide), points.norms[rows]
    first = math.floor((1 - alpha) * len(rows) + 1e-9)  # as many balls may be impure
    unsure = (nearest - nearest.sort().values[first]).abs() <= _NOISE * norms
    lost = (unsure & (nearest <= CLOSE * norms)).nonzero().squeeze(1)
    if len(lost):
        fine = Points(embedding, 0, origin=points.origin, dtype=torch.float64)
        nearest[lost] = _stranger(fine, cluster, rows[lost], wide).float()
    return float(nearest.sort().values[first].sqrt()) * (1 - RESOLUTION)


def _stranger(points: Points, cluster: Tensor, rows: Tensor, wide: int) -> Tensor:
    """Squared distance of some rows [n] to the nearest item of another cluster [n]."""
    nearest = points.norms.new_full((len(rows),), torch.inf)
    for near, some in zip(nearest.split(_ROWS), rows.split(_ROWS), strict=True):
        for start in range(0, len(points), wide):
            span = slice(start, start + wide)
            squared = torch.addmm(points.norms[span], points[some], points[span].T, alpha=-2)
            squared.masked_fill_(cluster[some, None] == cluster[span], torch.inf)
            torch.minimum(near, squared.amin(1), out=near)
    return nearest.add_(points.norms[rows]).clamp_min_(0)
