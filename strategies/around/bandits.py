"""Bandits over strategies: which one to follow is learnt from what its picks turned out to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_al.records import Acquisition, Pool

from ..score_strategy import acquired
from ..selection import check_k, shuffled, top_k
from ..strategy_registry import STRATEGIES
from .candidates import CLASSES, Candidates, Opinions, sorted_usable
from .mixture import Weighed, told

__all__ = ["Albl", "Tailor"]


@dataclass(frozen=True, repr=False, eq=False)
class _Bandit(Candidates):
    """Learns from the answers to its picks, then picks by what it has learnt."""

    kind: ClassVar[str] = "classification"  # type: ignore[misc]

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k.

        Raises:
            ValueError: more asked than there are.
        """
        check_k(candidates.index, k)
        candidates = self.whole(candidates)
        good, bad = sorted_usable(candidates)
        some = min(k, len(good))
        rows, notes = good[:0], {}
        if some:
            pool = candidates.subset(good)
            self._settle(pool)
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            found = self.opinions(pool, some, seed)
            picks, trusted = self._follow(pool, found, some, generator)
            rows = good[picks.to(good.device)]
            notes = told(self.names, Weighed(trusted), found, picks)
        if some < k:
            rows = torch.cat([rows, bad[shuffled(len(bad), generator, bad.device)][: k - some]])
        return replace(acquired(candidates, rows), notes=notes)

    def _settle(self, pool: Pool) -> None:
        """Take in the answers that have come since."""
        raise NotImplementedError

    def _follow(
        self, pool: Pool, found: Opinions, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Rows [k], and how much each candidate was followed [K]."""
        raise NotImplementedError

    def _answered(self, pool: Pool, index: Tensor) -> tuple[Tensor, Tensor]:
        """Which of some items [B] are labelled now, bool [B], and the classes of those."""
        targets = pool.context.targets
        known = pool.bench.labelled.cpu()
        there = torch.isin(index, known)
        if targets is None or not bool(there.any()):
            return torch.zeros_like(there), index[:0]
        ordered, order = known.sort()
        return there, targets.cpu().long()[order[torch.searchsorted(ordered, index[there])]]


@STRATEGIES.register("albl", kind="classification", members=20, example=["candidates"])
@dataclass(frozen=True, repr=False, eq=False)
class Albl(_Bandit):
    """ALBL: a bandit over strategies, paid in weighted accuracy (Hsu and Lin 2015).

    EXP4.P: each candidate is an expert that advises its own batch, all of it alike. Items are drawn
    without replacement by the mixed advice ``q = sum_k p_k advice_k``, where ``p_k`` is ``p_min``
    and a share of the rest by the expert's weight. The reward of a round is the accuracy of the new
    network on all that was ever bought, each item counting 1 / q (of its round, over the pool's
    size), and an expert's weight grows by ``exp(p_min / 2 (r_k + v_k sqrt(log(K / delta) / (K
    T))))``. Here ``v_k`` is the mean of advice_k / q over the batch, ``r_k`` the reward times that,
    T the rounds so far. A batch is one turn of the bandit; the authors buy one item a turn.

    Source: Hsu and Lin, Active Learning by Learning (2015), algorithm 1; Beygelzimer et al.,
    Contextual Bandit Algorithms with Supervised Learning Guarantees (2011), for EXP4.P.

    Args:
        candidates: strategies, by name or specification, each once.
        delta: with which probability the bandit's bound may fail.
        floor: least odds of an expert, a share of equal ones.
    """

    candidates: Sequence[Any] = CLASSES
    delta: float = 0.1
    floor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.delta < 1 and 0 < self.floor <= 1):
            raise ValueError(
                "albl needs delta above 0 and below 1, and floor above 0 and at most 1, got "
                f"{self.delta} and {self.floor}"
            )

    @property
    def odds(self) -> Tensor:
        """How likely each expert is followed [K]; they add up to 1."""
        many = len(self.inside)
        logs = self._memory.get("log weights", torch.zeros(many, dtype=torch.float64))
        least = self.floor / many
        return (1 - many * least) * logs.softmax(0) + least

    def _settle(self, pool: Pool) -> None:
        past = self._memory
        if "index" not in past:
            return
        there, classes = self._answered(pool, past["index"])
        new = past["turn"] == past["turns"] - 1
        if not bool((there & new).any()):
            return
        bought = past["index"][there]
        probs = pool.bench.predict(bought, ["probs"], module=pool.bench.task).probs
        assert probs is not None  # asked for in the line above
        right = (probs.mean(1).argmax(-1).cpu() == classes).double()
        reward = float((right / past["drawn"][there]).mean().clamp(0, 1))
        ratio = past["ratio"][there & new].mean(0)
        many = len(self.inside)
        wide = math.sqrt(math.log(many / self.delta) / (many * past["turns"]))
        step = self.floor / many / 2 * (reward * ratio + ratio * wide)
        logs = past.get("log weights", torch.zeros(many, dtype=torch.float64)) + step
        past["log weights"] = logs - logs.max()

    def _follow(
        self, pool: Pool, found: Opinions, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        odds = self.odds
        advice = found.nominated.cpu().double() / k
        mixed = (advice * odds).sum(1)
        order = shuffled(len(pool), generator, mixed.device)
        drawn = torch.multinomial(mixed[order], k, generator=generator)
        picks = order[drawn]
        turns = self._memory.get("turns", 0)
        bought = {
            "index": pool.index.cpu()[picks],
            "drawn": mixed[picks] * len(pool),
            "ratio": advice[picks] / mixed[picks][:, None],
            "turn": torch.full((k,), turns),
        }
        for name, values in bought.items():
            before = self._memory.get(name, values[:0])
            self._memory[name] = torch.cat([before, values])
        self._memory["turns"] = turns + 1
        return picks, odds


@STRATEGIES.register("tailor", kind="classification", members=20, example=["candidates"])
@dataclass(frozen=True, repr=False, eq=False)
class Tailor(_Bandit):
    """TAILOR: Thompson sampling over strategies for balanced classes (Zhang et al. 2023).

    Each candidate has a Dirichlet posterior over the classes that its picks turn out to have. For
    each item of a batch a distribution is drawn for every candidate, and the one of the largest
    expected reward picks its best item that is not taken; equal ones are drawn. A class is worth
    one over the number of its labelled items, so rare classes count. What the picks turned out to
    be counts in the next round.

    Source: Zhang, Shao, Zhu and Nowak, Algorithm Selection for Deep Active Learning with
    Imbalanced Datasets (2023), in its class-diverse form.

    Args:
        candidates: strategies, by name or specification, each once.
        prior: of each class, in picks.
    """

    candidates: Sequence[Any] = CLASSES
    prior: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prior > 0:
            raise ValueError(f"tailor needs a prior above 0, got {self.prior}")

    def _settle(self, pool: Pool) -> None:
        past = self._memory
        if "index" not in past:
            return
        there, classes = self._answered(pool, past["index"])
        if len(classes):
            counts = past.get("counts", torch.zeros(len(self.inside), 0, dtype=torch.int64))
            more = int(classes.max()) + 1 - counts.shape[1]
            counts = torch.nn.functional.pad(counts, (0, max(0, more)))
            where = (past["arm"][there], classes)
            past["counts"] = counts.index_put(where, torch.ones_like(classes), accumulate=True)
        past["index"], past["arm"] = past["index"][~there], past["arm"][~there]

    def _follow(
        self, pool: Pool, found: Opinions, k: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        many, targets = len(self.inside), pool.context.targets
        known = torch.zeros(0, dtype=torch.int64) if targets is None else targets.cpu().long()
        if known.ndim != 1:
            raise ValueError(
                f"tailor balances one class an item, and the targets are {list(known.shape)}"
            )
        counts = self._memory.get("counts", torch.zeros(many, 0, dtype=torch.int64))
        told = int(known.max()) + 1 if len(known) else 1
        classes = max(pool.context.classes or 0, counts.shape[1], told)
        worth = 1 / known.bincount(minlength=classes).double().clamp_min(1)
        alpha = self.prior + torch.nn.functional.pad(counts, (0, classes - counts.shape[1]))
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        draw = np.random.default_rng(seed)
        orders = [
            iter(top_k(found.utility[:, i], len(pool), generator).tolist()) for i in range(many)
        ]
        picks: dict[int, int] = {}
        for _ in range(k):
            gains = [float(draw.dirichlet(a) @ worth.numpy()) for a in alpha.numpy()]
            best = [i for i, gain in enumerate(gains) if gain > max(gains) - 1e-9]
            arm = best[int(draw.integers(len(best)))]
            row = next(row for row in orders[arm] if row not in picks)
            picks[row] = arm
        rows, arms = torch.tensor(list(picks)), torch.tensor(list(picks.values()))
        bought = {"index": pool.index.cpu()[rows], "arm": arms}
        for name, values in bought.items():
            before = self._memory.get(name, values[:0])
            self._memory[name] = torch.cat([before, values])
        return rows, arms.bincount(minlength=many).double() / k
