"""Where the runs of a grid are done: on this machine, on Ray, or as tasks of a SLURM array."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .execute import ONE_THREAD, lost
from .groups import Unit
from .unit import outcomes_of

__all__ = ["on_ray", "shard", "slurm_script"]

T = TypeVar("T")


def on_ray(
    units: Sequence[Unit], root: Path, *, address: str | None = None, keep: bool = False
) -> Iterator[dict[str, Any]]:
    """Do each unit as a Ray task of one CPU; outcomes in the order in which they end.

    Run folders lie on the machine that did the run; where the machines share ``root``, a killed
    benchmark goes on inside its runs.

    Args:
        units: groups of runs, and runs alone.
        root: folder of the benchmark.
        address: of a cluster; by default the one that ``RAY_ADDRESS`` names, else a local one.
        keep: leave checkpoints.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "the engine ray needs Ray: pip install 'lightning-al[ray]', or use --workers N"
        ) from error
    started = not ray.is_initialized()
    if started:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": ONE_THREAD},
        )
    task = ray.remote(num_cpus=1, max_retries=2)(_ray_task)
    try:
        of = {task.remote(unit, str(root), keep): unit for unit in units}
        while of:
            (ref,), _ = ray.wait(list(of), num_returns=1)
            unit = of.pop(ref)
            try:
                yield from ray.get(ref)
            except ray.exceptions.RayError as error:
                if len(unit) > 1:  # whichever of them it was: each by itself
                    of |= {task.remote((spec,), str(root), keep): (spec,) for spec in unit}
                    continue
                first = (str(error).strip() or "no message").splitlines()[0]
                yield lost(unit[0], f"{type(error).__name__}: {first}")
    finally:
        if started:
            ray.shutdown()


def _ray_task(unit: Unit, root: str, keep: bool) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    return list(outcomes_of(unit, Path(root), keep))


def shard(units: Sequence[T], which: str) -> Sequence[T]:
    """The part ``i/n`` of what is handed out: that at places i, i + n, ... (0 <= i < n).

    Raises:
        ValueError: not of that form.
    """
    try:
        i, n = (int(word) for word in which.split("/"))
    except ValueError:
        i, n = -1, 0
    if not 0 <= i < n:
        raise ValueError(f"a shard is `i/n` with 0 <= i < n, such as 0/8, got {which!r}")
    return units[i::n]


def slurm_script(words: Sequence[str], tasks: int, workers: int, root: Path) -> str:
    """A job script for ``sbatch``: an array of ``tasks`` tasks, each a shard on ``workers`` cores.

    Args:
        words: of the ``bench`` command, without engine, shard and out.
        tasks: how many.
        workers: processes a task.
        root: folder of the benchmark, on a file system that all tasks see.
    """
    root = root.resolve()
    command = [sys.executable, "-m", "lightning_al", "bench", *words, "--out", str(root)]
    typed = " ".join(map(shlex.quote, command))
    return f"""#!/bin/bash
#SBATCH --job-name=lightning-al-bench
#SBATCH --array=0-{tasks - 1}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={max(1, workers)}
#SBATCH --output={shlex.quote(str(root / "slurm"))}/%a.log
#SBATCH --requeue
# afterwards, or meanwhile: the table of what has ended, and what is left
#   {typed} --collect
set -eu
exec {typed} --workers {workers} --shard "$SLURM_ARRAY_TASK_ID/{tasks}"
"""
