"""One run of a grid, in this process: the same as ``lightning-al run`` with its settings."""

from __future__ import annotations

import os
import shutil
import socket
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_al.files import replacing
from lightning_al.journal.lock import FolderBusy
from lightning_al.protocols import asks_model

from .run_spec import RunSpec

if TYPE_CHECKING:
    from lightning_al.history.history import History
    from lightning_al.rounds.run import Run

__all__ = ["ONE_THREAD", "PATIENCE", "done", "execute", "failed", "lost", "opened"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""The environment of a process that computes on one thread."""

PATIENCE = 60.0
"""Seconds to wait for a process that is at work on a run."""


def execute(
    spec: RunSpec, root: Path, *, keep: bool = False, patience: float = PATIENCE
) -> dict[str, Any]:
    """Do one run, or go on with it, and say what came out; never raises for a run that fails.

    Args:
        spec: the run.
        root: folder of the benchmark; the run's own is ``runs/<run id>`` in it.
        keep: leave the checkpoints of a run that ended well.
        patience: seconds to wait for another process that is at work on the run; a worker whose
            parent was killed holds it for some seconds yet.

    Returns:
        ``run_id``, ``status`` ("done", "failed" or "busy": another process is at work on it),
        ``error``, ``role`` and ``takes_all`` of the run, ``rows`` (one a round, with the items
        ``acquired``, and ``asks_model``: whether the strategy chooses with the fitted model),
        ``seconds``, ``host`` and ``process``.
    """
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = opened(spec, root, time.monotonic() + patience)
            history = run.rounds()
        return done(spec, root, run, history, time.perf_counter() - start, keep=keep)
    except Exception as error:  # one run that fails must not stop the others
        return failed(spec, root, error, time.perf_counter() - start)


def opened(spec: RunSpec, root: Path, until: float, **changes: Any) -> Run:
    """A run of the grid, in its folder, before its first round.

    Args:
        spec: the run.
        root: folder of the benchmark.
        until: when to give up waiting for another process, by the monotonic clock.
        changes: options of the run that are no part of what it is.

    Raises:
        FolderBusy: another process is at work on it.
    """
    while True:
        try:
            return _opened(spec, root / "runs" / spec.run_id, changes)
        except FolderBusy:
            if time.monotonic() > until:
                raise
        time.sleep(1)


def _opened(spec: RunSpec, folder: Path, changes: Mapping[str, Any]) -> Run:
    from lightning_al.assembly.building import Assembly
    from lightning_al.assembly.parsed import parsed
    from lightning_al.rounds.run import Run

    config = parsed(spec.config)
    parts = Assembly(config)
    given: dict[str, Any] = {"run_dir": folder, "keep_checkpoints": "last", "files": False}
    given["fits"] = spec.config.get("fits", "auto")
    if spec.config.get("tuning") is not None:
        given["tuning_shared"] = folder.parent.parent / "tuning"
    if spec.takes_all:
        everything = _pool_size(parts, config)
        given |= {"query_size": everything, "budget": everything}
    learner = parts.learner(privileged=True, **given, **changes)
    return Run(learner, learner.parts())


def _pool_size(parts: Any, config: Mapping[str, Any]) -> int:
    parts.datamodule.start(config["seed"])
    return len(parts.datamodule.pool)


def done(
    spec: RunSpec, root: Path, run: Run, history: History, seconds: float, *, keep: bool = False
) -> dict[str, Any]:
    """The outcome of a run that has ended.

    Raises:
        ValueError: it waits for somebody.
    """
    if history.waiting:
        raise ValueError(f"a benchmark cannot wait for people: {history.stopped}")
    model = asks_model(run.parts.strategy)
    rows = [
        {**r.row(), "acquired": [int(i) for i in r.acquired], "asks_model": model}
        for r in history.rounds
    ]
    if not keep:
        shutil.rmtree(root / "runs" / spec.run_id / "checkpoints", ignore_errors=True)
    return {**_told(spec), "status": "done", "error": "", "rows": rows, **_ended(seconds)}


def failed(spec: RunSpec, root: Path, error: Exception, seconds: float) -> dict[str, Any]:
    """The outcome of a run that ended by an error, or is another process's."""
    busy = isinstance(error, FolderBusy)
    if not busy:  # beside the run's folder, which stays a run's, or empty
        with replacing(root / "errors" / f"{spec.run_id}.txt") as file:
            file.write_text("".join(traceback.format_exception(error)))
    told = {"status": "busy" if busy else "failed", "error": f"{type(error).__name__}: {error}"}
    return {**_told(spec), **told, "rows": [], **_ended(seconds)}


def _ended(seconds: float) -> dict[str, Any]:
    """When and where a run ended."""
    return {"seconds": seconds, "host": socket.gethostname(), "process": os.getpid()}


def lost(spec: RunSpec, error: str, host: str = "", process: int | None = 0) -> dict[str, Any]:
    """The outcome of a run whose process died before it could say anything."""
    ended = {"status": "failed", "error": error, "rows": [], "seconds": 0.0}
    return {**_told(spec), **ended, "host": host, "process": process}


def _told(spec: RunSpec) -> dict[str, Any]:
    """What an outcome says of its run, however that ended."""
    part = {"role": spec.role, "takes_all": spec.takes_all}
    counts = {"metric": spec.metric, "higher_is_better": spec.higher_is_better}
    return {"run_id": spec.run_id, "place": dict(spec.place), **part, **counts}
