"""One run folder, and the baseline beside it, as what a benchmark has found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_al.history.history import History
from lightning_al.history.metric_names import larger_is_better, main_metric
from lightning_al.journal.journal import read_journal
from lightning_al.journal.order import first_line
from lightning_al.journal.standing import history_rounds
from lightning_al.protocols import asks_model
from lightning_al.rounds.parts import strategy_name
from lightning_al.strategies import resolve

from .study import Evidence, study_of_run

__all__ = ["read_run"]


def read_run(root: Path) -> Evidence:
    """The tidy table of a run, what it compares, and its folders; the study that serves it.

    Raises:
        LookupError: no round of it has ended.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    histories = []
    folders: dict[str, Path] = {}
    study = None
    for folder in (root, root / "baseline"):
        if not (folder / "journal.jsonl").exists():
            continue
        records, _ = read_journal(folder / "journal.jsonl")
        config = first_line(records, folder)["config"]
        name = strategy_name(config.get("strategy", "this run"), None)
        rounds, _ = history_rounds(records, folder)
        histories.append(History(folder, tuple(rounds), name=name))
        run_id = f"{root.name}/{name}"
        folders[run_id] = folder
        study = study or study_of_run(config)
        place = {
            **{"run_id": run_id, "data": _last(config.get("data"))},
            **{"model": _last(config.get("model")), "strategy": name, "start": ""},
            **{"query_size": int(config.get("query_size", 0)), "fold": -1},
            **{"seed": int(config.get("seed", 0)), "status": "done", "error": "", "host": ""},
            **{"role": "strategy", "takes_all": False, "asks_model": _asks_model(config)},
        }
        rows += [{**place, "amended": "", **r.row()} for r in rounds]
    if not rows:
        raise LookupError(f"{root} holds a run of which no round has ended")
    metric = main_metric(histories, None)
    frame = pd.DataFrame(rows)
    higher = larger_is_better(metric) is not False
    frame = frame.assign(value=frame[metric], metric=metric, higher_is_better=higher)
    facts = {
        **{"metric": metric, "area": "budget", "title": root.name, "study": study},
        "reference": histories[-1].name,
    }
    return Evidence(frame, facts, folders)


def _asks_model(config: Mapping[str, Any]) -> bool | None:
    """Whether a run's strategy chooses with the model; None where it cannot be built here."""
    try:
        return asks_model(resolve(config["strategy"]))
    except (LookupError, ValueError, TypeError, OSError):
        return None


def _last(spec: Any) -> str:
    path = spec.get("class_path") or spec.get("class") if isinstance(spec, dict) else spec
    return str(path or "").rpartition(".")[2]
