"""Where a run asked, read from its own folder: initial points, queries and what was measured.

The journal says which data module the run had, where it asked and what was answered; the problem of
that data module knows the truth.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_al.journal.journal import read_journal
from lightning_al.journal.standing import Standing
from lightning_al.rounds.parts import strategy_name
from lightning_al.spec import find

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trace", "read_trace", "run_folders"]

log = logging.getLogger(__name__)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """One run on a problem whose truth is known; inputs in [0, 1]^D, D <= 2."""

    strategy: str
    problem: Any  # truth(x [n, D]) -> (f [n], g [n] or None)
    initial: Array  # [N0, D]
    initial_y: Array  # [N0]
    queries: Array  # [T, D], first to last
    y: Array  # [T], as measured
    z: Array | None = None  # [T]; a query is safe where z >= 0
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
    datamodule = _rebuilt(config.get("data"))
    problem = getattr(datamodule, "problem", None)
    if problem is None or not hasattr(problem, "truth") or problem.dimension > 2:
        return None
    datamodule.start(records[0]["seed"])
    standing = Standing.of(records, folder)
    initial = datamodule.labelled
    x = _inputs(datamodule, initial)
    targets = datamodule.labels(initial).reshape(len(initial), -1)
    queries, answers = [x[:0]], []
    for done in standing.committed:
        if not standing.has(done.round, "labelled"):
            continue
        asked = standing.acquisition(done.round)
        place = asked.x if asked.x is not None else _inputs(datamodule, asked.index)
        answer, n = standing.answers(done.round), len(asked)
        given = ~(answer.mask("refused", n) | answer.mask("pending", n))
        queries.append(place.double().reshape(n, -1)[given])
        answers.append(answer.rows(given).values)
    measured = {
        name: torch.cat([values[name].double().flatten() for values in answers]).numpy()
        for name in ("y", "z")
        if answers and all(name in values for values in answers)
    }
    return Trace(
        name or strategy_name(config.get("strategy", "this run"), None),
        problem,
        x.numpy(),
        targets[:, 0].double().numpy(),
        torch.cat(queries).numpy(),
        measured.get("y", np.full(sum(map(len, queries)), np.nan)),
        measured.get("z"),
        targets[:, 1].double().numpy() if targets.shape[1] > 1 else None,
    )


def run_folders(root: Path, frame: pd.DataFrame) -> dict[str, Path]:
    """Run id -> folder, of those runs of a benchmark, or of one run, whose journals lie here.

    Args:
        root: folder of the benchmark or of the run.
        frame: its tidy table.
    """
    if (root / "journal.jsonl").exists():
        names = dict(zip(frame["strategy"], frame["run_id"], strict=True))
        found = {}
        for folder in (root, root / "baseline"):
            records, _ = read_journal(folder / "journal.jsonl")
            if records:
                own = strategy_name(records[0]["config"].get("strategy", "this run"), None)
                found[str(names.get(own, own))] = folder
        return found
    folders = {str(run): root / "runs" / str(run) for run in frame["run_id"].unique()}
    return {run: path for run, path in folders.items() if (path / "journal.jsonl").exists()}


def _rebuilt(spec: Any) -> Any:
    """The data module that a run's settings name; None where it cannot be built here."""
    if not isinstance(spec, Mapping) or "class_path" not in spec:
        return None
    path = str(spec["class_path"])
    try:
        return find(path, "data module", "see the run's config.yaml")(
            **(spec.get("init_args") or {})
        )
    except (TypeError, ValueError, LookupError, OSError) as error:
        log.debug("no map of the run's queries: %s cannot be built (%s)", path, error)
        return None


def _inputs(datamodule: Any, index: Any) -> torch.Tensor:
    found: torch.Tensor = datamodule.items.inputs(index)
    return found.double().reshape(len(index), -1)
