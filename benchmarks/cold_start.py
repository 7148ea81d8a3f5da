"""Is a first batch worth choosing? 20 paired seeds from no label, accuracy after the first fit.

    python benchmarks/cold_start.py

Runs the shipped configuration as the command line would, with the first batch chosen by each of
some strategies on its features and drawn at random; fits start from the same weights. Prints the
mean difference to the random start and its 95 % interval (Student's t, paired). Ends with status 1
where TypiClust, the configuration's own, does not beat the random start.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
from peers import quiet
from timing import one_thread


def accuracy(seed: int, first: str, size: int, settings: list[str]) -> float:
    """Test accuracy in points after the first fit, on ``size`` items that ``first`` chose."""
    from lightning_al.assembly.building import Assembly
    from lightning_al.assembly.parser import parse

    quiet()
    one_thread()
    words = ["run", "--config", "cold_start", "--query_size", str(size), "--budget", str(size)]
    parts = Assembly(parse([*words, *settings]))
    with tempfile.TemporaryDirectory() as folder:
        history = parts.learner(seed=seed, run_dir=folder, first=first).run()
    start, fitted = history.rounds
    if (start.n_labelled, fitted.n_labelled) != (0, size):
        raise RuntimeError(f"not a cold start: {start.n_labelled}, {fitted.n_labelled} labels")
    return 100 * fitted.metrics["test/accuracy"]


def interval(difference: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean, two-sided, by Student's t."""
    from scipy.stats import t

    half = t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5
    return difference.mean() - half, difference.mean() + half


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--first", nargs="+", default=["typiclust", "k-center"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    args, settings = parser.parse_known_args()  # the rest goes to `lightning-al run`
    start = time.perf_counter()
    cases = list(product(args.sizes, ["random", *args.first], range(args.seeds)))
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(accuracy, s, first, size, settings) for size, first, s in cases]
        found = dict(zip(cases, [run.result() for run in runs], strict=True))
    missed = False
    print(f"{'labels':>6}  {'first':22}  accuracy  minus random  95 % interval")
    for size, first in product(args.sizes, ["random", *args.first]):
        ours, drawn = (
            np.array([found[size, name, s] for s in range(args.seeds)])
            for name in (first, "random")
        )
        row = f"{size:6}  {first:22}  {ours.mean():8.2f}"
        if first != "random":
            low, high = interval(ours - drawn)
            row += f"  {(ours - drawn).mean():+12.2f}  {low:+.2f} to {high:+.2f}"
            missed |= first == "typiclust" and low <= 0
        print(row)
    print(f"{time.perf_counter() - start:.0f} s on {args.jobs} processes, {args.seeds} seeds")
    sys.exit(missed)


if __name__ == "__main__":
    main()
