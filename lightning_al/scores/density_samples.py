"""Scores of predicted densities by values drawn from them, or by quantiles; for any number D.

Letters: N items, S members of the posterior, M values drawn from each member, D outputs, Q levels.
``cross_log_density [N, S, S, M]`` holds at [:, i, j, m] the log-density under member i of the value
m that was drawn from member j, over all D outputs together; ``density_samples [N, S, M, D]`` are
the values themselves. ``quantiles [N, S, Q]`` are those of each member at the same evenly spaced
levels, ascending, so that what they say holds no noise. Higher = acquire first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .density_grid import LOWEST
from .numerics import full

__all__ = [
    "all_pairs_distance",
    "kl_anomaly",
    "median_spread",
    "mutual_information",
    "pairs_distance",
    "point_spread",
    "sample_moments",
    "sampled_entropy",
    "sampled_kl_all_pairs",
    "sampled_kl_pairs",
    "sampled_least_confidence",
    "sampled_log_density_spread",
]


def pairs_distance(quantiles: Tensor) -> Tensor:
    """Distance of one member from the next, summed: quantiles [N, S, Q] -> [N] >= 0, target units.

    The sum over j < S of the 1-Wasserstein (earth mover's) distance of members j and j + 1: the
    mean over the levels of the difference of their quantiles. 0 with one member.

    Source: Werner and Schmidt-Thieme, BALSA (2025), EMD; on quantiles instead of draws.

    Raises:
        ValueError: not [N, S, Q], or quantiles that do not ascend.

    >>> pairs_distance(torch.tensor([[[0.0, 1.0], [2.0, 3.0], [2.0, 5.0]]]))
    tensor([3.])
    """
    _check_quantiles("pairs_distance", quantiles)
    quantiles = full(quantiles)
    return (quantiles[:, 1:] - quantiles[:, :-1]).abs_().mean(-1).sum(1)


def all_pairs_distance(quantiles: Tensor) -> Tensor:
    """Mean distance of two members: quantiles [N, S, Q] -> [N] >= 0, target units.

    The mean of the 1-Wasserstein distance over the pairs of members, at the cost of a sort of the
    members at each level. 0 with one member.

    Source: the full EMD of the code of Werner and Schmidt-Thieme, BALSA (2025).

    Raises:
        ValueError: not [N, S, Q], or quantiles that do not ascend.

    >>> all_pairs_distance(torch.tensor([[[0.0, 1.0], [2.0, 3.0], [2.0, 5.0]]]))
    tensor([2.])
    """
    _check_quantiles("all_pairs_distance", quantiles)
    members = quantiles.shape[1]
    if members < 2:
        return full(quantiles).new_zeros(len(quantiles))
    ranked = full(quantiles).mT.sort(-1).values  # [N, Q, S]
    ranked = ranked - ranked[..., :1]
    times = torch.arange(1 - members, members, 2).to(ranked)  # above less below
    return (ranked @ times).mean(-1) * (2 / (members * (members - 1)))


def _check_quantiles(name: str, quantiles: Tensor) -> None:
    if quantiles.ndim != 3:
        raise ValueError(
            f"{name} needs quantiles [N, S, Q] of one output, got {list(quantiles.shape)}; add the "
            "member axis with quantiles[:, None]"
        )
    if bool((quantiles[..., 1:] < quantiles[..., :-1]).any()):
        raise ValueError(
            f"{name} needs the quantiles of each member in ascending order; values that were drawn "
            "become quantiles by .sort(-1).values"
        )


def mutual_information(cross_log_density: Tensor) -> Tensor:
    """Mutual information of answer and member: cross_log_density [N, S, S, M] -> [0, log S] nats.

    The mean over all values drawn of log p_j(y) - log of the members' mean density at y, y from j:
    unbiased but for the cut at 0, with an error that falls as 1 / sqrt(S M). Any D.

    Source: Houlsby et al. (2011); the estimator of Berry and Meger, Normalizing Flow Ensembles
    (2023), as it should be in BALSA's NFlows Out.

    Raises:
        ValueError: not [N, S, S, M].

    >>> mutual_information(torch.tensor([[[[0.0], [-40.0]], [[-40.0], [0.0]]]]))
    tensor([0.6931])
    """
    cross = _cross("mutual_information", cross_log_density)
    return (_own(cross) - _mixture(cross)).mean((1, 2)).clamp_min(0)


def sampled_kl_pairs(cross_log_density: Tensor) -> Tensor:
    """Divergence of one member from the next, summed: cross_log_density [N, S, S, M] -> [N] >= 0.

    As :func:`.density.kl_pairs`, in nats, for any D.

    Raises:
        ValueError: not [N, S, S, M].

    >>> sampled_kl_pairs(torch.tensor([[[[0.0], [-3.0]], [[-2.0], [0.0]]]]))
    tensor([2.])
    """
    cross = _cross("sampled_kl_pairs", cross_log_density)
    under_next = cross.diagonal(-1, 1, 2)  # [N, M, S - 1]: p_(j + 1) at what was drawn from j
    own = cross.diagonal(0, 1, 2)[..., :-1]
    return (own - under_next).mean(1).sum(1).clamp_min(0)


def sampled_kl_all_pairs(cross_log_density: Tensor) -> Tensor:
    """Mean divergence of two members: cross_log_density [N, S, S, M] -> [N] >= 0 nats.

    As :func:`.density.kl_all_pairs`, for any D.

    Raises:
        ValueError: not [N, S, S, M].

    >>> sampled_kl_all_pairs(torch.tensor([[[[0.0], [-3.0]], [[-2.0], [0.0]]]]))
    tensor([2.5000])
    """
    cross = _cross("sampled_kl_all_pairs", cross_log_density)
    members = cross.shape[1]
    if members < 2:
        return cross.new_zeros(len(cross))
    apart = (_own(cross) - cross.mean(1)).mean((1, 2)) * (members / (members - 1))
    return apart.clamp_min(0)


def kl_anomaly(cross_log_density: Tensor) -> Tensor:
    """How unlikely the members hold each other's answers: cross_log_density [N, S, S, M] -> [N].

    The sum over members j of KL(mean of the members | p_j), >= 0 nats: a Jensen gap, log of the
    mean density less the mean log-density, at values drawn from the mixture. S times
    :func:`.density.reverse_information`, for any D.

    Source: KL Anomaly of the code of Werner and Schmidt-Thieme, BALSA (2025), whose mean runs over
    densities of different values; at one value it is the reverse mutual information of Malinin and
    Gales (2021).

    Raises:
        ValueError: not [N, S, S, M].

    >>> kl_anomaly(torch.tensor([[[[0.0], [-3.0]], [[-2.0], [0.0]]]]))
    tensor([1.2892])
    """
    cross = _cross("kl_anomaly", cross_log_density)
    gap = (_mixture(cross) - cross.mean(1)).mean((1, 2)).clamp_min(0)
    return gap * cross.shape[1]


def sampled_entropy(cross_log_density: Tensor) -> Tensor:
    """Differential entropy of the mixture: cross_log_density [N, S, S, M] -> [N] nats; any D.

    Raises:
        ValueError: not [N, S, S, M].

    >>> sampled_entropy(torch.tensor([[[[-1.0, -3.0]]]]))
    tensor([2.])
    """
    return -_mixture(_cross("sampled_entropy", cross_log_density)).mean((1, 2))


def sampled_least_confidence(cross_log_density: Tensor) -> Tensor:
    """Minus the log of the highest density drawn: cross_log_density [N, S, S, M] -> [N]; any D.

    Under the mixture, among the values drawn from it.

    Raises:
        ValueError: not [N, S, S, M].

    >>> sampled_least_confidence(torch.tensor([[[[-1.0, -3.0]]]]))
    tensor([1.])
    """
    return -_mixture(_cross("sampled_least_confidence", cross_log_density)).amax((1, 2))


def sampled_log_density_spread(cross_log_density: Tensor) -> Tensor:
    """Standard deviation of the mixture's log-density of an answer: [N, S, S, M] -> [N]; any D.

    Raises:
        ValueError: not [N, S, S, M].

    >>> sampled_log_density_spread(torch.tensor([[[[-1.0, -3.0]]]]))
    tensor([1.])
    """
    mixture = _mixture(_cross("sampled_log_density_spread", cross_log_density))
    return mixture.flatten(1).std(1, correction=0)


def sample_moments(density_samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of what was drawn from each member: [N, S, M, D] -> [N, S, D] twice.

    Raises:
        ValueError: not [N, S, M, D], or one value a member.

    >>> sample_moments(torch.tensor([[[[1.0], [3.0]]]]))
    (tensor([[[2.]]]), tensor([[[2.]]]))
    """
    if density_samples.ndim != 4 or density_samples.shape[2] < 2:
        raise ValueError(
            "sample_moments needs density_samples [N, S, M, D] with at least two values a member, "
            f"got {list(density_samples.shape)}; draw more"
        )
    variance, mean = torch.var_mean(full(density_samples), 2)
    return mean, variance


def point_spread(points: Tensor) -> Tensor:
    """Standard deviation of the members' point predictions: points [N, S, D] -> [N] >= 0.

    Of the population of S members, in target units; of several outputs the root of their summed
    variances.

    Source: the BALD Naive of Werner and Schmidt-Thieme, BALSA (2025); Gal and Ghahramani (2016).

    Raises:
        ValueError: not [N, S, D].

    >>> point_spread(torch.tensor([[[1.0], [3.0]]]))
    tensor([1.])
    """
    if points.ndim != 3:
        raise ValueError(f"point_spread needs points [N, S, D], got {list(points.shape)}")
    return full(points).var(1, correction=0).sum(-1).sqrt()


def median_spread(quantiles: Tensor) -> Tensor:
    """Standard deviation of the members' medians: quantiles [N, S, Q] -> [N] >= 0, target units.

    Source: as :func:`point_spread`.

    Raises:
        ValueError: not [N, S, Q], or quantiles that do not ascend.

    >>> median_spread(torch.tensor([[[0.0, 1.0, 2.0], [1.0, 3.0, 9.0]]]))
    tensor([1.])
    """
    _check_quantiles("median_spread", quantiles)
    count = quantiles.shape[-1]
    middle = quantiles[..., [(count - 1) // 2, count // 2]].mean(-1, keepdim=True)
    return point_spread(middle)


def _cross(name: str, cross: Tensor) -> Tensor:
    if cross.ndim != 4 or cross.shape[1] != cross.shape[2]:
        raise ValueError(
            f"{name} needs cross_log_density [N, S, S, M], the density under each member of what "
            f"was drawn from each, got {list(cross.shape)}"
        )
    return full(cross).clamp_min(LOWEST)


def _own(cross: Tensor) -> Tensor:
    """Log-density of each value under the member that it was drawn from [N, S, M]."""
    return cross.diagonal(0, 1, 2).mT


def _mixture(cross: Tensor) -> Tensor:
    """Log-density of each value under the mixture of the members [N, S, M]."""
    return cross.logsumexp(1) - math.log(cross.shape[1])
