"""A whole benchmark: what is left of a grid is done, written down, and put into one table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .engines import on_ray
from .grid import BenchConfig
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
        specs: the runs of this call; by default all of the benchmark.
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
    left = [s for s in mine if not _done(ended.get(s.run_id), retry_failed)]
    coming: Iterable[dict[str, Any]]
    if engine == "ray":
        coming = on_ray(left, results.root, address=address, keep=keep_checkpoints)
    else:
        coming = _here(left, results.root, workers, keep_checkpoints)
    _collect(coming, results, len(mine), len(left), progress)
    return results.write_table(s.run_id for s in bench.runs)


def _here(
    left: Sequence[RunSpec], root: Path, workers: int, keep: bool
) -> Iterable[dict[str, Any]]:
    if not left:
        return ()
    if workers == 0:
        return run_in_process(left, root, keep)
    return run_on_workers(left, root, workers, keep)


def _done(outcome: dict[str, Any] | None, retry_failed: bool) -> bool:
    return outcome is not None and not (retry_failed and outcome["status"] == "failed")


def _collect(
    coming: Iterable[dict[str, Any]], results: Results, total: int, left: int, progress: bool
) -> None:
    bar = tqdm(total=total, initial=total - left, unit="run", disable=not (progress and total))
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
