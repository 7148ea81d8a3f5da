"""Strategies beside random ones, paired by seed, with a linear model: seconds for a comparison.

    python benchmarks/paired.py galaxy margin --data digits imbalanced --out before.jsonl
    python benchmarks/paired.py galaxy margin --data digits imbalanced --out after.jsonl \
        --before before.jsonl

A strategy is a registered name or a specification in YAML (``'{name: power, beta: 2}'``). The
model is multinomial logistic regression with a normal prior, fitted anew each round; its members,
where a strategy wants many, are drawn from Laplace's approximation. Of one seed all strategies
share data, initial labels and the random stream. The figure is balanced accuracy on a test set in
which all classes are alike, in per cent: the mean over the fits after the first query (area), and
after the last. Intervals are the referee's (95 %, bootstrap of the paired differences).

Results are appended to a file; what stands there already, under the same settings, is not run
again. ``--before`` compares with another file, of the same names and settings, too. A data set of
one's own is a function seed -> :class:`Data` under ``@data(name)``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from peers import quiet
from scipy.optimize import minimize
from torch import Tensor

from lightning_al.benchmark.statistics import bootstrap_mean
from lightning_al.randomness import generator
from lightning_al.records import Context, Predictions
from lightning_al.strategies import resolve
from lightning_al.testing import World
from lightning_al.threads import one_thread

PRECISION = 1.0  # of the prior of each weight
MEMBERS = 20
LARGEST = 4096  # weights, up to which members are drawn with the full Hessian


@dataclass(frozen=True)
class Data:
    """What one seed learns from: training items and a test set."""

    x: Tensor  # [N, E] float64
    y: Tensor  # [N]
    test_x: Tensor  # [T, E]
    test_y: Tensor  # [T]
    classes: int


DATA: dict[str, Callable[[int], Data]] = {}


def data(name: str) -> Callable[[Callable[[int], Data]], Callable[[int], Data]]:
    """Register a function seed -> :class:`Data`."""

    def register(make: Callable[[int], Data]) -> Callable[[int], Data]:
        DATA[name] = make
        return make

    return register


@data("digits")
def digits(seed: int, kept: float = 1.0) -> Data:
    """1,297 of scikit-learn's digits to learn from and 500 to test on.

    Of five classes, drawn by the seed, only a share ``kept`` of the items is in the pool.
    """
    from sklearn.datasets import load_digits

    draw = generator(seed, 0, "split")
    pixels, labels = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    x = pixels.double() - pixels.double().mean(0)
    x, y = x / x.std(), labels.long()
    order = torch.randperm(len(x), generator=draw)
    test, train = order[:500], order[500:]
    rare = torch.randperm(10, generator=draw)[:5]
    stays = torch.rand(len(train), generator=draw) < kept
    train = train[stays | ~torch.isin(y[train], rare)]
    return Data(x[train], y[train], x[test], y[test], 10)


@data("imbalanced")
def imbalanced(seed: int) -> Data:
    """The same where five of ten classes, drawn by the seed, keep one item in ten."""
    return digits(seed, kept=0.1)


@data("classes-200")
def many_classes(seed: int, classes: int = 200, each: int = 20, features: int = 32) -> Data:
    """Clouds of numbers around as many centres, some classes three times as common as others."""
    draw = generator(seed, 0, "clouds")
    centres = torch.randn(classes, features, generator=draw, dtype=torch.float64)
    common = 0.5 + torch.rand(classes, generator=draw)
    y = torch.multinomial(common, classes * each, True, generator=draw)
    test_y = torch.arange(classes).repeat(max(5, 2000 // classes))
    x, test_x = (
        centres[own] + 0.7 * torch.randn(len(own), features, generator=draw, dtype=torch.float64)
        for own in (y, test_y)
    )
    return Data(x, y, test_x, test_y, classes)


@data("classes-1000")
def thousand_classes(seed: int) -> Data:
    """The same with a thousand classes, of five items on average."""
    return many_classes(seed, 1000, 5)


# The model


def with_one(x: Tensor) -> Tensor:
    """Rows with a one behind: [n, E] -> [n, E + 1]."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def fit(x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Weights [E + 1, C] of the logistic regression with the highest posterior density."""
    inputs = with_one(x).numpy()
    goal = np.eye(classes)[y.numpy()]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(-1, classes)
        logits = inputs @ weight
        logits -= logits.max(1, keepdims=True)
        total = np.log(np.exp(logits).sum(1, keepdims=True))
        value = (total - logits)[goal > 0].sum() + PRECISION / 2 * (flat**2).sum()
        slope = inputs.T @ (np.exp(logits - total) - goal) + PRECISION * weight
        return value, slope.ravel()

    found = minimize(
        loss,
        np.zeros(inputs.shape[1] * classes),
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-4},
    )
    return torch.from_numpy(found.x.reshape(-1, classes))


