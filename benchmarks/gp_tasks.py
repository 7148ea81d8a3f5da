"""Our Gaussian process tasks beside those of GPyTorch: time, and what the predictions are worth.

    python benchmarks/gp_tasks.py

A fresh task learns the labelled set (standardisation, search for hyper-parameters) and predicts
2,000 items: CPU and wall milliseconds, median over the seeds, on one thread (OMP_NUM_THREADS=1) and
with OMP_NUM_THREADS unset, each in a process of its own. Beside them the mean negative
log-likelihood of the noisy targets and the root mean squared error, mean over the same seeds; the
noise alone has an error of 0.2. ``python benchmarks/gp.py`` ends with this table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_al.networks import MLP
from lightning_al.tasks import GPRegression, GPyTorchRegression, SparseGPRegression

SIZES = (50, 200, 800)
FEATURES, POOL, NOISE = 4, 2000, 0.2
POINTS = 50


def data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs [n, 4] and a wave, a product and a kink with noise [n]; float64."""
    drawn = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(n, FEATURES, generator=drawn, dtype=torch.float64) - 2
    y = (2 * x[:, 0]).sin() + 0.5 * x[:, 1] * x[:, 2] + x[:, 3].abs()
    return x, y + NOISE * torch.randn(n, generator=drawn, dtype=torch.float64)


def deep(**settings: Any) -> GPyTorchRegression:
    """A small network before the kernel."""
    return GPyTorchRegression(network=MLP(FEATURES, (16,), 4, activation="tanh"), **settings)


CONTENDERS: dict[str, Callable[[], GPRegression]] = {
    "GPRegression": GPRegression,
    "GPyTorchRegression": GPyTorchRegression,
    "GPyTorchRegression, RQ kernel": lambda: GPyTorchRegression(
        kernel={"name": "ScaleKernel", "base_kernel": {"name": "RQKernel"}}
    ),
    "GPyTorchRegression, deep": deep,
    f"SparseGPRegression, {POINTS} points": lambda: SparseGPRegression(points=POINTS),
    f"GPyTorchRegression, {POINTS} points": lambda: GPyTorchRegression(points=POINTS),
    f"GPyTorchRegression, deep, {POINTS} points": lambda: deep(points=POINTS),
}


def measure(sizes: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """A row a contender, size and seed; contenders in turn."""
    warnings.simplefilter("ignore")
    pool, targets = data(POOL, 1000)
    rows = []
    for make in CONTENDERS.values():  # imports and first calls do not count
        once = make()
        once.learn(*data(10, 99))
        once.moments(pool[:2])
    for n in sizes:
        for seed in range(seeds):
            for name, make in CONTENDERS.items():
                torch.manual_seed(seed)
                task, (x, y) = make(), data(n, seed)
                cpu, wall = time.process_time(), time.perf_counter()
                task.learn(x, y)
                mean, variance = task.raw(pool).unbind(1)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                density = torch.distributions.Normal(mean, variance.sqrt())
                rows.append(
                    {
                        "name": name,
                        "n": n,
                        "cpu": 1e3 * cpu,
                        "wall": 1e3 * wall,
                        "nll": -float(density.log_prob(targets).mean()),
                        "rmse": float((mean - targets).square().mean().sqrt()),
                    }
                )
    return rows


def in_a_process(threads: str | None, sizes: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """What :func:`measure` finds under OMP_NUM_THREADS."""
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    env |= {} if threads is None else {"OMP_NUM_THREADS": threads}
    words = [sys.executable, __file__, "--measure", "--seeds", str(seeds), "--sizes"]
    done = subprocess.run(
        [*words, *map(str, sizes)], env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def table(sizes: Sequence[int] = SIZES, seeds: int = 3) -> None:
    """Measure in two processes and print one table."""
    one, free = (in_a_process(threads, sizes, seeds) for threads in ("1", None))
    width = max(map(len, CONTENDERS))
    print(f"\nTasks: a refit on L items and {POOL:,} predictions, {seeds} seeds")
    print(f"{'':{width}}{'':6}{'1 thread':>18}{'as it comes':>18}")
    head = "".join(f"{title:>9}" for title in ("CPU ms", "wall", "CPU ms", "wall", "NLL", "RMSE"))
    print(f"{'':{width}}{'L':>6}{head}")
    for n in sizes:
        for name in CONTENDERS:
            mine = [
                [row for row in rows if (row["name"], row["n"]) == (name, n)]
                for rows in (one, free)
            ]
            times = [
                statistics.median(row[what] for row in rows)
                for rows in mine
                for what in ("cpu", "wall")
            ]
            worth = [statistics.mean(row[what] for row in mine[0]) for what in ("nll", "rmse")]
            figures = [f"{v:9.1f}" for v in times] + [f"{v:9.3f}" for v in worth]
            print(f"{name:{width}}{n:>6}" + "".join(figures), flush=True)


def main() -> None:
    """Print the table, or the figures of one process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help="here, and print JSON")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.sizes, args.seeds)))
    else:
        table(args.sizes, args.seeds)


if __name__ == "__main__":
    main()
