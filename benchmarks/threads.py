"""What threads cost where they gain nothing: as users run it, against one thread.

    python benchmarks/threads.py [NAME ...]

Each part runs in processes of its own, in turn: one with OMP_NUM_THREADS=1, one with no such
variable, as users have it, and that one again while another process keeps a core busy. CPU (all
threads) and wall milliseconds, median and least of the repetitions. Asked of the medians: without
the variable at most 1.5 times one thread, beside a busy process at most 2 times its CPU and 3 times
its wall. Ends with status 1 where one of them is missed. On a machine with other work the
first two are strained too: look at the least then.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

ALONE, FREE, BESIDE = "one thread", "as it comes", "beside a busy process"
ASKED = {FREE: (1.5, 1.5), BESIDE: (2.0, 3.0)}  # CPU, wall
BUSY = "while True: pass"
Part = Callable[[], Callable[[], object]]
"""Prepares, and gives what is timed."""


def data(n: int, seed: int = 0) -> Any:
    """Inputs [n, 2] in [0, 1], targets [n]; float64."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=draw, dtype=torch.float64)
    return x, (6 * x[:, 0]).sin() + x[:, 1] + 0.1 * torch.randn(n, generator=draw)


def refit(n: int, kind: str = "GPRegression", **settings: Any) -> Part:
    """A fresh task learns n items and predicts 2,000."""

    def part() -> Callable[[], object]:
        from lightning_al import tasks

        labelled, (pool, _) = data(n), data(2000, 1)

        def run() -> object:
            task = getattr(tasks, kind)(**settings)
            task.learn(*labelled)
            return task.raw(pool)

        return run

    return part


def process(n: int) -> Part:
    """The functions of `lightning_al.gp` alone."""

    def part() -> Callable[[], object]:
        from lightning_al.gp import ExactGP, Prior, fit_exact

        (x, y), (pool, _) = data(n), data(2000, 1)
        priors = Prior(1.0), Prior(1.0), Prior(0.1, low=1e-6)

        def run() -> object:
            kernel, noise, _ = fit_exact(x, y - y.mean(), "rbf", *priors)
            return ExactGP.given(kernel, noise, x, y).moments(pool)

        return run

    return part


def session() -> Callable[[], object]:
    """A policy is told 20 points and asked after each; ten users one after another."""
    from lightning_al.policies import Policy

    policy, (x, y) = Policy.load("asal-2d"), data(20)

    def run() -> None:
        for _ in range(10):
            user = policy.session(20)
            for at in range(20):
                user.tell(x[at], y[at])
                user.ask()

    return run


def quickstart() -> Callable[[], object]:
    """The shipped configuration, as from the command line."""
    from lightning_al.cli import main

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            main(["run", "--config", "quickstart", "--progress", "false", "--run_dir", folder])

    return run


PARTS: dict[str, Part] = {
    "gp-10": process(10),
    "gp-50": process(50),
    "gp-200": process(200),
    "GPRegression": refit(50),
    "MarginalGPRegression": refit(50, "MarginalGPRegression"),
    "GPyTorchRegression": refit(50, "GPyTorchRegression"),
    "session": session,
    "forest": refit(50, "SklearnRegression"),
    "sklearn-gp": refit(50, "SklearnRegression", estimator="GaussianProcessRegressor"),
    "boosting": refit(50, "SklearnRegression", estimator="HistGradientBoostingRegressor"),
    "quickstart": quickstart,
}
SMALL = [name for name in PARTS if name != "quickstart"]


class Worker:
    """A process that does one part whenever it is told, under an environment of its own."""

    def __init__(self, name: str, threads: str | None) -> None:
        env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
        env |= {} if threads is None else {"OMP_NUM_THREADS": threads}
        words = [sys.executable, "-W", "ignore", __file__, "--work", name]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(words, env=env, **pipes)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()

    def turn(self) -> tuple[float, float]:
        """CPU and wall milliseconds of one turn."""
        self.process.stdin.write("go\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        for line in self.process.stdout:  # type: ignore[union-attr]
            if line.startswith("@"):
                cpu, wall = json.loads(line[1:])
                return cpu, wall
        raise RuntimeError("the process that is measured has ended")


def work(name: str) -> None:
    """Do the part once for each line that comes in."""
    warnings.simplefilter("ignore")
    run = PARTS[name]()
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print("\n@" + json.dumps([1e3 * cpu, 1e3 * wall]), flush=True)


def measure(name: str, repeat: int) -> dict[str, list[tuple[float, float]]]:
    """Figures of the three conditions, in turn."""
    found: dict[str, list[tuple[float, float]]] = {ALONE: [], FREE: [], BESIDE: []}
    with ExitStack() as stack:
        one, free = (stack.enter_context(Worker(name, threads)) for threads in ("1", None))
        busy = subprocess.Popen([sys.executable, "-c", BUSY])
        stack.callback(busy.wait)
        stack.callback(busy.kill)
        busy.send_signal(signal.SIGSTOP)
        for worker in (one, free):  # what is imported and built at the first turn does not count
            worker.turn()
        for _ in range(repeat):
            found[ALONE].append(one.turn())
            found[FREE].append(free.turn())
            busy.send_signal(signal.SIGCONT)
            found[BESIDE].append(free.turn())
            busy.send_signal(signal.SIGSTOP)
    return found


def table(names: Sequence[str] = SMALL, repeat: int = 21) -> bool:
    """Print all figures; whether some were missed."""
    print(
        f"\n{'':22}{'':24}{'CPU ms':>10}{'least':>10}{'wall ms':>10}{'least':>10}   of one thread"
    )
    missed = False
    for name in names:
        found = measure(name, repeat if name != "quickstart" else max(1, repeat // 7))
        base: list[float] = []
        for where, turns in found.items():
            columns = list(zip(*turns, strict=True))
            middle = [statistics.median(column) for column in columns]
            figures = "".join(
                f"{m:10.1f}{min(c):10.1f}" for m, c in zip(middle, columns, strict=True)
            )
            base = base or middle
            ratios = [m / b for m, b in zip(middle, base, strict=True)]
            far = any(r > most for r, most in zip(ratios, ASKED.get(where, (9, 9)), strict=True))
            missed |= far
            said = f"{ratios[0]:6.2f} {ratios[1]:6.2f}{'  missed' if far else ''}"
            print(f"{name:22}{where:24}{figures}   {said if where != ALONE else ''}", flush=True)
    return missed


def main() -> int:
    """Print the table, or be one of the processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--repeat", type=int, default=21)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return 0
    if unknown := set(args.names) - set(PARTS):
        parser.error(f"no part named {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    return int(table(args.names or list(PARTS), args.repeat))


if __name__ == "__main__":
    sys.exit(main())
