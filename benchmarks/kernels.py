"""Set kernels beside peers and plain torch lines, with the ratio to the best and to the floor.

CPU seconds on one thread, median of interleaved repetitions; beside them what the batch is worth
(``kernels_quality.py``). Peers that cannot be imported are named and left out.
``python benchmarks/kernels.py --kernel k-center badge --data clumped tight``; ``--large`` adds the
sizes that take minutes. BatchBALD, TypiClust, BAIT and the cover kernels:
``python benchmarks/kernels_joint.py``.

To add a kernel, write one function that yields a :class:`Case` for each size and register it::

    @kernel("my-kernel")
    def my_kernel(data: str, large: bool) -> Iterator[Case]: ...
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import kernels_data
import kernels_quality
import numpy as np
import torch
from peers import quiet, with_peers
from timing import interleaved, medians, one_thread, seconds
from torch import Tensor

from lightning_al.strategies.kernels import badge, k_center_greedy

Call = Callable[[], object]
BMDAL = "bmdal_reg.bmdal.selection"


@dataclass(frozen=True)
class Rates:
    """What one core of this machine does."""

    flops: float  # of a float32 matrix product, a second
    bytes: float  # read from memory, a second


@dataclass(frozen=True)
class Case:
    """One size of one kernel: who runs, and what the least conceivable work is."""

    name: str
    ours: Call
    plain: Mapping[str, Call] = field(default_factory=dict)  # the lines that one writes by hand
    peers: Mapping[str, tuple[str, Callable[[], Call]]] = field(default_factory=dict)
    flops: float = 0.0  # that any exact method without a bound must spend in matrix products
    bytes: float = 0.0  # that it must read
    ask: float | None = None  # seconds, on a core of 100 GFLOP/s and 16 GB/s
    quality: Mapping[str, Callable[[Tensor], float]] = field(default_factory=dict)  # of the rows


KERNELS: dict[str, Callable[[str, bool], Iterator[Case]]] = {}


def kernel(name: str) -> Callable:
    """Register a function (data set's name, whether to run large sizes) -> cases."""

    def register(cases: Callable[[str, bool], Iterator[Case]]) -> Callable:
        KERNELS[name] = cases
        return cases

    return register


def measured_rates() -> Rates:
    """The best of a few matrix products, and of a few sums over 256 MB."""
    left, right, out = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.empty(2048, 2048)
    product = min(seconds(lambda: torch.mm(left, right, out=out)) for _ in range(4))
    long = torch.ones(2**26)
    reading = min(seconds(lambda: long.sum()) for _ in range(4))
    return Rates(2 * 2048**3 / product, long.nbytes / reading)


def report(case: Case, rates: Rates, repeat: int) -> None:
    """Measure a case and print its lines."""
    print(f"\n{case.name}")
    calls, absent = with_peers({"ours": case.ours, **case.plain}, case.peers)
    found: dict[str, object] = {}

    def kept(name: str) -> None:
        found[name] = calls[name]()

    timed = {name: partial(seconds, partial(kept, name)) for name in calls}
    middle = medians(interleaved(timed, repeat, warm_up=1 if repeat > 1 else 0))
    for name, value in middle.items():
        print(f"  {name:44}{value:9.3f} s{value / middle['ours']:8.1f} x ours")
    for name, why in absent.items():
        print(f"  {name:44}left out: {why}")
    rivals = [middle[name] for name in middle if name in case.peers]
    if rivals:
        print(f"  {'ratio to the best peer':44}{middle['ours'] / min(rivals):9.3f}")
    floor = case.flops / rates.flops + case.bytes / rates.bytes
    if floor:
        print(f"  {'ratio to the floor without bounds':44}{middle['ours'] / floor:9.3f}")
    if case.ask is not None:
        ask = case.ask * max(1e11 / rates.flops, 16e9 / rates.bytes)
        verdict = "met" if middle["ours"] <= ask else "MISSED"
        print(f"  {'ask, scaled to this machine':44}{ask:9.3f} s  {verdict}")
    for line in kernels_quality.lines(found, case.quality):
        print(f"  {line}", flush=True)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# k-center greedy


def plain_k_center(pool: Tensor, labelled: Tensor, k: int) -> Tensor:
    """Blocked first distances, then one pass over the pool for each pick."""
    near = torch.cat([torch.cdist(part, labelled).square().amin(1) for part in pool.split(4096)])
    norms, rows = pool.square().sum(1), []
    for _ in range(k):
        row = int(near.argmax())
        rows.append(row)
        fresh = torch.addmv(norms, pool, pool[row], alpha=-2).add_(norms[row])
        torch.minimum(near, fresh, out=near)
        near[row] = -torch.inf
    return torch.tensor(rows)


def bmdal_features(*factors: Tensor) -> Any:
    """bmdal_reg's features of the product kernel over the factors."""
    np.Inf = np.inf  # type: ignore[attr-defined]  # it was written for NumPy 1
    from bmdal_reg.bmdal.feature_data import ListFeatureData, TensorFeatureData
    from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap, ProductFeatureMap
    from bmdal_reg.bmdal.features import Features

    maps = [IdentityFeatureMap(f.shape[1]) for f in factors]
    data = [TensorFeatureData(f) for f in factors]
    if len(factors) == 1:
        return Features(maps[0], data[0]).precompute()
    return Features(ProductFeatureMap(maps), ListFeatureData(data)).precompute()


def bmdal_k_center(pool: Tensor, labelled: Tensor, k: int) -> Call:
    np.Inf = np.inf  # type: ignore[attr-defined]
    from bmdal_reg.bmdal.selection import MaxDistSelectionMethod

    def call() -> object:
        method = MaxDistSelectionMethod(
            bmdal_features(pool), bmdal_features(labelled), sel_with_train=True, verbosity=0
        )
        return method.select(k)

    return call


def skactiveml_k_center(pool: Tensor, labelled: Tensor, k: int) -> Call:
    from skactiveml.pool import CoreSet

    points = torch.cat([labelled, pool]).numpy()
    labels = np.full(len(points), np.nan)
    labels[: len(labelled)] = 0
    return lambda: CoreSet(random_state=0).query(points, labels, batch_size=k) - len(labelled)


@kernel("k-center")
def k_center(data: str, large: bool) -> Iterator[Case]:
    sizes = [(10_000, 64, 0.09)]
    if large:
        sizes += [(200_000, 64, 1.2), (200_000, 512, 5.0), (1_000_000, 64, 60.0)]
    for n, features, ask in sizes:
        points = kernels_data.DATA[data](n + 1000, features, 0)
        pool, labelled = points[1000:], points[:1000]
        small = n * features < 2 * 10**7  # the others take minutes beyond
        plain = {"plain torch": lambda a=pool, b=labelled: plain_k_center(a, b, 1000)}
        peers = {
            "bmdal_reg": (
                BMDAL,
                lambda a=pool, b=labelled: bmdal_k_center(a, b, 1000),
            ),
            "scikit-activeml": (
                "skactiveml.pool",
                lambda a=pool, b=labelled: skactiveml_k_center(a, b, 1000),
            ),
        }
        if n > 10_000:
            del peers["scikit-activeml"]  # keeps b x N utilities
        yield Case(
            f"k-center greedy, {n} x {features}, b 1000, 1000 labelled, {data}",
            lambda a=pool, b=labelled: k_center_greedy(a, b, 1000, seeded()),
            plain if small else {},
            peers if small else {},
            flops=2.0 * n * 1000 * features,
            bytes=4.0 * n * features * 1000,
            ask=None if data == "gaussian" else ask,
            quality={"radius": kernels_quality.radius(pool, labelled)} if small else {},
        )


# BADGE


def plain_badge(embedding: Tensor, probs: Tensor, k: int) -> Tensor:
    """Factored distances, one pass for each pick."""
    residual = probs.clone()
    residual[torch.arange(len(probs)), probs.argmax(1)] -= 1
    norms = residual.square().sum(1) * embedding.square().sum(1)
    rows, near, generator = [int(norms.argmax())], torch.full_like(norms, torch.inf), seeded()
    while len(rows) < k:
        row = rows[-1]
        inner = (residual @ residual[row]).mul_(embedding @ embedding[row])
        fresh = norms.add(inner, alpha=-2).add_(norms[row]).clamp_min_(0)
        torch.minimum(near, fresh, out=near)
        near[row] = 0
        rows.append(int(torch.multinomial(near, 1, generator=generator)))
    return torch.tensor(rows)


def bmdal_badge(embedding: Tensor, probs: Tensor, k: int) -> Call:
    np.Inf = np.inf  # type: ignore[attr-defined]
    from bmdal_reg.bmdal.selection import KmeansppSelectionMethod

    def call() -> object:
        residual = probs.clone()
        residual[torch.arange(len(probs)), probs.argmax(1)] -= 1
        method = KmeansppSelectionMethod(
            bmdal_features(residual, embedding),
            bmdal_features(residual[:1], embedding[:1]),
            sel_with_train=False,
            verbosity=0,
        )
        return method.select(k)

    return call


def small_text_badge(embedding: Tensor, probs: Tensor, k: int) -> Call:
    from small_text.integrations.pytorch.query_strategies.strategies import BADGE

    arrays, rows = (embedding.numpy(), probs.numpy()), np.arange(len(probs))
    method = BADGE(probs.shape[1])
    return lambda: method.sample(
        None, None, rows, rows[:0], None, k, arrays[0], embeddings_proba=arrays[1].copy()
    )


@kernel("badge")
def badge_cases(data: str, large: bool) -> Iterator[Case]:
    n, features, classes = 10_000, 512, 10
    embedding = kernels_data.DATA[data](n, features, 0)
    probs = kernels_data.probabilities(embedding, classes)
    for k, ask in ((100, 0.06), (1000, 0.7)):
        peers = {
            "bmdal_reg, product kernel": (
                BMDAL,
                lambda k=k: bmdal_badge(embedding, probs, k),
            ),
            "small-text": ("small_text", lambda k=k: small_text_badge(embedding, probs, k)),
        }
        if k > 100:
            del peers["small-text"]
        yield Case(
            f"BADGE, {n} x {features}, C {classes}, b {k}, {data}",
            lambda k=k: badge(embedding, probs, k, seeded()),
            {"plain torch": lambda k=k: plain_badge(embedding, probs, k)},
            peers,
            bytes=4.0 * n * (features + classes) * k,
            ask=None if data == "gaussian" else ask,
            quality={"potential": kernels_quality.gradient_potential(embedding, probs)},
        )


def main() -> None:
    """Measure the rates, then every case asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", nargs="*", default=sorted(KERNELS), choices=sorted(KERNELS))
    parser.add_argument("--data", nargs="*", default=list(kernels_data.DATA))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="sizes that take minutes, too")
    args = parser.parse_args()
    one_thread()
    quiet()
    rates = measured_rates()
    print(
        f"torch {torch.__version__}: matrix product {rates.flops / 1e9:.0f} GFLOP/s, "
        f"memory {rates.bytes / 1e9:.0f} GB/s"
    )
    for name in args.kernel:
        for data in args.data:
            for case in KERNELS[name](data, args.large):
                report(case, rates, args.repeat)


if __name__ == "__main__":
    main()
