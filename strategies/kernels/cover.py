"""Items that cover the pool: facility location, MaxHerding and ProbCover, one lazy greedy search.

All three maximise ``sum over items v of max over chosen or labelled a of s(v, a)``, a monotone
submodular function, and differ in the similarity ``s``. The gain of an item only falls while the
batch grows, so an old gain is an upper bound: one pass over all pairs gives every item its first
gain, and then only items whose bound is still on top are looked at again (Minoux 1978). Rows of
similarities that were computed once are kept while they fit the memory budget.

When nothing is left to gain (everything is covered), the batch goes on with the item farthest
from all labelled and chosen ones, until ``k`` are found: no item of the pool is out of reach.

Similarities are computed in float32 from squared distances about the pool's mean. Gains are
compared to 1e-6 of the largest possible mean similarity; what agrees is tied, and the generator
decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..selection import RESOLUTION, check_k, shuffled
from .distances import MEMORY, check_finite
from .typiclust import assign, kmeans

__all__ = ["Cover", "facility_location", "max_herding", "prob_cover", "purity_radius"]

SAMPLE = 50_000  # items that stand for a larger pool when coverage is measured
_WAVE = 16  # items looked at again together
_ROWS, _COLUMNS = 256, 2048  # of a block of similarities: 2 MiB, about a core's cache
_GPU_COLUMNS = 2**16


def facility_location(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    similarity: Literal["euclidean", "cosine"] = "euclidean",
    sample: int = SAMPLE,
    memory: int = MEMORY,
) -> Tensor:
    """Items that the pool is similar to: embedding [N, E], labelled [L, E] -> positions [K].

    ``similarity``: "euclidean" is ``d0 - |x - y|`` with ``d0`` the pool's diameter (bounded by
    twice the largest distance from its mean), so the batch is the greedy k-medoids; "cosine" is
    ``(1 + cos(x, y)) / 2``, a zero vector being at right angles to all.

    Greedy by gain, best first; at least 1 - 1/e of the best batch. The first picks of a larger
    batch are those of a smaller one.

    Source: Nemhauser, Wolsey and Fisher (1978); Minoux (1978); for active learning Wei, Iyer and
    Bilmes (2015).

    Args:
        embedding: the pool.
        labelled: items that cover already, or None.
        k: batch size.
        generator: breaks ties, and draws the sample of a large pool.
        similarity: which similarity.
        sample: in a larger pool, coverage is measured on this many items drawn from it.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, another similarity, or k > N.

    >>> facility_location(torch.tensor([[0.0], [1.0], [2.0]]), None, 1, torch.Generator())
    tensor([1])
    """
    if similarity not in ("euclidean", "cosine"):
        raise ValueError(f"no similarity named {similarity!r}; choose one of cosine, euclidean")
    cover = Cover(embedding, labelled, k, generator, sample, memory, similarity == "cosine")
    if similarity == "cosine":
        cover.similarity = lambda squared: squared.mul_(-0.25).add_(1)
    else:
        far = 2 * math.sqrt(float(cover.items.norms.max())) if len(embedding) else 0.0
        far = cover.scale = far or 1.0
        cover.similarity = lambda squared: squared.sqrt_().neg_().add_(far)
    return cover.choose(k)


def max_herding(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    width: float | None = None,
    sample: int = SAMPLE,
    memory: int = MEMORY,
) -> Tensor:
    """Greedy generalised coverage: embedding [N, E], labelled [L, E] -> positions [K].

    The similarity is ``exp(-|x - y|^2 / width^2)``. Default width: the pool's root mean square
    distance from its mean, which is the paper's 1 for centred features of unit length.

    Greedy by gain, best first; at least 1 - 1/e of the best batch. The first picks of a larger
    batch are those of a smaller one.

    Source: Bae, Noh and Sutherland, Generalized Coverage for More Robust Low-Budget Active
    Learning (2024), section 3.

    Args:
        embedding: the pool.
        labelled: items that cover already, or None.
        k: batch size.
        generator: breaks ties, and draws the sample of a large pool.
        width: of the kernel, in the embedding's units.
        sample: in a larger pool, coverage is measured on this many items drawn from it.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, width <= 0, or k > N.

    >>> max_herding(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), None, 2, torch.Generator(), width=1)
    tensor([1, 3])
    """
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"max_herding needs a positive width, got {width}; None takes the spread")
    cover = Cover(embedding, labelled, k, generator, sample, memory)
    if width is None:
        width = math.sqrt(float(cover.items.norms.double().mean())) if len(embedding) else 1.0
    factor = -1 / (width * width) if width > 0 else -1.0
    cover.similarity = lambda squared: squared.mul_(factor).exp_()
    return cover.choose(k)


def prob_cover(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    radius: float,
    sample: int = SAMPLE,
    memory: int = MEMORY,
) -> Tensor:
    """Greedy cover of the pool by balls: embedding [N, E], labelled [L, E] -> positions [K].

    Each pick has the most items within ``radius`` that no labelled or chosen item covers. The
    original stops, or picks by data order, when all is covered; here the item farthest from all
    labelled and chosen ones is next. The radius by the purity rule: :func:`purity_radius`.

    Source: Yehuda, Dekel, Hacohen and Weinshall, Active Learning Through a Covering Lens (2022),
    algorithm 1.

    Args:
        embedding: the pool.
        labelled: items that cover already, or None.
        k: batch size.
        generator: breaks ties, and draws the sample of a large pool.
        radius: of a ball, in the embedding's units.
        sample: in a larger pool, coverage is measured on this many items drawn from it.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, radius <= 0, or k > N.

    >>> points = torch.tensor([[0.0], [1.0], [2.4], [9.0]])
    >>> prob_cover(points, None, 3, torch.Generator().manual_seed(1), radius=1.5)
    tensor([1, 3, 2])
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"prob_cover needs a positive radius, got {radius}; see purity_radius")
    cover = Cover(embedding, labelled, k, generator, sample, memory)
    limit = radius * radius
    cover.similarity = lambda squared: squared.le_(limit)
    return cover.choose(k)


