"""What is possible at best: all labels at once, or a choice that sees labels and the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch

from lightning_al.fits.lightning import fit_round, test_round
from lightning_al.records import Acquisition, Pool

from .run_spec import Role

__all__ = ["FULL_DATA", "GREEDY", "Attached", "Entry", "GreedyOracle", "ceilings"]

FULL_DATA = "full data"
GREEDY = "greedy oracle"
"""What the strategy column shows of the ceilings; which they are, the column ``role`` says."""


@dataclass(frozen=True)
class Entry:
    """One entry of a grid's axis of strategies."""

    name: str
    settings: Mapping[str, Any]  # over those that its runs have in common
    role: Role = "strategy"
    takes_all: bool = False  # labels the whole pool in its first query


def ceilings(names: Sequence[str], metric: str, higher: bool) -> list[Entry]:
    """The entries of some ceilings, ``full-data`` or ``greedy-oracle``, beside the strategies.

    Raises:
        ValueError: another name.
    """
    oracle = {
        "class_path": "lightning_al.benchmark.ceilings.GreedyOracle",
        "init_args": {"metric": metric, "higher_is_better": higher},
    }
    known = {
        "full-data": Entry(FULL_DATA, {"strategy": "random"}, "ceiling", takes_all=True),
        "greedy-oracle": Entry(GREEDY, {"strategy": oracle}, "ceiling"),
    }
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"ceilings are {', '.join(known)}, got {', '.join(unknown)}")
    return [known[name] for name in dict.fromkeys(names)]


@runtime_checkable
class Attached(Protocol):
    """What a ceiling's strategy offers beside choosing: it is given the run it is part of."""

    def attach(self, run: Any) -> None:
        """Take the run, whose labels and recipe no strategy may see."""


@dataclass
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
    _run: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates is at least 1, got {self.candidates}; 20 is customary")

    def attach(self, run: Any) -> None:
        """Give it the run, whose recipe and labels it uses.

        Raises:
            ValueError: a run on several processes.
        """
        if run.world.size > 1:
            raise ValueError("the greedy oracle fits while it chooses: use one process")
        self._run = run

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Pick k, one after the other; scores are the test metric with each pick labelled.

        Raises:
            LookupError: it was attached to no run.
        """
        if self._run is None:
            raise LookupError("the greedy oracle needs a run: it serves `bench` alone")
        datamodule = self._run.dm
        before = datamodule.state_dict()
        left, picks, values = candidates.index.tolist(), [], []
        try:
            for _ in range(k):
                order = torch.randperm(len(left), generator=generator)[: self.candidates]
                tried = {left[i]: self._value(left[i]) for i in order.tolist()}
                sign = 1 if self.higher_is_better else -1
                best = max(tried, key=lambda item: sign * tried[item])
                picks.append(best)
                values.append(tried[best])
                left.remove(best)
                datamodule.acquire([best])
        finally:
            datamodule.load_state_dict(before)
        return Acquisition(torch.tensor(picks), scores=torch.tensor(values, dtype=torch.float64))

    def _value(self, item: int) -> float:
        """The test metric of a fit with one more item labelled."""
        run, datamodule = self._run, self._run.dm
        before = datamodule.state_dict()
        datamodule.acquire([item])
        try:
            trainer = run.recipe.build_trainer()
            task = fit_round(
                run.recipe,
                datamodule,
                trainer,
                seed=run.it.seed,
                round=datamodule.round + 1,
                previous=None,
                world=run.world,
            )
            metrics = test_round(task, datamodule, trainer)
        finally:
            datamodule.load_state_dict(before)
        if self.metric not in metrics:
            raise LookupError(f"no metric {self.metric!r}; there are {', '.join(metrics)}")
        return float(metrics[self.metric])
