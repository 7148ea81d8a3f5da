"""Which part of the domain the measurements of a run allow to declare safe, rightly and wrongly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lightning_al.policies.safety_metrics import SafeArea
from lightning_al.randomness import seeded
from lightning_al.scores.safety import needed_deviations
from lightning_al.tasks import GPRegression

from .traces import Trace, read_trace

if TYPE_CHECKING:
    from lightning_al.benchmark.summary import Setting

__all__ = ["Area", "area_of", "areas"]

GAMMA = 0.05
SIDE = 41  # points along each side of the grid


@dataclass(frozen=True)
class Area:
    """Shares of the points of a grid, means over runs."""

    strategy: str
    found: float  # safe, and declared so
    wrong: float  # not safe, and declared safe
    safe: float  # safe in truth
    runs: int


def area_of(trace: Trace, *, gamma: float = GAMMA, side: int = SIDE) -> dict[str, float] | None:
    """``true_positive``, ``false_positive`` and ``safe`` of one run; None without safety.

    A Gaussian process (that of the deployment table) is fitted to all z of the run, initial ones
    included. A place is declared safe where a measurement there would be at least 0 with a
    probability of 1 - gamma.

    Args:
        trace: of the run.
        gamma: tolerance.
        side: points of the grid along each side.
    """
    if trace.z is None or trace.initial_z is None:
        return None
    x = torch.from_numpy(np.concatenate([trace.initial, trace.queries]))
    z = torch.from_numpy(np.concatenate([trace.initial_z, trace.z]))
    line = (torch.arange(side, dtype=torch.float64) + 0.5) / side  # middles of equal cells
    grid = torch.cartesian_prod(*[line] * trace.problem.dimension).reshape(
        -1, trace.problem.dimension
    )
    _, g = trace.problem.truth(grid)
    if g is None:
        return None
    task = GPRegression(1, hyperparameters="gamma")
    with seeded(0, 0, "safe area"):  # of the starts of the search
        task.learn(x, z)
    mean, variance = (part[:, 0] for part in task.moments(grid))
    deviation = (variance + task.noise_variance()).sqrt()
    metric = SafeArea()
    metric.update(mean / deviation >= needed_deviations(gamma), g)
    return {name: float(value) for name, value in metric.compute().items()}


def areas(setting: Setting, folders: Mapping[str, Path], *, gamma: float = GAMMA) -> Sequence[Area]:
    """Of each strategy, the largest part found first; empty where no truth is known.

    Args:
        setting: whose runs.
        folders: run id -> folder of its journal.
        gamma: tolerance.
    """
    found: dict[str, list[dict[str, float]]] = {}
    columns = (setting.runs[name].astype(str) for name in ("run_id", "strategy"))
    for run_id, strategy in zip(*columns, strict=True):
        if run_id not in folders:
            continue
        trace = read_trace(folders[run_id], strategy)
        area = None if trace is None else area_of(trace, gamma=gamma)
        if area is None:
            return ()  # the data of all runs of a setting are the same
        found.setdefault(strategy, []).append(area)
    rows = [
        Area(
            strategy=name,
            found=float(np.mean([area["true_positive"] for area in mine])),
            wrong=float(np.mean([area["false_positive"] for area in mine])),
            safe=float(np.mean([area["safe"] for area in mine])),
            runs=len(mine),
        )
        for name, mine in found.items()
    ]
    return sorted(rows, key=lambda row: -row.found)
