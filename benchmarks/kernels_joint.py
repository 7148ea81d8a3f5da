"""BatchBALD, batch EPIG, TypiClust, BAIT and cover kernels: ours, plain torch, installed peers.

CPU seconds on one thread, interleaved: ``python benchmarks/kernels_joint.py [part ...]`` with
parts ``batch_bald``, ``batch_epig``, ``typiclust``, ``bait``, ``cover`` (default all). ``cover``
also prints the similarities that were computed, in passes over all pairs. Beside the time stands
what the batch is worth by the kernel's own measure (``kernels_quality.py``). The floor is the time
of the matrix products that an exact method without bounds must spend, at the rate measured here. A
peer that cannot be imported is left out with a line. 1,000 items are labelled where that matters.
``--repeat`` rounds count after one warm-up (none before a single round).

Peers: ``pip install --no-deps baal structlog scikit-activeml makefun batchbald_redux toma
bmdal_reg dill`` (``--target`` a folder on PYTHONPATH leaves the environment alone).
"""

import argparse
import os
import resource
from functools import partial

import kernels_quality
import numpy as np
import torch
from kernels_data import clumped as embeddings
from kernels_data import probabilities
from kernels_plain import plain_bait, plain_batch_bald, plain_herding, plain_typiclust
from peers import quiet, with_peers
from sklearn.datasets import load_digits
from timing import interleaved, medians, one_thread, seconds, show
from torch import Tensor

from lightning_al.strategies.kernels.batch_bald import batch_bald
from lightning_al.strategies.kernels.cover import Cover, facility_location, max_herding, prob_cover
from lightning_al.strategies.kernels.greedy_fisher import bait
from lightning_al.strategies.kernels.joint_epig import SAMPLES, batch_epig
from lightning_al.strategies.kernels.typiclust import typiclust


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clumped(n: int, e: int) -> Tensor:
    """A mixture of 50 unequal clusters with heavy tails."""
    draw = seeded(1)
    centres = 3 * torch.randn(50, e, generator=draw)
    own = torch.multinomial(torch.rand(50, generator=draw) ** 3, n, True, generator=draw)
    tails = torch.empty(n, 1).exponential_(generator=draw).clamp_min(0.1).sqrt()
    return centres[own] + 0.7 * torch.randn(n, e, generator=draw) / tails


def tight(n: int, e: int) -> Tensor:
    """200 equal clusters, narrow against their distances."""
    draw = seeded(2)
    centres = torch.randn(200, e, generator=draw)
    own = torch.randint(200, (n,), generator=draw)
    return centres[own] + 0.05 * torch.randn(n, e, generator=draw)


def gaussian(n: int, e: int) -> Tensor:
    """I.i.d. normal: no structure to use; reported without an ask."""
    return torch.randn(n, e, generator=seeded(3))


def members(n: int, s: int, c: int, shared: float) -> Tensor:
    """Log-probabilities [N, S, C]: a part that all members share, of varied size, and noise."""
    draw = seeded(4)
    scale = torch.rand(n, 1, 1, generator=draw)
    logits = shared * scale * torch.randn(n, 1, c, generator=draw)
    return (logits + (2 - scale) * torch.randn(n, s, c, generator=draw)).log_softmax(-1)


def run(
    title: str,
    ours: dict,
    peers: dict,
    repeat: int,
    gflop: float = 0.0,
    quality: kernels_quality.Quality | None = None,
) -> None:
    """Time contenders; the first of ours is the kernel. ``gflop`` is the floor's, float32."""
    calls, absent = with_peers(ours, peers)
    print(f"\n{title}")
    found: dict[str, object] = {}

    def kept(name: str) -> None:
        found[name] = calls[name]()

    timed = {name: partial(seconds, partial(kept, name)) for name in calls}
    figures = interleaved(timed, repeat, warm_up=int(repeat > 1))
    show(figures, "CPU s", absent=absent)
    middle = medians(figures)
    mine = middle[next(iter(ours))]
    if set(middle) > set(ours):
        best = min(value for name, value in middle.items() if name not in ours)
        print(f"ratio to the best peer {mine / best:.3f}")
    if gflop:
        print(f"ratio to the floor without bounds {mine * RATE[0] / gflop:.2f}", flush=True)
    for line in kernels_quality.lines(found, quality or {}):
        print(line, flush=True)


RATE = [1.0]  # GFLOP/s of a float32 matrix product, measured at the start


