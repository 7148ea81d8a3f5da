"""Hyper-parameters integrated out by weighted nodes: importance sampling that adapts, in batches.

Cornuet, Marin, Mira and Robert (2012), "Adaptive multiple importance sampling": the points of all
rounds count together, each weighed by the mixture of all proposals, the first of which is the
prior. No search and no chain: each round is one batch of Cholesky factors, and as the points are a
Sobol sequence, the same data give the same nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.threads import working_alone

from .hyperpriors import Prior
from .marginal import MixtureGP

__all__ = ["equal_nodes", "posterior_nodes"]

ROUNDS = (192, 128, 128)  # points of each round
ENOUGH = 3  # effective points for each hyper-parameter, before a proposal is made of them
COOLER = 0.7  # the power of the evidence falls by this until there are so many
WIDER = 1.3  # factor of a proposal's covariance
LEAST = 1e-2  # added to it, in prior variances
LIGHT = 1e-3  # of the heaviest node; lighter ones are dropped
EDGE = 1e-6  # of a uniform number: nothing is drawn further out
BLOCK = 2**22  # numbers in covariances looked at together


@working_alone(lambda shape, priors, x, *_, **__: sum(ROUNDS) * len(x) ** 3, blas=False)
def posterior_nodes(
    shape: str,
    priors: Sequence[Prior],
    x: Tensor,
    y: Tensor,
    *,
    ard: bool = True,
    rounds: Sequence[int] = ROUNDS,
) -> tuple[Tensor, Tensor]:
    """Values [J, d + 2] of length scales, output scale and noise, and their weights [J].

    A sum over the nodes stands for the integral over the posterior of the hyper-parameters.

    Args:
        shape: name of the kernel.
        priors: log-normal, of each length scale, of the output scale, and of the noise; what lies
            outside their bounds counts as the bound.
        x: [n, d], float64.
        y: [n], of mean 0.
        ard: one length scale a feature; else one for all, and values [J, 3].
        rounds: points of each round.

    Raises:
        ValueError: a flat prior, or no positive-definite covariance.
    """
    lengthscale, outputscale, noise = priors
    every = [lengthscale] * (x.shape[1] if ard else 1) + [outputscale, noise]
    if any(prior.sigma is None for prior in every):
        raise ValueError("hyper-parameters are integrated under proper priors, got a flat one")
    law = _Law.of(every, x)
    p = len(every)
    proposal = _Gauss(x.new_zeros(p), torch.eye(p).to(x))
    drawn: list[Tensor] = []
    evidence: list[Tensor] = []
    proposals: list[tuple[int, _Gauss]] = []
    points = target = x.new_zeros(0)
    for turn, count in enumerate(rounds):
        if turn:
            proposal = _Gauss.around(points, target)
        drawn.append(proposal.points(count, turn))
        for values in law.values(drawn[-1]).split(max(1, BLOCK // len(x) ** 2)):
            evidence.append(MixtureGP.given(shape, values, x, y).members.log_evidence())
        proposals.append((count, proposal))
        points = torch.cat(drawn)
        mixture = [math.log(c) + gauss.log_density(points) for c, gauss in proposals]
        prior = proposals[0][1].log_density(points)
        target = torch.cat(evidence) + prior - torch.stack(mixture).logsumexp(0)
    weights = target.softmax(0)
    kept = weights >= LIGHT * weights.max()
    return law.values(points[kept]), weights[kept] / weights[kept].sum()


def equal_nodes(values: Tensor, weights: Tensor, count: int) -> Tensor:
    """Values [count, p] that stand for weighted ones: values [J, p], weights [J] of sum 1.

    Those at the middles of ``count`` equal shares of the weight, in the order of the geometric mean
    of the length scales (all but the last two values); heavy ones stand there more than once.
    """
    order = values[:, :-2].log().mean(1).argsort(stable=True)
    middles = (torch.arange(count).to(weights) + 0.5) / count
    at = torch.searchsorted(weights[order].cumsum(0), middles).clamp_max(len(weights) - 1)
    return values[order[at]]


@dataclass(frozen=True)
class _Law:
    """Log-normal priors of p numbers, and the numbers at standard normal points."""

    centre: Tensor  # [p], logarithms
    spread: Tensor  # [p]
    low: Tensor  # [p]
    high: Tensor  # [p]

    @classmethod
    def of(cls, priors: Sequence[Prior], like: Tensor) -> _Law:
        rows = [(math.log(p.median), p.sigma, p.low, p.high) for p in priors]
        return cls(*like.new_tensor(rows).T)

    def values(self, points: Tensor) -> Tensor:
        """Numbers [J, p] at points [J, p]."""
        return (self.centre + self.spread * points).exp().clamp(self.low, self.high)


@dataclass(frozen=True)
class _Gauss:
    """Where points of a round are drawn."""

    mean: Tensor  # [p]
    factor: Tensor  # [p, p], lower

    @classmethod
    def around(cls, points: Tensor, target: Tensor) -> _Gauss:
        """Wider than points [J, p] of log weights target [J], tempered until enough of them count.

        The power falls to where it hardly matters: then it is about the proposals so far.
        """
        p, power = points.shape[1], 1.0
        weights = target.softmax(0)
        while 1 / float(weights.square().sum()) < ENOUGH * p and power > 1e-3:
            power *= COOLER
            weights = (power * target).softmax(0)
        mean = weights @ points
        off = points - mean
        covariance = WIDER * (off.mT * weights) @ off + LEAST * torch.eye(p).to(points)
        return cls(mean, torch.linalg.cholesky(covariance))

    def points(self, count: int, turn: int) -> Tensor:
        """Points [count, p] of a scrambled Sobol sequence, one for each turn."""
        p = len(self.mean)
        uniform = torch.quasirandom.SobolEngine(p, scramble=True, seed=turn).draw(
            count, dtype=torch.float64
        )
        normal = torch.special.ndtri(uniform.clamp(EDGE, 1 - EDGE)).to(self.mean)
        return self.mean + normal @ self.factor.mT

    def log_density(self, points: Tensor) -> Tensor:
        """At points [J, p], without the constant of p."""
        white = torch.linalg.solve_triangular(self.factor, (points - self.mean).mT, upper=False)
        return -0.5 * white.square().sum(0) - self.factor.diagonal().log().sum()
