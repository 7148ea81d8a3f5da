"""Members' densities on a grid of nodes: what the scores of :mod:`.density` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .numerics import full, p_log_p

__all__ = ["LOWEST", "Grid", "check_grid", "scored"]

LOWEST = -1e30
"""The lowest log-density that is told from zero."""

FEW = 1e-25  # masses of a grid between this and its inverse leave float32 all its digits

# Elements [n, S, G] looked at together: enough that the calls cost little, few enough for memory
_CPU_BLOCK, _GPU_BLOCK = 2**21, 2**26


class Grid(NamedTuple):
    """Members on a grid; each is normalised where it is read."""

    log: Tensor  # [n, S, G] but for a constant of each member
    parts: Tensor  # [n, S, G] exp(log) times the weight
    mass: Tensor  # [n, S], their sums
    weights: Tensor  # [n, G]

    @property
    def log_mass(self) -> Tensor:
        """Logarithm of the masses [n, S]."""
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


def check_grid(name: str, log_density: Tensor, weights: Tensor) -> None:
    """Refuse what is not ``log_density [N, S, G]`` with ``weights [N, G]`` or ``[1, G]``.

    Raises:
        ValueError: such shapes; the message has the mend.
    """
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


def scored(
    name: str, score: Callable[..., Tensor], log_density: Tensor, weights: Tensor, *more: Tensor
) -> Tensor:
    """A score of grids [n, S, G] (and ``more`` [n, ...]) -> [n, ...].

    Densities that are too high or low for their exponentials, which are few, are looked at again.
    """
    check_grid(name, log_density, weights)
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
        found.append(score(Grid(log, parts, masses[-1], own), *rest))
    mass = torch.cat(masses)
    return torch.cat(found), mass.gather(1, mass.log().abs().argmax(1, keepdim=True)).squeeze(1)
