"""BatchBALD, TypiClust and the cover kernels: ours, plain torch lines, and peers where installed.

CPU seconds on one thread, interleaved: ``python benchmarks/kernels_joint.py [part ...]`` with
parts ``batch_bald``, ``typiclust``, ``cover`` (default all). ``cover`` also prints the similarities
that were computed, in passes over all pairs. A peer that cannot be imported is left out with a
line. 1,000 items are labelled where that matters. ``--repeat`` rounds count after one warm-up.
"""

import argparse
import resource
from functools import partial

import torch
from peers import quiet, with_peers
from timing import interleaved, one_thread, seconds, show
from torch import Tensor

from lightning_al.strategies.kernels.batch_bald import batch_bald
from lightning_al.strategies.kernels.cover import Cover, facility_location, max_herding, prob_cover
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


def plain_batch_bald(log_probs: Tensor, k: int, samples: int) -> list[int]:
    """What one writes by hand: the joint of every item with every configuration."""
    probs = log_probs.exp()
    own = -(probs * log_probs).sum(-1).mean(1)
    joint, chosen = torch.ones(1, probs.shape[1]), []  # [M, S]
    weight = torch.ones(1)
    for _ in range(k):
        total = []
        for part in probs.split(max(1, 2**20 // (len(joint) * probs.shape[2]))):
            both = (joint / joint.sum(1, keepdim=True)) @ part  # [n, M, C]
            total.append(-(both * both.log()).sum(-1) @ weight)
        gains = torch.cat(total) - own
        gains[chosen] = -torch.inf
        chosen.append(int(gains.argmax()))
        joint = (joint[:, None] * probs[chosen[-1]].T).flatten(0, 1)
        weight = joint.mean(1) / joint.mean(1).sum()
        if len(joint) > samples:
            drawn = torch.multinomial(weight, samples, True, generator=seeded())
            joint, weight = joint[drawn], torch.full((samples,), 1 / samples)
    return chosen


def plain_typiclust(pool: Tensor, labelled: Tensor, k: int) -> list[int]:
    """Ten Lloyd iterations on everything, then cluster by cluster."""
    every = torch.cat([pool, labelled])
    count = min(500, k + len(labelled))
    centres = every[torch.randperm(len(every), generator=seeded())[:count]]
    for _ in range(10):
        own = torch.cat(
            [((centres**2).sum(1) - 2 * p @ centres.T).argmin(1) for p in every.split(8192)]
        )
        sums = torch.zeros_like(centres).index_add_(0, own, every)
        centres = sums / own.bincount(minlength=count).clamp_min(1)[:, None]
    own, covered = own[: len(pool)], own[len(pool) :].bincount(minlength=count)
    sizes, taken = own.bincount(minlength=count), torch.zeros(len(pool), dtype=torch.bool)
    ranked, chosen = {}, []
    for _ in range(k):
        left = sizes - own[taken].bincount(minlength=count)
        one = int((covered * 10**6 - sizes).masked_fill(left == 0, 10**12).argmin())
        if one not in ranked:
            rows = (own == one).nonzero().squeeze(1)
            apart = torch.cdist(pool[rows], pool[rows])
            near = apart.topk(min(21, len(rows)), largest=False).values
            ranked[one] = rows[near.sum(1).argsort()].tolist()
        chosen.append(ranked[one].pop(0))
        taken[chosen[-1]] = True
        covered[one] += 1
    return chosen


def plain_herding(pool: Tensor, k: int, width: float) -> list[int]:
    """The whole matrix of similarities, every gain at every pick."""
    similar = torch.exp(-(torch.cdist(pool, pool) ** 2) / width**2)
    covered, chosen = torch.zeros(len(pool)), []
    for _ in range(k):
        gains = (similar - covered).clamp_min(0).sum(1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = torch.maximum(covered, similar[chosen[-1]])
    return chosen


def run(title: str, ours: dict, peers: dict, repeat: int) -> None:
    calls, absent = with_peers(ours, peers)
    print(f"\n{title}")
    figures = interleaved({name: partial(seconds, call) for name, call in calls.items()}, repeat)
    show(figures, "CPU s", absent=absent)


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
                {"batchbald_redux": ("batchbald_redux", redux), "BaaL": ("baal", baal)},
                repeat,
            )


def bench_typiclust(repeat: int) -> None:
    for make in (clumped, tight, gaussian):
        points = make(51_000, 128)
        pool, labelled = points[:50_000], points[50_000:]
        for k, ask in ((100, 0.5), (1000, 1.5)):

            def activeml(pool: Tensor = pool, labelled: Tensor = labelled, k: int = k):
                import numpy as np
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
            )


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
    print(f"{'':52}{'CPU s':>8}{'passes':>8}{'GFLOP':>8}")
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
            for name, kernel in kernels.items():
                spent = seconds(partial(kernel, pool, labelled, 200, seeded()))
                flop = passes[-1] * 2 * 128 * len(pool) ** 2 / 1e9
                title = f"{name}, {make.__name__}, {labels} labelled"
                print(f"{title:52}{spent:8.2f}{passes[-1]:8.2f}{flop:8.0f}", flush=True)
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
    )


PARTS = {"batch_bald": bench_batch_bald, "typiclust": bench_typiclust, "cover": bench_cover}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    quiet()
    one_thread()
    a = torch.randn(2048, 2048)
    rate = 2 * 2048**3 / min(seconds(lambda: a @ a) for _ in range(3)) / 1e9
    print(f"torch {torch.__version__}, matrix product {rate:.0f} GFLOP/s")
    for part in args.parts or PARTS:
        PARTS[part](args.repeat)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
