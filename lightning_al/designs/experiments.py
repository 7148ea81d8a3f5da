"""Experiments with a known likelihood: the problems that deep adaptive design is measured on.

Foster, Ivanova, Malik, Rainforth (2021), "Deep Adaptive Design: Amortizing Sequential Bayesian
Experimental Design". Latents are [..., P], designs [..., d]; shapes of batches are broadcast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_al.policies.streams import Streams
from lightning_al.values import number, whole, word

__all__ = ["DeathProcess", "Discounting", "Experiment", "LocationFinding"]


class Experiment(Protocol):
    """A latent, designs, and how outcomes depend on both."""

    @property
    def horizon(self) -> int:
        """T, how many designs are chosen."""
        ...

    @property
    def size(self) -> int:
        """d, numbers of a design."""
        ...

    @property
    def continuous(self) -> bool:
        """Whether outcomes are differentiable in latent and design."""
        ...

    def latent(self, streams: Streams, role: str, index: Tensor) -> Tensor:
        """Draws of the prior [I, P], float64."""
        ...

    def design(self, raw: Tensor) -> Tensor:
        """What is done [..., d], from what a network gives [..., d]."""
        ...

    def outcome(self, latent: Tensor, design: Tensor, u: Tensor) -> Tensor:
        """Outcomes [R] for uniform numbers u [R]."""
        ...

    def log_likelihood(self, latent: Tensor, design: Tensor, y: Tensor) -> Tensor:
        """Log density, or probability, of outcomes y [...], in nats."""
        ...

    def remembered(self, raw: Tensor, design: Tensor) -> Tensor:
        """What a policy is told of a design [..., d]."""
        ...


@dataclass(frozen=True)
class LocationFinding:
    """Sources that emit a signal, to be found by measuring its strength at places of the plane.

    The strength at x is ``b + sum_k 1 / (m + |x - theta_k|²)``; its logarithm is measured with
    normal noise. Latents are K places, [..., 2 K].

    Args:
        sources: K.
        horizon: T.
        prior: of each coordinate, "normal" (as published) or "uniform" on [0, 1], as in Huang et
            al. (2025), "ALINE".
        background: b.
        least: m, how near one can be.
        noise: standard deviation of the logarithm.
    """

    sources: int = 2
    horizon: int = 30
    prior: Literal["normal", "uniform"] = "normal"
    background: float = 0.1
    least: float = 1e-4
    noise: float = 0.5

    size = 2
    continuous = True

    def __post_init__(self) -> None:
        whole(1)("sources", self.sources)
        whole(1)("horizon", self.horizon)
        word("normal", "uniform")("prior", self.prior)
        for name in ("background", "least", "noise"):
            number(0, open=True)(name, getattr(self, name))

    def latent(self, streams: Streams, role: str, index: Tensor) -> Tensor:
        """Places [I, 2 K]."""
        draw = streams.normal if self.prior == "normal" else streams.uniform
        return draw(role, index, 2 * self.sources)

    def design(self, raw: Tensor) -> Tensor:
        """Any place."""
        return raw

    def strength(self, latent: Tensor, design: Tensor) -> Tensor:
        """Logarithm of the signal's strength [...]."""
        total: Tensor | float = self.background
        for k in range(self.sources):
            gap = (design[..., 0] - latent[..., 2 * k]).square()
            gap = gap + (design[..., 1] - latent[..., 2 * k + 1]).square()
            total = total + 1 / (gap + self.least)
        assert isinstance(total, Tensor)
        return total.log()

    def outcome(self, latent: Tensor, design: Tensor, u: Tensor) -> Tensor:
        """Noisy logarithms [R]."""
        return self.strength(latent, design) + self.noise * torch.special.ndtri(u).to(design)

    def log_likelihood(self, latent: Tensor, design: Tensor, y: Tensor) -> Tensor:
        """Of normal noise [...]."""
        off = (y - self.strength(latent, design)) / self.noise
        return -0.5 * off.square() - math.log(self.noise) - 0.5 * math.log(2 * math.pi)

    def remembered(self, raw: Tensor, design: Tensor) -> Tensor:
        """The place."""
        return design


