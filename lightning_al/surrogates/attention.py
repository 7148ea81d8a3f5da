"""Parts of the surrogates: features of numbers, and transformer layers over sets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SetLayer", "Waves", "perceptron"]


class Waves(nn.Module):
    """Numbers and their sines and cosines: [..., D] -> [..., D (1 + 2 K)].

    So that attention can tell how far apart two numbers are: the inner product of two such
    features is a sum of cosines of their difference.

    Args:
        frequencies: K of them, in radians a unit.
    """

    frequencies: Tensor

    def __init__(self, frequencies: Sequence[float]) -> None:
        super().__init__()
        kept = torch.tensor(list(frequencies), dtype=torch.float32)
        self.register_buffer("frequencies", kept, persistent=False)
        self.width = 1 + 2 * len(kept)  # features a number

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D (1 + 2 K)]."""
        angle = x.unsqueeze(-1) * self.frequencies
        return torch.cat([x.unsqueeze(-1), angle.sin(), angle.cos()], -1).flatten(-2)


class SetLayer(nn.Module):
    """One transformer layer over a set, normalised before its two parts; no order, no dropout.

    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture".

    Args:
        width: E.
        heads: of the attention.
        hidden: of the perceptron; by default 2 E.
    """

    def __init__(self, width: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of the {heads} heads")
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.feed = perceptron(width, hidden or 2 * width, width)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens [R, n, E] after looking at themselves, or at a context [R, m, E] alone."""
        mine = self.before(tokens)
        seen = mine if context is None else self.before(context)
        key, value = self.key_value(seen).chunk(2, -1)
        query, key, value = (self._split(part) for part in (self.query(mine), key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(-3, -2).flatten(-2)
        tokens = tokens + self.out(mixed)
        return tokens + self.feed(self.between(tokens))

    def _split(self, values: Tensor) -> Tensor:
        """[R, n, E] -> [R, heads, n, E / heads]."""
        return values.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """One hidden layer with GELU."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))
