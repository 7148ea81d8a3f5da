"""The fits of a benchmark on digits by each backend, beside a bare loop of torch.

    python benchmarks/fits.py [--seeds 5] [--rounds 10] [--threads N] [--profile FILE]

The grid: an MLP 64-64-10, 20 initial labels, 20 a query, margin sampling, 20 epochs, batches of 32,
rounds reset; each run as ``lightning-al bench`` does it (settings parsed, rehearsal, journal, test,
scores). The bare loop fits, tests and scores as often, and does nothing else. CPU seconds of this
process, in turn, the median of 3; on one thread, or on as many as torch takes (``--threads 0``).
50 seeds of 20 rounds are scaled down to 5 of 10. Asked: lean in at most 1 / 2.5 of what the grid
took before; beside it stands Lightning as it is now, which has gained by the way.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import interleaved, medians, seconds, show
from torch import nn

QUERY, EPOCHS, BATCH, ASK = 20, 20, 32, 2.5


def grid(fits: str, seeds: int, rounds: int) -> dict:
    """The benchmark, as in a YAML file."""
    network = {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [64]}}
    digits = {"class_path": "lightning_al.datamodules.DigitsDataModule"}
    task = {"class_path": "lightning_al.tasks.Classification"}
    common = {
        "query_size": QUERY,
        "budget": QUERY * (rounds - 1),
        "trainer": {"max_epochs": EPOCHS, "accelerator": "cpu", "devices": 1},
    }
    return {
        "metric": "test/accuracy",
        "seeds": seeds,
        "common": common | ({"fits": fits} if fits else {}),
        "models": {"mlp": {**task, "init_args": {"network": network, "lr": 0.001}}},
        "data": {"digits": {**digits, "init_args": {"initial": QUERY, "batch_size": BATCH}}},
        "strategies": ["margin"],
    }


def bench(fits: str, seeds: int, rounds: int) -> None:
    """All runs of the grid, in this process."""
    from lightning_al.benchmark.grid import bench_of
    from lightning_al.benchmark.workers import run_in_process

    root = Path(tempfile.mkdtemp())
    try:
        for outcome in run_in_process(bench_of(grid(fits, seeds, rounds)).units(), root):
            if outcome["status"] != "done" or len(outcome["rows"]) != rounds:
                raise RuntimeError(f"a run did not end: {outcome['error']}")
    finally:
        shutil.rmtree(root)


def bare(seeds: int, rounds: int) -> None:
    """The same fits, tests and scores by hand: tensors, no loader, no framework."""
    from sklearn.datasets import load_digits

    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    x, y = (x / 16).float(), y.long()
    for seed in range(seeds):
        torch.manual_seed(seed)
        order = torch.randperm(len(x))
        test, free = order[:360], order[360:]
        chosen, free = free[:QUERY], free[QUERY:]
        for r in range(rounds):
            model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
            for _ in range(EPOCHS):
                for rows in chosen[torch.randperm(len(chosen))].split(BATCH):
                    optimizer.zero_grad()
                    F.cross_entropy(model(x[rows]), y[rows]).backward()
                    optimizer.step()
            with torch.no_grad():
                model(x[test]).argmax(1).eq(y[test]).float().mean().item()
                if r + 1 < rounds:
                    best = model(x[free]).softmax(1).topk(2, 1).values
                    taken = (best[:, 0] - best[:, 1]).topk(QUERY).indices
                    chosen = torch.cat([chosen, free[taken]])
                    free = free[~torch.isin(torch.arange(len(free)), taken)]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="0: as many as torch takes")
    parser.add_argument("--profile", metavar="FILE", help="write one profile of lean, and end")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.profile:
        import cProfile

        bench("auto", 1, 2)
        cProfile.runctx("bench('auto', args.seeds, args.rounds)", globals(), locals(), args.profile)
        return
    work: dict[str, Callable[[], object]] = {
        "bench, Lightning": partial(bench, "lightning", args.seeds, args.rounds),
        "bench, lean": partial(bench, "lean", args.seeds, args.rounds),
        "bare torch": partial(bare, args.seeds, args.rounds),
    }
    figures = interleaved({k: partial(seconds, call) for k, call in work.items()}, args.repeat)
    steps = EPOCHS * sum(-(-QUERY * (r + 1) // BATCH) for r in range(args.rounds)) * args.seeds
    print(f"{args.seeds} seeds x {args.rounds} rounds on digits, {steps} steps, ", end="")
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}\n")
    show(figures, "CPU seconds")
    middle = medians(figures)
    usual, lean, hand = middle.values()
    print(f"\nLightning over lean: {usual / lean:.2f}; asked: at least {ASK}")
    print(f"lean over bare torch: {lean / hand:.2f}")
    sys.exit(usual / lean < ASK)


if __name__ == "__main__":
    main()
