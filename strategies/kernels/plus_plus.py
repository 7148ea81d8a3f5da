"""k-means++ seeding by lazy rejection: on an embedding, and on gradient embeddings (BADGE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..selection import check_k
from .distances import MEMORY, Space, Taken, check_finite, middle, sampled, tie_keys
from .shards import Shards

__all__ = ["badge", "kmeans_plus_plus"]

_PROPOSALS = (8, 128)  # fewest and most proposals looked at together


def kmeans_plus_plus(
    points: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    start: Tensor | None = None,
    memory: int = MEMORY,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """k-means++ seeding: points [N, E] -> rows [K], in the order of choice.

    The first row is uniform; each further one is drawn with odds D^2, the squared Euclidean
    distance to the nearest row chosen so far. When nothing but duplicates is left, the rest is
    uniform; no row comes twice.

    Exact in distribution (distances of what is drawn are float64), yet without a pass over the
    points for each pick: a D^2 from the past is an upper bound, so a row drawn by it and accepted
    with probability D^2 / bound has the right odds.

    Args:
        points: the candidates; any float type, any device that knows float64.
        k: how many, 0 to N.
        generator: of all draws.
        start: points [L, E] chosen before (labelled items); the first pick is then drawn by D^2.
        memory: bytes that blocks may take, beside the input and about 30 bytes an item.
        group: the process group of points that are sharded over ranks: ``points`` is then this
            rank's run of rows, in rank order; the other arguments and the generator's state are
            the same on all ranks, and so is the result, positions in the whole set.

    Source: Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding (2007),
    section 2.2.

    Raises:
        ValueError: not two axes, another number of features, k > N, rows that are not finite.

    >>> points = torch.tensor([[0.0], [0.0], [7.0]])
    >>> sorted(kmeans_plus_plus(points, 2, torch.Generator().manual_seed(0)).tolist())[1]
    2
    """
    shards = Shards.of(len(points), group)
    sampler, problem = None, None
    try:
        _check_points(points, k, start, shards)
    except ValueError as error:
        problem = error
    shards.agree(problem)
    try:
        if k:
            origin = middle(shards.rows(points, sampled(shards.total)))  # the same on all ranks
            space = Space([points], memory, "points [N, E]", origin)
            before = space.outside([points[:0] if start is None else start])
            sampler = _Sampler(space, before, generator, shards)
    except ValueError as error:
        problem = error
    shards.agree(problem)
    rows = [] if sampler is None else sampler.draw(k)
    return torch.tensor(rows, dtype=torch.int64, device=points.device)


def badge(
    embedding: Tensor,
    probs: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    first: Literal["largest", "uniform"] = "largest",
    memory: int = MEMORY,
) -> Tensor:
    """BADGE: embedding [N, E], probs [N, C] -> rows [K], in the order of choice.

    k-means++ seeding on the gradients of the last layer's loss under the predicted label,
    ``g = (p - onehot(argmax p)) x h``: large where the model is unsure, alike where items are.
    The vectors [N, C E] are never built: ``<g, g'> = <a, a'> <h, h'>``.

    Args:
        embedding: the last layer's inputs ``h``; any float type, any device that knows float64.
        probs: class probabilities of the same items.
        k: how many, 0 to N.
        generator: of all draws.
        first: "largest" begins with the largest gradient, as the authors' code does; "uniform"
            is k-means++ to the letter.
        memory: bytes that blocks may take, beside the inputs and about 30 bytes an item and class.

    With certain predictions only, or one class, all gradients are zero and the rows are uniform.

    Source: Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds
    (2020), algorithm 1.

    Raises:
        ValueError: not two axes, two sizes, k > N, rows that are not finite, an unknown ``first``.

    >>> probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]])
    >>> badge(torch.ones(3, 4), probs, 1, torch.Generator())
    tensor([1])
    """
    check_k(embedding, k, axes=2)
    if probs.ndim != 2 or len(probs) != len(embedding) or probs.shape[1] == 0:
        raise ValueError(
            f"badge needs probs [N, C] beside embedding {list(embedding.shape)}, got "
            f"{list(probs.shape)}; average posterior samples with probs.mean(1)"
        )
    if first not in ("largest", "uniform"):
        raise ValueError(f"badge takes first='largest' or 'uniform', got {first!r}")
    rows: list[int] = []
    if k:
        check_finite(probs.sum(1), "probs [N, C]")
        space = Space([embedding, _residual(probs)], memory, "embedding [N, E]")
        nothing = space.outside([f[:0] for f in space.factors])
        sampler = _Sampler(space, nothing, generator, Shards.of(len(embedding), None))
        rows = sampler.draw(k, largest=first == "largest")
    return torch.tensor(rows, dtype=torch.int64, device=embedding.device)


def _residual(probs: Tensor) -> Tensor:
    """The gradient's class factor p - onehot(argmax p): [N, C], at least float32."""
    residual = probs.to(torch.promote_types(probs.dtype, torch.float32), copy=True)
    predicted = probs.argmax(1, keepdim=True)
    rest = residual.scatter(1, predicted, 0.0).sum(1, keepdim=True)
    return residual.scatter_(1, predicted, -rest)  # p - 1, without cancellation as p nears 1


