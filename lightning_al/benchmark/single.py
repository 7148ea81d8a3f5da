"""One run folder, and the baseline beside it, as the tidy table of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_al.history.history import History
from lightning_al.history.metric_names import larger_is_better, main_metric
from lightning_al.journal.journal import read_journal
from lightning_al.journal.standing import history_rounds
from lightning_al.rounds.parts import strategy_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_run"]


def read_run(root: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The tidy table of a run and what it compares.

    Raises:
        LookupError: no round of it has ended.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    histories = []
    for folder in (root, root / "baseline"):
        if not (folder / "journal.jsonl").exists():
            continue
        config = yaml.safe_load((folder / "config.yaml").read_text())
        name = strategy_name(config.get("strategy", "this run"), None)
        rounds, _ = history_rounds(read_journal(folder / "journal.jsonl")[0])
        histories.append(History(folder, tuple(rounds), name=name))
        place = {
            **{"run_id": f"{root.name}/{name}", "data": _last(config.get("data"))},
            **{"model": _last(config.get("model")), "strategy": name, "start": ""},
            **{"query_size": int(config.get("query_size", 0)), "fold": -1},
            **{"seed": int(config.get("seed", 0)), "status": "done", "error": "", "host": ""},
        }
        rows += [{**place, **r.row()} for r in rounds]
    if not rows:
        raise LookupError(f"{root} holds a run of which no round has ended")
    metric = main_metric(histories, None)
    frame = pd.DataFrame(rows)
    higher = larger_is_better(metric) is not False
    frame = frame.assign(value=frame[metric], metric=metric, higher_is_better=higher)
    return frame, {
        **{"metric": metric, "area": "budget", "title": root.name},
        "reference": histories[-1].name,
    }


def _last(spec: Any) -> str:
    path = spec.get("class_path") or spec.get("class") if isinstance(spec, dict) else spec
    return str(path or "").rpartition(".")[2]
