"""Scores of predictive densities beside the way of BALSA's code, and the memory of a large pool.

    python benchmarks/density.py [--part kernels|memory]

Kernels: 1,000 items, 10 members, 200 nodes; CPU seconds on one thread, both ways in turn. The way
of the original is written here from its description: densities [k, N, G] in probability space, a
loop over pairs of members, SciPy's distance for each item and pair. Both begin with log-densities,
whose evaluation is timed by itself. The floor is the time of the exponentials that have to be
taken. Asked: at most half of the original's time in the same run.

Memory: 100,000 items, 25 members by dropout, 200 nodes, in a process of its own; the scoring pass
of a round runs as the driver runs it. Asked: at most 200 MiB above the data.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time

import numpy as np
import torch
from pool_memory import forget, memory
from timing import interleaved, medians, one_thread, seconds, show
from torch import Tensor

N, K, G, M = 1000, 10, 200, 64
ITEMS, MEMBERS, FEATURES, CHOSEN = 100_000, 25, 61, 50
ASK, ASK_MIB = 0.5, 200


# --- the original's way: log-densities [k, N, G], samples [k, N, M] ------------------------------


def plain_grid(log_density: Tensor) -> Tensor:
    """KL Grid."""
    p = log_density.exp()
    mean = p.mean(0)
    return (p * torch.log(p / mean)).sum(-1).sum(0)


def plain_pairs(log_density: Tensor) -> Tensor:
    """KL Pairs."""
    p = log_density.exp()
    total = torch.zeros(p.shape[1])
    for j in range(len(p) - 1):
        total += (p[j] * (torch.log(p[j]) - torch.log(p[j + 1]))).sum(-1)
    return total


def plain_all_pairs(log_density: Tensor) -> Tensor:
    """The same over all ordered pairs, as its ablation loops."""
    p = log_density.exp()
    logs = torch.log(p)
    total = torch.zeros(p.shape[1])
    for i in range(len(p)):
        for j in range(len(p)):
            if i != j:
                total += (p[i] * (logs[i] - logs[j])).sum(-1)
    return total


def plain_entropy(log_density: Tensor) -> Tensor:
    """BALD of entropy, by the trapezoid rule."""
    p = log_density.exp()
    mean = p.mean(0)
    mean = mean / torch.trapezoid(mean, dx=0.8 / G)[:, None]
    whole = torch.trapezoid(-mean * torch.log(mean), dx=0.8 / G)
    own = torch.trapezoid(-p * torch.log(p), dx=0.8 / G)
    return (whole - own).sum(0)


def plain_distance(samples: np.ndarray) -> np.ndarray:
    """EMD: one call of SciPy for each item and pair."""
    from scipy.stats import wasserstein_distance

    k, n, _ = samples.shape
    total = np.zeros(n)
    for j in range(k - 1):
        for i in range(n):
            total[i] += wasserstein_distance(samples[j, i], samples[j + 1, i])
    return total


# --- kernels -------------------------------------------------------------------------------------


def kernels(repeat: int) -> bool:
    """Measure and print the table of kernels; whether every goal is met."""
    from lightning_al.scores import density, density_samples

    one_thread()
    draw = torch.Generator().manual_seed(0)
    mean = 0.5 + 0.1 * torch.randn(N, K, 1, generator=draw)
    std = 0.1 * torch.exp(0.2 * torch.randn(N, K, 1, generator=draw))
    nodes = torch.linspace(0.1, 0.9, G)
    weights = torch.full((1, G), 0.8 / (G - 1))
    weights[:, [0, -1]] /= 2

    def evaluated() -> Tensor:
        z = (nodes - mean) / std
        return -0.5 * z * z - (std.log() + 0.5 * math.log(2 * math.pi))

    log_density = evaluated()
    theirs = log_density.transpose(0, 1).contiguous()
    quantiles = mean + std * torch.special.ndtri((torch.arange(M) + 0.5) / M)
    samples = (mean + std * torch.randn(N, K, M, generator=draw)).transpose(0, 1).double().numpy()
    ways = {
        "kl-grid": (
            lambda: density.kl_grid(log_density, weights),
            lambda: plain_grid(theirs),
        ),
        "kl-pairs": (
            lambda: density.kl_pairs(log_density, weights),
            lambda: plain_pairs(theirs),
        ),
        "kl-all-pairs": (
            lambda: density.kl_all_pairs(log_density, weights),
            lambda: plain_all_pairs(theirs),
        ),
        "bald-entropy": (
            lambda: density.bald_entropy(log_density, weights),
            lambda: plain_entropy(theirs),
        ),
        "emd": (
            lambda: density_samples.pairs_distance(quantiles),
            lambda: plain_distance(samples),
        ),
    }
    calls = {"densities (Gaussian) at the nodes": lambda: seconds(evaluated)}
    calls["exponentials of them: the floor"] = lambda: seconds(log_density.exp)
    for name, (ours, plain) in ways.items():
        calls[f"{name}, ours"] = lambda ours=ours: seconds(ours)
        calls[f"{name}, the original's way"] = lambda plain=plain: seconds(plain)
    found = interleaved(calls, repeat)
    print(f"{N:,} items, {K} members, {G} nodes, {M} samples; torch {torch.__version__}")
    show(found, "ms", 1000)
    middle = medians(found)
    each = middle["exponentials of them: the floor"] / log_density.numel()
    print(f"floor: {log_density.numel():,} exponentials of {each * 1e9:.2f} ns each")
    met = True
    for name in ways:
        share = middle[f"{name}, ours"] / middle[f"{name}, the original's way"]
        floors = middle[f"{name}, ours"] / middle["exponentials of them: the floor"]
        floor = "" if name == "emd" else f"; {floors:.1f} floors"
        print(f"{name}: {share:.2f} of the original's way{floor}; asked: at most {ASK}")
        met = met and share <= ASK
    return met


# --- memory --------------------------------------------------------------------------------------


def once(items: int, head: str, strategy: str) -> dict[str, float]:
    """Score and choose in this process; bytes above what was held before."""
    from lightning_al.datamodules import ActiveDataModule, TensorItems
    from lightning_al.networks import MLP
    from lightning_al.posteriors import MCDropout
    from lightning_al.randomness import generator
    from lightning_al.scoring.scorer import Scorer
    from lightning_al.strategies import build
    from lightning_al.tasks import DensityRegression

    torch.set_num_threads(1)
    torch.manual_seed(0)
    read = DensityRegression.network_outputs(1, {"head": head})
    network = MLP(FEATURES, (32, 64), read, dropout=0.05)
    task, chooser = DensityRegression(network, head=head), build(strategy)

    def score_and_choose(module: ActiveDataModule) -> None:
        scorer = Scorer(task, module, task.adapter, posterior=MCDropout(MEMBERS))
        pool = scorer.pool(chooser)
        chooser.choose(pool, CHOSEN, generator(0, 0, "choose"))

    def module_of(n: int) -> ActiveDataModule:
        inputs = torch.empty(n, FEATURES).normal_()
        data = TensorItems(inputs, torch.zeros(n))
        test = TensorItems(torch.zeros(1, FEATURES), torch.zeros(1))
        module = ActiveDataModule(data, test, initial=10)
        module.setup()
        return module

    score_and_choose(module_of(2000))
    module = module_of(items)
    len(module.pool)
    forget()
    before = memory("VmRSS")
    start = time.process_time()
    score_and_choose(module)
    spent = time.process_time() - start
    return {"data": before, "extra": memory("VmHWM") - before, "seconds": spent}


def pools(items: int) -> bool:
    """Print the memory of a pass by each head; whether the goal is met."""
    met = True
    dense = MEMBERS * items * G * 4 / 2**20
    for head, strategy in (("gaussian", "balsa-kl-grid"), ("flow", "balsa-kl-grid")):
        command = [sys.executable, __file__, "--once", head, strategy, "--items", str(items)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        extra = row["extra"] / 2**20
        print(
            f"{strategy}, {head} head, {items:,} items x {MEMBERS} x {G}: {extra:.0f} MiB above "
            f"the data ({dense:,.0f} as one tensor), {row['seconds']:.0f} CPU s; asked: at most "
            f"{ASK_MIB}"
        )
        met = met and extra <= ASK_MIB
    return met


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("kernels", "memory", "all"), default="all")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--once", nargs=2, metavar=("HEAD", "STRATEGY"), help="in this process")
    args = parser.parse_args()
    if args.once:
        print(json.dumps(once(args.items, *args.once)))
        return
    met = [kernels(args.repeat)] if args.part in ("kernels", "all") else []
    met += [pools(args.items)] if args.part in ("memory", "all") else []
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
