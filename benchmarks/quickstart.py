"""Does the quickstart's margin sampling beat random sampling? 20 paired seeds at 200 labels.

    python benchmarks/quickstart.py

Runs the shipped configuration as the command line would, once with its own strategy and once with
random sampling, from the same initial labels and weights. Asked: the lower 95 % bound of the
difference of test accuracies (one-sided; by Student's t and by bootstrap) above 1 point.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from peers import quiet
from timing import one_thread

LABELS, ASK = 200, 1.0


def accuracy(seed: int, strategy: str | None, settings: list[str]) -> float:
    """Test accuracy in points at 200 labels; None is the configuration's own strategy."""
    from lightning_al.assembly.building import Assembly
    from lightning_al.assembly.parser import parse

    quiet()
    one_thread()
    parts = Assembly(parse(["run", "--config", "quickstart", *settings]))
    changes = {} if strategy is None else {"strategy": strategy}
    with tempfile.TemporaryDirectory() as folder:
        history = parts.learner(seed=seed, run_dir=folder, **changes).run()
    last = history.rounds[-1]
    if last.n_labelled != LABELS:
        raise RuntimeError(f"the configuration ends at {last.n_labelled} labels, not {LABELS}")
    return 100 * last.metrics["test/accuracy"]


def bounds(difference: np.ndarray) -> tuple[float, float]:
    """Lower 95 % bounds of the mean: one-sided t, and percentile bootstrap."""
    from scipy.stats import t

    n = len(difference)
    by_t = difference.mean() - t.ppf(0.95, n - 1) * difference.std(ddof=1) / n**0.5
    drawn = np.random.default_rng(0).integers(n, size=(20_000, n))
    return float(by_t), float(np.quantile(difference[drawn].mean(1), 0.05))


def main() -> None:
    """Run all seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args, settings = parser.parse_known_args()  # the rest goes to `lightning-al run`
    start, seeds = time.perf_counter(), range(args.seeds)
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        runs = [
            pool.map(partial(accuracy, strategy=strategy, settings=settings), seeds)
            for strategy in (None, "random")
        ]
        ours, random = (np.array(list(run)) for run in runs)
    difference = ours - random
    print(f"{'seed':>4}  margin  random  difference")
    for seed, *row in zip(seeds, ours, random, difference, strict=True):
        print(f"{seed:4}  {row[0]:6.2f}  {row[1]:6.2f}  {row[2]:+10.2f}")
    by_t, by_bootstrap = bounds(difference)
    print(f"\nmean  {ours.mean():6.2f}  {random.mean():6.2f}  {difference.mean():+10.2f} points")
    print(f"lower 95 % bound: {by_t:.2f} (t), {by_bootstrap:.2f} (bootstrap); asked: above {ASK}")
    print(f"{time.perf_counter() - start:.0f} s on {args.jobs} processes")
    sys.exit(min(by_t, by_bootstrap) <= ASK)


if __name__ == "__main__":
    main()
