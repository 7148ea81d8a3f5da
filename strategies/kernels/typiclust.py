"""TypiClust: the most typical item of each of the largest clusters that have no label yet."""

from __future__ import annotations

import heapq
import math
from collections import Counter

import torch
from torch import Tensor

from ..selection import RESOLUTION, check_k, shuffled, top_k
from .distances import CLOSE, MEMORY, check_rows
from .k_means import ITERATIONS, assign, kmeans, mean_row

__all__ = ["typiclust"]

LIMIT = 20_000  # items of a cluster whose neighbours are found by comparing all pairs
_PROBES = 8  # cells of the index in which a neighbour is looked for
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**26  # elements of a block of distances


def typiclust(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    neighbours: int = 20,
    max_clusters: int = 500,
    min_size: int = 6,
    iterations: int = ITERATIONS,
    per_centre: int | None = None,
    limit: int = LIMIT,
    memory: int = MEMORY,
) -> Tensor:
    """Typical items of uncovered clusters: embedding [N, E], labelled [L, E] -> positions [K].

    Pool and labelled items are clustered together into L + K clusters, ``max_clusters`` at most.
    Each pick goes to the cluster with the fewest labelled and chosen members, among these to the
    largest; clusters of fewer than ``min_size`` pool items wait until the others are used up (the
    original drops them). Within a cluster the most typical item is taken, then the next: lowest
    mean distance to its ``neighbours`` nearest pool items in the cluster (all others, where it
    has fewer).

    :func:`kmeans` finds the centres; then every item joins its nearest one. (The original clusters
    all items by scikit-learn: KMeans up to 50 clusters, MiniBatchKMeans above.) Ties by the
    generator. In a cluster of more than ``limit`` items neighbours come from an index (faiss, cells
    of about the root of the cluster's size), which may miss some: of n items each is compared with
    about 8 sqrt(n) instead of n. The index holds a copy of such a cluster's items.

    Source: Hacohen, Dekel and Weinshall, Active Learning on a Budget (2022), section 3.

    Args:
        embedding: the pool.
        labelled: items that are labelled already, or None.
        k: batch size.
        generator: for k-means and ties.
        neighbours: K of the typicality.
        max_clusters: clusters, at most.
        min_size: pool items of a cluster that is used before all smaller ones.
        iterations: of k-means.
        per_centre: sampled items a cluster for k-means; None takes 64, 32 from 400 clusters on.
        limit: size of a cluster up to which neighbours are exact.
        memory: bytes beside the input, a few numbers an item, the sample and the index.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, neighbours or max_clusters < 1,
            or k > N.

    >>> points = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0]])
    >>> typiclust(points, None, 1, torch.Generator().manual_seed(0), max_clusters=1)
    tensor([2])
    """
    check_k(embedding, k, axes=2)
    if labelled is None:
        labelled = embedding[:0]
    if labelled.ndim != 2 or labelled.shape[1] != embedding.shape[1]:
        raise ValueError(
            f"labelled must be [L, {embedding.shape[1]}] like the pool {list(embedding.shape)}, "
            f"got {list(labelled.shape)}"
        )
    if neighbours < 1 or max_clusters < 1 or limit < 1:
        raise ValueError(
            f"typiclust needs neighbours >= 1, max_clusters >= 1 and limit >= 1, got {neighbours}, "
            f"{max_clusters} and {limit}; the first two are 20 and 500 in the paper"
        )
    for points, name in ((embedding, "the pool's embedding"), (labelled, "labelled")):
        check_rows(points, name)
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=embedding.device)
    labelled = labelled.to(embedding.device)
    clusters = min(len(labelled) + k, max_clusters, len(labelled) + len(embedding))
    centres = kmeans(
        embedding,
        clusters,
        generator,
        labelled=labelled,
        iterations=iterations,
        per_centre=per_centre,
        memory=memory,
    )
    cluster = assign(embedding, centres, memory)[0]
    sizes = cluster.bincount(minlength=clusters)
    covered = assign(labelled, centres, memory)[0].bincount(minlength=clusters)
    quota = _quota(sizes.tolist(), covered.tolist(), k, min_size, generator)
    members = cluster.argsort(stable=True).split(sizes.tolist())
    best: dict[int, list[int]] = {}
    for one, many in Counter(quota).items():
        rows = members[one]
        if len(rows) > limit:
            distance = _indexed_distance(embedding[rows], neighbours, generator)
        else:
            distance = _typical_distance(embedding[rows], neighbours, memory)
        fineness = RESOLUTION * max(float(distance.max()), 1e-30)
        some = top_k(-distance, many, generator, resolution=fineness)
        best[one] = rows[some].tolist()[::-1]
    chosen = [best[one].pop() for one in quota]
    return torch.tensor(chosen, dtype=torch.int64, device=embedding.device)


