"""The lazy greedy search behind facility location, MaxHerding and ProbCover.

``sum over targets v of w(v) max over chosen or labelled a of s(v, a)`` is monotone and submodular:
the gain of an item only falls while the batch grows, so an old gain is an upper bound, and only
items whose bound is on top are looked at again (Minoux 1978). Looking again is cheap: what an item
lost since it was last looked at lies at the targets that came to be covered better in between, so
similarities to those alone are computed, and gains stay exact. Coverage as it was at each such
moment is remembered within the memory budget.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..selection import RESOLUTION, check_k, shuffled
from .distances import MEMORY, check_rows
from .points import Points

__all__ = ["SAMPLE", "Cover"]

SAMPLE = 50_000  # items that stand for a larger pool when coverage is measured
_WAVE, _WIDEST = 16, 2**9  # items looked at again together
_ROWS, _COLUMNS = 256, 2048  # of a block of similarities: 2 MiB, about a core's cache
_GPU_COLUMNS = 2**16
_FINE = 2.0**-12  # of the largest squared norm: below it float32 cannot tell lengths apart
_FEW, _ALIKE = 16, (0.7, 0.4)  # items that look at targets together: how many, how alike


class Cover:
    """The lazy greedy search; ``computed`` counts the similarities that it computed.

    Args:
        embedding: the pool [N, E].
        labelled: [L, E] or None.
        k: batch size, checked here.
        generator: breaks ties, and draws the sample of a large pool.
        sample: items on which coverage is measured in a larger pool.
        memory: bytes for blocks and remembered coverage.
        unit: compare rows scaled to unit length.
        weights: of the items as targets [N], >= 0; None counts all alike.
        length: distances of this size decide; where it is small beside the pool's spread they are
            computed in float64.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, k > N, or weights that are not
            [N], finite and >= 0.
    """

    similarity: Callable[[Tensor], Tensor]  # squared distances -> similarities, in place
    scale = 1.0  # the largest similarity
    linear: tuple[float, float] | None = None  # (a, b) where the similarity is a + b squared

    def __init__(
        self,
        embedding: Tensor,
        labelled: Tensor | None,
        k: int,
        generator: torch.Generator,
        sample: int = SAMPLE,
        memory: int = MEMORY,
        unit: bool = False,
        weights: Tensor | None = None,
        length: float | None = None,
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
            check_rows(points, name)
        self.device, self.memory, self.computed = embedding.device, memory, 0
        self.weights = _checked_weights(weights, len(embedding), self.device)
        self.priority = shuffled(len(embedding), generator, self.device)
        self.items, dtype = Points(embedding, memory // 4, unit), torch.float32
        if length is not None and _is_fine(length, self.items.norms):
            dtype = torch.float64
            self.items = Points(embedding, memory // 4, unit, self.items.origin, dtype)
        self.labelled = Points(labelled.to(self.device), 0, unit, self.items.origin, dtype)
        self.targets, self.whole = self.items, len(embedding) <= sample
        if not self.whole:
            drawn = shuffled(len(embedding), generator, self.device)[:sample].sort().values
            self.targets = Points(embedding[drawn], memory // 4, unit, self.items.origin, dtype)
            if self.weights is not None:
                self.weights = self.weights[drawn]

    def choose(self, k: int) -> Tensor:
        """Positions [K], best first."""
        n, device = len(self.items), self.device
        chosen = torch.empty(k, dtype=torch.int64, device=device)
        if k == 0:
            return chosen
        total = len(self.targets) if self.weights is None else float(self.weights.double().sum())
        unit = RESOLUTION * self.scale * (total or 1.0)

        def key(rows: Tensor | slice) -> Tensor:  # by rounded gain, then at random
            return (self._gain[rows] / unit).round().long() * n + (n - 1 - self.priority[rows])

        self._covered = self._coverage_of(self.labelled)
        self._past = _Past(k, self._covered, self.memory // 8)
        self._seen = torch.zeros(n, dtype=torch.int64, device=device)  # picks when last looked at
        self._gain = self._first_gains()
        keys, taken = key(slice(None)), torch.zeros(n, dtype=torch.bool, device=device)
        for step in range(k):
            stale = self._past.changed_since(self._seen).masked_fill_(taken, 0)  # [N] targets
            best = max(n - 1, int(keys.masked_fill(stale > 0, -1).max()))  # n - 1: without gain
            wave = _WAVE
            while True:  # old keys are upper bounds: stop when none is above the best exact one
                top = keys.masked_fill(stale == 0, -1).topk(min(wave, n))
                rows = top.indices[top.values > best]
                if not len(rows):
                    break
                if wave >= 8 * _WAVE and self._pass_is_cheaper(stale[keys > best]):
                    self._gain, self._seen = self._gains(), torch.full_like(self._seen, step)
                    keys = key(slice(None)).masked_fill_(taken, -1)
                    break
                self._look_again(rows)
                self._seen[rows] = step
                keys[rows] = key(rows)
                stale[rows] = 0
                best = max(best, int(keys[rows].max()))
                wave = min(2 * wave, _WIDEST)
            row = keys.argmax()
            if int(keys[row]) < n:  # nobody gains
                self._farthest(chosen, step)
                break
            chosen[step], keys[row], taken[row] = row, -1, True
            self._cover(row, step)
        return chosen

    def _cover(self, row: Tensor, step: int) -> None:
        """Count one item as chosen."""
        columns = self._steps()[1]
        own = torch.empty_like(self._covered)
        for left in range(0, len(own), columns):
            span = slice(left, left + columns)
            own[span] = self._similar(self.items, row[None], span)[0]
        self._past.keep(step, self._covered, own > self._covered, self._seen)
        torch.maximum(self._covered, own, out=self._covered)

    def _pass_is_cheaper(self, stale: Tensor) -> bool:
        """Whether to look at all pairs once, where each serves both its items."""
        return self.whole and 2 * int(stale.sum()) > len(self.items) ** 2

    def _look_again(self, rows: Tensor) -> None:
        """Mend the gains of some items [n]: subtract what they lost since they were looked at."""
        slots, stale = (
            self._past.slots(self._seen[rows]),
            self._past.changed_since(self._seen[rows]),
        )
        stale = stale.masked_fill(slots < 0, len(self.targets) + 1)
        order = stale.argsort(descending=True)
        rows, slots, sizes = rows[order], slots[order], stale[order].tolist()
        first = 0
        while first < len(rows):  # items that look at about the same targets go together
            stop = first + 1
            while stop < len(rows) and sizes[stop] >= _ALIKE[stop - first < _FEW] * sizes[first]:
                stop += 1
            if sizes[first] > len(self.targets):
                while sizes[stop - 1] != sizes[first]:
                    stop -= 1
                self._gain[rows[first:stop]] = 0.0
            columns = self._past.changed_after(self._seen[rows[first]], sizes[first])
            high = max(1, _ROWS * _COLUMNS // max(1, min(len(columns), self._steps()[1])))
            for some in range(first, stop, high):
                block = slice(some, min(some + high, stop))
                self._mend(rows[block], slots[block], columns)
            first = stop

    def _mend(self, rows: Tensor, slots: Tensor, columns: Tensor) -> None:
        """Look at the pairs of items [n] and targets [m]; slot -1 starts from nothing."""
        forgotten, one = bool(slots[0] < 0), bool((slots == slots[0]).all())
        for part in columns.split(self._steps()[1]):
            similar, covered = self._similar(self.items, rows, part), self._covered[part]
            if forgotten:
                similar.sub_(covered)
            else:
                before = self._past.coverage[(slots[:1] if one else slots)[:, None], part]
                torch.minimum(similar, covered, out=similar).sub_(before)
            change = self._weighted(similar.clamp_min_(0), part)
            self._gain[rows] += change if forgotten else -change

    def _weighted(self, gains: Tensor, columns: Tensor | slice) -> Tensor:
        """Gains [n, m] at some targets -> their weighted sum [n]."""
        return gains.sum(1) if self.weights is None else gains @ self.weights[columns]

    def _similar(self, points: Points, rows: Tensor | slice, columns: Tensor | slice) -> Tensor:
        """Similarities [n, m] of some points to some targets (ascending)."""
        squared = torch.addmm(
            self.targets.norms[columns], points[rows], self.targets[columns].T, alpha=-2
        )
        squared.add_(points.norms[rows, None]).clamp_min_(0)
        if points is self.targets:  # an item is at no distance from itself
            if isinstance(rows, slice):
                rows = torch.arange(*rows.indices(len(points)), device=self.device)
            if isinstance(columns, slice):
                start, stop, _ = columns.indices(len(points))
                here = ((rows >= start) & (rows < stop)).nonzero().squeeze(1)
                squared[here, rows[here] - start] = 0
            else:
                place = torch.searchsorted(columns, rows).clamp_max_(len(columns) - 1)
                here = (columns[place] == rows).nonzero().squeeze(1)
                squared[here, place[here]] = 0
        self.computed += squared.numel()
        return self.similarity(squared.float())

    def _steps(self) -> tuple[int, int]:
        """Rows and columns of a block within a quarter of the memory."""
        wide = _COLUMNS if self.device.type == "cpu" else _GPU_COLUMNS
        columns = max(1, min(wide, self.memory // 64))
        return max(1, min(_ROWS, self.memory // (32 * columns))), columns

    def _coverage_of(self, points: Points) -> Tensor:
        """Largest similarity [M] of each target to any of the points, 0 without."""
        covered = torch.zeros(len(self.targets), device=self.device)
        rows, columns = self._steps()
        for start in range(0, len(points), rows):
            for left in range(0, len(self.targets), columns):
                span = slice(left, left + columns)
                best = self._similar(points, slice(start, start + rows), span).amax(0)
                torch.maximum(covered[span], best, out=covered[span])
        return covered

    def _first_gains(self) -> Tensor:
        """The gain of every item [N] before the first pick; by sums alone where that is exact."""
        if self.linear is None or len(self.labelled):
            return self._gains()
        constant, slope = self.linear
        sums = torch.zeros(self.targets[:1].shape[1], dtype=torch.float64, device=self.device)
        mass = square = 0.0
        for part in self.targets.parts:
            points, norms = self.targets[part].double(), self.targets.norms[part].double()
            own = torch.ones_like(norms) if self.weights is None else self.weights[part].double()
            sums += own @ points
            mass += float(own.sum())
            square += float(own @ norms)
        gains = torch.empty(len(self.items), dtype=torch.float64, device=self.device)
        for part in self.items.parts:
            squared = self.items.norms[part].double() * mass + square
            gains[part] = constant * mass + slope * (squared - 2 * self.items[part].double() @ sums)
        return gains

    def _gains(self) -> Tensor:
        """The gain of every item [N] in float64: one pass over the pairs, half where symmetric."""
        gains = torch.zeros(len(self.items), dtype=torch.float64, device=self.device)
        rows, columns = self._steps()
        for start in range(0, len(self.items), rows):
            stop = min(start + rows, len(self.items))
            for left in range(start if self.whole else 0, len(self.targets), columns):
                span = slice(left, min(left + columns, len(self.targets)))
                similar = self._similar(self.items, slice(start, stop), span)
                gain = (similar - self._covered[span]).clamp_min_(0)
                gains[start:stop] += self._weighted(gain, span)
                right = max(stop, left)  # each pair beyond this block serves both its items
                if self.whole and right < span.stop:
                    mirrored = similar[:, right - left :] - self._covered[start:stop, None]
                    mirrored = self._weighted(mirrored.clamp_min_(0).T, slice(start, stop))
                    gains[right : span.stop] += mirrored
        return gains

    def _farthest(self, chosen: Tensor, done: int) -> None:
        """Fill ``chosen`` from position ``done``: each farthest from all labelled and chosen."""
        n, norms = len(self.items), self.items.norms
        near = norms.new_full((n,), torch.inf)
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


class _Past:
    """Coverage as it was when items were looked at, and which targets changed since.

    Time is the number of picks made. Coverage of a time at which no item was looked at last, or of
    so few that the room went to others, is forgotten.
    """

    def __init__(self, k: int, covered: Tensor, room: int) -> None:
        targets, device = len(covered), covered.device
        most = max(1, min(k, room // (4 * targets)))
        self.coverage = torch.empty(most, targets, device=device)  # [slots, M]
        self._time = torch.full((most,), -1, device=device)  # of each slot
        self._slot = torch.full((k + 1,), -1, device=device)  # of each time
        self._stamp = torch.zeros(targets, dtype=torch.int64, device=device)  # of the last change
        self._since = torch.zeros(k + 1, dtype=torch.int64, device=device)  # targets, by time

    def keep(self, time: int, covered: Tensor, change: Tensor, seen: Tensor) -> None:
        """Remember coverage [M] at a time, before the targets in ``change`` [M] are better off."""
        users = seen.bincount(minlength=len(self._slot))
        if bool(users[time]):
            needed = torch.where(self._time < 0, -1, users[self._time])
            slot = needed.argmin()
            if self._time[slot] >= 0:
                self._slot[self._time[slot]] = -1
            self.coverage[slot], self._time[slot], self._slot[time] = covered, time, slot
        self._stamp[change] = time + 1
        counts = self._stamp.bincount(minlength=len(self._since) + 1)
        self._since = len(covered) - counts.cumsum(0)[: len(self._since)]

    def slots(self, seen: Tensor) -> Tensor:
        """Where coverage at some times [n] is: rows of ``coverage`` [n], -1 where forgotten."""
        return self._slot[seen]

    def changed_since(self, seen: Tensor) -> Tensor:
        """Number of targets [n] that changed since some times [n]."""
        return self._since[seen]

    def changed_after(self, time: Tensor, count: int) -> Tensor:
        """Those targets, ascending; all of them where ``count`` is more than there are."""
        if count > len(self._stamp):
            return torch.arange(len(self._stamp), device=self._stamp.device)
        return (self._stamp > time).nonzero().squeeze(1)


def _is_fine(length: float, norms: Tensor) -> bool:
    return len(norms) > 0 and length * length < _FINE * float(norms.max())


def _checked_weights(weights: Tensor | None, n: int, device: torch.device) -> Tensor | None:
    if weights is None:
        return None
    if weights.shape != (n,) or not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError(
            f"weights are one finite number >= 0 an item, [{n}], got {list(weights.shape)}"
            + (f" with minimum {float(weights.min()):.4g}" if weights.shape == (n,) and n else "")
        )
    return weights.to(device, torch.float32)
