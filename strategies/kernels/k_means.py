"""k-means on a sample: Lloyd's iterations that free the centres of odd items."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..selection import shuffled
from .distances import CLOSE, MEMORY

__all__ = ["assign", "kmeans", "mean_row"]

PER_CENTRE = (32, 64)  # points that k-means learns a centre from, for many and for few centres
ITERATIONS = 8
_SAMPLE = 12_800  # points from which on it is the fewer
_THIN = 0.1  # of a cluster's mean share of the sample: at or below it a centre is freed
_JUMPS, _FREEING = 4, 6  # iterations that free centres to a point, and that free any
_SPLIT = 0.2  # of the way from a cluster's centre to a point, where later ones are freed to
_WHOLE = 4  # times the sample, from which on a last iteration looks at all points
_ROWS = 2**14  # rows summed together
_SEEDINGS = 32  # batches in which the first centres are drawn
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**26  # elements of a block of distances


def kmeans(
    points: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    labelled: Tensor | None = None,
    iterations: int = ITERATIONS,
    per_centre: int | None = None,
    memory: int = MEMORY,
) -> Tensor:
    """Centres of k clusters: points [N, E] (and labelled [L, E]) -> [k, E], float32 at least.

    Lloyd's iterations on a sample of ``per_centre * k`` points (None: 64, 32 from 400 clusters on),
    then, where there are four times as many, one on all. The first centres are drawn in batches
    with odds of the squared distance to those before. A centre with at most a tenth of the mean
    number of the sample's points is an odd item, of which heavy tails have many: what it saves in
    the sample it does not save elsewhere. In the first iterations it begins anew in a cluster drawn
    by its sum of squares: at a random point, later a part of the way from the cluster's centre to
    one (in many features a point is the nearest of nothing but itself, and a centre near the middle
    halves the cluster).

    Source: Lloyd (1982); the seeding in batches after Bahmani et al. (2012); centres of few points
    begin anew in scikit-learn's mini-batches too.

    Raises:
        ValueError: fewer points than clusters, or k < 1.
    """
    extra = points[:0] if labelled is None else labelled
    total = len(points) + len(extra)
    if not 1 <= k <= total:
        raise ValueError(f"cannot make {k} clusters of {total} points; choose k from 1 to {total}")
    fewest, most = PER_CENTRE if per_centre is None else (per_centre, per_centre)
    many = max(k, fewest * k, min(most * k, _SAMPLE))
    rows = shuffled(total, generator, points.device)[:many]
    inside = rows < len(points)
    sample = torch.cat([points[rows[inside]], extra[rows[~inside] - len(points)]])
    origin = mean_row(sample)
    sample = (sample - origin).float()
    sample = sample[shuffled(len(sample), generator, sample.device)]
    centres = _seeds(sample, k, generator, memory)
    close, near = sample.square().sum(1) * CLOSE, False
    thin = int(_THIN * len(sample) / k)
    for turn in range(iterations if len(sample) > k else 0):
        cluster, squared = assign(sample, centres, memory, near=near)
        near = near or int((squared <= close).sum()) > len(sample) // 16  # in tight clusters
        count = cluster.bincount(minlength=k)
        moved = _sums(sample, cluster, k) / count[:, None].clamp_min(1)
        lost = (count <= (thin if turn < _FREEING else 0)).nonzero().squeeze(1)
        if len(lost):
            rows = _fresh(cluster, squared, count, lost, generator)
            off = (1.0 if turn < _JUMPS else _SPLIT) * (sample[rows] - moved[cluster[rows]])
            moved[lost] = moved[cluster[rows]] + off
        if torch.equal(moved, centres):
            break
        centres = moved
    if total > _WHOLE * len(sample) > _WHOLE * k:
        sums, count = torch.zeros_like(centres), centres.new_zeros(k, dtype=torch.int64)
        for whole in (points, extra):
            cluster = assign(whole, centres + origin, memory, near=near)[0]
            count += cluster.bincount(minlength=k)
            for part, own in zip(whole.split(_ROWS), cluster.split(_ROWS), strict=True):
                sums += _sums((part - origin).float(), own, k)
        centres = torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), centres)
    return centres + origin


def _sums(values: Tensor, cluster: Tensor, k: int) -> Tensor:
    """Sums of the rows [n, E] of each of k clusters [n] -> [k, E]."""
    sums = torch.zeros(k, values.shape[1], device=values.device)
    if values.device.type == "cpu":
        return sums.index_add_(0, cluster, values)
    for part, own in zip(values.split(_ROWS), cluster.split(_ROWS), strict=True):
        sums += torch.nn.functional.one_hot(own, k).float().T @ part  # atomic additions would vary
    return sums


def _fresh(
    cluster: Tensor, squared: Tensor, count: Tensor, lost: Tensor, generator: torch.Generator
) -> Tensor:
    """Distinct rows of the sample [n], one for each lost centre, at which they begin anew.

    A cluster is drawn with odds of its sum of squares, a row within it uniformly, so that an odd
    item is not drawn for being far; rows of lost clusters come last.
    """
    share = _sums(squared[:, None], cluster, len(count)).squeeze(1) / count.clamp_min(1)
    share[lost] = 0
    noise = torch.empty(len(cluster), dtype=torch.float64, device=generator.device)
    noise = noise.exponential_(generator=generator).to(cluster.device)
    odds = share.double()[cluster] / noise.clamp_min_(1e-300)
    return odds.topk(len(lost)).indices


def assign(
    points: Tensor, centres: Tensor, memory: int = MEMORY, *, near: bool = True
) -> tuple[Tensor, Tensor]:
    """The nearest centre of each point [N] and the squared distance to it [N], float32.

    Points that lie near to a centre but far from the centres' mean are looked at in float64, unless
    ``near`` is False: their distance then has few digits, and of centres near to each other
    another may be taken.
    """
    cluster = torch.empty(len(points), dtype=torch.int64, device=points.device)
    squared = torch.empty(len(points), device=points.device)
    own = torch.empty_like(squared)
    most = _CPU_BLOCK if points.device.type == "cpu" else _GPU_BLOCK
    size = max(1, min(most, memory // 16) // max(len(centres), points.shape[1]))
    origin = centres.mean(0)
    about = (centres - origin).float()
    norms = about.square().sum(1)
    for start in range(0, len(points), size):
        part = (points[start : start + size] - origin).float()
        span = slice(start, start + len(part))
        torch.min(
            torch.addmm(norms, part, about.T, alpha=-2), 1, out=(squared[span], cluster[span])
        )
        torch.sum(part.square_(), 1, out=own[span])
    squared.add_(own)
    lost = (squared <= own.mul_(CLOSE)).nonzero().squeeze(1) if near else cluster[:0]
    if len(lost):
        about = centres.double() - origin
        norms = about.square().sum(1)
        for some in lost.split(size):
            part = points[some].double() - origin
            best, cluster[some] = torch.addmm(norms, part, about.T, alpha=-2).min(1)
            squared[some] = best.add_(part.square_().sum(1)).float()
    return cluster, squared.clamp_min_(0)


def _seeds(sample: Tensor, k: int, generator: torch.Generator, memory: int) -> Tensor:
    """First centres [k, E] out of a shuffled sample: one at random, then by squared distance.

    Of a few draws of each batch the one that leaves the least sum of squares counts.
    """
    chosen = torch.zeros(1, dtype=torch.int64, device=sample.device)
    own, near = sample.square().sum(1), torch.full((len(sample),), torch.inf, device=sample.device)
    near = _nearer(near, sample, own, chosen[None], memory)[:, 0]
    near[0] = 0
    trials = 1 if len(sample) > _SAMPLE else 2 + int(math.log(k))
    while len(chosen) < k:
        many = min(max(1, k // _SEEDINGS), k - len(chosen))
        tried = max(1, min(trials, (len(sample) - len(chosen)) // many))
        noise = torch.empty(len(sample), dtype=torch.float64, device=generator.device)
        noise = noise.exponential_(generator=generator).to(sample.device)
        odds = near.double() / noise.clamp_min_(1e-300)  # the largest: a draw without repetition
        odds[chosen] = -1
        drawn = odds.topk(many * tried).indices.view(many, tried).T
        left = _nearer(near, sample, own, drawn, memory)
        best = int(left.sum(0).argmin())
        near, chosen = left[:, best].contiguous(), torch.cat([chosen, drawn[best]])
        near[chosen] = 0
    return sample[chosen]


def _nearer(near: Tensor, sample: Tensor, own: Tensor, drawn: Tensor, memory: int) -> Tensor:
    """Squared distances [n] lowered to those to the nearest of some sets: drawn [t, m] -> [n, t].

    ``own`` [n] are the squared norms of the sample. Few digits are enough for odds.
    """
    most = _CPU_BLOCK if sample.device.type == "cpu" else _GPU_BLOCK
    size = max(1, 4 * min(most, memory // 16) // max(drawn.numel(), sample.shape[1]))
    rows, parts = drawn.flatten(), []
    for start in range(0, len(sample), size):
        span = slice(start, start + size)
        squared = torch.addmm(own[rows], sample[span], sample[rows].T, alpha=-2)
        squared = squared.view(-1, *drawn.shape).amin(2).add_(own[span, None]).clamp_min_(0)
        parts.append(torch.minimum(near[span, None], squared))
    return torch.cat(parts)


def mean_row(points: Tensor) -> Tensor:
    """The mean of rows [N, E] -> [E], float32 at least."""
    return points.mean(0, dtype=torch.promote_types(points.dtype, torch.float32))