def purity_radius(
    embedding: Tensor,
    clusters: int,
    generator: torch.Generator,
    *,
    alpha: float = 0.95,
    sample: int = 10_000,
    memory: int = MEMORY,
) -> float:
    """The radius for :func:`prob_cover` by the purity rule: embedding [N, E] -> radius.

    The largest radius at which a share ``alpha`` of the balls is pure: holds no item of another
    k-means cluster than its centre's. An item's ball is pure up to its distance to the nearest
    item of another cluster, so the radius is a quantile of these distances, without a grid.

    Source: Yehuda, Dekel, Hacohen and Weinshall (2022), section 3.2.

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
    norms = torch.linalg.vector_norm(embedding, dim=1, dtype=torch.float32).square_()
    check_finite(norms, "the pool's embedding")
    cluster = assign(embedding, kmeans(embedding, clusters, generator, memory=memory), memory)[0]
    if not bool((cluster != cluster[0]).any()):
        raise ValueError(
            f"purity_radius needs items in at least two clusters, got one of {len(embedding)} "
            "items; give clusters >= 2 and an embedding whose rows differ, or choose a radius"
        )
    points = _Points(embedding, memory // 4)
    rows = torch.arange(len(points), device=embedding.device)
    if len(points) > sample:
        rows = shuffled(len(points), generator, embedding.device)[:sample]
    wide = max(1, min(_COLUMNS if rows.device.type == "cpu" else _GPU_COLUMNS, memory // 64))
    nearest = torch.full((len(rows),), torch.inf, device=embedding.device)
    for near, some in zip(nearest.split(_ROWS), rows.split(_ROWS), strict=True):
        for start in range(0, len(points), wide):
            span = slice(start, start + wide)
            squared = torch.addmm(points.norms[span], points[some], points[span].T, alpha=-2)
            squared.masked_fill_(cluster[some, None] == cluster[span], torch.inf)
            torch.minimum(near, squared.amin(1), out=near)
    nearest.add_(points.norms[rows]).clamp_min_(0)
    first = math.floor((1 - alpha) * len(rows) + 1e-9)  # as many balls may be impure
    return float(nearest.sort().values[first].sqrt()) * (1 - RESOLUTION)


class Cover:
    """The lazy greedy search; ``computed`` counts the similarities that it computed.

    Args:
        embedding: the pool [N, E].
        labelled: [L, E] or None.
        k: batch size, checked here.
        generator: breaks ties, and draws the sample of a large pool.
        sample: items on which coverage is measured in a larger pool.
        memory: bytes for blocks and kept rows.
        unit: compare rows scaled to unit length.
    """

    similarity: Callable[[Tensor], Tensor]  # squared distances -> similarities, in place
    scale = 1.0  # the largest similarity

    def __init__(
        self,
        embedding: Tensor,
        labelled: Tensor | None,
        k: int,
        generator: torch.Generator,
        sample: int = SAMPLE,
        memory: int = MEMORY,
        unit: bool = False,
    ) -> None:
        check_k(embedding, k, axes=2)
        if sample < 1:
            raise ValueError(f"a cover needs sample >= 1 items to measure it on, got {sample}")
        if labelled is None:
            labelled = embedding[:0]
        if labelled.ndim != 2 or labelled.shape[1] != embedding.shape[1]:
            raise ValueError(
                f"labelled must be [L, {embedding.shape[1]}] like the pool "
                f"{list(embedding.shape)}, got {list(labelled.shape)}"
            )
        for points, name in ((embedding, "the pool's embedding"), (labelled, "labelled")):
            norms = torch.linalg.vector_norm(points, dim=1, dtype=torch.float32).square_()
            check_finite(norms, name)
        self.device, self.memory, self.computed = embedding.device, memory, 0
        self.priority = shuffled(len(embedding), generator, self.device)
        self.items = _Points(embedding, memory // 4, unit)
        self.labelled = _Points(labelled.to(self.device), 0, unit, self.items.origin)
        self.targets, self.whole = self.items, len(embedding) <= sample
        if not self.whole:
            drawn = shuffled(len(embedding), generator, self.device)[:sample].sort().values
            self.targets = _Points(embedding[drawn], memory // 4, unit, self.items.origin)

    def choose(self, k: int) -> Tensor:
        """Positions [K], best first."""
        n, device = len(self.items), self.device
        chosen = torch.empty(k, dtype=torch.int64, device=device)
        if k == 0:
            return chosen
        self._covered = self._coverage_of(self.labelled)
        unit = RESOLUTION * self.scale * len(self.targets)

        def key(gain: Tensor, rows: Tensor | slice) -> Tensor:  # by rounded gain, then at random
            return (gain / unit).round().long() * n + (n - 1 - self.priority[rows])

        keys = key(self._gains(), slice(None))
        self._keep(max(2, min(self.memory // 2 // (4 * len(self.targets)), n, 2**14)))
        for step in range(k):
            fresh = torch.zeros(n, dtype=torch.bool, device=device)
            best, wave, start = n - 1, _WAVE, self.computed  # n - 1: the largest key without gain
            while True:  # old keys are upper bounds: stop when a fresh one is on top
                top = keys.topk(max(1, min(wave, n, len(self._owner) // 2)))
                rows = top.indices[(top.values > best) & ~fresh[top.indices]]
                if not len(rows):
                    break
                if self.whole and 8 * (self.computed - start) > n * n:  # all at once is cheaper
                    keys = torch.minimum(keys, key(self._gains(), slice(None)))
                    fresh.fill_(True)
                    continue
                gain = (self._rows(rows) - self._covered).clamp_min_(0).sum(1)
                keys[rows] = torch.minimum(keys[rows], key(gain.double(), rows))
                fresh[rows] = True
                best = max(best, int(keys[rows].max()))
                wave = min(2 * wave, 2**8)
            row = top.indices[:1]
            if int(keys[row]) < n:  # nobody gains
                self._farthest(chosen, step)
                break
            chosen[step] = row
            keys[row] = -1
            torch.maximum(self._covered, self._rows(row)[0], out=self._covered)
        return chosen

    def _keep(self, slots: int) -> None:
        """Room for rows of similarities that were computed."""
        self._kept = torch.empty(slots, len(self.targets), device=self.device)  # [slots, M]
        self._owner = [-1] * slots
        self._slot: dict[int, int] = {}
        self._next = 0

    def _rows(self, rows: Tensor) -> Tensor:
        """Similarities [n, M] of some items, computed or remembered; n at most half the slots."""
        wanted = rows.tolist()
        while missing := [row for row in wanted if row not in self._slot]:
            slots = [(self._next + i) % len(self._owner) for i in range(len(missing))]
            self._next = (slots[-1] + 1) % len(self._owner)
            for row, slot in zip(missing, slots, strict=True):
                self._slot.pop(self._owner[slot], None)
                self._owner[slot], self._slot[row] = row, slot
            index = torch.tensor(missing, device=self.device)
            where = torch.tensor(slots, device=self.device)
            columns = self._steps()[1]
            for left in range(0, len(self.targets), columns):
                span = slice(left, left + columns)
                self._kept[where, span] = self._similar(self.items, index, span)
        return self._kept[torch.tensor([self._slot[row] for row in wanted], device=self.device)]

    def _similar(self, points: _Points, rows: Tensor | slice, columns: slice) -> Tensor:
        """Similarities [n, m] of some points to the targets in ``columns``."""
        squared = torch.addmm(
            self.targets.norms[columns], points[rows], self.targets[columns].T, alpha=-2
        )
        squared.add_(points.norms[rows, None]).clamp_min_(0)
        if points is self.targets:  # an item is at no distance from itself
            start, stop, _ = columns.indices(len(points))
            if isinstance(rows, slice):
                rows = torch.arange(*rows.indices(len(points)), device=self.device)
            here = ((rows >= start) & (rows < stop)).nonzero().squeeze(1)
            squared[here, rows[here] - start] = 0
        self.computed += squared.numel()
        return self.similarity(squared)

    def _steps(self) -> tuple[int, int]:
        """Rows and columns of a block within a quarter of the memory."""
        wide = _COLUMNS if self.device.type == "cpu" else _GPU_COLUMNS
        columns = max(1, min(wide, self.memory // 64))
        return max(1, min(_ROWS, self.memory // (32 * columns))), columns

    def _coverage_of(self, points: _Points) -> Tensor:
        """Largest similarity [M] of each target to any of the points, 0 without."""
        covered = torch.zeros(len(self.targets), device=self.device)
        rows, columns = self._steps()
        for start in range(0, len(points), rows):
            for left in range(0, len(self.targets), columns):
                span = slice(left, left + columns)
                best = self._similar(points, slice(start, start + rows), span).amax(0)
                torch.maximum(covered[span], best, out=covered[span])
        return covered

    def _gains(self) -> Tensor:
        """The gain of every item [N] in float64: one pass over the pairs, half where symmetric."""
        gains = torch.zeros(len(self.items), dtype=torch.float64, device=self.device)
        rows, columns = self._steps()
        for start in range(0, len(self.items), rows):
            stop = min(start + rows, len(self.items))
            for left in range(start if self.whole else 0, len(self.targets), columns):
                span = slice(left, min(left + columns, len(self.targets)))
                similar = self._similar(self.items, slice(start, stop), span)
                gain = (similar - self._covered[span]).clamp_min_(0).sum(1)
                gains[start:stop] += gain
                right = max(stop, left)  # each pair beyond this block serves both its items
                if self.whole and right < span.stop:
                    mirrored = similar[:, right - left :] - self._covered[start:stop, None]
                    gains[right : span.stop] += mirrored.clamp_min_(0).sum(0)
        return gains

    def _farthest(self, chosen: Tensor, done: int) -> None:
        """Fill ``chosen`` from position ``done``: each farthest from all labelled and chosen."""
        n, norms = len(self.items), self.items.norms
        near = torch.full((n,), torch.inf, device=self.device)
        rows, columns = self._steps()
        for left in range(0, n, columns):
            span = slice(left, left + columns)
            for points, which in ((self.labelled, None), (self.items, chosen[:done])):
                for start in range(0, len(points) if which is None else done, rows):
                    block = slice(start, start + rows)
                    some = block if which is None else which[block]
                    squared = torch.addmm(norms[span], points[some], self.items[span].T, alpha=-2)
                    squared.add_(points.norms[some, None])
                    torch.minimum(near[span], squared.amin(0), out=near[span])
        near.clamp_min_(0)
        tiny = RESOLUTION * float(norms.max())  # what rounding leaves unknown
        near[chosen[:done]] = -torch.inf
        for step in range(done, len(chosen)):
            tied = (near >= near.max() - tiny).nonzero().squeeze(1)
            row = tied[self.priority[tied].argmin()]
            chosen[step] = row
            for left in range(0, n, columns):
                span = slice(left, left + columns)
                squared = (self.items[span] - self.items[row[None]]).square_().sum(1)
                torch.minimum(near[span], squared, out=near[span])
            near[chosen[: step + 1]] = -torch.inf


class _Points:
    """Rows about an origin in float32, of unit length first where asked; held if they fit."""

    def __init__(
        self, points: Tensor, room: int, unit: bool = False, origin: Tensor | None = None
    ) -> None:
        self.points, self.unit, self.origin = points, unit, origin
        self.held: Tensor | None = None
        size = max(1, 2**18 // max(1, points.shape[1]))
        parts = [slice(start, start + size) for start in range(0, len(points), size)]
        if origin is None and parts:
            sums = torch.stack([self[part].double().sum(0) for part in parts])
            self.origin = (sums.sum(0) / len(points)).float()
        if parts and 4 * points.numel() <= room:
            self.held = torch.cat([self[part] for part in parts])
        squares = [self[part].square().sum(1) for part in parts]
        self.norms = torch.cat(squares) if squares else torch.empty(0, device=points.device)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        if self.held is not None:
            return self.held[rows]
        points = self.points[rows].float()
        if self.unit:
            norms = points.norm(dim=1, keepdim=True)  # zero rows: at right angles to all others
            points = torch.cat([points / norms.clamp_min(1e-30), (norms == 0).float()], 1)
        return points if self.origin is None else points - self.origin
