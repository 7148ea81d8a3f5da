"""What a batch is worth by its kernel's own measure, printed beside its time.

Each function takes rows [K] of what was chosen from and gives one number, computed plainly in
float64 from the definition; the kernels' shortcuts have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from lightning_al.strategies.kernels.k_means import assign, kmeans

__all__ = [
    "as_rows",
    "bait_trace",
    "covered",
    "gradient_potential",
    "inertia",
    "information",
    "information_on_targets",
    "k_means",
    "lines",
    "mean_distance",
    "mean_similarity",
    "radius",
]

Quality = Mapping[str, Callable[[Tensor], float]]
DRAWS = 20_000  # label configurations where all of them are too many


def as_rows(found: object) -> Tensor | None:
    """The rows [K] that a contender gave, however it gives them; None where it gives no rows."""
    for value in (found, *(found if isinstance(found, tuple) else ())):
        value = value if isinstance(value, Tensor) else getattr(value, "indices", value)
        try:
            rows = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            continue
        if rows.ndim == 1 and len(rows) and not rows.is_floating_point():
            return rows.long()
    return None


def lines(found: Mapping[str, object], quality: Quality) -> list[str]:
    """A line for each measure, the contenders in turn."""
    rows = {name: as_rows(value) for name, value in found.items()}
    return [
        f"{measure}: "
        + ", ".join(f"{name} {call(own):.5g}" for name, own in rows.items() if own is not None)
        for measure, call in quality.items()
    ]


def _near(points: Tensor, centres: Tensor) -> Tensor:
    """Distance to the nearest centre [n], float64."""
    parts = [torch.cdist(part.double(), centres.double()).amin(1) for part in points.split(2048)]
    return torch.cat(parts)


def radius(points: Tensor, labelled: Tensor) -> Callable[[Tensor], float]:
    """Largest distance to the nearest of labelled and chosen items: the lower the better."""
    return lambda rows: float(_near(points, torch.cat([labelled, points[rows]])).max())


def mean_distance(points: Tensor, labelled: Tensor | None = None) -> Callable[[Tensor], float]:
    """Mean distance to the nearest of labelled and chosen items: the lower the better."""
    known = points[:0] if labelled is None else labelled
    return lambda rows: float(_near(points, torch.cat([known, points[rows]])).mean())


def covered(points: Tensor, labelled: Tensor, within: float) -> Callable[[Tensor], float]:
    """Share of items within a radius of a labelled or chosen one: the higher the better."""
    return lambda rows: float(
        (_near(points, torch.cat([labelled, points[rows]])) <= within).double().mean()
    )


def mean_similarity(
    points: Tensor, labelled: Tensor, width: float | None = None
) -> Callable[[Tensor], float]:
    """Mean largest similarity to labelled and chosen items: the higher the better.

    Gaussian exp(-d^2 / width^2), or the cosine where no width is given.
    """
    if width is not None:
        return lambda rows: float(
            (-_near(points, torch.cat([labelled, points[rows]])).div(width).square()).exp().mean()
        )
    unit, known = (torch.nn.functional.normalize(p.double(), dim=1) for p in (points, labelled))
    return lambda rows: float(1 - _near(unit, torch.cat([known, unit[rows]])).square().mean() / 2)


def inertia(points: Tensor, centres: Tensor) -> float:
    """Sum of squared distances to the nearest centre: the lower the better."""
    return float(assign(points, centres)[1].double().sum())


def gradient_potential(embedding: Tensor, probs: Tensor) -> Callable[[Tensor], float]:
    """Sum of squared distances of BADGE's gradients to the nearest chosen: the lower the better."""
    residual = probs.double().clone()
    residual[torch.arange(len(probs)), probs.argmax(1)] -= 1
    points = embedding.double()
    norms = residual.square().sum(1) * points.square().sum(1)

    def potential(rows: Tensor) -> float:
        total = 0.0
        for part in torch.arange(len(points)).split(512):
            inner = (residual[part] @ residual[rows].T).mul_(points[part] @ points[rows].T)
            squared = norms[part, None] + norms[rows] - 2 * inner
            total += float(squared.amin(1).clamp_min(0).sum())
        return total

    return potential


def _entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs).sum(-1)


