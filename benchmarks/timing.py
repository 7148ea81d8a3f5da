"""CPU seconds, one thread, contenders in turn: what the scripts of this folder share."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["interleaved", "medians", "one_thread", "seconds", "show"]


def one_thread() -> None:
    """Keep torch, BLAS and OpenMP on one thread for good, so that CPU seconds compare."""
    import sklearn.utils  # noqa: F401  its OpenMP and SciPy's BLAS should be there to be found
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of this process that one call takes; what others left is collected before."""
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


def interleaved(
    calls: Mapping[str, Callable[[], float]], repeat: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Figures of every contender, measured in turn so that a slow moment strikes all alike.

    Args:
        calls: name -> a call that gives its own figure (:func:`seconds` of the part that counts).
        repeat: rounds that count; the order within a round is drawn anew.
        warm_up: rounds before them.
    """
    figures: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    for repetition in range(warm_up + repeat):
        for name in order:
            figure = calls[name]()
            if repetition >= warm_up:
                figures[name].append(figure)
        shuffle(order)
    return figures


def medians(figures: Mapping[str, list[float]]) -> dict[str, float]:
    """Name -> median."""
    return {name: statistics.median(values) for name, values in figures.items()}


def show(
    figures: Mapping[str, list[float]], unit: str, scale: float = 1.0, absent: Mapping = {}
) -> None:
    """Print median, least and largest figure of each, and the peers that could not be imported."""
    width = max(map(len, (*figures, *absent)))
    print(f"{'':{width}}  {'median':>10}{'least':>10}{'largest':>10}  {unit}")
    for name, values in figures.items():
        row = (statistics.median(values), min(values), max(values))
        print(f"{name:{width}}  " + "".join(f"{v * scale:10.3f}" for v in row))
    for name, why in absent.items():
        print(f"{name:{width}}  peer: not installed ({why})")
