"""How many threads the fits of a run are given: what the user set, else what is faster.

A step of a small network takes a millisecond, of which several threads spend most waiting for each
other, and all of it where another process holds a core.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["at", "chosen", "continued", "faster", "is_set"]

log = logging.getLogger(__name__)

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
GAIN = 4 / 3  # by which all threads must be faster than one to be worth their waiting
TURNS, ROOM = 7, 0.5  # repetitions at most, and seconds after which there are no more
LONG = 0.25  # seconds of a step that is no small network's, beside another process too
CORES = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def is_set(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody chose torch's threads: by a variable, or another number than it takes.

    Torch takes as many as the process has cores, counted with or without hyper-threading.
    """
    if any(environment.get(name) for name in VARIABLES):
        return True
    return torch.get_num_threads() not in _usual()


def _usual() -> set[int]:
    if not hasattr(os, "sched_getaffinity"):  # of Linux alone
        count = os.cpu_count() or 1
        return {count, max(1, count // 2)}
    mine = os.sched_getaffinity(0)
    files = [Path(CORES.format(cpu)) for cpu in mine]
    cores = {file.read_text() for file in files if file.is_file()}
    return {len(mine), len(cores) or len(mine)}


def chosen(option: int | str) -> int | None:
    """The number that is settled without a look at the run; None where it is to be timed.

    Args:
        option: of the plan, a number or "auto".
    """
    if isinstance(option, int):
        return option
    now = torch.get_num_threads()
    return now if now == 1 or is_set() else None


def continued(settled: int | None, recorded: int) -> int:
    """The number of a run that goes on: as it began, where the machine has as many."""
    if settled is not None:
        return settled
    now = torch.get_num_threads()
    if recorded > now:
        log.warning(
            "the run began with %d threads, here are %d: the last bits of later fits may differ "
            "from those of an undisturbed run",
            *(recorded, now),
        )
    return min(recorded, now)


def faster(step: Callable[[], object], many: int) -> int:
    """1 or ``many``: the number of threads that a step is better given.

    One, unless ``many`` are faster by a third: threads that gain less mostly wait. Both are timed
    in turn, so that a slow moment strikes both. A step that takes long has ``many``, untimed.

    Args:
        step: does the same each time; one call, or at least five.
        many: threads, more than one.
    """

    def seconds(count: int) -> float:
        with at(count):
            clock = time.perf_counter()
            step()
            return time.perf_counter() - clock

    if seconds(many) > LONG:
        return many
    found: list[tuple[float, float]] = []
    end = time.perf_counter() + ROOM
    for turn in range(TURNS + 1):
        found.append((seconds(1), seconds(many)))
        if turn and time.perf_counter() > end:
            break
    one, all_ = map(statistics.median, zip(*found[1:], strict=True))  # the first warms up
    return many if one > GAIN * all_ else 1


@contextmanager
def at(count: int | None) -> Iterator[None]:
    """So many threads of torch; afterwards as many as before. None leaves them alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
