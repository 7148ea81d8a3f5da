"""One thread around small linear algebra, where several would only wait for each other.

The BLAS of NumPy and that of SciPy, OpenMP and torch each keep threads of their own. On matrices of
a few hundred rows they gain nothing, and where another process holds a core each product waits
for a thread that does not run. What is large enough to gain is left with the threads it has.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["SMALL", "one_thread", "small", "torch_alone", "working_alone"]

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 1e9
"""Multiplications, about a tenth of a second of one core: what takes no more is done by one."""
BRINGERS = ("sklearn.utils._openmp_helpers", "lightgbm", "xgboost")
"""Modules that load libraries with threads of their own, beside NumPy and SciPy."""

_lock = threading.RLock()
_depth = 0  # how many are inside, of all threads of Python
_before: list[tuple[Any, int]] = []  # (BLAS, its threads) outside; one for the whole process
_here = threading.local()  # `alone`: this thread of Python is inside


@contextmanager
def torch_alone() -> Iterator[None]:
    """Torch on one thread, in this thread of Python; costs a microsecond."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch, BLAS and OpenMP on one thread; afterwards on as many as before.

    Costs some 20 microseconds, nothing inside of another. The first time, and once more after
    scikit-learn was imported, the libraries are looked for, which takes some 20 milliseconds.
    """
    if getattr(_here, "alone", False):
        yield
        return
    blas, others = _libraries(tuple(name for name in BRINGERS if name in sys.modules))
    mine = [(library, library.get_num_threads()) for library in others]
    with torch_alone():
        _here.alone = True
        _enter(blas)
        try:
            for library, _ in mine:
                library.set_num_threads(1)
            yield
        finally:
            for library, count in mine:
                library.set_num_threads(count)
            _leave()
            _here.alone = False


def _enter(blas: list[Any]) -> None:
    global _depth
    with _lock:
        if _depth == 0:
            _before[:] = [(library, library.get_num_threads()) for library in blas]
            for library, _ in _before:
                _put(library, 1)
        _depth += 1


def _leave() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            for library, count in _before:
                _put(library, count)


def _put(library: Any, count: int) -> None:
    """Set the threads of a BLAS, whichever thread of Python has set them before.

    threadpoolctl (3.8) lets one thread of Python do that and passes over the others; here who
    sets is counted under a lock.
    """
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)


@functools.lru_cache(maxsize=1)
def _libraries(loaded: tuple[str, ...]) -> tuple[list[Any], list[Any]]:
    """Controllers of the BLAS, whose threads a process has once, and of OpenMP, each thread's own.

    Args:
        loaded: of the modules that bring any; with others it is looked again.
    """
    import scipy.linalg.lapack  # noqa: F401  its BLAS should be there to be found
    from threadpoolctl import ThreadpoolController  # inside: it looks at all that is loaded

    blas: list[Any] = []
    others: list[Any] = []
    for library in ThreadpoolController().lib_controllers:
        own = library.user_api != "blas" or getattr(library, "threading_layer", "") == "openmp"
        (others if own else blas).append(library)
    return blas, others


def small(work: float, *, blas: bool = True) -> AbstractContextManager[None]:
    """One thread where there are few multiplications, else nothing.

    Args:
        work: how many.
        blas: NumPy, SciPy or scikit-learn do some of them; else torch does all.
    """
    if work > SMALL or getattr(_here, "alone", False):
        return nullcontext()
    return one_thread() if blas else torch_alone()


def working_alone(
    work: Callable[..., float], *, blas: bool = True
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function run on one thread where its work is small.

    Args:
        work: multiplications, from the arguments of the function as they are given.
        blas: see :func:`small`.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> T:
            with small(work(*args, **kwargs), blas=blas):
                return function(*args, **kwargs)

        return alone

    return decorate
