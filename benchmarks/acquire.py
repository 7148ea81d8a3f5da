"""Moving 1,000 of 1,000,000 items to the labelled set, ours beside the peers.

    python benchmarks/acquire.py

CPU seconds on one thread, in turn, the median of 5. Asked: at most 1 ms for the move. The second
figure also reads who is labelled and who is not, as arrays of positions, as the next round does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from peers import quiet, with_peers
from timing import interleaved, medians, one_thread, show
from torch.utils.data import TensorDataset

from lightning_al.datamodules import ActiveDataModule, TensorItems

ASK = 1e-3

Move = Callable[[torch.Tensor], object]
Read = Callable[[], object]


def timed(move: Move, read: Read, queries: Iterator[torch.Tensor], both: bool) -> float:
    """Seconds of one move of fresh items, with the two reads if asked."""
    index = next(queries)
    start = time.process_time()
    move(index)
    if both:
        read()
    spent = time.process_time() - start
    read()
    return spent


def ours(items: int, *, answers: bool) -> tuple[Move, Read]:
    """Our datamodule; the labels are its data set's, or an oracle's."""
    data = TensorItems(torch.zeros(items, 1), torch.zeros(items, dtype=torch.long))
    test = TensorItems(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    module = ActiveDataModule(data, test, initial=1000)
    module.classes = 2
    module.setup()
    given = torch.ones(1000, dtype=torch.long)
    free = module.pool.clone()

    def move(rows: torch.Tensor) -> None:
        module.acquire(free[rows], given if answers else None)

    return move, lambda: (module.labelled, module.pool)


def scikit_activeml(items: int) -> tuple[Move, Read]:
    """Labels in an array with NaN for "unknown": moving is an assignment, reading is the work."""
    from skactiveml.utils import labeled_indices, unlabeled_indices

    y = np.full(items, np.nan)

    def move(rows: torch.Tensor) -> None:
        y[rows.numpy()] = 1.0

    return move, lambda: (labeled_indices(y), unlabeled_indices(y))


def baal(items: int) -> tuple[Move, Read]:
    """ActiveLearningDataset; positions are those in the pool at that time."""
    from baal.active.dataset import ActiveLearningDataset

    data = TensorDataset(torch.zeros(items, 1), torch.zeros(items))
    active = ActiveLearningDataset(data, labelled=np.zeros(items, dtype=bool))
    active.can_label = False

    def move(rows: torch.Tensor) -> None:
        active.label(rows.tolist())

    return move, lambda: (active.get_indices_for_active_step(), active.pool)


def pyrelational(items: int) -> tuple[Move, Read]:
    """DataManager: lists of Python integers."""
    from pyrelational.data_managers import DataManager

    data = TensorDataset(torch.zeros(items + 1, 1), torch.zeros(items + 1))
    data.y = data.tensors[1]
    manager = DataManager(
        data,
        train_indices=list(range(items)),
        test_indices=[items],
        labelled_indices=[0],
    )

    def move(rows: torch.Tensor) -> None:
        manager.update_train_labels(rows.tolist())

    return move, lambda: (manager.l_indices, manager.u_indices)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    one_thread()
    quiet()
    # leaves room for the initial items and, as BaaL counts in the pool, for those moved before
    drawn = torch.Generator().manual_seed(0)
    fresh = torch.randperm(args.items // 2, generator=drawn).split(1000)

    def contender(move: Move, read: Read) -> dict[bool, Callable[[], float]]:
        queries = iter(fresh)
        read()
        return {both: partial(timed, move, read, queries, both) for both in (False, True)}

    peers = {
        "scikit-activeml": ("skactiveml.utils", lambda: contender(*scikit_activeml(args.items))),
        "BaaL": ("baal.active.dataset", lambda: contender(*baal(args.items))),
        "PyRelationAL": (
            "pyrelational.data_managers",
            lambda: contender(*pyrelational(args.items)),
        ),
    }
    mine = {
        "lightning-al": contender(*ours(args.items, answers=False)),
        "lightning-al, an oracle's answers": contender(*ours(args.items, answers=True)),
    }
    found, absent = with_peers(mine, peers)
    print(f"1,000 of {args.items:,} items to the labelled set, CPU ms, torch {torch.__version__}\n")
    for both in (False, True):
        print("move, then read both sets of positions" if both else "move")
        figures = interleaved({name: calls[both] for name, calls in found.items()}, args.repeat)
        show(figures, "ms", 1e3, absent)
        print()
        if not both:
            least = medians(figures)["lightning-al"]
    print(f"asked: at most {ASK * 1e3:.0f} ms for the move; measured {least * 1e3:.3f} ms")
    sys.exit(least > ASK)


if __name__ == "__main__":
    main()