def information(log_probs: Tensor, exact: int = 0) -> Callable[[Tensor], float]:
    """Mutual information in nats of the batch's labels and the model: the higher the better.

    Exact over all C^exact configurations of the first ``exact`` picks; with 0 of the whole batch,
    from 20,000 drawn configurations (standard error about 0.01).
    """
    probs = log_probs.double().exp()
    probs = probs / probs.sum(-1, keepdim=True)

    def by_all(rows: Tensor) -> float:
        joint = probs.new_ones(1, probs.shape[1])  # [M, S]
        for row in rows[:exact].tolist():
            joint = (joint[:, None] * probs[row].T).flatten(0, 1)
        own = sum(_entropy(probs[row]).mean() for row in rows[:exact].tolist())
        return float(_entropy(joint.mean(1)) - own)

    def by_draws(rows: Tensor) -> float:
        weights = _joint_draws(probs[rows])
        own = sum(_entropy(probs[row]).mean() for row in rows.tolist())
        return float(-(weights.logsumexp(1) - _log_count(weights)).mean() - own)

    return by_all if exact else by_draws


def _log_count(weights: Tensor) -> float:
    return float(torch.tensor(float(weights.shape[1])).log())


def _joint_draws(probs: Tensor, seed: int = 0) -> Tensor:
    """Log-likelihoods [M, S] by member of configurations drawn from all: probs [K, S, C]."""
    draw = torch.Generator().manual_seed(seed)
    members = torch.randint(probs.shape[1], (DRAWS,), generator=draw)
    total = probs.new_zeros(DRAWS, probs.shape[1])
    for item in probs:
        labels = torch.multinomial(item[members], 1, generator=draw)[:, 0]
        total += item.log()[:, labels].T
    return total


def information_on_targets(log_probs: Tensor, targets: Tensor) -> Callable[[Tensor], float]:
    """Mean information in nats of the batch's labels and a target's: the higher the better.

    From 20,000 drawn configurations of the batch's labels.
    """
    probs, goal = log_probs.double().exp(), targets.double().exp()  # [N, S, C], [T, S, C]
    before = _entropy(goal.mean(1)).mean()

    def of(rows: Tensor) -> float:
        weights = _joint_draws(probs[rows]).softmax(1)
        after = [
            _entropy(torch.einsum("ms,tsc->mtc", part, goal)).mean(1) for part in weights.split(500)
        ]
        return float(before - torch.cat(after).mean())

    return of


def bait_trace(embedding: Tensor, probs: Tensor) -> Callable[[Tensor], float]:
    """BAIT's objective at lambda 1, tr((1 + F_chosen)^-1 F_pool): the lower the better."""
    (n, e), c = embedding.shape, probs.shape[1]
    points, odds = embedding.double(), probs.double()

    def fisher(rows: Tensor) -> Tensor:
        total = points.new_zeros(c * e, c * e)
        for part in rows.split(256):
            p = odds[part]
            root = (torch.eye(c) - p[:, :, None]) * p[:, None].sqrt()  # [n, C, C]
            flat = torch.einsum("nce,nf->cfne", root, points[part]).reshape(c * e, -1)
            total.addmm_(flat, flat.T)
        return total

    pool = fisher(torch.arange(n))
    eye = torch.eye(c * e, dtype=torch.float64)
    return lambda rows: float(torch.linalg.solve(eye + fisher(rows), pool).trace())


def k_means(name: str, points: Tensor, k: int = 100) -> None:
    """TypiClust's centres, and its picks from them, beside those of scikit-learn; three seeds."""
    from sklearn.cluster import MiniBatchKMeans

    from lightning_al.strategies.kernels import typiclust

    found = {"ours": [], "MiniBatchKMeans": []}
    for seed in range(3):
        other = MiniBatchKMeans(k, random_state=seed).fit(points.numpy())
        centres = {
            "ours": kmeans(points, k, torch.Generator().manual_seed(seed)),
            "MiniBatchKMeans": torch.from_numpy(other.cluster_centers_),
        }
        for who, these in centres.items():
            sizes = assign(points, these)[0].bincount(minlength=k)
            found[who].append((inertia(points, these), int((sizes < 6).sum())))
    worth = {who: np.mean(values, 0) for who, values in found.items()}
    ratio = worth["ours"][0] / worth["MiniBatchKMeans"][0]
    small = ", ".join(f"{who} {value[1]:.1f}" for who, value in worth.items())
    picks = typiclust(points, None, k, torch.Generator().manual_seed(0))
    print(f"\nk-means of {name}, {k} clusters: inertia {ratio:.3f} x MiniBatchKMeans'")
    print(f"clusters of fewer than 6 items: {small}")
    print(
        f"mean distance to {k} picks: {mean_distance(points)(picks):.5g}",
        flush=True,
    )
