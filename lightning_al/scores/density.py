"""Scores of predicted densities on a grid of values, item by item; higher = acquire first.

A posterior comes as its members' log-densities at nodes: ``log_density [N, S, G]``, with the
quadrature weights of the nodes ``weights [N, G]`` (or ``[1, G]``, for all items alike), so that
``(log_density.exp() * weights).sum(-1)`` is about 1. One output, D = 1; for more see
:mod:`.density_samples`. Every member is normalised on the grid first, and densities are never
divided: a score is finite however narrow or far apart they are. Log-densities below -1e30 count
as that. Divergences and information are in nats, and the same in any unit of the target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .density_grid import Grid, check_grid, scored
from .numerics import full

__all__ = [
    "bald_entropy",
    "bald_least_confidence",
    "entropy",
    "kl_all_pairs",
    "kl_diff",
    "kl_grid",
    "kl_pairs",
    "least_confidence",
    "log_density_spread",
    "moments",
    "reverse_information",
]


def kl_pairs(log_density: Tensor, weights: Tensor) -> Tensor:
    """Divergence of one member from the next, summed: log_density [N, S, G] -> [N] >= 0 nats.

    The sum over j < S of KL(p_j | p_(j + 1)); 0 with one member. Its expectation over members
    drawn at random is S - 1 times that of :func:`kl_all_pairs`.

    Source: Werner and Schmidt-Thieme, BALSA (2025), KL Pairs; normalised on the grid.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> kl_pairs(torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]).log(), torch.ones(1, 2))
    tensor([0.2231])
    """
    return scored("kl_pairs", lambda on: on.pairs().sum(1).clamp_min(0), log_density, weights)


def kl_all_pairs(log_density: Tensor, weights: Tensor) -> Tensor:
    """Mean divergence of two members: log_density [N, S, G] -> [N] >= 0 nats.

    The mean of KL(p_i | p_j) over the S (S - 1) ordered pairs, at the cost of S: the sum over pairs
    is the integral of S sum_i p_i log p_i - (sum_i p_i) (sum_j log p_j). At least the mutual
    information; 0 with one member.

    Source: the expected pairwise divergence of Malinin and Gales (2021) over the members of
    Werner and Schmidt-Thieme, BALSA (2025).

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> kl_all_pairs(torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]).log(), torch.ones(1, 2))
    tensor([0.2079])
    """
    return scored("kl_all_pairs", _all_pairs, log_density, weights)


def _all_pairs(on: Grid) -> Tensor:
    members = on.mass.shape[1]
    if members < 2:
        return on.mass.new_zeros(len(on.mass))
    crossed = (on.mixture() * on.mean_log()).sum(-1)
    divergence = on.negative_entropies().mean(1) - crossed
    return (divergence * members / (members - 1)).clamp_min(0)


def kl_grid(log_density: Tensor, weights: Tensor) -> Tensor:
    """Divergence from the mixture, summed over members: log_density [N, S, G] -> [0, S log S] nats.

    The sum over j of KL(p_j | mean of the members), which is S times the mutual information of
    answer and member (:func:`bald_entropy`); 0 with one member.

    Source: Werner and Schmidt-Thieme, BALSA (2025), KL Grid; normalised on the grid.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> kl_grid(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).log(), torch.ones(1, 2))
    tensor([1.3863])
    """
    return bald_entropy(log_density, weights) * log_density.shape[1]


def bald_entropy(log_density: Tensor, weights: Tensor) -> Tensor:
    """Mutual information of answer and member: log_density [N, S, G] -> [N] in [0, log S] nats.

    Entropy of the mixture less the mean of the members' own.

    Source: Houlsby et al. (2011), for densities; the BALD^H of Werner and Schmidt-Thieme (2025).

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> bald_entropy(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).log(), torch.ones(1, 2))
    tensor([0.6931])
    """
    return scored("bald_entropy", _information, log_density, weights)


def _information(on: Grid) -> Tensor:
    if on.mass.shape[1] < 2:
        return on.mass.new_zeros(len(on.mass))
    return (on.mixture_entropy() + on.negative_entropies().mean(1)).clamp_min(0)


def reverse_information(log_density: Tensor, weights: Tensor) -> Tensor:
    """Divergence of the mixture from its members, their mean: log_density [N, S, G] -> [N] >= 0.

    The mean over j of KL(mean of the members | p_j), in nats: large where some member all but
    excludes what others hold likely. With the mutual information it makes (S - 1) / S of
    :func:`kl_all_pairs`.

    Source: the reverse mutual information of Malinin and Gales (2021).

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> reverse_information(torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]).log(), torch.ones(1, 2))
    tensor([0.0533])
    """
    return scored("reverse_information", _reverse, log_density, weights)


def _reverse(on: Grid) -> Tensor:
    if on.mass.shape[1] < 2:
        return on.mass.new_zeros(len(on.mass))
    crossed = (on.mixture() * on.mean_log()).sum(-1)
    return (-on.mixture_entropy() - crossed).clamp_min(0)


def kl_diff(log_density: Tensor, weights: Tensor) -> Tensor:
    """By how much the next member is further away than the mixture: log_density [N, S, G] -> [N].

    The sum over j < S of KL(p_j | p_(j + 1)) - KL(p_j | mean of the members), in nats; may be
    negative.

    Source: KL Diff of the code of Werner and Schmidt-Thieme, BALSA (2025).

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> kl_diff(torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]).log(), torch.ones(1, 2))
    tensor([0.1760])
    """
    return scored("kl_diff", _diff, log_density, weights)


def _diff(on: Grid) -> Tensor:
    if on.mass.shape[1] < 2:
        return on.mass.new_zeros(len(on.mass))
    from_mean = on.negative_entropies() - on.expected(
        on.mixture_log().unsqueeze(1).expand_as(on.log)
    )
    return (on.pairs() - from_mean[:, :-1]).sum(1)


def bald_least_confidence(log_density: Tensor, weights: Tensor) -> Tensor:
    """How much lower the mixture's peak is than the members': log_density [N, S, G] -> [N] >= 0.

    Log of the mean of the members' highest densities over the highest density of their mean. The
    ratio has no unit, and is 1 where all members have their mode in one place.

    Source: the BALD^LC of Werner and Schmidt-Thieme, BALSA (2025), equation 8, as the excess of
    least confidence over its mean; the sum there telescopes.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> bald_least_confidence(torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]).log(), torch.ones(1, 2))
    tensor([0.])
    >>> bald_least_confidence(torch.tensor([[[0.8, 0.2], [0.2, 0.8]]]).log(), torch.ones(1, 2))
    tensor([0.4700])
    """

    def score(on: Grid) -> Tensor:
        own = (on.log.amax(-1) - on.log_mass).logsumexp(1) - math.log(on.mass.shape[1])
        return (own - on.mixture_log().amax(-1)).clamp_min(0)

    return scored("bald_least_confidence", score, log_density, weights)


def entropy(log_density: Tensor, weights: Tensor) -> Tensor:
    """Differential entropy of the mixture: log_density [N, S, G] -> [N] nats, of either sign.

    With the target in other units, y -> a y, it grows by log a.

    Source: Shannon (1948), section 20.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> entropy(torch.zeros(1, 1, 4), torch.full((1, 4), 0.5))
    tensor([0.6931])
    """
    return scored("entropy", Grid.mixture_entropy, log_density, weights)


def least_confidence(log_density: Tensor, weights: Tensor) -> Tensor:
    """Minus the log of the mixture's highest density: log_density [N, S, G] -> [N] nats.

    Source: Lewis and Gale (1994), for densities.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> least_confidence(torch.zeros(1, 1, 4), torch.full((1, 4), 0.5))
    tensor([0.6931])
    """
    return scored("least_confidence", lambda on: -on.mixture_log().amax(-1), log_density, weights)


def log_density_spread(log_density: Tensor, weights: Tensor) -> Tensor:
    """Standard deviation of the mixture's log-density of an answer: [N, S, G] -> [N] >= 0 nats.

    Of any Gaussian it is the square root of a half, so it tells apart shapes, not widths.

    Source: the NF-Std of the code of Werner and Schmidt-Thieme, BALSA (2025), without its draw.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> log_density_spread(torch.zeros(1, 1, 4), torch.full((1, 4), 0.5))
    tensor([0.])
    """

    def score(on: Grid) -> Tensor:
        mass, log = on.mixture(), on.mixture_log()
        about = log - (mass * log).sum(-1, keepdim=True)
        return (mass * about.square()).sum(-1).sqrt()

    return scored("log_density_spread", score, log_density, weights)


def moments(log_density: Tensor, nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each member: log_density [N, S, G] -> [N, S, 1] twice, target units.

    What :func:`.density_gaussian.bald_std` and :func:`.regression.variance` take.

    Args:
        log_density: of the members.
        nodes: values of the target, [N, G] or [1, G].
        weights: of the nodes.

    Raises:
        ValueError: not [N, S, G], or nodes or weights of another shape.

    >>> moments(torch.zeros(1, 1, 2), torch.tensor([[1.0, 3.0]]), torch.ones(1, 2))
    (tensor([[[2.]]]), tensor([[[1.]]]))
    """
    check_grid("moments (its nodes)", log_density, nodes)
    nodes = full(nodes)
    origin = nodes.mean(-1, keepdim=True)  # so that an offset costs no digits
    about = (nodes - origin).expand(len(log_density), -1)

    def moment(on: Grid, about: Tensor) -> Tensor:
        about = about.to(on.mass).unsqueeze(1).expand_as(on.log)
        mean = on.expected(about)
        return torch.stack([mean, on.expected((about - mean.unsqueeze(-1)).square())], -1)

    found = scored("moments", moment, log_density, weights, about)
    return found[..., :1] + origin.unsqueeze(-1), found[..., 1:]
