"""Designs on the problems of the papers: final errors by many paired seeds, in minutes.

The grid ``benchmarks/deployment`` runs whole rounds of Lightning, two CPU seconds and more a run,
of which the queries are a small part. Here the same problems, policies and Gaussian processes are
asked one after another without rounds: a run is its queries, and one fit of ``GPRegression``
(``hyperparameters: gamma``) to all points at the end. A seed gives all designs the same initial
points, candidates and test points.

Printed are the root mean squared error at the test points ± half the 95 % interval over seeds, the
difference to the policy of the same seeds (above 0 where the policy is better) with its interval,
and of safe problems the share of safe queries, ± likewise, with its lower end.
``python benchmarks/designs.py branin sin --seeds 20``; ``--design`` takes a part, ``--policy``
another policy, ``--pool`` so many candidates; ``--csv FILE`` keeps the runs. A file that is missing
is said.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from timing import one_thread
from torch import Tensor

from lightning_al.datamodules.problems import Analytic, problem
from lightning_al.datamodules.problems.problem import Measured, Problem, noisy
from lightning_al.policies import Policy
from lightning_al.randomness import generator, seeded
from lightning_al.strategies.sequential.safe import safe_first
from lightning_al.tasks import GPRegression, MarginalGPRegression

POLICIES = {
    "sin": "candidate-flexible",
    "airline": "candidate-flexible",
    "branin": "candidate-2d",
    "airfoil": "candidate-5d",
    "townsend": "candidate-safe-2d",
    "simionescu": "candidate-safe-2d",
    "engine": "candidate-safe-3d",
    "fluid-system": "candidate-safe-7d",
    "lgbb": "candidate-2d",
}
GAMMA = 0.05
CANDIDATES = 5000  # of a box, anew at each query

Design = Callable[[Measured, Tensor, int, torch.Generator], Tensor]
"""From what was measured, candidates [N, D] and queries left to a row [] or a place [D]."""


def by_policy(
    policy: Policy, box: bool, seen: Measured, rows: Tensor, left: int, _: object
) -> Tensor:
    """A place of the box, or the row that scores highest."""
    if box:
        return policy.query(seen.x, seen.y, min(left, policy.card.budget), seen.z).double()
    return policy.score(seen.x, seen.y, rows, seen.z).argmax()


def at_random(seen: Measured, rows: Tensor, left: int, draws: torch.Generator) -> Tensor:
    """Any candidate."""
    return torch.randint(len(rows), (), generator=draws)


class SobolSequence:
    """The next place, or the candidate nearest to it."""

    def __init__(self, dimension: int, box: bool, draws: torch.Generator) -> None:
        self.box, self.engine = box, torch.quasirandom.SobolEngine(dimension)
        self.shift = torch.rand(dimension, generator=draws, dtype=torch.float64)

    def __call__(self, seen: Measured, rows: Tensor, left: int, _: object) -> Tensor:
        """One more."""
        place = torch.frac(self.engine.draw(1, dtype=torch.float64)[0] + self.shift)
        return place if self.box else torch.linalg.vector_norm(rows - place, dim=1).argmin()


def by_process(
    make: Callable[[], GPRegression],
    pick: str,
    fallback: str,
    seen: Measured,
    rows: Tensor,
    left: int,
    draws: torch.Generator,
) -> Tensor:
    """The most uncertain candidate, or any, of those safe enough."""
    task = make()
    with seeded(0, len(seen), "fit"):
        task.learn(seen.x, seen.targets)
    raw = task.raw(rows)
    outputs = raw.shape[1] // 2
    spread = (
        raw[:, outputs].sqrt()
        if pick == "variance"
        else torch.rand(len(rows), generator=draws, dtype=torch.float64)
    )
    if outputs == 1:
        return spread.argmax()
    above = raw[:, 1] / raw[:, 3].sqrt()
    which: object = fallback
    return safe_first(spread, above, 1, draws, gamma=GAMMA, fallback=which)[0][0]  # type: ignore[arg-type]


def designs(task: Problem, name: str, box: bool, draws: torch.Generator) -> dict[str, Design]:
    """All designs of a problem, by name."""
    settings = {"hyperparameters": "gamma"}
    found: dict[str, Design] = {
        "policy": partial(by_policy, Policy.load(name, unchecked=True), box),
        "random": at_random,
    }
    if not task.safe:
        found["sobol"] = SobolSequence(task.dimension, box, draws)
        found["gp-al"] = partial(by_process, lambda: GPRegression(1, **settings), "variance", "")
        return found
    two = {**settings, "outputs": 2, "safety": True}
    found["safe-random"] = partial(by_process, lambda: GPRegression(**two), "any", "all")
    found["safe-gp-al"] = partial(by_process, lambda: GPRegression(**two), "variance", "all")
    found["safe-gp-al, integrated"] = partial(
        by_process, lambda: MarginalGPRegression(**two, samples=30), "variance", "safest"
    )
    return found


@dataclass(frozen=True)
class Run:
    """What a design left."""

    rmse: float
    safe: float  # share of its queries
    seconds: float  # CPU of this process, of all queries


def run(task: Problem, name: str, which: str, seed: int, pool: int | None) -> Run:
    """One design's queries on one seed's points."""
    drawn = task.draw(task.n_initial, pool, task.n_test, generator(seed, 0, "problem"))
    box = isinstance(task, Analytic) and not task.safe
    draws, noise = generator(seed, 0, "design"), generator(seed, 0, "noise")
    design, seen = designs(task, name, box, draws)[which], drawn.initial
    left = torch.ones(len(drawn.pool), dtype=torch.bool)
    start = time.process_time()
    for n in range(task.horizon):
        if box and isinstance(task, Analytic):
            rows = torch.rand(CANDIDATES, task.dimension, generator=draws, dtype=torch.float64)
            chosen = design(seen, rows, task.horizon - n, draws)
            place = chosen if chosen.ndim else rows[chosen]
            answer = noisy(place[None], *task.truth(place[None]), noise)
        else:
            here = left.nonzero().squeeze(1)
            row = here[design(seen, drawn.pool.x[here], task.horizon - n, draws)]
            left[row] = False
            answer = drawn.pool.rows(row[None])
        seen = Measured.cat([seen, answer])
    spent = time.process_time() - start
    judge = GPRegression(1, hyperparameters="gamma")
    with seeded(0, len(seen), "fit"):
        judge.learn(seen.x, seen.y)
    off = judge.moments(drawn.test.x)[0].reshape(-1) - drawn.test.y
    safe = seen.rows(torch.arange(task.n_initial, len(seen))).safe.double().mean()
    return Run(float(off.square().mean().sqrt()), float(safe), spent)


def half(values: Tensor) -> float:
    """Half the 95 % interval of a mean [n] (t with n - 1 degrees)."""
    from scipy.stats import t

    n = len(values)
    return float(t.ppf(0.975, n - 1) * values.std() / n**0.5) if n > 1 else float("nan")


def row(problem_name: str, which: str, mine: dict[int, Run], base: dict[int, Run]) -> str:
    """A line of the table."""
    errors = torch.tensor([r.rmse for r in mine.values()])
    cells = [problem_name, which, str(len(mine)), f"{errors.mean():.3f} ± {half(errors):.3f}"]
    both = [s for s in mine if s in base]
    gap = torch.tensor([mine[s].rmse - base[s].rmse for s in both])
    cells.append("" if which == "policy" or not both else f"{gap.mean():+.3f} ± {half(gap):.3f}")
    if problem(problem_name).safe:
        safe = torch.tensor([r.safe for r in mine.values()])
        low = 100 * (safe.mean() - half(safe))
        cells.append(f"{100 * safe.mean():.1f} ± {100 * half(safe):.1f} (from {low:.1f})")
    else:
        cells.append("")
    queries = problem(problem_name).horizon
    spent = torch.tensor([1e3 * r.seconds / queries for r in mine.values()])
    return "| " + " | ".join([*cells, f"{spent.median():.3g}"]) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--design", action="append")
    parser.add_argument("--policy")
    parser.add_argument("--pool", type=int)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    one_thread()
    print(
        "| problem | design | seeds | final RMSE | less the policy's | safe, % | CPU ms a query |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.problems:
        task, policy = problem(name), options.policy or POLICIES[name]
        known = designs(task, policy, False, generator(0, 0, "names"))
        base: dict[int, Run] = {}
        for which in [d for d in known if not options.design or d in options.design]:
            try:
                mine = {
                    seed: run(task, policy, which, seed, options.pool)
                    for seed in range(options.first, options.first + options.seeds)
                }
            except FileNotFoundError as error:
                print(f"| {name} | not run: {str(error).splitlines()[0]} | | | | | |", flush=True)
                break
            base = mine if which == "policy" else base
            print(row(name, which, mine, base), flush=True)
            if options.csv:
                with options.csv.open("a", newline="") as file:
                    rows = [
                        (name, policy, which, s, r.rmse, r.safe, r.seconds) for s, r in mine.items()
                    ]
                    csv.writer(file).writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
