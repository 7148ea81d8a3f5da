"""The rows of a pool that may be farthest from a growing set of centres, found lazily.

A distance to the nearest centre only falls as centres come in, so one from the past is an upper
bound. The frontier holds the rows with the largest bounds, in float64 and up to date; its best row
is the farthest of all as soon as it exceeds the largest bound on the rest. Only when it does not
are further rows brought up to date.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .distances import Space, Taken, tie_keys

__all__ = ["Frontier"]

_BLOCK_BYTES = 2**21  # of the frontier's rows, all read for each pick: about an L2 cache
_FEWEST, _MOST = 1024, 4096  # its rows
_SHRINK = 32  # picks between two looks at how much of the frontier may still win
_FEW = 256  # centres below which grouping them does not pay
_PROBE = 1024  # rows that tell whether it does


class Frontier:
    """Distances of all rows of a space to the nearest centre, kept as far as they matter.

    Args:
        space: the rows, one factor.
        centres: what is covered already (may be empty).
        k: about how many picks will be asked for (speed only).
        seed: of the keys that settle ties.
        start: position of the first row in the whole pool (for the keys).
    """

    def __init__(self, space: Space, centres: Taken, k: int, seed: int, start: int = 0) -> None:
        self.space = space
        n, device, width = len(space), space.device, space.factors[0].shape[1]
        self._seed, self._start = seed, start
        fits = min(_BLOCK_BYTES // (8 * (width + 2)), 3 * k // 2, _MOST)
        fits = min(max(_FEWEST, fits), space.memory // (64 * (width + 2)))
        self._size = max(16, min(n, fits))
        self._bound = torch.full((n,), torch.inf, device=device)  # -inf: chosen
        self._applied = torch.zeros(n, dtype=torch.int32, device=device)  # centres in the bound
        self._exact = torch.zeros(n, dtype=torch.bool, device=device)  # the bound is the distance
        self._centres = centres
        self._waiting: list[Tensor] = []  # centres [E + 2] that only the block has seen
        self._block = torch.empty(0, width + 2, dtype=torch.float64, device=device)  # x, |x|^2, 1
        self._rows = torch.empty(0, dtype=torch.int64, device=device)
        self._keys, self._near = self._rows, self._bound[:0]
        self._tiny, self._tiniest = self._near, 0.0
        self._rest, self._rest_key = torch.inf, 0  # the largest bound outside, its best tie key
        self._at = -1  # the winner's place in the block
        self._picks = 0
        if len(centres):
            self._begin(k)

    def best(self) -> tuple[float, int, int]:
        """The farthest row left: its squared distance, tie key and number; row -1 if none."""
        while not self._proven():
            self._advance()
        if self._at < 0:
            return -math.inf, 0, -1
        return float(self._near[self._at]), int(self._keys[self._at]), int(self._rows[self._at])

    def choose(self) -> None:
        """Make the row that :meth:`best` named a centre, and never name it again."""
        self._near[self._at] = -torch.inf
        self._cover(self._block[self._at])

    def add(self, point: Tensor) -> None:
        """Count a point [E] from elsewhere (float64, relative to the origin) as a centre."""
        self._cover(torch.cat([point, point.square().sum()[None], point.new_ones(1)]))

    def remove(self, row: int) -> None:
        """Never name this row, which the block does not hold yet."""
        self._bound[row] = -torch.inf

    def _cover(self, centre: Tensor) -> None:
        width = len(centre) - 2
        asked = torch.empty_like(centre)
        torch.mul(centre[:width], -2, out=asked[:width])
        asked[width:] = centre[width:].flip(0)
        self._waiting.append(asked)
        if len(self._rows):
            fresh = torch.mv(self._block, asked).float()
            torch.minimum(self._near, fresh, out=self._near)
        self._picks += 1
        if self._picks % _SHRINK == 0:
            self._shrink()

    def _proven(self) -> bool:
        """Whether the block's best row is the farthest of all; sets the winner's place."""
        self._at = -1
        if len(self._rows) == 0:
            return self._rest == -math.inf
        best, at = torch.max(self._near, 0)  # the first among equals has the best key
        value = float(best)
        if -math.inf < value < self._tiniest:  # rounding error, of either sign, is no distance
            lost = (self._near < self._tiny) & (self._near > -torch.inf) & (self._near != 0)
            if bool(lost.any()):
                self._near.masked_fill_(lost, 0.0)
                return self._proven()
        if value == -math.inf:
            return self._rest == -math.inf
        if (value, -int(self._keys[at])) > (self._rest, -self._rest_key):
            self._at = int(at)
        return self._at >= 0

    def _advance(self) -> None:
        """Bring more rows up to date until the block's best row is proven the farthest."""
        self._unload()
        self._arrive()
        wide, tried = 4 * self._size, False
        while True:
            rows, self._rest, self._rest_key = self._top(self._size)
            stale = int(self._stale(rows).sum())
            if tried and 2 * stale > len(rows):  # many stand before: cheap bounds, widely
                front, _, _ = self._top(min(wide, len(self.space)))
                self._relax(front[self._stale(front)])
                wide *= 4
                continue
            self._settle(rows)
            self._load(rows)
            if self._proven() or len(rows) == 0:
                return
            self._unload()
            tried = True

    def _top(self, size: int) -> tuple[Tensor, float, int]:
        """About ``size`` rows with the largest bounds; the largest bound and key of the rest."""
        if size >= len(self._bound):
            return (self._bound > -torch.inf).nonzero().squeeze(1), -math.inf, 0
        threshold = self._bound.topk(size + 1, sorted=False).values.min()
        rest = float(threshold)
        above = (self._bound > threshold).nonzero().squeeze(1)
        if rest == -math.inf:
            return above, rest, 0
        tied = (self._bound == threshold).nonzero().squeeze(1)
        keys, order = tie_keys(tied + self._start, self._seed).sort()
        room = 0 if 2 * len(above) > size else size - len(above)
        return torch.cat([above, tied[order[:room]]]), rest, int(keys[room])

    def _stale(self, rows: Tensor) -> Tensor:
        """Which of the rows miss some centres: a mask (a distance of 0 cannot fall)."""
        return (self._applied[rows] < len(self._centres)) & (self._bound[rows] > 0)

    def _relax(self, rows: Tensor) -> None:
        """Bounds of rows over the centres that they miss, by float32 products."""
        applied = self._applied[rows]
        for since in applied.unique().tolist():
            some = rows[applied == since]
            fresh = self.space.upper(self._centres[since:], some)
            self._bound[some] = torch.minimum(self._bound[some], fresh)
        self._applied[rows] = len(self._centres)
        self._exact[rows] = False

    def _settle(self, rows: Tensor) -> None:
        """Exact distances of rows."""
        known = self._exact[rows]
        again = rows[known & self._stale(rows)]
        if len(again):
            since = int(self._applied[again].min())
            fresh = self.space.take(again).nearest(self._centres[since:], self.space.memory)
            self._bound[again] = torch.minimum(self._bound[again], fresh.float())
        new = rows[~known & (self._bound[rows] > 0)]
        if len(new):
            fresh = self.space.take(new).nearest(self._centres, self.space.memory)
            self._bound[new] = fresh.float()
        self._exact[rows] = True
        self._applied[rows] = len(self._centres)

    def _load(self, rows: Tensor) -> None:
        keys, order = tie_keys(rows + self._start, self._seed).sort()
        self._keys, self._rows = keys, rows[order]
        taken = self.space.take(self._rows)
        ones = torch.ones_like(taken.norms)[:, None]
        self._block = torch.cat([taken.factors[0], taken.norms[:, None], ones], 1)
        self._near = self._bound[self._rows]
        self._set_tiny()

    def _set_tiny(self) -> None:
        relative = 2 * Taken([self._block[:, :-2]], self._block[:, -2]).tiny()
        self._tiny = self._block[:, -2].mul(relative).float()
        self._tiniest = float(self._tiny.max()) if len(self._tiny) else 0.0

    def _unload(self) -> None:
        """Write the block's distances back."""
        self._bound[self._rows] = self._near
        self._exact[self._rows] = True
        self._applied[self._rows] = len(self._centres) + len(self._waiting)
        self._rows = self._rows[:0]

    def _shrink(self) -> None:
        """Put rows back that cannot win before the next look at the rest."""
        alive = self._near >= self._rest
        if not 4 * int(alive.sum()) < 3 * len(alive):
            return
        dead = self._rows[~alive]
        self._bound[dead] = self._near[~alive]
        self._exact[dead] = True
        self._applied[dead] = len(self._centres) + len(self._waiting)
        keep = alive.nonzero().squeeze(1)
        self._rows, self._keys = self._rows[keep], self._keys[keep]
        self._block, self._near = self._block[keep], self._near[keep]
        self._tiny = self._tiny[keep]

    def _arrive(self) -> None:
        """Let the centres that only the block has seen join the others."""
        if self._waiting:
            asked = torch.stack(self._waiting)
            fresh = Taken([asked[:, :-2] / -2], asked[:, -1])
            self._centres = Taken.cat([self._centres, fresh])
            self._waiting = []

    def _begin(self, k: int) -> None:
        """First bounds: over all centres, or over each row's group of centres where that pays."""
        count = len(self._centres)
        groups = _Groups(self._centres) if count >= _FEW and len(self.space) > _PROBE else None
        if groups is not None and groups.pays(self.space, k):
            groups.bound(self.space, self._bound)
            return
        torch.minimum(self._bound, self.space.upper(self._centres), out=self._bound)
        self._applied.fill_(count)


