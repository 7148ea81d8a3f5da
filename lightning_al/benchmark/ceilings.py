"""What a strategy could reach at best: a greedy choice that sees the labels and the test set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from lightning_al.fits.lightning import fit_round, test_round
from lightning_al.records import Acquisition, Pool

__all__ = ["GREEDY", "GreedyOracle"]

GREEDY = "greedy oracle"
"""The strategy column of its runs."""


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
