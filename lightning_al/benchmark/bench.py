"""A whole benchmark: what is left of a grid is done, written down, and put into one table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .engines import on_ray
from .grid import BenchConfig
from .groups import Unit, units_of
from .results import Results
from .run_spec import RunSpec
from .workers import run_in_process, run_on_workers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["run_bench"]

log = logging.getLogger(__name__)


def run_bench(
    bench: BenchConfig,
    root: str | Path,
    *,
    workers: int = 1,
    engine: str = "local",
    address: str | None = None,
    specs: Sequence[RunSpec] | None = None,
    retry_failed: bool = False,
    keep_checkpoints: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Do the runs that are left and return the tidy table of all.

    The same call on the same folder goes on where it stopped, however it stopped.

    Args:
        bench: what is compared.
        root: folder of the results.
        workers: processes on this machine (engine "local"); 0 stays in this one, for debugging.
        engine: "local" or "ray".
        address: of a Ray cluster.
        specs: the runs of this call; by default all of the benchmark. Runs that are fitted together
            are done together: those of their groups come along.
        retry_failed: do runs again that are recorded as failed.
        keep_checkpoints: leave the last checkpoint of each run.
        progress: show a bar.

    Raises:
        ValueError: an unknown engine, or a folder of another benchmark.
    """
    if engine not in ("local", "ray"):
        raise ValueError(f"engine is 'local' or 'ray', got {engine!r}")
    results = Results(Path(root))
    results.describe(bench)
    mine = list(bench.runs if specs is None else specs)
    ended = results.outcomes()
    left = _left(bench, mine, ended, retry_failed)
    coming: Iterable[dict[str, Any]]
    if engine == "ray":
        coming = on_ray(left, results.root, address=address, keep=keep_checkpoints)
    else:
        coming = _here(left, results.root, workers, keep_checkpoints)
    _collect(coming, results, len(mine), sum(map(len, left)), progress)
    return results.write_table(s.run_id for s in bench.runs)


def _left(
    bench: BenchConfig,
    mine: Sequence[RunSpec],
    ended: Mapping[str, Mapping[str, Any]],
    retry_failed: bool,
) -> list[Unit]:
    """What is to be done: runs with the others of their groups, and failed ones again, alone."""
    found: list[Unit] = []
    for unit in units_of(mine, bench.groups):
        found.append(tuple(spec for spec in unit if spec.run_id not in ended))
    asked, runs = {spec.run_id for spec in mine}, sum(map(len, found))
    if more := runs - sum(run_id not in ended for run_id in asked):
        log.info("%d runs more are done: they are fitted together with those asked for", more)
    if retry_failed:
        found += [(s,) for s in mine if ended.get(s.run_id, {}).get("status") == "failed"]
    return [unit for unit in found if unit]


def _here(left: Sequence[Unit], root: Path, workers: int, keep: bool) -> Iterable[dict[str, Any]]:
    if not left:
        return ()
    if workers == 0:
        return run_in_process(left, root, keep)
    return run_on_workers(left, root, workers, keep)


def _collect(
    coming: Iterable[dict[str, Any]], results: Results, total: int, left: int, progress: bool
) -> None:
    whole, silent = max(total, left), not (progress and total)
    bar = tqdm(total=whole, initial=whole - left, unit="run", disable=silent)
    failed = 0
    with bar:
        for outcome in coming:
            if outcome["status"] == "busy":
                log.warning("run %s is done by another process: left to it", outcome["run_id"])
            else:
                results.add(outcome)
            failed += outcome["status"] == "failed"
            bar.set_postfix_str(f"{failed} failed" if failed else "")
            bar.update()
