"""BatchBALD: the batch whose labels, taken together, say most about the model.

The state of the greedy search is a set of *configurations*, labels of the items chosen so far:
weight [M] (their probability) and posterior [M, S] (the members' probability given those labels).
The gain of an item is the mean over configurations of its mutual information with the member,
``H(y | labels) - H(y | labels, member)``: the increment of the joint mutual information, without
the joint entropy of the whole batch ever being formed, and never negative.

Three things make it fast and keep the picks those of a full search:

- A gain only falls as the batch grows (labels are independent given the member), so while all
  configurations are there an old gain is a bound: items with a bound below the best are passed by.
  (An estimate from sampled configurations may rise: there, all items are bounded anew.)
- Entropy is concave, so merging configurations can only raise a gain: a few groups of similar
  configurations (same most likely member, then split along the axis of most variance) bound all
  items at a fraction of the cost.
- What survives is raced: configurations that still hold much information first, bounded on the
  rest by the groups and by the entropy of the members there, until the bound falls below the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..selection import RESOLUTION, check_k, shuffled

__all__ = ["batch_bald", "informed_batch_bald", "joint_entropy"]

MEMORY = 2**28  # bytes
_CPU_BLOCK, _GPU_BLOCK = 2**16, 2**26  # elements looked at together; on a CPU two blocks fit L2
_FEW = 8  # items evaluated in full to have a value to beat
_LEVELS = 2  # halvings of the groups of configurations with one most likely member
_HEADS = (16, 4)  # the race stops at the first M/16 and M/4 configurations
_TINY = 1e-20  # least probability: below float32's resolution, and its logarithm is finite
_NEGLIGIBLE = 1e-9  # total weight of configurations that are dropped


def batch_bald(
    log_probs: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    samples: int = 10_000,
    pending: Tensor | None = None,
    memory: int = MEMORY,
    resolution: float = RESOLUTION,
) -> Tensor:
    """Greedy joint mutual information: log_probs [N, S, C] -> positions [K], first pick first.

    The joint distribution of the chosen labels is exact while its configurations (C^m, less those
    of negligible weight) fit in ``samples``; then ``samples`` of them stand for all, thinned anew
    after each pick by the optimal resampling of Fearnhead and Clifford: heavy configurations stay
    as they are, the others are drawn systematically without repetition. That keeps the estimate
    of every gain unbiased. Either way the picks are those of a full search over the same
    configurations; while all is exact, with at least 1 - 1/e of the best batch's information.

    Items are never chosen twice. Gains that agree to ``resolution`` (nats) are ties, broken by
    ``generator``. The first picks of a larger batch are those of a smaller one.

    Source: Kirsch, van Amersfoort and Gal, BatchBALD (2019); Fearnhead and Clifford (2003)
    for the thinning; Minoux (1978) for the stale bounds.

    Args:
        log_probs: log-probabilities of each item under each member; any float type, -inf allowed.
        k: batch size.
        generator: breaks ties, and draws once for each thinning.
        samples: label configurations kept, at most.
        pending: rows [B] of items that are being labelled: they count as chosen already.
        memory: bytes that may be used beside the input.
        resolution: gains are rounded to multiples of this before ties are broken.

    Raises:
        ValueError: not [N, S, C], rows that are no log-probabilities (NaN, logits), or k > N.

    >>> noisy, sure = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    >>> batch_bald(torch.tensor([noisy, sure]).log(), 1, torch.Generator())
    tensor([1])
    """
    rows, _ = _searched(log_probs, k, generator, samples, pending, memory, resolution)
    return rows


def informed_batch_bald(
    log_probs: Tensor, k: int, generator: torch.Generator, *, samples: int = 10_000
) -> tuple[Tensor, float]:
    """The batch of :func:`batch_bald`, and what its labels say about the member, in nats.

    log_probs [N, S, C] -> positions [K], their joint mutual information in [0, log S]. Near log S
    the members are told apart, and further picks are drawn from what is left of the noise. Exact
    where the search is, else an unbiased estimate.

    >>> _, told = informed_batch_bald(torch.eye(2)[None].log(), 1, torch.Generator())
    >>> round(told, 4)
    0.6931
    """
    rows, state = _searched(log_probs, k, generator, samples, None, MEMORY, RESOLUTION)
    return rows, 0.0 if state is None else state.told_with(log_probs[rows[-1:]], samples, generator)


def _searched(
    log_probs: Tensor,
    k: int,
    generator: torch.Generator,
    samples: int,
    pending: Tensor | None,
    memory: int,
    resolution: float,
) -> tuple[Tensor, _Configurations | None]:
    """The picks, and the configurations of all but the last one; None without picks."""
    check_k(log_probs, k, axes=3)
    if samples < 1:
        raise ValueError(f"batch_bald needs samples >= 1, got {samples}; 10_000 is customary")
    device = log_probs.device
    given = torch.empty(0, dtype=torch.int64) if pending is None else pending.cpu()
    if k + len(given) > len(log_probs):
        raise ValueError(
            f"cannot acquire {k} of {len(log_probs)} candidates of which {len(given)} are pending; "
            "lower query_size or end the run"
        )
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=device), None
    items = _Items(log_probs, memory)
    members = items.members
    state = _Configurations.none(members, device)
    priority = shuffled(len(log_probs), generator, device)
    bound = torch.full((len(log_probs),), torch.inf, dtype=torch.float64, device=device)
    chosen: list[int] = []
    for step in range(len(given) + k):
        if step < len(given):
            row = int(given[step])
        else:
            gain, rows = _race(items, state, bound, 2 * resolution)
            rounded = (gain / resolution).round()
            best = rows[rounded == rounded.max()]
            row = int(best[priority[best].argmin()])
            chosen.append(row)
        bound[row] = -torch.inf
        if len(chosen) < k:
            state = state.extended(items.probs(row), samples, generator)
    return torch.tensor(chosen, dtype=torch.int64, device=device), state


def joint_entropy(
    log_probs: Tensor, generator: torch.Generator, *, samples: int = 10_000
) -> Tensor:
    """Entropy of the labels of a batch together: log_probs [B, S, C] -> scalar (float64), nats.

    By the chain rule over the items; exact while the label configurations fit in ``samples``,
    then an unbiased estimate (see :func:`batch_bald`).

    Source: Kirsch, van Amersfoort and Gal, BatchBALD (2019).

    Raises:
        ValueError: not [B, S, C], or rows that are no log-probabilities.

    >>> pair = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).log().expand(2, 2, 2)  # the same label
    >>> round(float(joint_entropy(pair, torch.Generator())), 4)
    0.6931
    """
    check_k(log_probs, 0, axes=3)
    items = _Items(log_probs, MEMORY)
    total = torch.zeros((), dtype=torch.float64, device=log_probs.device)
    state = _Configurations.none(items.members, log_probs.device)
    for row in range(len(log_probs)):
        here = torch.tensor([row], device=log_probs.device)
        within = items.part(here)[1].double() @ (state.weight @ state.posterior.double())
        total += (state.information(items, here) + within).sum()
        state = state.extended(items.probs(row), samples, generator)
    return total


class _Items:
    """Probabilities of items in the layout of the matrix product, kept where they fit."""

    def __init__(self, log_probs: Tensor, memory: int) -> None:
        self.log_probs = log_probs
        self.members, self.classes = log_probs.shape[1:]
        each = 4 * self.members * (self.classes + 1)  # bytes of an item
        most = _CPU_BLOCK if log_probs.device.type == "cpu" else _GPU_BLOCK
        self.block = max(1, min(most, memory // 32))  # elements; two float32 blocks and copies
        self.rows = max(1, self.block // max(1, self.members * self.classes))
        self._probs = self._within = None
        keep = each * len(log_probs) <= memory // 2
        bad: list[int] = []
        probs, within = [], []
        for start in range(0, len(log_probs), self.rows):
            part = log_probs[start : start + self.rows]
            total = part.float().exp().sum(-1)
            wrong = ~((total - 1).abs() < 1e-2).all(1)
            bad += (wrong.nonzero().squeeze(1) + start).tolist()
            if keep and not bad:
                made = self._made(part)
                probs.append(made[0])
                within.append(made[1])
        if bad:
            raise ValueError(
                f"log_probs must be log-probabilities [N, S, C] that sum to 1 over C, but "
                f"{len(bad)} of {len(log_probs)} rows are not (NaN, infinite or not normalised): "
                f"{bad[:8]}; give log_softmax(logits, -1), and look for a diverged model"
            )
        if keep and probs:
            self._probs, self._within = torch.cat(probs), torch.cat(within)

    @staticmethod
    def _made(log_probs: Tensor) -> tuple[Tensor, Tensor]:
        probs = log_probs.float().transpose(1, 2).exp().clamp_min_(_TINY).contiguous()
        return probs, -(probs.log().mul_(probs)).sum(1)

    def part(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities [n, C, S] and the members' own entropies [n, S] of some items."""
        if self._probs is None or self._within is None:
            return self._made(self.log_probs[rows])
        return self._probs[rows], self._within[rows]

    def probs(self, row: int) -> Tensor:
        """Probabilities [S, C] of one item, float64, summing to one."""
        probs = self.log_probs[row].double().exp()
        return probs / probs.sum(-1, keepdim=True)


