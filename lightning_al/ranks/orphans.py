"""Processes that Lightning started must not outlive the one that started them.

Lightning watches the children from rank 0 and ends everything when one fails; nobody watches rank
0. A rank in the middle of a long pass over the pool would notice its death only at the next
message.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from subprocess import Popen

__all__ = ["LOST", "children_watch_this_process", "die_with_parent", "end_with_starter"]
__all__ += ["watch_children"]

LOST = (
    "lost contact with another process of this run: it failed or was killed (see what it printed); "
    "the same command goes on where the journal ends"
)

PARENT = "LIGHTNING_AL_PARENT"
GRACE = 5.0  # seconds to end by itself, as at the end of every run


@contextmanager
def children_watch_this_process() -> Iterator[None]:
    """Processes started inside end with this one, once they call :func:`die_with_parent`."""
    os.environ[PARENT] = str(os.getpid())
    try:
        yield
    finally:
        os.environ.pop(PARENT, None)


def die_with_parent() -> None:
    """End this process soon after the one that started it, where that one asked for it."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        watch = threading.Thread(target=_watch, args=(int(parent),), daemon=True)
        watch.start()


def end_with_starter() -> None:
    """End this process soon after the one that started it by ``multiprocessing``, by any method."""
    starter = multiprocessing.parent_process()
    if starter is not None:
        threading.Thread(target=_wait_for, args=(starter.sentinel,), daemon=True).start()


def _wait_for(sentinel: int) -> None:
    wait([sentinel])
    _end()


def watch_children(processes: Sequence[Popen[bytes]]) -> None:
    """Say it when a process that this one started is killed, before Lightning ends this one."""
    for process in processes:
        threading.Thread(target=_watch_child, args=(process,), daemon=True).start()


def _watch_child(process: Popen[bytes]) -> None:
    # while this thread waits, Lightning's own poll finds the process alive: the word comes first
    if process.wait() < 0:
        print(LOST, file=sys.stderr, flush=True)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    _end()


def _end() -> None:
    time.sleep(GRACE)
    print(f"{LOST}; this process ends too", file=sys.stderr, flush=True)
    os._exit(1)
