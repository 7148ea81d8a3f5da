"""Workers: how they are started, that they end with their parent, and what is given out again."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import stack_parts as parts

from lightning_al.benchmark import workers
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.workers import LIVES, _Team, _Worker
from lightning_al.ranks import orphans


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_workers_are_forked_where_that_is_safe(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert workers._context().get_start_method() == "forkserver"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert workers._context().get_start_method() == "spawn"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert workers._context().get_start_method() == "spawn"


def test_a_worker_has_the_environment_of_its_parent_not_of_its_server(monkeypatch):
    monkeypatch.setenv("OF_THE_SERVER", "1")
    monkeypatch.setattr(workers, "end_with_starter", lambda: None)
    here, there = multiprocessing.Pipe()
    here.send(())
    before = dict(os.environ)
    try:
        workers._work(there, Path(), False, {"OF_THE_PARENT": "1"})
        assert dict(os.environ) == {"OF_THE_PARENT": "1"}
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_process_ends_with_the_one_that_started_it(monkeypatch, capfd):
    reading, writing = multiprocessing.Pipe(duplex=False)
    ended = threading.Event()
    starter = SimpleNamespace(sentinel=reading)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: starter)
    monkeypatch.setattr(orphans, "GRACE", 0.0)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    orphans.end_with_starter()
    assert not ended.wait(0.1)
    writing.close()  # the starter is gone
    assert ended.wait(30)
    assert orphans.LOST in capfd.readouterr().err


class Gone:
    """A process that was killed."""

    exitcode, pid, sentinel = -9, 1, 0

    def kill(self): ...

    def join(self): ...


class Line:
    def close(self): ...


def test_a_worker_that_dies_of_one_run_of_a_group_is_told_from_the_others():
    """Those of a group are given out one by one, once several workers have died of it."""
    group = bench_of(parts.settings(seeds=2)).groups[0]
    team = _Team(Path(), False, deque([group]))
    team.hire = lambda: None
    for death in range(LIVES):
        unit = team.waiting.popleft()
        assert unit == group
        assert not list(team._buried(_Worker(Gone(), Line(), unit))), death
    assert list(team.waiting) == [(spec,) for spec in group]
    ((lost),) = team._buried(_Worker(Gone(), Line(), team.waiting.popleft()))
    assert (lost["run_id"], lost["status"]) == (group[0].run_id, "failed")
    assert f"died {LIVES + 1} times" in lost["error"]
    assert list(team.waiting) == [(spec,) for spec in group[1:]]


def test_what_has_ended_of_a_group_is_not_given_out_again():
    group = bench_of(parts.settings(seeds=2)).groups[0]
    team = _Team(Path(), False, deque())
    team.hire = lambda: None
    assert not list(team._buried(_Worker(Gone(), Line(), group[2:])))
    assert list(team.waiting) == [group[2:]]
    assert not list(team._buried(_Worker(Gone(), Line(), ())))
    assert list(team.waiting) == [group[2:]]
