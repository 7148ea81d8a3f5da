"""Embeddings to time set kernels on: ``clumped``, ``tight`` and ``gaussian``, [N, E] float32.

What a lazy kernel can skip depends on the data: embeddings of trained networks lie in clumps of
unequal size with a tail of odd items; i.i.d. Gaussian noise has no structure to use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["DATA", "clumped", "gaussian", "probabilities", "tight"]

_BLOCK = 2**16  # rows drawn together


def _mixture(
    n: int, features: int, seed: int, clumps: int, spread: float, freedom: float | None
) -> Tensor:
    """Clumps about N(0, 1) centres, sizes by Zipf, spread per feature, Student or normal."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(clumps, features, generator=generator)
    sizes = 1 / torch.arange(1.0, clumps + 1)
    points = torch.empty(n, features)
    for start in range(0, n, _BLOCK):
        part = points[start : start + _BLOCK]
        owner = torch.multinomial(sizes, len(part), replacement=True, generator=generator)
        part.normal_(generator=generator).mul_(spread)
        if freedom is not None:  # normal over root of chi^2 / freedom: multivariate t
            squares = torch.randn(len(part), int(freedom), generator=generator).square_()
            part.div_(squares.mean(1, keepdim=True).sqrt_())
        part.add_(centres[owner])
    return points


def clumped(n: int, features: int, seed: int = 0) -> Tensor:
    """100 clumps of unequal size with heavy tails (multivariate t, 3 degrees of freedom)."""
    return _mixture(n, features, seed, clumps=100, spread=0.3, freedom=3)


def tight(n: int, features: int, seed: int = 0) -> Tensor:
    """50 clumps of unequal size, each a normal 20 times narrower than their distances."""
    return _mixture(n, features, seed, clumps=50, spread=0.05, freedom=None)


def gaussian(n: int, features: int, seed: int = 0) -> Tensor:
    """i.i.d. standard normal: nothing to use."""
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


DATA: Mapping[str, Callable[[int, int, int], Tensor]] = {
    "clumped": clumped,
    "tight": tight,
    "gaussian": gaussian,
}


def probabilities(embedding: Tensor, classes: int, seed: int = 0) -> Tensor:
    """Class probabilities [N, C] of a random linear layer on the embedding [N, E]."""
    generator = torch.Generator().manual_seed(seed + 1)
    weight = torch.randn(embedding.shape[1], classes, generator=generator)
    logits = embedding @ weight
    return torch.softmax(2 * logits / logits.std(), -1)