class _Groups:
    """Centres grouped about some of them, so that most rows meet one group only.

    The distance to the nearest centre of any group is an upper bound; on clustered data it is
    nearly always small enough that the row never matters again.
    """

    def __init__(self, centres: Taken) -> None:
        count = len(centres)
        heads = torch.arange(0, count, max(1, math.isqrt(count)), device=centres.norms.device)
        self.heads = centres[heads]
        owner = centres.distances(self.heads).argmin(1)
        self.members = [(owner == g).nonzero().squeeze(1) for g in range(len(heads))]
        self.centres = centres

    def pays(self, space: Space, k: int) -> bool:
        """Whether few rows' group bounds exceed the k-th largest distance, judged by a sample."""
        step = len(space) // _PROBE
        rows = torch.arange(0, step * _PROBE, step, device=space.device)
        bound = torch.full((_PROBE,), torch.inf, device=space.device)
        self.bound(space, bound, rows)
        full = space.upper(self.centres, rows)
        place = min(_PROBE, max(1, round(_PROBE * k / len(space))))
        reach = full.topk(place).values.min()
        return float((bound > reach).float().mean()) < 0.4

    def bound(self, space: Space, best: Tensor, rows: Tensor | None = None) -> None:
        """Lower ``best`` [m] of rows [m] to the bounds over each row's own group."""
        owner = space.closest(self.heads, rows)
        order = owner.argsort(stable=True)
        counts = owner.bincount(minlength=len(self.members)).tolist()
        for which, members in zip(order.split(counts), self.members, strict=True):
            if len(which):
                some = which if rows is None else rows[which]
                best[which] = space.upper(self.centres[members], some)
