"""ALINE: one network infers and chooses what to measure next.

Huang, Wen, Bharti, Kaski, Acerbi (2025), "ALINE: Joint Amortization for Bayesian Inference and
Active Data Acquisition", section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_al.networks.network_specs import record
from lightning_al.values import whole

from .aline_tasks import Tasks

__all__ = ["ALINE", "Mixtures"]

COMPONENTS = 10
LEAST = 1e-4  # standard deviation of a component


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of normals, [..., 10] each."""

    mean: Tensor
    deviation: Tensor
    log_weight: Tensor

    def log_density(self, y: Tensor) -> Tensor:
        """Log densities [...] at y [...], in nats."""
        off = (y.unsqueeze(-1) - self.mean) / self.deviation
        each = -0.5 * off.square() - self.deviation.log() - 0.5 * math.log(2 * math.pi)
        return (self.log_weight + each).logsumexp(-1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [...]."""
        weight = self.log_weight.exp()
        mean = (weight * self.mean).sum(-1)
        off = self.mean - mean.unsqueeze(-1)
        return mean, (weight * (self.deviation.square() + off.square())).sum(-1)


class _Layer(nn.Module):
    """A transformer layer, normalised behind its parts, whose keys may be others' tokens."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of the {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Tokens [B, n, E] after looking at the seen [B, m, E] alone."""
        key, value = self.key_value(seen).chunk(2, -1)
        query, key, value = (self._split(part) for part in (self.query(tokens), key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = self.norms[0](tokens + self.out(mixed.transpose(1, 2).flatten(2)))
        hidden: Tensor = self.norms[1](tokens + self.second(self.first(tokens).relu()))
        return hidden

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class ALINE(nn.Module):
    """Context, pool and targets -> what is believed of the targets, and what to measure next.

    Who sees whom: the context itself; targets the context; pool items the context and the targets
    that are selected; nobody sees pool items, or targets that are not selected. So what is chosen
    depends on what is to be learned, and an item's score on no other item.

    Args:
        dimension: D.
        width: E.
        hidden: of all perceptrons.
        heads: of the attention.
        layers: of the transformer; the paper has 3, the policies of Li et al. (2026) 2.

    Raises:
        ValueError: sizes that make no sense.
    """

    def __init__(
        self, dimension: int, width: int = 32, hidden: int = 128, heads: int = 4, layers: int = 2
    ) -> None:
        super().__init__()
        sizes = {"dimension": dimension, "width": width, "hidden": hidden, "heads": heads}
        for name, value in (*sizes.items(), ("layers", layers)):
            whole(1)(name, value)
        self.dimension = dimension
        self.place = _perceptron(dimension, hidden, width)
        self.value = _perceptron(1, hidden, width)
        self.theta = nn.Parameter(torch.randn(dimension + 1, width))
        self.layers = nn.ModuleList([_Layer(width, heads, hidden) for _ in range(layers)])
        self.acquire = _perceptron(width, hidden, 1)
        self.infer = nn.ModuleList([_perceptron(width, hidden, 3) for _ in range(COMPONENTS)])
        record(self, ALINE, **sizes, layers=layers)

    def forward(self, tasks: Tasks) -> tuple[Tensor, Mixtures]:
        """Logits of the pool [B, Q], and beliefs of all targets [B, M + D + 1]."""
        context = self.place(tasks.x) + self.value(tasks.y.unsqueeze(-1))
        pool = self.place(tasks.pool_x)
        theta = self.theta.expand(len(context), -1, -1)
        targets = torch.cat([self.place(tasks.target_x), theta], 1)
        for layer in self.layers:
            seen = torch.cat([context, targets[:, tasks.selected]], 1)
            pool = layer(pool, seen)
            targets = layer(targets, context)
            context = layer(context, context)
        return self.acquire(pool).squeeze(-1), self.beliefs(targets)

    def beliefs(self, tokens: Tensor) -> Mixtures:
        """Mixtures [B, n] of tokens [B, n, E]."""
        mean, raw, weight = torch.stack([head(tokens) for head in self.infer], -2).unbind(-1)
        return Mixtures(mean, functional.softplus(raw) + LEAST, weight.log_softmax(-1))


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
