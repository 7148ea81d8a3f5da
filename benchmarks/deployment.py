"""Trained policies at deployment: the table of final errors, safety and milliseconds, and a peer.

Runs the shipped grid ``benchmarks/deployment`` or a part of it, goes on where it stopped, prints
the table as Markdown with what it allows to say. ``--only data=branin --seeds 2`` are as in
``lightning-al bench``. Then CPU milliseconds a query of one thread: a policy (in a session, which
is told one point and asked for the next, and stateless), our GP-AL step and scikit-learn's, in turn
in this process, each with as many points as a run has at its last query, and some calls in a row
after one that does not count, as when one user asks often. The peer is what a user would write:
``GaussianProcessRegressor`` with a fixed output scale, a length scale an input, white noise, five
searches, and the argmax of its deviation over 5000 candidates; in safe problems a second one for z.
Times of a policy do not depend on its weights: where the trained one is not there, one with random
weights stands in, and the line says so.

``python benchmarks/deployment.py --only data=branin --seeds 2``; ``--table`` and ``--times`` do one
half. Ends with status 1 where a session is not 100 times as fast a query as scikit-learn's step.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from timing import interleaved, one_thread, seconds
from torch import Tensor

from lightning_al.assembly.shipped import config_path
from lightning_al.benchmark.grid import read_bench
from lightning_al.benchmark.study import study_of
from lightning_al.cli import main as command
from lightning_al.datamodules import problems
from lightning_al.policies import Policy, SetPolicy
from lightning_al.studies import Asal
from lightning_al.studies.asal.deployment import deployment
from lightning_al.studies.asal.deployment_table import markdown, sentences
from lightning_al.tasks import GPRegression

ASKED = 100  # times as fast as scikit-learn's step
CANDIDATES = 5000
CASES = ("branin", "townsend")
TRAINED = {"sin": "asal-1d", "branin": "asal-2d", "townsend": "asal-safe-2d"}
TRAINED |= {"airfoil": "asal-5d", "engine": "asal-safe-3d", "fluid-system": "asal-safe-7d"}
TRAINED |= {"simionescu": "asal-safe-2d"}


def table(options: argparse.Namespace) -> None:
    """Run what is left and print the table."""
    words = ["bench", "--config", str(config_path("benchmarks/deployment"))]
    words += ["--out", str(options.out), "--workers", str(options.workers)]
    words += [] if options.seeds is None else ["--seeds", str(options.seeds)]
    for part in options.only:
        words += ["--only", part]
    frame = command(words)
    bench = read_bench(config_path("benchmarks/deployment"))
    study = study_of(bench.study)
    assert isinstance(study, Asal)
    plan = study.plan(bench.reference)
    for variant in ("corrected", "published"):
        rows = deployment(frame, plan, variant=variant)
        last = "all points" if variant == "corrected" else "all points but the last, as published"
        print(f"\nErrors of the model of {last}\n")
        print(markdown(rows))
        if variant == "corrected":
            by_name = {row.name: [r for r in rows if r.name == row.name] for row in rows}
            for name, mine in by_name.items():
                said = sentences(mine, gamma=plan.gamma)
                print("\n".join(f"{name}: {text}" for text in said))


def ours(safe: bool) -> Callable[[Tensor, Tensor, Tensor], int]:
    """A step of GP-AL, or of safe GP-AL, with our task."""

    def step(x: Tensor, targets: Tensor, candidates: Tensor) -> int:
        task = GPRegression(2 if safe else 1, hyperparameters="gamma", safety=safe)
        task.learn(x, targets)
        mean, variance = task.moments(candidates)
        noise = task.noise_variance()
        return argmax(mean, (variance + noise).sqrt(), safe)

    return step


def theirs(safe: bool) -> Callable[[Tensor, Tensor, Tensor], int]:
    """The same with scikit-learn."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    def step(x: Tensor, targets: Tensor, candidates: Tensor) -> int:
        parts = []
        for column in targets.reshape(len(x), -1).T.numpy():
            scale = RBF([0.2] * x.shape[1])
            kernel = ConstantKernel(1.0, "fixed") * scale + WhiteKernel(0.01)
            model = GaussianProcessRegressor(kernel, n_restarts_optimizer=4, random_state=0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # length scales at their bounds
                model.fit(x.numpy(), column)
            parts.append(model.predict(candidates.numpy(), return_std=True))
        means, deviations = (
            torch.stack([torch.from_numpy(p[i]) for p in parts], 1) for i in (0, 1)
        )
        return argmax(means, deviations, safe)

    return step


def argmax(mean: Tensor, deviation: Tensor, safe: bool) -> int:
    """Most uncertain of y among what is safe enough at gamma 0.05; mean and deviation [n, D]."""
    wanted = deviation[:, 0].clone()
    if safe:
        enough = mean[:, 1] / deviation[:, 1] >= 1.645
        if bool(enough.any()):
            wanted[~enough] = -1
    return int(wanted.argmax())


def trained(name: str, dimension: int, safe: bool, history: int) -> tuple[Policy, str]:
    """The problem's policy, or one of the same size with random weights."""
    try:
        return Policy.load(TRAINED[name], unchecked=True), TRAINED[name]  # times alone
    except LookupError:
        torch.manual_seed(0)
        network = SetPolicy(dimension, safe=safe)
        return Policy.of(network, history=history, budget=history), "random weights"


def turn(policy: Policy, *known: Tensor) -> Callable[[], object]:
    """One turn of a session that has all points but the last: tell that one, ask for the next."""
    begun = policy.session(1)
    begun.tell(*(part[:-1] for part in known))
    last = [part[-1:] for part in known]

    def call() -> Tensor:
        session = copy.copy(begun)  # what it knows is never changed in place
        session.tell(*last)
        return session.ask()

    return call


def each(call: Callable[[], object], least: float = 0.02) -> float:
    """CPU milliseconds of a call, of as many in a row as fill ``least`` seconds, one uncounted."""
    count = max(1, round(least / max(seconds(call), 1e-6)))

    def row() -> None:
        for _ in range(count):
            call()

    return 1000 * seconds(row) / count


def times(name: str, repeat: int) -> float:
    """Print a problem's milliseconds a query; the ratio of scikit-learn's to the policy's."""
    problem = problems.problem(name)
    draws = torch.Generator().manual_seed(0)
    n = problem.n_initial + problem.horizon - 1  # at the last query
    known, pool = problem.pool(n, draws), problem.pool(CANDIDATES, draws)
    policy, which = trained(name, problem.dimension, problem.safe, n + 1)
    more = () if known.z is None else (known.z,)
    calls: dict[str, Callable[[], object]] = {
        "policy, in a session": turn(policy, known.x, known.y, *more),
        "policy, stateless": lambda: policy.query(known.x, known.y, 1, *more),
        "our GP-AL": lambda: ours(problem.safe)(known.x, known.targets, pool.x),
        "scikit-learn's GP-AL": lambda: theirs(problem.safe)(known.x, known.targets, pool.x),
    }
    found = interleaved({k: lambda call=v: each(call) for k, v in calls.items()}, repeat)
    middle = {k: statistics.median(v) for k, v in found.items()}
    print(f"\n{name}: {n} points, {problem.dimension} inputs; policy: {which}")
    for k, values in found.items():
        ratio = middle[k] / middle["policy, in a session"]
        print(f"  {k:22} {middle[k]:10.2f} ms (least {min(values):.2f})   {ratio:8.0f} x")
    return middle["scikit-learn's GP-AL"] / middle["policy, in a session"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="AXIS=NAME")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, default=Path("benches/deployment"))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--case", choices=sorted(TRAINED), action="append")
    parser.add_argument("--table", action="store_true", help="the table alone")
    parser.add_argument("--times", action="store_true", help="the times alone")
    options = parser.parse_args()
    one_thread()
    if options.table or not options.times:
        table(options)
    if options.table and not options.times:
        return 0
    slow = []
    for name in options.case or CASES:
        try:
            ratio = times(name, options.repeat)
        except FileNotFoundError as error:
            print(f"\n{name}: not run: {str(error).splitlines()[0]}")
            continue
        if ratio < ASKED:
            slow.append(f"{name}: {ratio:.0f} times as fast as scikit-learn, asked {ASKED}")
    print("\n" + ("\n".join(slow) or f"each policy is {ASKED} times as fast as scikit-learn"))
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
