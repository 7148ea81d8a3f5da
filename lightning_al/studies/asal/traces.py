"""Where a run asked, read from its own folder: initial points, queries and what was measured.

The journal says which data module the run had, where it asked and what was answered; the problem of
that data module knows the truth.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_al.datamodules import PoolDataModule
from lightning_al.journal.journal import read_journal
from lightning_al.journal.standing import Standing
from lightning_al.rounds.parts import strategy_name
from lightning_al.spec import find

if TYPE_CHECKING:
    from lightning_al.benchmark.summary import Setting

__all__ = ["Landscape", "Trace", "first_traces", "read_trace", "rebuilt"]

log = logging.getLogger(__name__)

Array = NDArray[np.float64]


@runtime_checkable
class Landscape(Protocol):
    """What the ``problem`` of a data module has where its truth is known."""

    name: str
    dimension: int

    def truth(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The target [n] and the safety [n] (None without one) at places [n, D], without noise."""
        ...


@dataclass(frozen=True)
class Trace:
    """One run on a problem whose truth is known; inputs in [0, 1]^D, D <= 2."""

    strategy: str
    problem: Landscape
    initial: Array  # [N0, D]
    initial_y: Array  # [N0]
    queries: Array  # [T, D], first to last
    y: Array  # [T] target, as measured
    z: Array | None = None  # [T] safety, where it is measured; a query is safe where z >= 0
    initial_z: Array | None = None  # [N0]

    @property
    def unsafe(self) -> NDArray[np.bool_]:
        """Which queries were not safe, [T]."""
        return np.zeros(len(self.queries), bool) if self.z is None else self.z < 0


def read_trace(folder: Path, name: str | None = None) -> Trace | None:
    """Where the run in a folder asked and was answered; None where it cannot be drawn.

    That is where nothing is recorded, where the data have no problem of at most two inputs with
    known truth, and where the data module cannot be built here.

    Args:
        folder: of the run.
        name: of its strategy in the picture; by default as the run itself calls it.

    Raises:
        JournalError: a damaged journal.
    """
    records, _ = read_journal(folder / "journal.jsonl")
    if not records:
        return None
    config = records[0]["config"]
    datamodule = rebuilt(config.get("data"))
    problem = getattr(datamodule, "problem", None)
    if not isinstance(problem, Landscape) or problem.dimension > 2:
        return None
    datamodule.start(records[0]["seed"])
    standing = Standing.of(records, folder)
    initial = datamodule.labelled
    measures, safety = tuple(datamodule.outcomes.names), datamodule.outcomes.safety
    target = next(name for name in measures if name != safety)
    x = _inputs(datamodule, initial)
    targets = datamodule.labels(initial).reshape(len(initial), len(measures))
    queries, answers = [x[:0]], []
    for done in standing.committed:
        if not standing.has(done.round, "labelled"):
            continue
        asked = standing.acquisition(done.round)
        assert asked is not None  # it was answered
        place = asked.x if asked.x is not None else _inputs(datamodule, asked.index)
        answer, n = standing.answers(done.round), len(asked)
        given = ~(answer.mask("refused", n) | answer.mask("pending", n))
        queries.append(place.double().reshape(n, -1)[given])
        answers.append(answer.rows(given).values)
    begun = dict(zip(measures, targets.double().numpy().T, strict=True))
    measured = {
        name: torch.cat([values[name].double().flatten() for values in answers]).numpy()
        for name in measures
        if answers and all(name in values for values in answers)
    }
    return Trace(
        name or strategy_name(config.get("strategy", "this run"), None),
        problem,
        x.numpy(),
        begun[target],
        torch.cat(queries).numpy(),
        measured.get(target, np.full(sum(map(len, queries)), np.nan)),
        None if safety is None else measured.get(safety),
        None if safety is None else begun[safety],
    )


def rebuilt(spec: Any) -> Any:
    """The data module that a run's settings name; None where it cannot be built here."""
    if not isinstance(spec, Mapping) or "class_path" not in spec:
        return None
    path = str(spec["class_path"])
    try:
        kind = find(path, "data module", "see the run's config.yaml")
        if not (isinstance(kind, type) and issubclass(kind, PoolDataModule)):
            return None  # of a stranger's run it is never called
        return kind(**(spec.get("init_args") or {}))
    except (TypeError, ValueError, LookupError, OSError) as error:
        log.debug("no map of the run's queries: %s cannot be built (%s)", path, error)
        return None


def _inputs(datamodule: Any, index: Any) -> torch.Tensor:
    found: torch.Tensor = datamodule.items.inputs(index)
    return found.double().reshape(len(index), datamodule.problem.dimension)


def first_traces(setting: Setting, folders: Mapping[str, Path]) -> list[Trace]:
    """Of each strategy, the run of the least seed whose folder lies here, the best strategy first.

    Empty where one of them cannot be drawn: the data of all strategies of a setting are the same.

    Args:
        setting: whose runs; those that label everything at once are left out.
        folders: run id -> folder of its journal.
    """
    runs = setting.gradual
    runs = runs[runs["run_id"].isin(list(folders))].sort_values(["seed", "fold"])
    first = dict(reversed([(r.strategy, r.run_id) for r in runs.itertuples()]))
    found = []
    for name in (n for n in setting.order if n in first):
        trace = read_trace(folders[first[name]], name)
        if trace is None:
            return []
        found.append(trace)
    return found
