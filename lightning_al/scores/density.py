"""Scores of predicted densities on a grid of values, item by item; higher = acquire first.

A posterior comes as its members' log-densities at nodes: ``log_density [N, S, G]``, with the
quadrature weights of the nodes ``weights [N, G]`` (or ``[1, G]``, for all items alike), so that
``(log_density.exp() * weights).sum(-1)`` is about 1. One output, D = 1; for more see
:mod:`.density_samples`. Every member is normalised on the grid first, and densities are never
divided: a score is finite however narrow or far apart they are. Log-densities below ``LOWEST``
count as that. Divergences and information are in nats, and the same in any unit of the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .numerics import full, p_log_p

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

LOWEST = -1e30
"""The lowest log-density that is told from zero."""

FEW = 1e-25  # masses of a grid between this and its inverse leave float32 all its digits

# Elements [n, S, G] looked at together: they stay in a core's cache
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**26


class _Grid(NamedTuple):
    """Members on a grid; each is normalised where it is read."""

    log: Tensor  # [n, S, G] but for a constant of each member
    parts: Tensor  # [n, S, G] exp(log) times the weight
    mass: Tensor  # [n, S], their sums
    weights: Tensor  # [n, G]

    @property
    def log_mass(self) -> Tensor:
        return self.mass.log()

    def expected(self, values: Tensor) -> Tensor:
        """Expectation of values [n, S, G] under each member [n, S]."""
        return _dots(self.parts, values) / self.mass

    def negative_entropies(self) -> Tensor:
        """The integral of p log p of each member [n, S]."""
        return self.expected(self.log) - self.log_mass

    def mixture(self) -> Tensor:
        """What of the mixture of the members falls to each node [n, G]; it sums to 1."""
        share = 1 / (self.mass * self.mass.shape[1])
        return (share.unsqueeze(1) @ self.parts).squeeze(1)

    def mixture_density(self) -> Tensor:
        """The density of the mixture [n, G]; 0 at nodes without a weight."""
        return (self.mixture() / self.weights).masked_fill(self.weights == 0, 0.0)

    def mixture_log(self) -> Tensor:
        """Its logarithm [n, G], finite."""
        density = self.mixture_density()
        return density.clamp_min(torch.finfo(density.dtype).tiny).log_()

    def mixture_entropy(self) -> Tensor:
        """Entropy of the mixture [n]."""
        return -(p_log_p(self.mixture_density()) * self.weights).sum(-1)

    def mean_log(self) -> Tensor:
        """The members' mean log-density [n, G]."""
        return self.log.mean(1) - self.log_mass.mean(1, keepdim=True)

    def pairs(self) -> Tensor:
        """KL(p_j | p_(j + 1)) of members one after the other [n, S - 1]."""
        now, following = self.parts[:, :-1], self.log_mass.diff(dim=1)
        apart = _dots(now, self.log[:, :-1]) - _dots(now, self.log[:, 1:])
        return apart / self.mass[:, :-1] + following