@dataclass(frozen=True)
class Discounting:
    """Someone chooses between less money now and 100 later: how does delay cost them value?

    Value falls as ``reward / (1 + k delay)``, hyperbolically; the choice is a probit of the
    difference of values over alpha, with slips. Latents are [..., 2]: log k and alpha; designs are
    the delay in days and the reward now; the outcome is 1 where now is taken.

    Mazur (1987), "An adjusting procedure for studying delayed reinforcement".

    Args:
        horizon: T.
        slip: chance of a choice by chance, halved.
    """

    horizon: int = 20
    slip: float = 0.01

    size = 2
    continuous = False
    mean, deviation = -4.25, 1.5  # of log k
    later = 100.0

    def __post_init__(self) -> None:
        whole(1)("horizon", self.horizon)
        number(0, 0.5, open=True)("slip", self.slip)

    def latent(self, streams: Streams, role: str, index: Tensor) -> Tensor:
        """Log k and alpha [I, 2]."""
        z = streams.normal(role, index, 2)
        log_k = self.mean + self.deviation * z[:, 0]
        return torch.stack([log_k, 1e-3 + (2.0 * z[:, 1]).abs()], -1)

    def design(self, raw: Tensor) -> Tensor:
        """Delay, about 1 / k at 0, and reward now, between 0 and 100."""
        delay = torch.exp(raw[..., 0] - (self.mean + 0.5 * self.deviation**2))
        return torch.stack([delay, self.later * torch.sigmoid(raw[..., 1])], -1)

    def chance(self, latent: Tensor, design: Tensor) -> Tensor:
        """Probability [...] that now is taken."""
        later = self.later / (1 + latent[..., 0].exp() * design[..., 0])
        gain = (design[..., 1] - later) / latent[..., 1]
        return self.slip + (1 - 2 * self.slip) * 0.5 * (1 + torch.erf(gain))

    def outcome(self, latent: Tensor, design: Tensor, u: Tensor) -> Tensor:
        """1 or 0 [R]."""
        return (u < self.chance(latent, design)).to(design)

    def log_likelihood(self, latent: Tensor, design: Tensor, y: Tensor) -> Tensor:
        """Of a coin [...]."""
        chance = self.chance(latent, design)
        return torch.where(y > 0.5, chance, 1 - chance).log()

    def remembered(self, raw: Tensor, design: Tensor) -> Tensor:
        """The numbers before they are transformed."""
        return raw


@dataclass(frozen=True)
class DeathProcess:
    """At which times should a population be looked at, whose members fall ill at a rate theta?

    The number of ill ones at time x is binomial with probability ``1 - exp(-x theta)``; each look
    is at a new population. Latents are [..., 1].

    Args:
        horizon: T.
        population: of each look.
    """

    horizon: int = 4
    population: int = 50

    size = 1
    continuous = False

    def __post_init__(self) -> None:
        whole(1)("horizon", self.horizon)
        whole(1)("population", self.population)

    def latent(self, streams: Streams, role: str, index: Tensor) -> Tensor:
        """Normal around 1 with deviation 1, above 0: [I, 1]."""
        below = torch.special.ndtr(torch.tensor(-1.0, dtype=torch.float64, device=index.device))
        u = streams.uniform(role, index, 1)
        return 1 + torch.special.ndtri(below + (1 - below) * u)

    def log_prior(self, latent: Tensor) -> Tensor:
        """Log density [...] without its constant, of latents [...] above 0."""
        return -0.5 * (latent - 1).square()

    def design(self, raw: Tensor) -> Tensor:
        """A time above 0."""
        return softplus(raw)

    def _log_chances(self, latent: Tensor, design: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the chances to be ill and to be well [...]."""
        dose = (latent[..., 0] * design[..., 0]).clamp_min(1e-12)
        return torch.log(-torch.expm1(-dose)), -dose

    def outcome(self, latent: Tensor, design: Tensor, u: Tensor) -> Tensor:
        """Numbers of ill ones [R], by inversion."""
        counts = torch.arange(self.population + 1, dtype=latent.dtype, device=latent.device)
        at = [part.detach().unsqueeze(-2) for part in (latent, design)]
        below = self.log_likelihood(at[0], at[1], counts).exp().cumsum(-1)
        return (below < u.unsqueeze(-1)).sum(-1).clamp_max(self.population).to(design)

    def log_likelihood(self, latent: Tensor, design: Tensor, y: Tensor) -> Tensor:
        """Binomial [...]."""
        ill, well = self._log_chances(latent, design)
        n = y.new_tensor(float(self.population))
        ways = torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)
        return ways + y * ill + (n - y) * well

    def remembered(self, raw: Tensor, design: Tensor) -> Tensor:
        """The time."""
        return design
