"""Strategies around another one: a quota for each predicted class, a random part of the pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Acquisition, Pool

from ..score_strategy import acquired
from ..selection import check_k, shuffled
from ..strategy_registry import STRATEGIES, resolve
from .composition import Composition, ranks, rows_of, total

__all__ = ["PerClassQuota", "Subsample", "unusable"]

BLOCK = 2**20  # elements looked at together


def unusable(candidates: Pool) -> Tensor:
    """Which candidates have a NaN among their scores or kept fields: [N]; they come last."""
    bad = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.index.device)
    kept = {} if candidates.kept is None else candidates.kept.tensors()
    for values in (candidates.scores, *kept.values()):
        if values is None or not values.is_floating_point() or values[:1].numel() == 0:
            continue
        rows = max(1, BLOCK // values[0].numel())
        for start in range(0, len(values), rows):
            part = values[start : start + rows].flatten(1) if values.ndim > 1 else None
            part = values[start : start + rows, None] if part is None else part
            bad[start : start + rows] |= part.isnan().any(1).to(bad.device)
    return bad


class _Around(Composition):
    """A composition around one ``strategy``, whose scores, where it ranks, stay its scores."""

    strategy: Any

    @property
    def inside(self) -> tuple[Any, ...]:
        """The one strategy."""
        return (self.strategy,)

    def _acquired(self, candidates: Pool, view: Pool, rows: Tensor) -> Acquisition:
        scored = ranks(self.strategy) and view.scores is not None
        scores = total(self.strategy, view.scores) if scored and view.scores is not None else None
        return acquired(candidates, rows, scores)


@STRATEGIES.register("per-class-quota", kind="classification", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class PerClassQuota(_Around):
    """Another strategy, as many of each predicted class (Bengar et al. 2022).

    At most ceil(k / C) + slack items of each class.
    The strategy chooses; picks of a class that is full are put back, and it chooses again among
    the classes that are not: for one that ranks by a score, a walk down its ranking. (A method
    that spreads its batch does not see, when it chooses again, what it chose before.) When no
    open class has items left, the rest comes from the others. The predicted class is the best
    one of the members' mean; keeps the probabilities [N, S, C].

    Source: Bengar, van de Weijer, Lopez Fuentes and Raducanu (2022), who balance predicted
    classes by an optimisation; a quota is its greedy form.

    Args:
        strategy: the one that chooses.
        slack: items of one class beyond its even share.
    """

    strategy: Any = "posterior-entropy"
    slack: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", resolve(self.strategy))
        if self.slack < 0:
            raise ValueError(f"slack is a number of items, at least 0, got {self.slack}")

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of the strategy, and the probabilities."""
        return tuple(dict.fromkeys((*self.strategy.needs, "probs")))

    @property
    def keeps(self) -> tuple[str, ...]:
        """Those of the strategy, and the probabilities."""
        return tuple(dict.fromkeys((*self.strategy.keeps, "probs")))

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k within the quotas, as far as they go.

        Raises:
            ValueError: more asked than there are, or probabilities with places.
        """
        check_k(candidates.index, k)
        view, device = self.views(candidates)[0], candidates.index.device
        if k == 0:
            return self._acquired(candidates, view, torch.empty(0, dtype=torch.int64))
        predicted, classes = self._predicted(candidates)
        quota = [math.ceil(k / classes) + self.slack] * classes
        usable = ~unusable(candidates)
        free = usable.clone()
        picks: list[int] = []
        while len(picks) < k and bool(free.any()):
            for row in self._ask(view, free.nonzero().squeeze(1), k - len(picks), generator):
                if quota[predicted[row]] > 0:
                    quota[predicted[row]] -= 1
                    picks.append(row)
            full = torch.tensor([left == 0 for left in quota], device=device)
            free &= ~full[torch.tensor(predicted, device=device)]
            free[picks] = False
        within = len(picks)
        usable[picks] = False
        if len(picks) < k and bool(usable.any()):
            picks += self._ask(view, usable.nonzero().squeeze(1), k - len(picks), generator)
        if len(picks) < k:  # of items with NaN none is better than another
            taken = set(picks)
            order = shuffled(len(candidates), generator, device).tolist()
            picks += [row for row in order if row not in taken][: k - len(picks)]
        made = self._acquired(candidates, view, torch.tensor(picks, device=device))
        return Acquisition(made.index, scores=made.scores, notes={"beyond quota": k - within})

    def _ask(self, view: Pool, rows: Tensor, k: int, generator: torch.Generator) -> list[int]:
        """What the strategy chooses from some rows: at most k of them, as rows of the pool."""
        part = view.subset(rows)
        chosen = self.strategy.choose(part, min(k, len(rows)), generator)
        return rows[rows_of(part, chosen, self.strategy)].tolist()

    @staticmethod
    def _predicted(candidates: Pool) -> tuple[list[int], int]:
        probs = candidates.probs
        if probs.ndim != 3:
            raise ValueError(
                f"per-class-quota needs one class an item, probs [N, S, C], got "
                f"{list(probs.shape)}: items with places have no class of their own"
            )
        rows = max(1, BLOCK // max(1, probs[0].numel()))
        best = [measures.of_mean(lambda p: p.argmax(-1), part) for part in probs.split(rows)]
        return torch.cat(best).tolist(), probs.shape[-1]


@STRATEGIES.register("subsample", kind="classification", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class Subsample(_Around):
    """Another strategy on a random part of the pool (Ertekin et al. 2007).

    The part is drawn anew each round.
    For methods that compare all pairs of candidates: the model still sees the whole pool once,
    what shrinks is the choice. At least k candidates are drawn, those with NaN last.

    Source: Ertekin, Huang, Bottou and Giles (2007).

    Args:
        strategy: the one that chooses.
        size: an int is a count, a float a share of the pool; a smaller pool is taken whole.
    """

    strategy: Any = "posterior-entropy"
    size: int | float = 10_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", resolve(self.strategy))
        share = isinstance(self.size, float)
        if not (0 < self.size <= 1 if share else self.size >= 1):
            raise ValueError(
                f"size is a count (int, at least 1) or a share (float, above 0, at most 1), "
                f"got {self.size!r}"
            )

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Draw, then choose k of the drawn."""
        check_k(candidates.index, k)
        view, n = self.views(candidates)[0], len(candidates)
        size = math.ceil(self.size * n) if isinstance(self.size, float) else self.size
        order = shuffled(n, generator, candidates.index.device)
        bad = unusable(candidates)[order]
        good, rest = order[~bad], order[bad]
        size = max(k, min(size, len(good)))
        rows = torch.cat([good, rest])[:size].sort().values
        chosen: Acquisition = self.strategy.choose(view.subset(rows), k, generator)
        return chosen
