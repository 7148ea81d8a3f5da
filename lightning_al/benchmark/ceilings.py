"""What is possible at best: all labels at once, or a choice that sees labels and the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from lightning_al.records import Acquisition, Pool

from .run_spec import Role

__all__ = ["BEST", "FULL_DATA", "GREEDY", "LOSSES", "Entry", "GreedyOracle", "ceilings"]

FULL_DATA = "full data"
GREEDY = "greedy oracle"
BEST = "best candidate"
LOSSES = "auto-al, true losses"
"""What the strategy column shows of the ceilings; which they are, the column ``role`` says."""


@dataclass(frozen=True)
class Entry:
    """One entry of a grid's axis of strategies."""

    name: str
    settings: Mapping[str, Any]  # over those that its runs have in common
    role: Role = "strategy"
    takes_all: bool = False  # labels the whole pool in its first query


def ceilings(names: Sequence[str], metric: str, higher: bool) -> list[Entry]:
    """The entries of some ceilings beside the strategies.

    ``full-data`` and ``greedy-oracle``; ``best-candidate`` and ``oracle-auto-al`` of strategies
    that combine others, over the usual candidates of ``auto-al``.

    Raises:
        ValueError: another name.
    """
    oracle = {
        "class_path": "lightning_al.benchmark.ceilings.GreedyOracle",
        "init_args": {"metric": metric, "higher_is_better": higher},
    }
    path = "lightning_al.strategies.around.hindsight"
    best = {
        "class_path": f"{path}.BestCandidate",
        "init_args": {"metric": metric, "higher_is_better": higher},
    }
    known = {
        "full-data": Entry(FULL_DATA, {"strategy": "random"}, "ceiling", takes_all=True),
        "greedy-oracle": Entry(GREEDY, {"strategy": oracle}, "ceiling"),
        "best-candidate": Entry(BEST, {"strategy": best}, "ceiling"),
        "oracle-auto-al": Entry(
            LOSSES, {"strategy": {"class_path": f"{path}.OracleLosses"}}, "ceiling"
        ),
    }
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"ceilings are {', '.join(known)}, got {', '.join(unknown)}")
    return [known[name] for name in dict.fromkeys(names)]


@dataclass(frozen=True)
class GreedyOracle:
    """Fits once with each of some drawn candidates and takes the one that tests best.

    A ceiling, not a strategy: it reads the labels of the pool and the test metric, so it runs
    inside ``bench`` alone. The fits have the weights and draws of the next round. A batch of k is
    k such steps, ``candidates * k`` fits.

    Source: the oracle of Werner, Burchert, Stubbemann and Schmidt-Thieme, A Cross-Domain Benchmark
    for Active Learning (2024).

    Args:
        metric: column of the test metrics.
        higher_is_better: its direction.
        candidates: how many are tried for each pick.
    """

    metric: str
    higher_is_better: bool = True
    candidates: int = 20

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates is at least 1, got {self.candidates}; 20 is customary")

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Pick k, one after the other; scores are the test metric with each pick labelled.

        Raises:
            LookupError: no such metric.
        """
        sign = 1 if self.higher_is_better else -1
        left: list[int] = candidates.index.tolist()
        picks: list[int] = []
        values: list[float] = []
        for _ in range(k):
            order = torch.randperm(len(left), generator=generator)[: self.candidates]
            tried = {left[i]: self._value(candidates, [*picks, left[i]]) for i in order.tolist()}
            best = max(tried, key=lambda item: sign * tried[item])
            picks.append(best)
            values.append(tried[best])
            left.remove(best)
        return Acquisition(torch.tensor(picks), scores=torch.tensor(values, dtype=torch.float64))

    def _value(self, candidates: Pool, items: list[int]) -> float:
        """The test metric of a fit with some more items labelled."""
        bench = candidates.bench
        task = bench.refit(answers=torch.tensor(items), ahead=1)
        metrics = bench.metrics(task, on="test")
        if self.metric not in metrics:
            raise LookupError(f"no metric {self.metric!r}; there are {', '.join(metrics)}")
        return float(metrics[self.metric])