def _check_points(points: Tensor, k: int, start: Tensor | None, shards: Shards) -> None:
    if points.ndim == 2:  # what counts is the size of the whole pool
        check_k(points.new_empty(1, points.shape[1]).expand(shards.total, -1), k, axes=2)
    else:
        check_k(points, k, axes=2)
    if start is None:
        return
    if start.ndim != 2 or start.shape[1] != points.shape[1]:
        raise ValueError(
            f"kmeans_plus_plus needs start [L, E] with E = {points.shape[1]} features, got "
            f"{list(start.shape)}; take both from the same layer"
        )
    check_finite(start.double().square().sum(1), "start [L, E]")


class _Sampler:
    """D^2 sampling from a space: proposals by upper bounds, acceptance by exact distances."""

    def __init__(
        self, space: Space, before: Taken, generator: torch.Generator, shards: Shards
    ) -> None:
        self.space, self.generator, self.shards = space, generator, shards
        self._centres = before
        self._applied = 0  # centres that the bounds know
        self._bound = torch.full((len(space),), torch.inf, device=space.device)
        self._chosen: list[int] = []  # positions in the whole pool
        self._total = 0.0
        self._lower, self._upper = 0.0, 0.0  # this rank's share of the total
        self._cumulated = torch.empty(0)

    def draw(self, k: int, largest: bool = False) -> list[int]:
        """The positions of k rows."""
        if len(self._centres) == 0:
            self._take_in([self._largest() if largest else self._uniform()])
        self._refresh()
        wasted, exact, odds = 0, False, 1.0
        while len(self._chosen) < k and self._total > 0:
            need = (k - len(self._chosen)) / odds
            count = int(min(max(need, _PROPOSALS[0]), _PROPOSALS[1]))
            accepted = self._propose(count, k - len(self._chosen))
            wasted += count - accepted
            odds = max(0.05, 0.5 * odds + 0.5 * accepted / count)
            pending = len(self._centres) - self._applied
            if accepted == 0 and pending == 0 and not exact:
                self._refresh(exact=True)
                exact = True
            elif pending and self._due(wasted, pending):
                self._refresh()
                wasted, exact, odds = 0, False, 1.0
        self._fill(k)
        return self._chosen

    def _due(self, wasted: int, pending: int) -> bool:
        """Whether the wasted proposals have cost about as much as new bounds would.

        By the counts alone (microseconds of a core that does 80 products a nanosecond), so that
        the draws depend on no clock and on no rank.
        """
        width = sum(f.shape[1] for f in self.space.factors)
        proposal = 10 + 4e-5 * width * len(self._centres)
        return wasted * proposal > self.shards.total * (0.02 + pending * (0.001 + 2.5e-5 * width))

    def _propose(self, count: int, room: int) -> int:
        """Draw rows by their bounds and take in what is accepted; how many were."""
        device = self.generator.device
        drawn = torch.rand(
            2, count, dtype=torch.float64, generator=self.generator, device=device
        ).to(self.space.device)
        at = drawn[0] * self._total
        rows, weights, taken = self._look_up(at)
        distances = taken.nearest(self._centres, self.space.memory)
        between = taken.distances(taken)
        left, among = distances.cpu().numpy(), between.cpu().numpy()
        hurdle = (drawn[1] * weights).cpu().numpy()
        known = set(self._chosen)
        places: list[int] = []
        positions = rows.tolist()
        for place, position in enumerate(positions):
            if hurdle[place] < left[place] and position not in known:
                places.append(place)
                known.add(position)
                left = np.minimum(left, among[place])
                if len(places) == room:
                    break
        if places:
            self._chosen += [positions[p] for p in places]
            where = torch.tensor(places, device=self.space.device)
            self._centres = Taken.cat([self._centres, taken[where]])
        return len(places)

    def _look_up(self, at: Tensor) -> tuple[Tensor, Tensor, Taken]:
        """Positions, bounds and points of the rows whose share of the total holds ``at`` [m]."""
        mine = ((at >= self._lower) & (at < self._upper)).nonzero().squeeze(1)
        rows = torch.searchsorted(self._cumulated, at[mine] - self._lower, right=True)
        rows.clamp_(max=max(0, len(self.space) - 1))
        weights = self._bound[rows].double()
        if self.shards.group is None:
            return rows, weights, self.space.take(rows)
        factor = self.space.factors[0]
        sent = torch.zeros(len(at), 2 + factor.shape[1], dtype=torch.float64, device=at.device)
        sent[mine, 0], sent[mine, 1] = (rows + self.shards.start).double(), weights
        sent[mine, 2:] = factor[rows].double()
        self.shards.sum(sent)
        return sent[:, 0].long(), sent[:, 1], self.space.outside([sent[:, 2:]])

    def _take_in(self, positions: Sequence[int]) -> None:
        """Choose rows by their position in the whole pool."""
        points = [self.shards.rows(f, positions) for f in self.space.factors]
        taken = self.space.outside(points)
        self._centres = Taken.cat([self._centres, taken])
        self._chosen += list(positions)

    def _uniform(self) -> int:
        device = self.generator.device
        drawn = torch.randint(self.shards.total, (1,), generator=self.generator, device=device)
        return int(drawn.item())

    def _largest(self) -> int:
        """The row of the largest norm, ties by the generator (one process)."""
        device = self.generator.device
        seed = int(torch.randint(2**62, (1,), generator=self.generator, device=device).item())
        norms = self.space.norms
        tied = (norms >= norms.max() * (1 - 1e-6)).nonzero().squeeze(1)
        exact = self.space.take(tied).norms.float()
        tied = tied[exact == exact.max()]
        return int(tied[tie_keys(tied, seed).argmin()])

    def _refresh(self, exact: bool = False) -> None:
        """Bounds over all centres (exact distances if asked), and their running sum."""
        if exact:
            everything = torch.arange(len(self.space), device=self.space.device)
            width = sum(f.shape[1] for f in self.space.factors)
            for rows in everything.split(max(1, min(2**14, self.space.memory // (32 * width + 1)))):
                near = self.space.take(rows).nearest(self._centres, self.space.memory)
                self._bound[rows] = near.float().mul_(1 + 2.0**-22)
        elif self._applied < len(self._centres):
            fresh = self.space.upper(self._centres[self._applied :])
            torch.minimum(self._bound, fresh, out=self._bound)
        self._applied = len(self._centres)
        chosen = torch.tensor(self._chosen, dtype=torch.int64, device=self.space.device)
        chosen = chosen - self.shards.start
        self._bound[chosen[(chosen >= 0) & (chosen < len(self.space))]] = 0.0
        self._cumulated = self._bound.cumsum(0, dtype=torch.float64)
        mine = self._cumulated[-1:] if len(self.space) else self._cumulated.new_zeros(1)
        sums = self.shards.gather(mine).flatten().cumsum(0).tolist()
        before = [0.0, *sums]
        rank = self.shards.rank
        self._lower, self._upper, self._total = before[rank], before[rank + 1], sums[-1]

    def _fill(self, k: int) -> None:
        """Draw the rest uniformly from what is not chosen: only duplicates are left."""
        if len(self._chosen) == k:
            return
        device = self.generator.device
        order = torch.randperm(self.shards.total, generator=self.generator, device=device)
        known = torch.tensor(self._chosen, dtype=torch.int64, device=device)
        free = order[~torch.isin(order, known)]
        self._chosen += free[: k - len(self._chosen)].tolist()