def _dots(one: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last axis: [n, S, G] twice -> [n, S].

    On a CPU by NumPy, which needs one pass and no room for the products.
    """
    if one.device.type == "cpu":
        with np.errstate(all="ignore"):  # what is not finite is looked at again
            return torch.from_numpy(np.vecdot(one.numpy(), other.numpy()))
    return (one * other).sum(-1)


def _check(name: str, log_density: Tensor, weights: Tensor) -> None:
    if log_density.ndim != 3:
        raise ValueError(
            f"{name} needs log_density [N, S, G], got {list(log_density.shape)}; add the member "
            "axis with log_density[:, None]"
        )
    n, _, g = log_density.shape
    if weights.shape not in ((n, g), (1, g)):
        raise ValueError(
            f"{name} needs the weights of {g} nodes, {[n, g]} or {[1, g]}, got "
            f"{list(weights.shape)}; give one weight a node, such as those of the trapezoid rule"
        )


def _scored(
    name: str, score: Callable[..., Tensor], log_density: Tensor, weights: Tensor, *more: Tensor
) -> Tensor:
    """A score of grids [n, S, G] (and ``more`` [n, ...]) -> [n, ...].

    Densities that are too high or low for their exponentials, which are few, are looked at again.
    """
    _check(name, log_density, weights)
    log_density = full(log_density).detach()
    weights = weights.to(log_density).expand(len(log_density), -1)
    given = (log_density, weights, *more)
    found, mass = _blocks(score, *given)
    odd = (mass < FEW) | (mass > 1 / FEW) | mass.isnan() | (weights == 0).any(1)
    odd |= ~found.flatten(1).isfinite().all(1) if found.ndim > 1 else ~found.isfinite()
    if bool(odd.any()):
        log, weights, *rest = (value[odd] for value in given)
        found[odd] = _blocks(score, _shifted(log, weights), weights, *rest)[0]
    return found


def _shifted(log_density: Tensor, weights: Tensor) -> Tensor:
    """Log-densities, each brought to 0 where it is highest among the nodes that have a weight."""
    log = log_density.clamp_min(LOWEST).masked_fill((weights == 0).unsqueeze(1), LOWEST)
    return log - log.amax(-1, keepdim=True)


def _blocks(
    score: Callable[..., Tensor], log_density: Tensor, weights: Tensor, *more: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores [n, ...], and the mass of each item that is furthest from 1 [n], block by block."""
    n, members, g = log_density.shape
    block = _CPU_BLOCK if log_density.device.type == "cpu" else _GPU_BLOCK
    rows = max(1, block // max(1, members * g))
    room = log_density.new_empty(min(rows, n), members, g)
    found, masses = [], []
    for log, own, *rest in zip(
        *(v.split(rows) for v in (log_density, weights, *more)), strict=True
    ):
        parts = torch.exp(log, out=room[: len(log)]).mul_(own.unsqueeze(1))
        masses.append(parts.sum(-1))
        found.append(score(_Grid(log, parts, masses[-1], own), *rest))
    mass = torch.cat(masses)
    return torch.cat(found), mass.gather(1, mass.log().abs().argmax(1, keepdim=True)).squeeze(1)


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
    return _scored("kl_pairs", lambda on: on.pairs().sum(1).clamp_min(0), log_density, weights)


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
    return _scored("kl_all_pairs", _all_pairs, log_density, weights)


def _all_pairs(on: _Grid) -> Tensor:
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
    return _scored("bald_entropy", _information, log_density, weights)


def _information(on: _Grid) -> Tensor:
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
    return _scored("reverse_information", _reverse, log_density, weights)


def _reverse(on: _Grid) -> Tensor:
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
    return _scored("kl_diff", _diff, log_density, weights)


def _diff(on: _Grid) -> Tensor:
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

    def score(on: _Grid) -> Tensor:
        own = (on.log.amax(-1) - on.log_mass).logsumexp(1) - math.log(on.mass.shape[1])
        return (own - on.mixture_log().amax(-1)).clamp_min(0)

    return _scored("bald_least_confidence", score, log_density, weights)


def entropy(log_density: Tensor, weights: Tensor) -> Tensor:
    """Differential entropy of the mixture: log_density [N, S, G] -> [N] nats, of either sign.

    With the target in other units, y -> a y, it grows by log a.

    Source: Shannon (1948), section 20.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> entropy(torch.zeros(1, 1, 4), torch.full((1, 4), 0.5))
    tensor([0.6931])
    """
    return _scored("entropy", _Grid.mixture_entropy, log_density, weights)


def least_confidence(log_density: Tensor, weights: Tensor) -> Tensor:
    """Minus the log of the mixture's highest density: log_density [N, S, G] -> [N] nats.

    Source: Lewis and Gale (1994), for densities.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> least_confidence(torch.zeros(1, 1, 4), torch.full((1, 4), 0.5))
    tensor([0.6931])
    """
    return _scored("least_confidence", lambda on: -on.mixture_log().amax(-1), log_density, weights)


def log_density_spread(log_density: Tensor, weights: Tensor) -> Tensor:
    """Standard deviation of the mixture's log-density of an answer: [N, S, G] -> [N] >= 0 nats.

    Of any Gaussian it is the square root of a half, so it tells apart shapes, not widths.

    Source: the NF-Std of the code of Werner and Schmidt-Thieme, BALSA (2025), without its draw.

    Raises:
        ValueError: not [N, S, G], or weights of another shape.

    >>> log_density_spread(torch.zeros(1, 1, 4), torch.full((1, 4), 0.5))
    tensor([0.])
    """

    def score(on: _Grid) -> Tensor:
        mass, log = on.mixture(), on.mixture_log()
        about = log - (mass * log).sum(-1, keepdim=True)
        return (mass * about.square()).sum(-1).sqrt()

    return _scored("log_density_spread", score, log_density, weights)


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
    _check("moments (its nodes)", log_density, nodes)
    nodes = full(nodes)
    origin = nodes.mean(-1, keepdim=True)  # so that an offset costs no digits
    about = (nodes - origin).expand(len(log_density), -1)

    def moment(on: _Grid, about: Tensor) -> Tensor:
        about = about.to(on.mass).unsqueeze(1).expand_as(on.log)
        mean = on.expected(about)
        return torch.stack([mean, on.expected((about - mean.unsqueeze(-1)).square())], -1)

    found = _scored("moments", moment, log_density, weights, about)
    return found[..., :1] + origin.unsqueeze(-1), found[..., 1:]
