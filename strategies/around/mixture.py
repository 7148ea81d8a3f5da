"""Batches by the mixed utility of several candidates: equal weights, drawn ones; what all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool

from ..score_strategy import acquired
from ..selection import check_k, shuffled, top_k
from ..strategy_registry import STRATEGIES
from .candidates import CLASSES, Candidates, Opinions, sorted_usable

__all__ = ["Mixture", "RandomWeights", "UniformMixture", "Weighed", "told"]


@dataclass(frozen=True)
class Weighed:
    """How much each candidate counts."""

    weights: Tensor  # [N, K], or [K] for all items alike
    utility: Tensor | None = None  # [N, K] that is weighed; None: the candidates' own
    classes: Tensor | None = None  # [N] what an item is taken for, where that is known
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False, eq=False)
class Mixture(Candidates):
    """Takes the items of the highest mixed utility; a subclass says how much each candidate counts.

    The utility of an item is ``sum_k w_k u_k``, with weights that add up to 1.
    """

    def weigh(self, pool: Pool, found: Opinions, k: int, generator: torch.Generator) -> Weighed:
        """The weights of the candidates over a pool of usable items, in the order of their index.

        Args:
            pool: of N items.
            found: what the candidates think of it.
            k: items that will be chosen.
            generator: for draws.
        """
        raise NotImplementedError

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k; a single candidate chooses by itself.

        Raises:
            ValueError: more asked than there are.
        """
        check_k(candidates.index, k)
        candidates = replace(candidates, scores=self.table(candidates))
        if len(self.inside) == 1:
            alone: Acquisition = self.inside[0].choose(self.views(candidates)[0], k, generator)
            return replace(alone, notes={**alone.notes, "trusted": {self.names[0]: 1.0}})
        good, bad = sorted_usable(candidates)
        some = min(k, len(good))
        rows, notes = good[:0], {}
        scores = torch.full((len(candidates),), torch.nan, dtype=torch.float64)
        if some:
            pool = candidates.subset(good)
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            found = self.opinions(pool, some, seed)
            weighed = self.weigh(pool, found, some, generator)
            utility = found.utility if weighed.utility is None else weighed.utility
            mixed = (weighed.weights.cpu().double() * utility.cpu().double()).sum(1)
            picks = top_k(mixed, some, generator)
            scores[good.cpu()] = mixed
            rows = good[picks.to(good.device)]
            notes = {**told(self.names, weighed, found, picks), **weighed.notes}
        if some < k:
            rows = torch.cat([rows, bad[shuffled(len(bad), generator, bad.device)][: k - some]])
        return replace(acquired(candidates, rows, scores.to(rows.device)), notes=notes)


def told(names: Sequence[str], weighed: Weighed, found: Opinions, picks: Tensor) -> dict[str, Any]:
    """What a user may see of a choice: plain values, for the journal.

    "trusted": the mean weight of each candidate over the pool; "trusted by class": over the items
    that are taken for a class; "overlap": the share of the batch that each candidate's own batch
    has too.

    Args:
        names: of the candidates.
        weighed: their weights.
        found: what they think.
        picks: rows [k] that were chosen.
    """
    weights = weighed.weights.detach().float().cpu()
    mean = weights if weights.ndim == 1 else weights.mean(0)
    nominated = found.nominated.cpu()[picks.cpu()].float().mean(0)
    notes: dict[str, Any] = {
        "trusted": _named(names, mean),
        "overlap": _named(names, nominated),
    }
    if weighed.classes is not None and weights.ndim == 2:
        classes = weighed.classes.cpu()
        notes["trusted by class"] = {
            str(c): _named(names, weights[classes == c].mean(0)) for c in classes.unique().tolist()
        }
    return notes


def _named(names: Sequence[str], values: Tensor) -> dict[str, float]:
    return {n: round(float(v), 6) for n, v in zip(names, values.tolist(), strict=True)}


@STRATEGIES.register("uniform-mixture", kind="classification", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class UniformMixture(Mixture):
    """Highest mean rank under several strategies, none trusted more (Dwork et al. 2001).

    What ``auto-al`` is without learning; its baseline. See :class:`.candidates.Candidates` for what
    a strategy without scores counts.

    Args:
        candidates: strategies, by name or specification.
    """

    candidates: Sequence[Any] = CLASSES

    def weigh(self, pool: Pool, found: Opinions, k: int, generator: torch.Generator) -> Weighed:
        """All alike."""
        many = len(self.inside)
        return Weighed(torch.full((many,), 1 / many))


@STRATEGIES.register("random-weights", kind="classification", members=20)
@dataclass(frozen=True, repr=False, eq=False)
class RandomWeights(Mixture):
    """Highest mean rank under several strategies, by weights drawn each round (Rubin 1981).

    The weights are uniform on the simplex, as in the Bayesian bootstrap; a control for ``auto-al``.

    Args:
        candidates: strategies, by name or specification.
    """

    candidates: Sequence[Any] = CLASSES

    def weigh(self, pool: Pool, found: Opinions, k: int, generator: torch.Generator) -> Weighed:
        """Drawn once a batch."""
        drawn = torch.empty(len(self.inside), dtype=torch.float64, device=generator.device)
        drawn.exponential_(generator=generator)
        return Weighed((drawn / drawn.sum()).cpu())
