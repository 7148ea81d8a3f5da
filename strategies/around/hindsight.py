"""Ceilings of strategies that combine others: the best candidate of a round, and known losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lightning_al.randomness import seeded
from lightning_al.records import Acquisition, Pool

from ..sets import drawn_rows
from .auto_al import AutoAL
from .candidates import CLASSES, Candidates, Opinions, sorted_usable
from .mixture import Weighed

__all__ = ["BestCandidate", "OracleLosses"]

LOOKED_AT = 2000  # items of the pool whose losses are asked for
BLOCK = 2**15


@dataclass(frozen=True, repr=False, eq=False)
class BestCandidate(Candidates):
    """Labels each candidate's own batch, and takes the one whose fit tests best.

    The ceiling of following one candidate a round: a fit a candidate, with the weights and draws of
    the next round. It reads labels of the pool and the test set, so it runs inside ``bench`` alone.

    Args:
        metric: column of the test metrics.
        higher_is_better: its direction.
        candidates: strategies, by name or specification, each once.
    """

    metric: str = "test/accuracy"
    higher_is_better: bool = True
    candidates: Sequence[Any] = CLASSES

    @property
    def privileged(self) -> bool:
        """It reads labels of the pool."""
        return True

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The batch that tests best; of several equal ones the first candidate's.

        Raises:
            LookupError: no such metric.
            ValueError: more usable candidates asked than there are.
        """
        candidates = self.whole(candidates)
        good, _ = sorted_usable(candidates)
        pool = candidates.subset(good)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        batches = self.opinions(pool, k, seed).batches.cpu()
        index = pool.index.cpu()
        tried = [self._value(pool, index[rows]) for rows in batches]
        sign = 1 if self.higher_is_better else -1
        best = max(range(len(tried)), key=lambda i: sign * tried[i])
        notes = {
            "tested": dict(zip(self.names, tried, strict=True)),
            "trusted": {name: float(i == best) for i, name in enumerate(self.names)},
        }
        return Acquisition(index[batches[best]], notes=notes)

    def _value(self, pool: Pool, items: torch.Tensor) -> float:
        metrics = pool.bench.metrics(pool.bench.refit(answers=items, ahead=1), on="test")
        if self.metric not in metrics:
            raise LookupError(f"no metric {self.metric!r}; there are {', '.join(metrics)}")
        return float(metrics[self.metric])


@dataclass(frozen=True, repr=False, eq=False)
class OracleLosses(AutoAL):
    """``auto-al`` whose search network is trained on the pool, by the true losses of the task.

    The ceiling of choosing what has a high loss: no fit network, no halves, no guess of a loss. It
    reads labels of the pool, so it runs inside ``bench`` alone.
    """

    @property
    def privileged(self) -> bool:
        """It reads labels of the pool."""
        return True

    def weigh(self, pool: Pool, found: Opinions, k: int, generator: torch.Generator) -> Weighed:
        """Train the search network on some of the pool, then ask it."""
        from .search_networks import (  # Lightning loads slowly
            Batches,
            KnownWorth,
            Standardised,
            Weigher,
        )

        rows = drawn_rows(len(pool), LOOKED_AT, generator, pool.index.device)
        first, second = torch.randint(2**31, (2,), generator=generator).tolist()
        points, utility = pool.embedding[rows].float().cpu(), found.utility.cpu()[rows]
        worth = pool.bench.loss(on=pool.index[rows])
        settings = replace(self.search, warm_up=0)
        with torch.inference_mode(False), torch.enable_grad(), seeded(first, 0, "auto-al"):
            silent = utility.amax(0) == utility.amin(0)
            below = Standardised(points)
            silent &= ~silent.all()
            width, each = settings.width, settings.per_item
            weigher = Weigher(below, points.shape[1], silent, width, each)
            searcher = KnownWorth(weigher, settings)
        half = torch.zeros(len(rows), dtype=torch.int64)
        size, steps = settings.batch_size, settings.steps
        batches = Batches(points, utility, worth, half, size, steps, second)
        pool.bench.fit(searcher, batches, max_epochs=1)
        searcher.eval()
        with torch.no_grad():
            parts = [searcher(part.float().cpu()).cpu() for part in pool.embedding.split(BLOCK)]
        return Weighed(torch.cat(parts))
