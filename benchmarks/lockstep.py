"""A benchmark on digits whose fits are Lightning's, lean ones, and stacked ones, in one run.

    python benchmarks/lockstep.py [--seeds 5] [--rounds 10] [--stops] [--before MS] [--threads N]
        [--profile FILE]

The grid: an MLP 64-64-10, 20 initial labels, 20 a query, margin sampling, 20 epochs, batches of 32,
rounds reset; each run as ``lightning-al bench`` does it, in this process, so with its settings,
rehearsal, journal, checkpoints, test and scores. With ``--stops`` the network has dropout 0.25, 100
items are for validation, and early stopping (patience 5, at most 100 epochs) ends each fit. CPU
seconds, in turn, the median; on one thread, or on as many as torch takes (``--threads 0``). Asked:
stacked in at most 1 / 6 of what the grid took before there were stacks, 1 / 4 with ``--stops``, at
50 seeds of 20 rounds. What it took then is measured with a checkout of 0.1 and given in CPU ms a
seed and round (``--before``); without it Lightning as it is now stands for it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from timing import interleaved, medians, seconds, show

QUERY, EPOCHS, BATCH = 20, 20, 32
ASK = {False: 6.0, True: 4.0}
STOP = {
    "class_path": "pytorch_lightning.callbacks.EarlyStopping",
    "init_args": {"monitor": "val/nll", "patience": 5},
}


def grid(fits: str, seeds: int, rounds: int, stops: bool) -> dict:
    """The benchmark, as in a YAML file."""
    network = {"hidden": [64], **({"dropout": 0.25} if stops else {})}
    data = {"initial": QUERY, "batch_size": BATCH, **({"val": 100} if stops else {})}
    trainer = {"max_epochs": 100 if stops else EPOCHS, "accelerator": "cpu", "devices": 1}
    arguments = {"class_path": "lightning_al.networks.MLP", "init_args": network}
    task = {"class_path": "lightning_al.tasks.Classification"}
    return {
        "metric": "test/accuracy",
        "seeds": seeds,
        "common": {
            "query_size": QUERY,
            "budget": QUERY * (rounds - 1),
            "trainer": trainer | ({"callbacks": [STOP]} if stops else {}),
            "fits": fits,
        },
        "models": {"mlp": {**task, "init_args": {"network": arguments, "lr": 0.001}}},
        "data": {
            "digits": {"class_path": "lightning_al.datamodules.DigitsDataModule", "init_args": data}
        },
        "strategies": ["margin"],
    }


def bench(fits: str, seeds: int, rounds: int, stops: bool, told: dict[str, list[float]]) -> None:
    """All runs of the grid, in this process; their final test accuracies are kept in ``told``."""
    from lightning_al.benchmark.grid import bench_of
    from lightning_al.benchmark.workers import run_in_process

    root = Path(tempfile.mkdtemp())
    last = []
    try:
        for outcome in run_in_process(bench_of(grid(fits, seeds, rounds, stops)).units(), root):
            if outcome["status"] != "done" or len(outcome["rows"]) != rounds:
                raise RuntimeError(f"a run did not end: {outcome['error']}")
            last.append((outcome["run_id"], outcome["rows"][-1]["test/accuracy"]))
    finally:
        shutil.rmtree(root)
    told[fits] = [value for _, value in last]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--stops", action="store_true", help="dropout and early stopping")
    parser.add_argument("--before", type=float, metavar="MS", help="a seed and round, by 0.1")
    parser.add_argument("--threads", type=int, default=1, help="0: as many as torch takes")
    parser.add_argument("--profile", metavar="FILE", help="write one profile of stacked, and end")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.threads:
        torch.set_num_threads(args.threads)
    told: dict[str, list[float]] = {}

    def work(fits: str) -> None:
        bench(fits, args.seeds, args.rounds, args.stops, told)

    if args.profile:
        import cProfile

        bench("stacked", 2, 2, args.stops, told)
        profile = cProfile.Profile(time.process_time)
        profile.runcall(work, "stacked")
        profile.dump_stats(args.profile)
        return
    calls = {
        fits: partial(seconds, partial(work, fits)) for fits in ("lightning", "lean", "stacked")
    }
    figures = interleaved(calls, args.repeat, warm_up=int(args.repeat > 1))
    print(f"{args.seeds} seeds x {args.rounds} rounds on digits, ", end="")
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}\n")
    show(figures, "CPU seconds")
    middle = medians(figures)
    ask, fits = ASK[args.stops], args.seeds * args.rounds
    told_before = args.before is not None
    before = args.before * fits / 1000 if told_before else middle["lightning"]
    gain, whose = before / middle["stacked"], "before" if told_before else "Lightning"
    print()
    for name, took in middle.items():
        print(f"{name}: {1000 * took / fits:.1f} ms a seed and round")
    print(f"{whose} over lean: {before / middle['lean']:.2f}")
    print(f"{whose} over stacked: {gain:.2f}; asked: at least {ask:g}")
    means = ", ".join(f"{name} {statistics.mean(values):.4f}" for name, values in told.items())
    print(f"final test accuracy, mean over seeds: {means}")
    sys.exit(gain < ask)


if __name__ == "__main__":
    main()