def bench_batch_bald(repeat: int) -> None:
    for n, samples, ask in ((1000, 2000, 0.5), (1000, 10_000, 3), (10_000, 2000, 4)):
        for name, shared in (("shared beliefs", 4.0), ("i.i.d.", 0.0)):
            log_probs = members(n, 20, 10, shared)

            def redux(log_probs: Tensor = log_probs, samples: int = samples):
                from batchbald_redux.batchbald import get_batchbald_batch

                return lambda: get_batchbald_batch(log_probs, 10, samples, dtype=torch.double)

            def baal(log_probs: Tensor = log_probs, samples: int = samples):
                from baal.active.heuristics import BatchBALD

                probs = log_probs.exp().transpose(1, 2).numpy()
                return lambda: BatchBALD(10, num_draw=samples)(probs)

            run(
                f"BatchBALD {n} x 20 x 10, b 10, {samples} samples, {name}; ask <= {ask} s",
                {
                    "batch_bald": partial(batch_bald, log_probs, 10, seeded(), samples=samples),
                    "plain torch": partial(plain_batch_bald, log_probs, 10, samples),
                },
                {"batchbald_redux": ("batchbald_redux", redux), "BaaL": ("baal", baal)}
                if n * samples <= 2 * 10**6  # minutes beyond
                else {},
                repeat,
                sum(2e-9 * n * 20 * 10 * min(10**step, samples) for step in range(10)),
                {
                    "information of the first 4, exact": kernels_quality.information(log_probs, 4),
                    "of all, from draws": kernels_quality.information(log_probs),
                },
            )


def bench_batch_epig(repeat: int) -> None:
    for n, s, ask in ((2000, 10, 5), (10_000, 20, 20)):
        for name, shared in (("shared beliefs", 4.0), ("i.i.d.", 0.0)):
            pool, targets = members(n + 100, s, 10, shared).split([n, 100])
            run(
                f"batch EPIG {n} x {s} x 10, 100 targets, b 20, {name}; ask <= {ask} s",
                {"batch_epig": partial(batch_epig, pool, targets, 20, seeded())},
                {},
                repeat,
                sum(2e-9 * n * s * 10 * 1000 * min(10**step, SAMPLES) for step in range(20)),
                {"information": kernels_quality.information_on_targets(pool, targets)},
            )


def bench_typiclust(repeat: int) -> None:
    for make in (clumped, tight, gaussian):
        points = make(51_000, 128)
        pool, labelled = points[:50_000], points[50_000:]
        for k, ask in ((100, 0.5), (1000, 1.5)):

            def activeml(pool: Tensor = pool, labelled: Tensor = labelled, k: int = k):
                from skactiveml.pool import TypiClust

                x = torch.cat([pool, labelled]).numpy()
                y = np.r_[np.full(len(pool), np.nan), np.zeros(len(labelled))]
                return lambda: TypiClust(random_state=0).query(x, y, batch_size=k)

            run(
                f"TypiClust 50k x 128 {make.__name__}, 1,000 labelled, b {k}; ask <= {ask} s",
                {
                    "typiclust": partial(typiclust, pool, labelled, k, seeded()),
                    "plain torch": partial(plain_typiclust, pool, labelled, k),
                },
                {"scikit-activeml": ("skactiveml", activeml)},
                repeat,
                2e-9 * len(points) * 128 * min(500, k + 1000),  # one assignment to the clusters
                {"mean distance": kernels_quality.mean_distance(pool, labelled)},
            )
        kernels_quality.k_means(make.__name__, points)
    digits = torch.from_numpy(load_digits().data).float()
    kernels_quality.k_means("clumps with heavy tails, 50k x 128", embeddings(50_000, 128))
    kernels_quality.k_means("digits", digits)


