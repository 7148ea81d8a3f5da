"""Persistent worker processes on this machine, one torch thread each.

The parent hands out runs, and groups of them that are fitted together, and writes their outcomes.
A worker that dies is replaced, and its runs are given out again: they go on from their journals.
Those of a group that has killed several workers are given out one by one then, and one that does so
alone is recorded as failed. Workers end when their parent is gone. On Linux, without accelerators,
they are forked from a process that has imported all that they need, once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lightning_al.ranks.orphans import end_with_starter

from .execute import ONE_THREAD, lost
from .groups import Unit
from .unit import outcomes_of

__all__ = ["run_in_process", "run_on_workers"]

LOADED = (
    "lightning_al.benchmark.lockstep",
    *("lightning_al.assembly.building", "lightning_al.assembly.parsed"),
    *("lightning_al.datamodules", "lightning_al.callbacks"),
)
"""What workers need, and takes seconds to import."""

LIVES = 3  # workers that runs may take down before they are given out alone, and then fail


def run_in_process(
    units: Sequence[Unit], root: Path, keep: bool = False
) -> Iterator[dict[str, Any]]:
    """Do one after another in this process; outcomes as they come."""
    for unit in units:
        yield from outcomes_of(unit, root, keep)


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    unit: Unit = ()  # what it was given, without the runs that ended


def run_on_workers(
    units: Sequence[Unit], root: Path, workers: int, keep: bool = False
) -> Iterator[dict[str, Any]]:
    """Do the runs on ``workers`` processes; outcomes in the order in which they end.

    Raises:
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    team = _Team(root, keep, deque(units))
    try:
        for _ in range(min(workers, len(units))):
            team.hire()
        while team.members:
            yield from team.listen()
    finally:
        team.dismiss()


@dataclass
class _Team:
    root: Path
    keep: bool
    waiting: deque[Unit]
    members: dict[int, _Worker] = field(default_factory=dict)  # by sentinel
    deaths: dict[str, int] = field(default_factory=dict)  # by run id

    def hire(self) -> None:
        with _one_thread():
            context = _context()
            here, there = context.Pipe()
            given = (there, self.root, self.keep, dict(os.environ))
            process = context.Process(target=_work, args=given)
            process.start()
        there.close()
        worker = _Worker(process, here)
        self.members[process.sentinel] = worker
        self._give(worker)

    def _give(self, worker: _Worker) -> None:
        worker.unit = self.waiting.popleft() if self.waiting else ()
        try:
            worker.line.send(worker.unit)
        except (BrokenPipeError, OSError):
            return  # it died: its sentinel says so
        if not worker.unit:
            self._release(worker)

    def _release(self, worker: _Worker) -> None:
        self.members.pop(worker.process.sentinel, None)
        worker.process.join()
        worker.line.close()

    def listen(self) -> Iterator[dict[str, Any]]:
        """Wait for something to happen; outcomes of runs that ended."""
        lines = {worker.line: worker for worker in self.members.values()}
        ready = wait([*lines, *self.members])
        for worker in list(lines.values()):
            if worker.line not in ready and worker.process.sentinel not in ready:
                continue
            try:
                outcome = worker.line.recv() if worker.line.poll() else None
            except (EOFError, OSError):
                outcome = None
            if outcome is not None:
                ended = outcome["run_id"]
                worker.unit = tuple(spec for spec in worker.unit if spec.run_id != ended)
                yield outcome
                if not worker.unit:
                    self._give(worker)
            elif worker.process.sentinel in self.members:
                yield from self._buried(worker)

    def _buried(self, worker: _Worker) -> Iterator[dict[str, Any]]:
        """A worker died: its runs go back, or count as failed; another takes its place."""
        worker.process.kill()  # its line may be closed before it is gone
        self._release(worker)
        for spec in worker.unit:
            self.deaths[spec.run_id] = self.deaths.get(spec.run_id, 0) + 1
        died = max((self.deaths[spec.run_id] for spec in worker.unit), default=0)
        if worker.unit and died < LIVES:
            self.waiting.appendleft(worker.unit)
        elif len(worker.unit) > 1:  # whichever of them it was: each by itself
            self.waiting.extendleft((spec,) for spec in reversed(worker.unit))
        elif worker.unit:
            why = (
                f"its worker died {died} times, last with exit code {worker.process.exitcode} "
                "(-9: killed, often for want of memory)"
            )
            yield lost(worker.unit[0], why, os.uname().nodename, worker.process.pid)
        if self.waiting:
            self.hire()

    def dismiss(self) -> None:
        """End all workers at once; their runs go on at the next start."""
        for worker in self.members.values():
            worker.process.kill()
        for worker in self.members.values():
            worker.process.join()
            worker.line.close()
        self.members.clear()


def _context() -> Any:
    """How workers are started: by spawning one wherever forking may not be safe."""
    import torch

    if sys.platform != "linux" or torch.accelerator.is_available():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside compute on one thread."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(line: Connection, root: Path, keep: bool, environment: Mapping[str, str]) -> None:
    """What a worker does: runs, until it is given nothing or its parent is gone.

    Args:
        line: to its parent.
        root: folder of the benchmark.
        keep: leave checkpoints.
        environment: that its parent has; what it was forked from may be older.
    """
    end_with_starter()
    os.environ.clear()
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            unit = line.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        if not unit:
            return
        try:
            for outcome in outcomes_of(unit, root, keep):
                line.send(outcome)
        except (BrokenPipeError, KeyboardInterrupt):
            return
