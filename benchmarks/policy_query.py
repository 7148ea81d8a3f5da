"""Milliseconds a query of a trained policy takes, by kind of policy and length of history.

``Policy.query`` (stateless), ``Session.ask`` (points encoded when they were told), the policy as an
ONNX file, a batch of 64 users by ``Policy.query`` over 64, and, of a policy that scores candidates,
10,000 rows of a pool; checks of the input included. CPU
time of one thread, median and least of many calls. Contenders run in turn, some calls in a row each
after one that does not count: a slow moment strikes all alike, and each has its weights in the
cache, as when one user asks often. The floor is the time that this machine takes for a query's
multiplications in products of 128 x 128 matrices, measured in turn with it. Weights are random:
times do not depend on them.

``python benchmarks/policy_query.py`` ends with status 1 where the policy for 2 inputs at 30 points
takes more than was asked for.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import one_thread
from torch.utils.flop_counter import FlopCounterMode

from lightning_al.policies import CandidatePolicy, Policy, SetPolicy

LENGTHS = (1, 10, 30, 60, 110)
# name -> inputs, safe, points of history at most, budget at most: those of the published policies
CASES = {
    "AL 1-D": (1, False, 31, 30),
    "AL 2-D": (2, False, 31, 30),
    "AL 5-D": (5, False, 60, 40),
    "safe 2-D": (2, True, 45, 40),
    "safe 3-D": (3, True, 65, 60),
    "safe 7-D": (7, True, 110, 100),
    "scores 2-D": (2, False, 31, 30),
    "scores 5-D": (5, False, 60, 40),
    "scores safe 7-D": (7, True, 110, 100),
}
CANDIDATES = {"scores 2-D": 64, "scores 5-D": 128, "scores safe 7-D": 256}  # that are looked at
ROWS = 10_000  # of a pool
# The original implementation of Li et al. (2026) with its own forward pass, a loop over points,
# and with the points encoded as one batch; networks of the published sizes on one contended CPU
# thread, torch 2.13, median. Another machine and another day: for the order of magnitude.
ORIGINAL = {
    "AL 2-D": {1: (0.32, 0.29), 10: (0.77, 0.48), 30: (1.6, 0.55), 60: (4.8, 1.1)},
    "safe 7-D": {
        1: (0.53, 0.48),
        10: (1.4, 0.78),
        30: (7.0, 1.1),
        60: (11.0, 2.0),
        110: (33.0, 10.0),
    },
}
ASKED = {
    "AL 2-D": {"query": 0.4, "ask": 0.3, "exported": 0.2},
    "scores 2-D": {"query": 0.4, "ask": 0.25, "exported": 0.2, "rows": 100.0},
}  # ms, at 30 points
USERS = 64


def milliseconds(call: Callable[[], object], inner: int) -> list[float]:
    """CPU time of each of some calls in a row, after one that does not count."""
    call()
    figures = []
    for _ in range(inner):
        start = time.thread_time_ns()
        call()
        figures.append((time.thread_time_ns() - start) / 1e6)
    return figures


def rate(rows: int = 1000) -> float:
    """FLOPs a millisecond of products of [rows, 128] and [128, 128]."""
    a, w = torch.ones(rows, 128), torch.ones(128, 128)
    (best,) = milliseconds(lambda: torch.mm(a, w), 1)
    return 2 * rows * 128 * 128 / best


def contenders(policy: Policy, n: int, exported: object) -> dict[str, Callable[[], object]]:
    """Name -> one query at n points."""
    dim, safe = policy.network.dimension, policy.network.safe
    x, y, z = torch.rand(USERS, n, dim), torch.randn(USERS, n), torch.randn(USERS, n)
    more, mores = ((z[0],), (z,)) if safe else ((), ())
    session = policy.session(policy.card.budget)
    session.tell(x[0], y[0], *more)

    def ask() -> None:
        session.budget = 7  # the same again
        session.ask()

    calls: dict[str, Callable[[], object]] = {
        "query": lambda: policy.query(x[0], y[0], 7, *more),
        "ask": ask,
        "64 users": lambda: policy.query(x, y, 7, *mores),
    }
    if policy.scores_candidates:
        rows = torch.rand(ROWS, dim)
        calls["rows"] = lambda: policy.score(x[0], y[0], rows, *more)
    if exported is not None:
        calls["exported"] = lambda: exported.query(x[0], y[0], 7, *more)
    return calls


def flops(policy: Policy, n: int) -> int:
    """Of one forward pass."""
    x, y = torch.rand(1, n, policy.network.dimension), torch.randn(1, n)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        safety = y if policy.network.safe else None
        if isinstance(policy.network, CandidatePolicy):
            places = torch.rand(policy.network.candidates, policy.network.dimension)
            policy.network(x, y, places, safety)
        else:
            policy.network(torch.tensor([7]), x, y, safety)
    return counter.get_total_flops()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--inner", type=int, default=8, help="calls in a row")
    options = parser.parse_args()
    one_thread()
    torch.manual_seed(0)
    runs = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    columns = ("query", "ask", "exported", "64 users", "rows")
    heads = ("query", "session.ask", "exported", "64 users, each", f"{ROWS:,} rows", "floor")
    print("CPU ms of one thread, median (least)" + ("" if runs else "; peer: onnx not installed"))
    print(f"{'':16}{'n':>4}" + "".join(f"{h:>16}" for h in heads) + "   original / points batched")
    missed = []
    for case in options.case or CASES:
        dim, safe, history, budget = CASES[case]
        network = SetPolicy(dim, safe=safe)
        if case in CANDIDATES:
            network = CandidatePolicy(dim, safe=safe, candidates=CANDIDATES[case])
        policy = Policy.of(network, history, budget)
        exported = None
        with tempfile.TemporaryDirectory() as folder:
            if runs and case not in CANDIDATES:
                exported = policy.export(Path(folder) / "policy")
        for n in (n for n in LENGTHS if n <= history):
            calls = contenders(policy, n, exported)
            figures: dict[str, list[float]] = {name: [] for name in calls}
            rates = []
            for _ in range(options.rounds):
                rates.append(rate())
                for name, call in calls.items():
                    inner = 1 if name in ("64 users", "rows") else options.inner
                    scale = USERS if name == "64 users" else 1
                    figures[name] += [v / scale for v in milliseconds(call, inner)]
            cells = []
            for name in columns:
                values = figures.get(name, [])
                middle = statistics.median(values) if values else float("nan")
                cells.append(f"{middle:7.3f} ({min(values, default=middle):.3f})")
                ask = ASKED.get(case, {}).get(name, middle) if n == 30 else middle
                if middle > ask:
                    missed.append(f"{case}, {name}: {middle:.3f} ms, asked {ask}")
            cells.append(f"{flops(policy, n) / statistics.median(rates):.3f}")
            other = ORIGINAL.get(case, {}).get(n)
            beside = "" if other is None else f"{other[0]:10.2f} / {other[1]:.2f}"
            print(f"{case:16}{n:4}" + "".join(f"{c:>16}" for c in cells) + beside, flush=True)
    print("\n".join(missed) or "all that was asked for is met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
