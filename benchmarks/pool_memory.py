"""Memory of BALD over a large pool: 20 members, 10 classes, 1,000,000 items of 64 numbers.

    python benchmarks/pool_memory.py [--posterior dropout|ensemble]

Each size runs in a process of its own. Its data lie in memory, and a small pool has been scored,
before the count starts; then the scoring pass of a round and the choice of 1,000 items run as the
driver runs them, and the highest resident memory is compared with that before. Asked: at most
200 MiB above the data at 1,000,000 items, and at most 8 bytes an item between 100,000 and that.

The datamodule's own record (a status and a position an item: 9 bytes) is there before the count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

SMALL, LARGE, FEATURES, CLASSES, MEMBERS, CHOSEN = 100_000, 1_000_000, 64, 10, 20, 1000
ASK_MIB, ASK_BYTES = 200, 8


def memory(field: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" the highest since :func:`forget` (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system does not tell {field}; run the script on Linux")


def forget() -> None:
    """Let the highest point of memory start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def once(items: int, posterior: str) -> dict[str, float]:
    """Score and choose in this process; bytes above what was held before."""
    from lightning_al.datamodules import ActiveDataModule, TensorItems
    from lightning_al.networks import MLP, Ensemble
    from lightning_al.posteriors import MCDropout
    from lightning_al.randomness import generator
    from lightning_al.rounds.settings import check_choice
    from lightning_al.scoring.scorer import Scorer
    from lightning_al.strategies import build
    from lightning_al.tasks import Classification

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if posterior == "dropout":
        network, members = MLP(FEATURES, (32,), CLASSES, dropout=0.5), MCDropout(MEMBERS)
    else:
        network, members = Ensemble(MLP(FEATURES, (32,), CLASSES), MEMBERS), None
    task, strategy = Classification(network, classes=CLASSES), build("bald")

    def score_and_choose(module: ActiveDataModule) -> None:
        scorer = Scorer(task, module, task.adapter, posterior=members)
        pool = scorer.pool(strategy)
        chosen = strategy.choose(pool, CHOSEN, generator(0, 0, "choose"))
        check_choice(chosen, CHOSEN, module.pool, "bald")

    def module_of(n: int) -> ActiveDataModule:
        inputs = torch.empty(n, FEATURES).normal_()
        data = TensorItems(inputs, torch.zeros(n, dtype=torch.long))
        test = TensorItems(torch.zeros(1, FEATURES), torch.zeros(1, dtype=torch.long))
        module = ActiveDataModule(data, test, initial=10)
        module.setup()
        return module

    score_and_choose(module_of(5000))
    module = module_of(items)
    len(module.pool)
    forget()
    before = memory("VmRSS")
    start = time.process_time()
    score_and_choose(module)
    seconds = time.process_time() - start
    extra = memory("VmHWM") - before
    return {"items": items, "data": before, "extra": extra, "seconds": seconds}


def main() -> None:
    """Run both sizes and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posterior", choices=("dropout", "ensemble"), default="dropout")
    parser.add_argument("--items", type=int, help="one size only, in this process")
    args = parser.parse_args()
    if args.items:
        print(json.dumps(once(args.items, args.posterior)))
        return
    found = {}
    for items in (SMALL, LARGE):
        command = [sys.executable, __file__, "--items", str(items), "--posterior", args.posterior]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = found[items] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{items:9,} items: {row['data'] / 2**20:7.1f} MiB before, "
            f"{row['extra'] / 2**20:6.1f} MiB above it, {row['seconds']:6.1f} CPU s"
        )
    growth = (found[LARGE]["extra"] - found[SMALL]["extra"]) / (LARGE - SMALL)
    print(f"above the data: {found[LARGE]['extra'] / 2**20:.1f} MiB; asked: at most {ASK_MIB}")
    print(f"growth: {growth:.2f} bytes an item; asked: at most {ASK_BYTES}")
    sys.exit(found[LARGE]["extra"] > ASK_MIB * 2**20 or growth > ASK_BYTES)


if __name__ == "__main__":
    main()