def bench_bait(repeat: int) -> None:
    """Ten classes beside plain lines (at a small size), two beside the peer, which knows rank 1."""
    k = 100
    for n, e, c in ((1000, 32, 5), (10_000, 102, 10), (10_000, 128, 2)):
        embedding = embeddings(n, e)
        probs = probabilities(embedding, c)
        ours = {"bait": partial(bait, embedding, probs, embedding[:0], probs[:0], k, seeded())}
        if n == 1000:
            ours["plain torch"] = partial(plain_bait, embedding, probs, k)

        def bmdal(embedding: Tensor = embedding, probs: Tensor = probs):
            np.Inf = np.inf  # type: ignore[attr-defined]  # it was written for NumPy 1
            from bmdal_reg.bmdal.feature_data import TensorFeatureData
            from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap
            from bmdal_reg.bmdal.features import Features
            from bmdal_reg.bmdal.selection import BaitFeatureSpaceSelectionMethod

            root = embedding * (2 * probs[:, :1] * probs[:, 1:]).sqrt()
            shape = IdentityFeatureMap(embedding.shape[1])

            def call() -> Tensor:
                features, none = (
                    Features(shape, TensorFeatureData(part)).precompute()
                    for part in (root, torch.zeros_like(root[:1]))
                )
                return BaitFeatureSpaceSelectionMethod(
                    *(features, none),
                    **{"sel_with_train": False, "noise_sigma": 1.0, "verbosity": 0},
                    overselection_factor=2.0,
                ).select(k)

            return call

        peers = {"bmdal_reg": ("bmdal_reg.bmdal.selection", bmdal)} if c == 2 else {}
        d, own = e * (c - 1), n * e**2 * c * (c - 1)  # own: one pass over candidates and matrices
        single = 2 * k * 4 * n * e * (c - 1) ** 2 + 2 * own  # the steps; Z and P at the start
        double = own + 3 * k * 10 * d**2 * (c - 1)  # the pool's information; A and Q at each step
        gflop = 1e-9 * (single + 2 * double)
        worth = {"trace": kernels_quality.bait_trace(embedding, probs)}
        title = f"BAIT {n} x {e}, {c} classes, b {k}, twice forward"
        run(title, ours, peers, repeat, gflop, worth)


def bench_cover(repeat: int) -> None:
    passes: list[float] = []
    choose = Cover.choose

    def counted(self: Cover, k: int) -> Tensor:
        rows = choose(self, k)
        passes.append(self.computed / len(self.items) ** 2)
        return rows

    Cover.choose = counted  # type: ignore[method-assign]
    radii = {clumped: 10.0, tight: 0.6, gaussian: 14.0}
    print("\nCover kernels, 20k x 128, b 200; ask <= 3 passes")
    print(f"{'':52}{'CPU s':>8}{'passes':>8}{'GFLOP':>8}{'worth':>10}")
    for make in (clumped, tight, gaussian):
        points = make(21_000, 128)
        pool = points[:20_000]
        for labels in (1000, 0):
            labelled = points[20_000 : 20_000 + labels]
            kernels = {
                "facility_location": facility_location,
                "facility_location, cosine": partial(facility_location, similarity="cosine"),
                "max_herding": max_herding,
                "prob_cover": partial(prob_cover, radius=radii[make]),
            }
            width = float((pool - pool.mean(0)).square().sum(1).mean().sqrt())
            worth = {
                "facility_location": kernels_quality.mean_distance(pool, labelled),
                "facility_location, cosine": kernels_quality.mean_similarity(pool, labelled),
                "max_herding": kernels_quality.mean_similarity(pool, labelled, width),
                "prob_cover": kernels_quality.covered(pool, labelled, radii[make]),
            }
            for name, kernel in kernels.items():
                rows: list[Tensor] = []
                call = partial(kernel, pool, labelled, 200, seeded())
                spent = seconds(lambda call=call, rows=rows: rows.append(call()))
                flop = passes[-1] * 2 * 128 * len(pool) ** 2 / 1e9
                title = f"{name}, {make.__name__}, {labels} labelled"
                print(
                    f"{title:52}{spent:8.2f}{passes[-1]:8.2f}{flop:8.0f}"
                    f"{worth[name](rows[0]):10.4f}",
                    flush=True,
                )
    pool = clumped(5000, 128)
    width = float((pool - pool.mean(0)).square().sum(1).mean().sqrt())

    def apricot():
        from apricot import FacilityLocationSelection

        found = FacilityLocationSelection(200, metric="euclidean", optimizer="lazy")
        return lambda: found.fit(pool.numpy())

    run(
        "MaxHerding (apricot: facility location), 5k x 128 clumped, none labelled, b 200",
        {
            "max_herding": partial(max_herding, pool, None, 200, seeded()),
            "plain torch, 100 MB matrix": partial(plain_herding, pool, 200, width),
        },
        {"apricot": ("apricot", apricot)},
        repeat,
        quality={"similarity": kernels_quality.mean_similarity(pool, pool[:0], width)},
    )


PARTS = {
    "batch_bald": bench_batch_bald,
    "batch_epig": bench_batch_epig,
    "typiclust": bench_typiclust,
    "bait": bench_bait,
    "cover": bench_cover,
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"  # a peer's progress bars
    quiet()
    one_thread()
    a = torch.randn(2048, 2048)
    RATE[0] = 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(3)) / 1e9
    print(f"torch {torch.__version__}, matrix product {RATE[0]:.0f} GFLOP/s")
    for part in args.parts or PARTS:
        PARTS[part](args.repeat)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