def _quota(
    sizes: list[int], covered: list[int], k: int, min_size: int, generator: torch.Generator
) -> list[int]:
    """The cluster of each of k picks."""
    order = shuffled(len(sizes), generator, torch.device("cpu")).tolist()
    queue = [
        (size < min_size, has, -size, tie, one, size)
        for one, (size, has, tie) in enumerate(zip(sizes, covered, order, strict=True))
        if size
    ]
    heapq.heapify(queue)
    picks: list[int] = []
    while len(picks) < k:
        small, has, minus, tie, one, left = heapq.heappop(queue)
        picks.append(one)
        if left > 1:
            heapq.heappush(queue, (small, has + 1, minus, tie, one, left - 1))
    return picks


def _typical_distance(points: Tensor, neighbours: int, memory: int) -> Tensor:
    """Mean distance [m] to the nearest other points, 0 for a single one."""
    count = min(neighbours, len(points) - 1)
    if count == 0:
        return torch.zeros(1, device=points.device)
    middle = mean_row(points)
    points = (points - middle).float()
    norms = points.square().sum(1)
    rounding = min(RESOLUTION, 16 * torch.finfo(middle.dtype).eps)  # of the items as they came
    noise = (norms + middle.square().sum().float()) * rounding**2
    least = torch.maximum(norms * CLOSE, noise)[:, None]
    most = _CPU_BLOCK if points.device.type == "cpu" else _GPU_BLOCK
    size = max(1, min(most, memory // 16) // len(points))
    means = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        squared = torch.addmm(norms, part, points.T, alpha=-2)
        squared.diagonal(start).fill_(torch.inf)  # not its own neighbour
        near, which = squared.topk(count, dim=1, largest=False, sorted=False)
        near += norms[start : start + size, None]
        lost = (near.amin(1, keepdim=True) <= least[start : start + size]).nonzero()[:, 0]
        many = max(1, size * len(points) // (count * points.shape[1] or 1))
        for some in lost.split(many) if len(lost) else ():
            own = (part[some, None] - points[which[some]]).square_().sum(2)
            near[some] = own.masked_fill_(own <= noise[start + some, None], 0)
        means.append(near.sqrt_().mean(1))
    return torch.cat(means)


def _indexed_distance(points: Tensor, neighbours: int, generator: torch.Generator) -> Tensor:
    """Mean distance [m] to the nearest other points that an inverted file finds; m > 1."""
    import faiss

    count, width = min(neighbours, len(points) - 1), points.shape[1]
    about = (points - mean_row(points)).float().cpu().contiguous()
    cells = max(1, math.isqrt(len(points)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, cells)
    index.cp.seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 64
    index.nprobe = min(_PROBES, cells)
    index.train(about.numpy())
    index.add(about.numpy())
    means = []
    for start in range(0, len(about), 2**14):
        squared, found = map(
            torch.from_numpy, index.search(about[start : start + 2**14].numpy(), count + 1)
        )
        own = torch.arange(start, start + len(found))[:, None]
        absent = (found == own) | (found < 0)
        distance = squared.clamp_min(0).sqrt_().masked_fill_(absent, torch.inf)
        distance = distance.topk(count, dim=1, largest=False).values
        there = distance.isfinite()
        mean = distance.masked_fill(~there, 0).sum(1) / there.sum(1)
        means.append(mean.nan_to_num_(nan=torch.inf))
    mean = torch.cat(means)
    worst = mean[mean.isfinite()].amax() if bool(mean.isfinite().any()) else mean.new_tensor(0.0)
    return torch.minimum(mean, worst).to(points.device)
