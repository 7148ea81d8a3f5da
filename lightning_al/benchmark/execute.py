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
from typing import Any

from lightning_al.files import replacing
from lightning_al.journal.lock import FolderBusy
from lightning_al.protocols import asks_model

from .run_spec import RunSpec

__all__ = ["ONE_THREAD", "execute", "lost"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""The environment of a process that computes on one thread."""


def execute(
    spec: RunSpec, root: Path, *, keep: bool = False, patience: float = 60.0
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
    outcome = _told(spec)
    folder = root / "runs" / spec.run_id
    try:
        rows = _patiently(spec, folder, patience)
        outcome |= {"status": "done", "error": "", "rows": rows}
        if not keep:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    except Exception as error:  # one run that fails must not stop the others
        busy = isinstance(error, FolderBusy)
        status = "busy" if busy else "failed"
        outcome |= {"status": status, "error": f"{type(error).__name__}: {error}", "rows": []}
        if not busy:  # beside the run's folder, which stays a run's, or empty
            with replacing(root / "errors" / f"{spec.run_id}.txt") as file:
                file.write_text(traceback.format_exc())
    return {
        **outcome,
        "seconds": time.perf_counter() - start,
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


def lost(spec: RunSpec, error: str, host: str = "", process: int | None = 0) -> dict[str, Any]:
    """The outcome of a run whose process died before it could say anything."""
    ended = {"status": "failed", "error": error, "rows": [], "seconds": 0.0}
    return {**_told(spec), **ended, "host": host, "process": process}


def _told(spec: RunSpec) -> dict[str, Any]:
    """What an outcome says of its run, however that ended."""
    part = {"role": spec.role, "takes_all": spec.takes_all}
    counts = {"metric": spec.metric, "higher_is_better": spec.higher_is_better}
    return {"run_id": spec.run_id, "place": dict(spec.place), **part, **counts}


def _patiently(spec: RunSpec, folder: Path, patience: float) -> list[dict[str, Any]]:
    end = time.monotonic() + patience
    while True:
        try:
            return _run(spec, folder)
        except FolderBusy:
            if time.monotonic() > end:
                raise
        time.sleep(1)


def _run(spec: RunSpec, folder: Path) -> list[dict[str, Any]]:
    from lightning_al.assembly.building import Assembly
    from lightning_al.assembly.parsed import parsed
    from lightning_al.rounds.run import Run

    config = parsed(spec.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = Assembly(config)
        changes: dict[str, Any] = {"run_dir": folder, "keep_checkpoints": "last", "files": False}
        changes["fits"] = spec.config.get("fits", "auto")
        if spec.takes_all:
            everything = _pool_size(parts, config)
            changes |= {"query_size": everything, "budget": everything}
        learner = parts.learner(privileged=True, **changes)
        live = learner.parts()
        history = Run(learner, live).rounds()
    if history.waiting:
        raise ValueError(f"a benchmark cannot wait for people: {history.stopped}")
    model = asks_model(live.strategy)
    return [
        {**r.row(), "acquired": [int(i) for i in r.acquired], "asks_model": model}
        for r in history.rounds
    ]


def _pool_size(parts: Any, config: Mapping[str, Any]) -> int:
    parts.datamodule.start(config["seed"])
    return len(parts.datamodule.pool)