def members(weight: Tensor, x: Tensor, draw: torch.Generator, count: int = MEMBERS) -> Tensor:
    """Weights [S, E + 1, C] drawn from Laplace's approximation at ``weight`` over items x [L, E].

    Raises:
        ValueError: more weights than a full Hessian is held for.
    """
    features, classes = weight.shape
    if weight.numel() > LARGEST:
        raise ValueError(f"members of {weight.numel()} weights: at most {LARGEST} are drawn here")
    inputs = with_one(x)
    probs = (inputs @ weight).softmax(1)
    curvature = torch.diag_embed(probs) - probs[:, :, None] * probs[:, None]
    hessian = torch.einsum("le,lf,lcd->ecfd", inputs, inputs, curvature)
    hessian = hessian.reshape(weight.numel(), -1) + PRECISION * torch.eye(weight.numel())
    root = torch.linalg.cholesky(hessian)
    noise = torch.randn(weight.numel(), count, generator=draw, dtype=torch.float64)
    moved = torch.linalg.solve_triangular(root.T, noise, upper=True)
    return weight + moved.T.reshape(count, features, classes)


def balanced_accuracy(weight: Tensor, found: Data) -> float:
    """Mean over the classes of the share of test items that are told right, in per cent."""
    right = (with_one(found.test_x) @ weight).argmax(1) == found.test_y
    each = [right[found.test_y == c].double().mean() for c in found.test_y.unique().tolist()]
    return 100 * float(torch.stack(each).mean())


# Runs


def once(
    name: str,
    data_set: str,
    seed: int,
    *,
    rounds: int,
    k: int,
    initial: int,
    members_drawn: int = MEMBERS,
) -> dict[str, Any]:
    """One run of a strategy: balanced accuracies after each fit, CPU seconds of its choices."""
    found, strategy = DATA[data_set](seed), resolve(yaml.safe_load(name))
    order = torch.randperm(len(found.x), generator=generator(seed, 0, "initial"))
    labelled, spent, curve = order[:initial], 0.0, []
    for turn in range(rounds + 1):
        weight = fit(found.x[labelled], found.y[labelled], found.classes)
        curve.append(balanced_accuracy(weight, found))
        if turn == rounds:
            break
        many = weight[None]
        if strategy.members == "many":
            draw = generator(seed, turn, "members")
            many = members(weight, found.x[labelled], draw, members_drawn)
        free = torch.ones(len(found.x), dtype=torch.bool)
        free[labelled] = False
        pool = free.nonzero().squeeze(1)
        logits = torch.einsum("ne,sec->nsc", with_one(found.x), many)
        world = World(
            Predictions(
                torch.arange(len(found.x)),
                probs=logits.softmax(-1).float(),
                logits=logits.float(),
                embedding=found.x.float(),
                head_input=found.x.float(),
            ),
            index=pool,
            labelled=labelled,
            context=Context(
                round=turn,
                n_labelled=len(labelled),
                n_pool=len(pool),
                classes=found.classes,
                targets=found.y[labelled],
                remaining=(rounds - turn) * k,
            ),
        )
        start = time.process_time()
        candidates = world.pool(strategy, sizes=(1024,))
        chosen = strategy.choose(candidates, k, generator(seed, turn, "choose"))
        spent += time.process_time() - start
        labelled = torch.cat([labelled, chosen.index])
    return {"curve": curve, "seconds": spent}


