"""Persistent worker processes on this machine, one torch thread each.

The parent hands out runs and writes their outcomes. A worker that dies is replaced and its run is
given out again, which goes on from its journal; a run that has killed several workers is recorded
as failed. Workers end when their parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lightning_al.ranks.orphans import children_watch_this_process, die_with_parent

from .execute import ONE_THREAD, execute, lost
from .run_spec import RunSpec

__all__ = ["run_in_process", "run_on_workers"]

LIVES = 3  # workers that one run may take down before it counts as failed


def run_in_process(
    specs: Sequence[RunSpec], root: Path, keep: bool = False
) -> Iterator[dict[str, Any]]:
    """Do the runs one after another in this process; outcomes as they come."""
    for spec in specs:
        yield execute(spec, root, keep=keep)


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    spec: RunSpec | None = None


def run_on_workers(
    specs: Sequence[RunSpec], root: Path, workers: int, keep: bool = False
) -> Iterator[dict[str, Any]]:
    """Do the runs on ``workers`` processes; outcomes in the order in which they end.

    Raises:
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    team = _Team(root, keep, deque(specs))
    try:
        for _ in range(min(workers, len(specs))):
            team.hire()
        while team.members:
            yield from team.listen()
    finally:
        team.dismiss()


@dataclass
class _Team:
    root: Path
    keep: bool
    waiting: deque[RunSpec]
    members: dict[int, _Worker] = field(default_factory=dict)  # by sentinel
    deaths: dict[str, int] = field(default_factory=dict)  # by run id

    def hire(self) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self.root, self.keep))
        with _one_thread(), children_watch_this_process():
            process.start()
        there.close()
        worker = _Worker(process, here)
        self.members[process.sentinel] = worker
        self._give(worker)

    def _give(self, worker: _Worker) -> None:
        worker.spec = self.waiting.popleft() if self.waiting else None
        try:
            worker.line.send(worker.spec)
        except (BrokenPipeError, OSError):
            return  # it died: its sentinel says so
        if worker.spec is None:
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
                yield outcome
                self._give(worker)
            elif worker.process.sentinel in self.members:
                yield from self._buried(worker)

    def _buried(self, worker: _Worker) -> Iterator[dict[str, Any]]:
        """A worker died: its run goes back, or counts as failed; another takes its place."""
        worker.process.kill()  # its line may be closed before it is gone
        self._release(worker)
        spec = worker.spec
        if spec is not None:
            self.deaths[spec.run_id] = self.deaths.get(spec.run_id, 0) + 1
            if self.deaths[spec.run_id] < LIVES:
                self.waiting.appendleft(spec)
            else:
                why = (
                    f"its worker died {LIVES} times, last with exit code "
                    f"{worker.process.exitcode} (-9: killed, often for want of memory)"
                )
                yield lost(spec, why, os.uname().nodename, worker.process.pid)
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


def _work(line: Connection, root: Path, keep: bool) -> None:
    """What a worker does: runs, until it is given None or its parent is gone."""
    die_with_parent()
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            spec = line.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        if spec is None:
            return
        try:
            line.send(execute(spec, root, keep=keep))
        except (BrokenPipeError, KeyboardInterrupt):
            return
