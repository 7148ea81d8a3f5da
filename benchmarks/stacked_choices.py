"""How often a run of stacked fits in float32 chooses otherwise than its twin of lean fits.

    python benchmarks/stacked_choices.py [--seeds 4] [--rounds 10]

In float64 the two choose the same (a test holds that). In float32 they differ by rounding, so that
two candidates whose scores are nearly equal may change places; from then on the runs are others.
Digits, an MLP 64-64-10 with dropout, 20 initial labels, 20 a query, five strategies; for each the
share of runs that ever chose other items, and of queries that did, before and after the first.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

import torch

QUERY = 20


def grid(fits: str, seeds: int, rounds: int) -> dict:
    """The benchmark, as in a YAML file."""
    posterior = {"class_path": "MCDropout", "init_args": {"members": 10}}
    network = {
        "class_path": "lightning_al.networks.MLP",
        "init_args": {"hidden": [64], "dropout": 0.25},
    }
    digits = {"class_path": "lightning_al.datamodules.DigitsDataModule"}
    task = {"class_path": "lightning_al.tasks.Classification"}
    return {
        "metric": "test/accuracy",
        "seeds": seeds,
        "common": {
            "query_size": QUERY,
            "budget": QUERY * (rounds - 1),
            "trainer": {"max_epochs": 20, "accelerator": "cpu", "devices": 1},
            "fits": fits,
        },
        "models": {"mlp": {**task, "init_args": {"network": network}}},
        "data": {"digits": {**digits, "init_args": {"initial": QUERY}}},
        "strategies": {
            **{"random": None, "margin": None, "k-center": None, "badge": None},
            "bald": {"strategy": "bald", "posterior": posterior},
        },
    }


def chosen(fits: str, seeds: int, rounds: int) -> dict[tuple[str, int], list[frozenset[int]]]:
    """The items of each query, by strategy and seed."""
    from lightning_al.benchmark.grid import bench_of
    from lightning_al.benchmark.workers import run_in_process

    found = {}
    with tempfile.TemporaryDirectory() as root:
        for outcome in run_in_process(bench_of(grid(fits, seeds, rounds)).units(), Path(root)):
            if outcome["status"] != "done":
                raise RuntimeError(f"a run did not end: {outcome['error']}")
            place = outcome["place"]
            queries = [frozenset(row["acquired"]) for row in outcome["rows"][:-1]]
            found[place["strategy"], place["seed"]] = queries
    return found


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lean, stacked = (chosen(fits, args.seeds, args.rounds) for fits in ("lean", "stacked"))
    rows: dict[str, list[list[bool]]] = defaultdict(list)
    for (strategy, seed), queries in lean.items():
        pairs = zip(queries, stacked[strategy, seed], strict=True)
        rows[strategy].append([one != other for one, other in pairs])
    print(f"{args.seeds} seeds x {args.rounds} rounds, float32, torch {torch.__version__}\n")
    print(f"{'':10}  {'runs that differ':>16}  {'queries that differ':>19}  first at query")
    for strategy, runs in {**rows, "all": [run for each in rows.values() for run in each]}.items():
        other = [run for run in runs if any(run)]
        queries = sum(map(sum, runs)) / sum(map(len, runs))
        first = sorted(run.index(True) for run in other)
        share = f"{len(other)} of {len(runs)}"
        print(f"{strategy:10}  {share:>16}  {queries:19.1%}  {first[:12]}")


if __name__ == "__main__":
    main()