@dataclass(frozen=True)
class _Configurations:
    """Labels of the chosen items that are possible together."""

    weight: Tensor  # [M] float64, sums to 1 (to less for some of the configurations)
    posterior: Tensor  # [M, S] float32, rows sum to 1
    exact: bool  # all configurations of any weight are there

    @classmethod
    def none(cls, members: int, device: torch.device) -> _Configurations:
        """No item chosen: one configuration, the members alike."""
        weight = torch.ones(1, dtype=torch.float64, device=device)
        return cls(weight, torch.full((1, members), 1 / members, device=device), True)

    def __len__(self) -> int:
        return len(self.weight)

    def extended(self, probs: Tensor, samples: int, generator: torch.Generator) -> _Configurations:
        """The configurations with a further item's label, probs [S, C]; at most ``samples``."""
        weight = ((self.posterior.double() @ probs) * self.weight[:, None]).flatten()
        live = (weight > _NEGLIGIBLE / len(weight)).nonzero().squeeze(1)
        weight, exact = weight[live], self.exact
        if len(live) > samples:
            kept, weight = _thinned(weight, samples, generator)
            live, exact = live[kept], False
        classes = probs.shape[1]
        before, label = live // classes, live % classes
        posterior = self.posterior[before] * probs.float().T[label]
        posterior /= posterior.sum(1, keepdim=True)
        return _Configurations(weight / weight.sum(), posterior, exact)

    def some(self, rows: Tensor) -> _Configurations:
        """Some of the configurations, with the weights they have."""
        return _Configurations(self.weight[rows], self.posterior[rows], self.exact)

    def uncertainty(self) -> Tensor:
        """Weight times the entropy of the member [M]: no item's share can be more."""
        posterior = self.posterior.double()
        logs = posterior.clamp_min(torch.finfo(torch.float64).tiny).log_()
        return -(posterior * logs).sum(1) * self.weight

    def told(self) -> float:
        """What the labels say about the member, in nats: 0 to log S."""
        members = self.posterior.shape[1]
        return min(max(math.log(members) - float(self.uncertainty().sum()), 0.0), math.log(members))

    def told_with(self, log_probs: Tensor, samples: int, generator: torch.Generator) -> float:
        """The same with one more item among them: log_probs [1, S, C]."""
        return self.extended(_Items(log_probs, MEMORY).probs(0), samples, generator).told()

    def grouped(self) -> _Configurations:
        """Similar configurations merged, at most ``S 2^levels``: gains rise or stay."""
        members = self.posterior.shape[1]
        group, groups = self.posterior.argmax(1), members
        feature = self.posterior.double().sqrt_()
        for _ in range(_LEVELS):
            total = feature.new_zeros(groups).index_add_(0, group, self.weight).clamp_min_(1e-300)
            sums = feature.new_zeros(groups, members)
            mean = sums.index_add(0, group, feature * self.weight[:, None]) / total[:, None]
            off = feature - mean[group]
            spread = sums.index_add(0, group, off.square() * self.weight[:, None])
            side = off.gather(1, spread.argmax(1)[group, None]).squeeze(1) > 0
            group, groups = 2 * group + side, 2 * groups
        joint = feature.new_zeros(groups, members)
        joint.index_add_(0, group, self.posterior.double() * self.weight[:, None])
        weight = joint.sum(1)
        live = weight > 0
        posterior = (joint[live] / weight[live, None]).float()
        return _Configurations(weight[live], posterior, self.exact)

    def information(self, items: _Items, rows: Tensor) -> Tensor:
        """Sum over configurations of weight x mutual information of label and member: [n]."""
        if not len(self):
            return torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        scale = len(self) / self.weight.sum()  # the weights around 1: full precision in float32
        scaled = self.weight * scale
        joint = (self.posterior * scaled.float()[:, None]).T.contiguous()  # [S, M]
        shift = (scaled * scaled.log()).sum()
        members = self.weight @ self.posterior.double()
        wide = max(1, min(len(self), 512, items.block // items.classes))
        many = max(1, min(items.block // (items.classes * wide), items.rows))
        gains = []
        for some in rows.split(many):
            probs, within = items.part(some)
            flat = probs.flatten(0, 1)
            total = torch.zeros(len(some), dtype=torch.float64, device=rows.device)
            for columns in joint.split(wide, 1):
                chance = flat @ columns  # [n * C, m]
                total += chance.log().mul_(chance).view(len(some), -1).sum(1)
            gains.append((shift - total) / scale - within.double() @ members)
        return torch.cat(gains)


def _race(
    items: _Items, state: _Configurations, bound: Tensor, slack: float
) -> tuple[Tensor, Tensor]:
    """Gains of all items that may have the largest, and their rows; sharpens ``bound`` [N].

    ``slack`` covers rounding: every item within it of the largest gain is among the returned.
    """
    if not state.exact:  # no proof from other configurations
        bound = bound.masked_fill(bound > -torch.inf, torch.inf)
    order = bound.argsort(descending=True)
    rows = order[: int((bound > -torch.inf).sum())]
    gains, done, best = [], [], -torch.inf

    def finish(rows: Tensor, gain: Tensor) -> float:
        bound[rows] = torch.minimum(bound[rows], gain)
        gains.append(gain)
        done.append(rows)
        return max(best, float(gain.max()))

    if bool(bound[rows[0]] < torch.inf):  # there are bounds: a few items give a value to beat
        best = finish(rows[:_FEW], state.information(items, rows[:_FEW]))
        rows = rows[_FEW:]
        rows = rows[bound[rows] >= best - slack]
    heads = [len(state) // part for part in _HEADS]
    groups = state.grouped() if len(state) > 4 * items.members << _LEVELS else None
    if groups is None or len(rows) <= _FEW:
        if len(rows):
            best = finish(rows, state.information(items, rows))
        return torch.cat(gains), torch.cat(done)
    upper = groups.information(items, rows)
    bound[rows] = torch.minimum(bound[rows], upper + slack)  # holds while the state is exact
    first = upper.topk(_FEW).indices
    best = finish(rows[first], state.information(items, rows[first]))
    upper[first] = -torch.inf
    rows = rows[upper >= best - slack]
    gain = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for head, tail in _cuts(state, heads):
        if not len(rows):
            break
        gain += head.information(items, rows)
        if len(tail):
            rest = tail.grouped().information(items, rows)
            rest.clamp_max_(float(tail.uncertainty().sum()))
            left = gain + rest >= best - slack
            rows, gain = rows[left], gain[left]
    if len(rows):
        finish(rows, gain)
    return torch.cat(gains), torch.cat(done)


def _cuts(
    state: _Configurations, ends: list[int]
) -> Iterator[tuple[_Configurations, _Configurations]]:
    """The configurations piece by piece, most informative first, each with all that follow."""
    order = state.uncertainty().argsort(descending=True)
    start = 0
    for end in (*ends, len(order)):
        yield state.some(order[start:end]), state.some(order[end:])
        start = end


def _thinned(weight: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` of the weights [M], unbiased, none twice: positions (ascending) and new weights.

    With ``level`` such that sum(min(weight / level, 1)) = count, heavier ones keep their weight;
    lighter ones are kept with probability weight / level (one uniform number, systematically) and
    then weigh ``level``.
    """
    ordered = weight.sort(descending=True).values
    lighter = ordered.sum() - torch.cat([ordered.new_zeros(1), ordered.cumsum(0)[: count - 1]])
    levels = lighter / torch.arange(count, 0, -1, device=weight.device)
    heavy = int((ordered[:count] < levels).int().argmax())  # the first that need not be kept whole
    level = levels[heavy]
    keep = torch.zeros_like(weight, dtype=torch.bool)
    keep[weight.argsort(descending=True, stable=True)[:heavy]] = True
    start = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    marks = torch.where(keep, 0, weight / level).cumsum(0) + start.to(weight.device)
    step = marks.floor().diff(prepend=marks.new_zeros(1)) > 0
    rows = (keep | step).nonzero().squeeze(1)
    return rows, torch.where(keep, weight, level)[rows]