def known(path: Path | None, settings: Mapping[str, Any]) -> dict[tuple[str, str, int], Any]:
    """(data set, strategy, seed) -> result, of what a file holds under these settings."""
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        (r["data"], r["strategy"], r["seed"]): r for r in rows if r["settings"] == dict(settings)
    }


def difference(ones: list[float], others: list[float]) -> str:
    """Mean of paired differences with the referee's interval."""
    found = bootstrap_mean(np.subtract(ones, others))
    wide = "" if math.isinf(found.low) else f" ({found.low:+.1f} to {found.high:+.1f})"
    return f"{found.mean:+.1f}{wide}"


def table(
    data_set: str, names: list[str], seeds: range, now: Mapping[Any, Any], old: Mapping[Any, Any]
) -> str:
    """What one data set says, as Markdown."""

    def area(rows: Mapping[Any, Any], name: str) -> list[float]:
        return [float(np.mean(rows[data_set, name, s]["curve"][1:])) for s in seeds]

    def last(name: str) -> list[float]:
        return [now[data_set, name, s]["curve"][-1] for s in seeds]

    head = "| strategy | area, % | minus random | last, % | minus random | selection, s |"
    lines = [head + (" area minus before |" if old else ""), "|---" * (7 if old else 6) + "|"]
    for name in sorted(names, key=lambda name: -np.mean(area(now, name))):
        cost = np.mean([now[data_set, name, s]["seconds"] for s in seeds])
        cells = [name, f"{np.mean(area(now, name)):.1f}"]
        cells += [difference(area(now, name), area(now, "random"))]
        cells += [f"{np.mean(last(name)):.1f}", difference(last(name), last("random"))]
        cells += [f"{cost:.2f}"]
        if old:
            there = all((data_set, name, s) in old for s in seeds)
            cells += [difference(area(now, name), area(old, name)) if there else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, then print a table for each data set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("strategies", nargs="+", help="names, or specifications in YAML")
    parser.add_argument("--data", nargs="+", default=["digits"], choices=sorted(DATA))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10, help="queries")
    parser.add_argument("--query-size", type=int, default=20)
    parser.add_argument("--initial", type=int, default=20, help="labels of round 0")
    parser.add_argument("--members", type=int, default=MEMBERS, help="drawn, where many are wanted")
    parser.add_argument("--out", type=Path, help="file of results, appended to")
    parser.add_argument("--before", type=Path, help="file of results to compare with")
    args = parser.parse_args()
    quiet()
    settings = {"rounds": args.rounds, "k": args.query_size, "initial": args.initial}
    if args.members != MEMBERS:
        settings["members_drawn"] = args.members
    names, now = list(dict.fromkeys([*args.strategies, "random"])), known(args.out, settings)
    todo = [
        (where, name, seed)
        for seed in range(args.seeds)
        for where in args.data
        for name in names
        if (where, name, seed) not in now
    ]
    for where, name, seed in todo:
        with one_thread():  # fits are small, and several threads would wait for each other
            result = once(name, where, seed, **settings)
        row = {"data": where, "strategy": name, "seed": seed, "settings": settings}
        now[where, name, seed] = row | result
        if args.out is not None:
            with args.out.open("a") as file:
                print(json.dumps(row | result), file=file)
    old, seeds = known(args.before, settings), range(args.seeds)
    print(f"{settings}, {args.seeds} seeds")
    for where in args.data:
        print(f"\n{where}\n\n{table(where, names, seeds, now, old)}")


if __name__ == "__main__":
    main()
