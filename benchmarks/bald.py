"""BALD over 60,000 items, 20 members, 10 classes: ours, plain torch, and BaaL where installed.

CPU seconds on one thread, median of interleaved repetitions: ``python benchmarks/bald.py``.
"""

import argparse
import statistics
import time

import torch
from timing import one_thread
from torch import Tensor

from lightning_al import measures


def plain(probs: Tensor) -> Tensor:
    """The two lines that one writes by hand."""
    total = torch.special.entr(probs.mean(1)).sum(-1)
    return (total - torch.special.entr(probs).sum(-1).mean(1)).clamp_min(0)


def contenders(probs: Tensor) -> dict:
    """Name -> a call without arguments that gives the scores [N]."""
    found = {
        "lightning_al.scores.classification.bald": lambda: measures.bald(probs),
        "plain torch (entr)": lambda: plain(probs),
    }
    try:
        from baal.active.heuristics import BALD
    except Exception as error:  # a peer that is absent or broken is no failure of ours
        print(f"BaaL left out: {type(error).__name__}: {error}")
    else:
        rows = probs.transpose(1, 2).contiguous().numpy()  # BaaL wants [N, C, S]
        heuristic = BALD()
        found["BaaL BALD.compute_score"] = lambda: torch.as_tensor(heuristic.compute_score(rows))
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    one_thread()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(args.items, args.members, args.classes, generator=generator)
    probs = torch.softmax(2 * logits, -1)
    exact = plain(probs.double())
    calls = contenders(probs)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    error = {}
    for repetition in range(args.repeat + 1):  # the first one warms up
        for name, call in calls.items():
            start = time.process_time()
            scores = call()
            spent = time.process_time() - start
            if repetition:
                seconds[name].append(spent)
            error[name] = float((scores.double() - exact).abs().max())
    print(
        f"BALD, {args.items} x {args.members} x {args.classes} float32, torch {torch.__version__}"
    )
    print(f"{'':32}{'median s':>10}{'least s':>10}{'max error':>12}")
    for name, values in seconds.items():
        middle, least = statistics.median(values), min(values)
        print(f"{name:32}{middle:10.4f}{least:10.4f}{error[name]:12.1e}")


if __name__ == "__main__":
    main()
