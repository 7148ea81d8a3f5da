"""Bar distributions: densities that are constant in each of many buckets, with half-normal tails.

Müller, Hollmann, Pineda Arango, Grabocka, Hutter (2022), "Transformers Can Do Bayesian Inference",
section 3: a regression as a classification into buckets of the real line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Bars", "borders"]

HALF = 0.6744897501960817  # median of a half-normal of scale 1
REACH = 3.5  # half of the interval in which no bucket is wide


def borders(bars: int) -> Tensor:
    """Borders [bars + 1], float64, for numbers of about mean 0 and deviation 1.

    Equally likely buckets of an even mixture of the standard normal and the uniform law on
    [-3.5, 3.5]: those of the normal alone are coarse where few numbers lie, however well a number
    is known. Found by bisection, for the mixture's own quantiles have no formula.
    """
    if bars < 3:
        raise ValueError(f"a bar distribution needs 3 bars or more, got {bars}")
    share = torch.arange(bars + 1, dtype=torch.float64) / bars
    low, high = torch.full_like(share, -6.0), torch.full_like(share, 6.0)
    for _ in range(60):
        middle = (low + high) / 2
        flat = ((middle + REACH) / (2 * REACH)).clamp(0, 1)
        below = 0.5 * torch.special.ndtr(middle) + 0.5 * flat < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    ends = (low + high) / 2
    ends[0], ends[-1] = -REACH - 0.5, REACH + 0.5
    return ends


@dataclass(frozen=True)
class Bars:
    """Distributions of numbers [...], each over the same K buckets.

    The first and the last bucket hold half-normals that fall away from their inner border and
    have half of their mass within the bucket's width.
    """

    edges: Tensor  # [K + 1], rising
    logits: Tensor  # [..., K]

    @property
    def widths(self) -> Tensor:
        """Of the buckets [K]."""
        return self.edges.diff()

    @property
    def log_probs(self) -> Tensor:
        """Logarithms of the buckets' probabilities [..., K]."""
        return self.logits.log_softmax(-1)

    def log_density(self, y: Tensor) -> Tensor:
        """Log densities [...] at numbers y [...], in nats."""
        count = self.logits.shape[-1]
        bucket = torch.searchsorted(self.edges, y.detach().contiguous()).sub_(1)
        bucket = bucket.clamp_(0, count - 1)
        log_prob = self.log_probs.gather(-1, bucket.unsqueeze(-1)).squeeze(-1)
        left, right = self._scales
        out = torch.where(bucket == 0, self.edges[1] - y, y - self.edges[-2])
        scale = torch.where(bucket == 0, left, right)
        tail = 0.5 * math.log(2 / math.pi) - scale.log() - 0.5 * (out / scale).square()
        inner = -self.widths.log()[bucket]
        return log_prob + torch.where((bucket == 0) | (bucket == count - 1), tail, inner)

    def mean(self) -> Tensor:
        """[...]."""
        return (self.log_probs.exp() * self._firsts).sum(-1)

    def variance(self) -> Tensor:
        """[...]: of the buckets' means, and within the buckets."""
        probs, middle = self.log_probs.exp(), self._firsts
        off = middle - (probs * middle).sum(-1, keepdim=True)
        return (probs * (off.square() + self._spreads)).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy [...], in nats: that of the buckets and of what is in each."""
        log_probs = self.log_probs
        left, right = self._scales
        inside = self.widths.log()
        ends = 0.5 * math.log(math.pi * math.e / 2) + torch.stack([left, right]).log()
        inside = torch.cat([ends[:1], inside[1:-1], ends[1:]])
        return (log_probs.exp() * (inside - log_probs)).sum(-1)

    def cumulative(self, y: Tensor) -> Tensor:
        """Probabilities [...] of at most y [...]."""
        probs = self.log_probs.exp()
        inner = ((y.unsqueeze(-1) - self.edges[:-1]) / self.widths).clamp(0, 1)
        left, right = self._scales
        out = (self.edges[1] - y).clamp_min(0) / left
        first = 2 * torch.special.ndtr(-out)
        over = (y - self.edges[-2]).clamp_min(0) / right
        last = 2 * torch.special.ndtr(over) - 1
        shares = torch.cat([first.unsqueeze(-1), inner[..., 1:-1], last.unsqueeze(-1)], -1)
        return (probs * shares).sum(-1)

    def quantile(self, share: Tensor) -> Tensor:
        """The numbers [...] that a share [...] in (0, 1) lies below."""
        probs = self.log_probs.exp()
        below = probs.cumsum(-1)
        count = probs.shape[-1]
        target = share * below[..., -1]
        bucket = torch.searchsorted(below, target.unsqueeze(-1)).squeeze(-1)
        bucket = bucket.clamp(0, count - 1).unsqueeze(-1)
        mass = probs.gather(-1, bucket).squeeze(-1).clamp_min(torch.finfo(probs.dtype).tiny)
        before = below.gather(-1, bucket).squeeze(-1) - mass
        bucket = bucket.squeeze(-1)
        part = ((target - before) / mass).clamp(0, 1)
        left, right = self._scales
        tiny = torch.finfo(probs.dtype).eps
        first = self.edges[1] + left * torch.special.ndtri((part / 2).clamp_min(tiny))
        last = self.edges[-2] - right * torch.special.ndtri(((1 - part) / 2).clamp_min(tiny))
        inner = self.edges[bucket] + part * self.widths[bucket]
        return torch.where(bucket == 0, first, torch.where(bucket == count - 1, last, inner))

    @property
    def _scales(self) -> tuple[Tensor, Tensor]:
        """Of the half-normals at both ends, []."""
        return self.widths[0] / HALF, self.widths[-1] / HALF

    @property
    def _firsts(self) -> Tensor:
        """Mean within each bucket [K]."""
        left, right = self._scales
        away = math.sqrt(2 / math.pi)
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        ends = torch.stack([self.edges[1] - away * left, self.edges[-2] + away * right])
        return torch.cat([ends[:1], middle[1:-1], ends[1:]])

    @property
    def _spreads(self) -> Tensor:
        """Variance within each bucket [K]."""
        left, right = self._scales
        ends = torch.stack([left, right]).square() * (1 - 2 / math.pi)
        return torch.cat([ends[:1], self.widths[1:-1].square() / 12, ends[1:]])
