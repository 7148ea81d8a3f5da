"""Scores of Gaussian members in closed form: mean and variance [N, S, D]; higher = acquire first.

Outputs are independent given the member, so divergences and entropies add up over D. Computed in
float64, about the members' centre, and given back in the precision of ``mean``. The mixture of the
members is no Gaussian: what needs its entropy is in :mod:`.density`.
"""

from __future__ import annotations

import math

from torch import Tensor

from .numerics import check_regression, full

__all__ = [
    "bald_std",
    "gaussian_entropy",
    "gaussian_kl_all_pairs",
    "gaussian_kl_pairs",
    "gaussian_pairs_distance",
    "mixture_std",
]


def _moments(name: str, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    check_regression(name, mean, variance)
    mean, variance = mean.double(), variance.double()
    if bool((variance <= 0).any()):
        raise ValueError(
            f"{name} needs variances above 0, got {float(variance.min()):.4g}; give the head a "
            "floor, such as softplus + 1e-6"
        )
    return mean - mean.mean(1, keepdim=True), variance


def gaussian_kl_pairs(mean: Tensor, variance: Tensor) -> Tensor:
    """Divergence of one member from the next, summed: mean, variance [N, S, D] -> [N] >= 0 nats.

    ln(sigma_2 / sigma_1) + (sigma_1² + (mu_1 - mu_2)²) / (2 sigma_2²) - ½, over j < S.

    Source: Kullback (1959), for the KL Pairs of Werner and Schmidt-Thieme, BALSA (2025).

    Raises:
        ValueError: not [N, S, D], two shapes, or a variance that is not above 0.

    >>> gaussian_kl_pairs(torch.tensor([[[0.0], [2.0]]]), torch.ones(1, 2, 1))
    tensor([2.])
    """
    about, spread = _moments("gaussian_kl_pairs", mean, variance)
    ratio = spread[:, :-1] / spread[:, 1:]
    apart = (about[:, :-1] - about[:, 1:]).square() / spread[:, 1:]
    return (0.5 * (ratio - 1 - ratio.log() + apart)).sum((1, 2)).to(full(mean).dtype)


def gaussian_kl_all_pairs(mean: Tensor, variance: Tensor) -> Tensor:
    """Mean divergence of two members: mean, variance [N, S, D] -> [N] >= 0 nats.

    Over the S (S - 1) ordered pairs, whose logarithms cancel, at the cost of S. 0 with one member.

    Raises:
        ValueError: not [N, S, D], two shapes, or a variance that is not above 0.

    >>> gaussian_kl_all_pairs(torch.tensor([[[0.0], [2.0]]]), torch.ones(1, 2, 1))
    tensor([2.])
    """
    about, spread = _moments("gaussian_kl_all_pairs", mean, variance)
    members = mean.shape[1]
    if members < 2:
        return full(mean).new_zeros(len(mean))
    # the mean over i of (spread_i + (about_i - about_j)²), for each j; the members' mean is 0
    seen = spread.mean(1, keepdim=True) + about.square().mean(1, keepdim=True) + about.square()
    score = 0.5 * (seen / spread - 1).mean(1).sum(-1) * (members / (members - 1))
    return score.clamp_min(0).to(full(mean).dtype)


def gaussian_pairs_distance(mean: Tensor, variance: Tensor) -> Tensor:
    """Distance of one member from the next, summed: mean, variance [N, S, D] -> [N], target units.

    The 2-Wasserstein distance, the root of (mu_1 - mu_2)² + (sigma_1 - sigma_2)² summed over the
    outputs; of one output it is at least :func:`.density_samples.pairs_distance`.

    Source: Dowson and Landau (1982).

    Raises:
        ValueError: not [N, S, D], two shapes, or a variance that is not above 0.

    >>> gaussian_pairs_distance(torch.tensor([[[0.0], [3.0]]]), torch.tensor([[[1.0], [25.0]]]))
    tensor([5.])
    """
    about, spread = _moments("gaussian_pairs_distance", mean, variance)
    squared = about.diff(dim=1).square() + spread.sqrt().diff(dim=1).square()
    return squared.sum(-1).sqrt().sum(1).to(full(mean).dtype)


def gaussian_entropy(mean: Tensor, variance: Tensor) -> Tensor:
    """Mean of the members' differential entropies: mean, variance [N, S, D] -> [N] nats.

    ½ ln(2 pi e sigma²), summed over the outputs. With one member it ranks as the variance does.

    Source: Shannon (1948), section 20.

    Raises:
        ValueError: not [N, S, D], two shapes, or a variance that is not above 0.

    >>> gaussian_entropy(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    tensor([1.4189])
    """
    _, spread = _moments("gaussian_entropy", mean, variance)
    each = 0.5 * (spread.log() + math.log(2 * math.pi * math.e))
    return each.sum(-1).mean(1).to(full(mean).dtype)


def mixture_std(mean: Tensor, variance: Tensor) -> Tensor:
    """Standard deviation of the mixture: mean, variance [N, S, D] of any members -> [N] >= 0.

    Law of total variance; of several outputs the root of their sum. Target units.

    Raises:
        ValueError: not [N, S, D], or two shapes.

    >>> mixture_std(torch.tensor([[[0.0], [2.0]]]), torch.full((1, 2, 1), 3.0))
    tensor([2.])
    """
    check_regression("mixture_std", mean, variance)
    total = mean.double().var(1, correction=0) + variance.double().mean(1)
    return total.sum(-1).sqrt().to(full(mean).dtype)


def bald_std(mean: Tensor, variance: Tensor) -> Tensor:
    """What the members' disagreement adds to the standard deviation: [N, S, D] twice -> [N] >= 0.

    That of the mixture, by the law of total variance E[sigma²] + Var(mu), less the mean of the
    members' own; for members of any shape. 0 where all agree in both moments. Target units.

    Source: the BALD^sigma of Werner and Schmidt-Thieme, BALSA (2025), equation 7, as the excess of
    the standard deviation over its mean; the sum there telescopes.

    Raises:
        ValueError: not [N, S, D], or two shapes.

    >>> bald_std(torch.tensor([[[0.0], [2.0]]]), torch.full((1, 2, 1), 3.0))
    tensor([0.2679])
    """
    whole = mixture_std(mean, variance).double()
    own = variance.double().sum(-1).sqrt().mean(1)
    return (whole - own).clamp_min(0).to(full(mean).dtype)
