"""How much a further label says of the targets' labels: bounds that are cheap, and exact gains.

A *cell* is one candidate with one label, under one configuration (the labels of the items chosen
so far, with the members' probabilities given them). What an item adds is the sum over its cells of
weight x chance of the label x mean over targets of KL(q | p), the target's label with and without
that label. With x = chi-square(q | p), a divergence is at most log(1 + x), and it lies between
f(R) x and f(r) x with f(r) = (r log r - r + 1) / (r - 1)^2, decreasing from 1 at 0, and r, R the
least and largest q / p. The mean of x over targets is a quadratic form in the members'
probabilities of the label, S x S for each configuration: one matrix product bounds many cells.

The items are raced: the most promising are evaluated in full, every other one only in its cells
with the highest bounds, until the bounds left over say that it is not the best.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.scores.numerics import p_log_p

from .batch_bald import _Configurations, _Items

__all__ = ["Beliefs", "Targets", "race", "share"]

_CPU_BLOCK, _GPU_BLOCK = 2**17, 2**26  # elements looked at together; on a CPU they fit L2
_WIDE = 1024  # columns (targets x classes) of a block
_FEW = 8  # items evaluated in full to have a value to beat
_MANY = 64  # items that meet one value to beat
_STEPS = (0.5, 0.1, 0.01)  # of the value to beat, a cell on average: cells above are evaluated
_ROUNDING = 3e-7  # relative error of one term of a float32 sum, and some
_MOST = 1e30  # of a chi-square: its logarithm is finite
_NOTHING = 1e-12  # nats: cells below are left out


class Targets:
    """The targets' probabilities side by side: log-probabilities [T, S, C]."""

    def __init__(self, log_probs: Tensor, memory: int) -> None:
        probs = _Items(log_probs, memory).log_probs.float().exp()  # refuses what is not normalised
        self.count = len(probs)
        self.columns = probs.transpose(0, 1).flatten(1).contiguous()  # [S, T C]
        most = _CPU_BLOCK if probs.device.type == "cpu" else _GPU_BLOCK
        self.block = max(1, min(most, memory // 32))

    def under(self, state: _Configurations) -> Beliefs:
        """What the chosen items' labels say of the targets."""
        return Beliefs(self, state)


class Beliefs:
    """Bounds and gains of further items under the configurations of those chosen."""

    def __init__(self, targets: Targets, state: _Configurations) -> None:
        self.targets, self.block = targets, targets.block
        self.posterior, self.weight = state.posterior, state.weight
        members = self.posterior.shape[1]
        first, second = torch.triu_indices(members, members, device=self.posterior.device)
        twice = torch.where(first == second, 1 + members * _ROUNDING, 2)
        forms, expected = [], []
        for posterior in self.posterior:
            mean = (posterior @ targets.columns).clamp_min_(1e-30)
            off = (targets.columns - mean) * (posterior[:, None] / mean.sqrt())  # [S, T C]
            forms.append((off @ off.T)[first, second])
            expected.append(targets.columns @ mean.log())
        self._forms = (torch.stack(forms) * (twice / targets.count)).T.contiguous()  # [pairs, M]
        self._expected = torch.stack(expected) / targets.count  # [M, S]: of the log-probability

    def bounds(self, items: _Items, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What the gains of some rows are at most, and about: float64 [n] twice."""
        upper, about = [], []
        for some in rows.split(self._rows(items)):
            cells, estimates = self._cells(items.part(some)[0])
            upper.append(cells.flatten(1).sum(1, dtype=torch.float64))
            about.append(estimates.flatten(1).sum(1, dtype=torch.float64))
        return _above(torch.cat(upper)), torch.cat(about)

    def gains(self, items: _Items, rows: Tensor) -> Tensor:
        """Mean over configurations and targets of the information of two labels: float64 [n]."""
        return self.better(items, rows, -torch.inf)[0]

    def better(self, items: _Items, rows: Tensor, least: float) -> tuple[Tensor, Tensor]:
        """Gains of all of ``rows`` with at least ``least`` (of some others too), and which."""
        gains, kept = [], []
        average = max(0.0, least) / (items.classes * len(self.weight))
        steps = [step * average for step in _STEPS] if average > 0 else []
        for some in rows.split(self._rows(items)):
            probs = items.part(some)[0]
            cells = self._cells(probs)[0].flatten(1)  # [n, C M]
            total = cells.sum(1, dtype=torch.float64)
            live = torch.ones_like(total, dtype=torch.bool)
            above = torch.inf
            for step in (*steps, _NOTHING):
                look = (cells > step) & (cells <= above) & live[:, None]
                row, cell = look.nonzero(as_tuple=True)
                exact = self._exact(probs, row, cell)
                total.index_add_(0, row, exact - cells[row, cell])
                live &= _above(total) >= least
                above = step
            gains.append(total[live])
            kept.append(some[live])
        return torch.cat(gains), torch.cat(kept)

    def _rows(self, items: _Items) -> int:
        """How many items are looked at together."""
        return max(1, self.block // (items.classes * max(len(self.weight), len(self._forms))))

    def _cells(self, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Upper bounds and estimates of all cells: probabilities [n, C, S] -> [n, C, M] twice."""
        chance = (probs @ self.posterior.T).clamp_min_(1e-30)
        off = (probs - probs.mean(2, keepdim=True)).flatten(0, 1).T.contiguous()  # [S, n C]
        pairs = torch.cat([off[one] * off[one:] for one in range(len(off))])
        square = (pairs.T @ self._forms).view_as(chance).div_(chance).div_(chance).clamp_(0, _MOST)
        share_most = share((probs.amin(2, keepdim=True) / chance).clamp_max_(1))
        share_least = share((probs.amax(2, keepdim=True) / chance).clamp_min_(1))
        chance *= self.weight.float()
        bound = torch.minimum(share_most * square, square.log1p())
        about = share_least.mul_(square).mul_(bound).sqrt_().mul_(chance)
        return bound.mul_(chance), about

    def _exact(self, probs: Tensor, row: Tensor, cell: Tensor) -> Tensor:
        """Some cells of items [n, C, S], named by row and position in C x M: float64 [cells]."""
        label, state = cell // len(self.weight), cell % len(self.weight)
        result = torch.empty(len(row), dtype=torch.float64, device=row.device)
        columns = self.targets.columns
        high = max(1, self.block // max(len(columns), min(columns.shape[1], _WIDE)))
        for start in range(0, len(row), high):
            part = slice(start, start + high)
            given = probs[row[part], label[part]] * self.posterior[state[part]]
            chance = given.sum(1, keepdim=True).clamp_min_(1e-30)
            given /= chance
            total = -(given * self._expected[state[part]]).sum(1) * self.targets.count
            for some in columns.split(_WIDE, 1):
                total += p_log_p(given @ some).sum(1)
            scale = self.weight[state[part]] * chance[:, 0].double()
            result[part] = total.double() / self.targets.count * scale
        return result


def share(ratio: Tensor) -> Tensor:
    """(r log r - r + 1) / (r - 1)^2 of r >= 0, from 1 at 0 down to 1/2 at 1, then on to 0."""
    off = 1 - ratio
    exact = (torch.xlogy(ratio, ratio) + off) / off.square()
    return torch.where(off.abs() < 1e-2, 0.5 + off / 6 + off.square() / 12 + 1e-6, exact)


def _above(bound: Tensor) -> Tensor:
    """A bound with room for the rounding of its sums in float32."""
    return bound * (1 + 1e-4) + 1e-6


def race(items: _Items, beliefs: Beliefs, rows: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """Gains of all of ``rows`` that may have the largest, and which these are.

    ``slack`` covers rounding: every item within it of the largest gain is among the returned.
    Where no item adds as much as ``slack``, all are alike.
    """
    bound, about = beliefs.bounds(items, rows)
    if float(bound.max()) < slack:
        return torch.zeros_like(about), rows
    order = about.argsort(descending=True)
    rows, bound = rows[order], bound[order]
    gains, kept = [beliefs.gains(items, rows[:_FEW])], [rows[:_FEW]]
    best = float(gains[0].max())
    rest, bound = rows[_FEW:], bound[_FEW:]
    while len(rest):
        left = bound >= best - slack
        rest, bound = rest[left], bound[left]
        gain, some = beliefs.better(items, rest[:_MANY], best - slack)
        if len(gain):
            best = max(best, float(gain.max()))
        gains.append(gain)
        kept.append(some)
        rest, bound = rest[_MANY:], bound[_MANY:]
    return torch.cat(gains), torch.cat(kept)
