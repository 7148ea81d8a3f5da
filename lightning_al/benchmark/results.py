"""What a benchmark has so far: one file an ended run, and one tidy table of all.

A run's outcome is written once, as a whole; the table is made from the outcomes, sorted by run id,
so that it does not depend on the order in which the runs ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_al.files import replacing

from .run_spec import AXES
from .study import Evidence

if TYPE_CHECKING:
    import pandas as pd

    from .grid import BenchConfig

__all__ = ["VOLATILE", "Results"]

VOLATILE = (
    *("seconds", "seconds_tune", "seconds_fit", "seconds_test", "seconds_score"),
    *("seconds_choose", "host", "process"),
)
"""Columns that differ when the same grid is run again."""
INSIDE = (
    *("benchmark.json", "outcomes", "errors", "runs", "tuning", "results.parquet", "slurm"),
    "submit.sh",
)
"""What a benchmark writes, and where a link would lead it out of its folder."""


class Results:
    """The folder of a benchmark.

    ``benchmark.json`` says what is compared, ``outcomes/<run id>.json`` holds ended runs,
    ``results.parquet`` a row for each of their rounds, ``runs/<run id>`` the run folders,
    ``errors/<run id>.txt`` where runs that failed did so.

    Args:
        root: the folder; made when something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def table(self) -> Path:
        """The tidy file."""
        return self.root / "results.parquet"

    def describe(self, bench: BenchConfig) -> None:
        """Write what the benchmark compares.

        Raises:
            NotADirectoryError: the folder is a file.
            ValueError: the folder is somebody else's, or that of a benchmark with another metric.
        """
        self.check_ours()
        path = self.root / "benchmark.json"
        if path.exists() and (old := self.facts()["metric"]) != bench.metric:
            raise ValueError(
                f"{self.root} holds a benchmark of {old}, not of {bench.metric}; give another --out"
            )
        with replacing(path) as file:
            file.write_text(json.dumps({**bench.facts(), "runs": len(bench.runs)}, indent=1))

    def check_ours(self) -> None:
        """Refuse a folder that is somebody else's, before anything is written.

        Raises:
            NotADirectoryError: it is a file.
            ValueError: it holds files and no benchmark of ours, or links that lead out of it.
        """
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(f"the folder {self.root} is a file; give another --out")
        if not self.root.is_dir():
            return
        names = sorted(place.name for place in self.root.iterdir() if place.name[:1] != ".")
        if names and "benchmark.json" not in names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise ValueError(
                f"{self.root} holds files ({shown}) and no benchmark, so nothing in it is touched; "
                "give a new or an empty folder with --out"
            )
        if names:
            self.facts()
        if links := [name for name in INSIDE if (self.root / name).is_symlink()]:
            raise ValueError(
                f"{self.root}/{links[0]} is a symbolic link, by which the benchmark would write "
                "elsewhere; put a file or folder in its place, or let the folder itself be the link"
            )

    def facts(self) -> dict[str, Any]:
        """What :meth:`describe` wrote.

        Raises:
            LookupError: no benchmark lies here.
            ValueError: the file is damaged, or of something else.
        """
        path = self.root / "benchmark.json"
        if not path.exists():
            raise LookupError(f"{self.root} holds no benchmark.json: it is no benchmark's folder")
        try:
            found: Any = json.loads(path.read_text())
        except ValueError:  # no JSON, or no text
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("metric"), str):
            raise ValueError(
                f"{path} does not say what a benchmark compares; give another folder, or remove it "
                "where the folder is a benchmark's, and start the command again"
            )
        return found

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Write the outcome of one run, durable before this returns."""
        with replacing(self.root / "outcomes" / f"{outcome['run_id']}.json") as file:
            file.write_text(json.dumps(outcome))

    def outcomes(self) -> dict[str, dict[str, Any]]:
        """All outcomes, by run id.

        Raises:
            ValueError: a file that is none, or of an earlier version; it can be removed, the run
                is then done again, or read back from its folder.
        """
        found = {}
        for path in sorted((self.root / "outcomes").glob("[!.]*.json")):
            try:
                found[path.stem] = json.loads(path.read_text())
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path} is damaged ({error}); remove it and start the command again, which "
                    "does that run anew"
                ) from None
            if lacks := sorted({"role", "takes_all"} - set(found[path.stem])):
                raise ValueError(
                    f"{path} does not say {' and '.join(lacks)} of its run: it is of an earlier "
                    f"version. Remove the folder {path.parent} and start the command again: runs "
                    "that have ended are read back from their folders"
                )
        return found

    def write_table(self, only: Iterable[str] | None = None) -> pd.DataFrame:
        """Write and return the tidy table: a row a round, failed runs with one row of their own."""
        import pandas as pd

        outcomes = self.outcomes()
        wanted = sorted(outcomes if only is None else set(only) & set(outcomes))
        rows = [row for run_id in wanted for row in _rows(outcomes[run_id])]
        frame = _one_type(pd.DataFrame(rows))
        if len(frame):
            with replacing(self.table) as file:
                frame.to_parquet(file, index=False)
        return frame

    def read_table(self) -> pd.DataFrame:
        """The tidy table.

        Raises:
            LookupError: no run has ended yet, or the table is of an earlier version.
        """
        import pandas as pd

        if not self.table.exists():
            raise LookupError(
                f"{self.root} holds no table yet; `lightning-al bench` writes it at its end, and "
                "with --collect at any time"
            )
        frame = pd.read_parquet(self.table)
        if lacks := sorted({"role", "takes_all"} - set(frame)):
            raise LookupError(
                f"{self.table} has no column {' and '.join(lacks)}: it is of an earlier version; "
                "run the `lightning-al bench` that made it again"
            )
        return frame

    def evidence(self) -> Evidence:
        """The table, what is compared, and the folders of those runs whose journals lie here.

        Raises:
            LookupError: no run has ended yet.
        """
        frame = self.read_table()
        return Evidence(frame, self.facts(), self.folders(frame))

    def folders(self, frame: pd.DataFrame) -> dict[str, Path]:
        """Run id -> folder, of those runs of a table whose journals lie here."""
        if not len(frame):
            return {}
        found = {str(run): self.root / "runs" / str(run) for run in frame["run_id"].unique()}
        return {run: path for run, path in found.items() if (path / "journal.jsonl").exists()}


def _one_type(frame: pd.DataFrame) -> pd.DataFrame:
    """Settings that are words in some rows and numbers in others, as words in all."""
    for name in frame.columns:
        if frame[name].dtype == object:
            kinds = {type(value) for value in frame[name].dropna()}
            if len(kinds) > 1 and str in kinds:
                frame[name] = frame[name].map(lambda v: v if v is None else str(v))
    return frame


def _rows(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    place = {axis: outcome["place"][axis] for axis in AXES}
    common = {"run_id": outcome["run_id"], **place, "status": outcome["status"]}
    common["query_size"] = int(common["query_size"])
    common |= {"role": outcome["role"], "takes_all": outcome["takes_all"]}
    metric = outcome["metric"]
    common |= {"metric": metric, "higher_is_better": outcome["higher_is_better"]}
    last = {name: outcome[name] for name in ("error", "seconds", "host", "process")}
    rows = outcome["rows"] or [{}]
    return [{**common, "value": row.get(metric), **row, **last} for row in rows]
