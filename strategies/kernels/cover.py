"""Items that cover the pool: facility location, MaxHerding and ProbCover, one lazy greedy search.

All three maximise ``sum over items v of w(v) max over chosen or labelled a of s(v, a)`` and differ
in the similarity ``s``; :mod:`.lazy_cover` is the search. Exact up to ``sample`` items; in a larger
pool the sum goes over that many items drawn from it, so that the work grows with N, not N^2.

When nothing is left to gain (everything is covered), the batch goes on with the item farthest
from all labelled and chosen ones, until ``k`` are found: no item of the pool is out of reach.

Similarities are computed in float32 from squared distances about the pool's mean; distances in
float64 where a radius or width is below a sixty-fourth of the largest distance from it. Gains are
compared to 1e-6 of the largest possible mean similarity; what agrees is tied, and the generator
decides.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .distances import MEMORY
from .lazy_cover import SAMPLE, Cover
from .purity import purity_radius

__all__ = ["Cover", "facility_location", "max_herding", "prob_cover", "purity_radius"]


def facility_location(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    similarity: Literal["euclidean", "cosine"] = "euclidean",
    weights: Tensor | None = None,
    sample: int = SAMPLE,
    memory: int = MEMORY,
) -> Tensor:
    """Items that the pool is similar to: embedding [N, E], labelled [L, E] -> positions [K].

    ``similarity``: "euclidean" is ``d0 - |x - y|`` with ``d0`` the pool's diameter (bounded by
    twice the largest distance from its mean), so the batch is the greedy k-medoids; "cosine" is
    ``(1 + cos(x, y)) / 2``, a zero vector being at right angles to all.

    Greedy by gain, best first; at least 1 - 1/e of the best batch. The first picks of a larger
    batch are those of a smaller one.

    Source: Nemhauser, Wolsey and Fisher (1978); Minoux (1978); for active learning Wei, Iyer and
    Bilmes (2015).

    Args:
        embedding: the pool.
        labelled: items that cover already, or None.
        k: batch size.
        generator: breaks ties, and draws the sample of a large pool.
        similarity: which similarity.
        weights: of the items as what is covered [N], >= 0; None counts all alike.
        sample: in a larger pool, coverage is measured on this many items drawn from it.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, another similarity, or k > N.

    >>> facility_location(torch.tensor([[0.0], [1.0], [2.0]]), None, 1, torch.Generator())
    tensor([1])
    """
    if similarity not in ("euclidean", "cosine"):
        raise ValueError(f"no similarity named {similarity!r}; choose one of cosine, euclidean")
    cover = Cover(
        embedding, labelled, k, generator, sample, memory, similarity == "cosine", weights
    )
    if similarity == "cosine":
        cover.linear = (1.0, -0.25)
        cover.similarity = lambda squared: squared.mul_(-0.25).add_(1)
    else:
        far = 2 * math.sqrt(float(cover.items.norms.max())) if len(embedding) else 0.0
        far = cover.scale = far or 1.0
        cover.similarity = lambda squared: squared.sqrt_().neg_().add_(far)
    return cover.choose(k)


def max_herding(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    width: float | None = None,
    weights: Tensor | None = None,
    sample: int = SAMPLE,
    memory: int = MEMORY,
) -> Tensor:
    """Greedy generalised coverage: embedding [N, E], labelled [L, E] -> positions [K].

    The similarity is ``exp(-|x - y|^2 / width^2)``. Default width: the pool's root mean square
    distance from its mean, which is the paper's 1 for centred features of unit length.

    Greedy by gain, best first; at least 1 - 1/e of the best batch. The first picks of a larger
    batch are those of a smaller one.

    Source: Bae, Noh and Sutherland, Generalized Coverage for More Robust Low-Budget Active
    Learning (2024).

    Args:
        embedding: the pool.
        labelled: items that cover already, or None.
        k: batch size.
        generator: breaks ties, and draws the sample of a large pool.
        width: of the kernel, in the embedding's units.
        weights: of the items as what is covered [N], >= 0; None counts all alike.
        sample: in a larger pool, coverage is measured on this many items drawn from it.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, width <= 0, or k > N.

    >>> max_herding(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), None, 2, torch.Generator(), width=1)
    tensor([1, 3])
    """
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"max_herding needs a positive width, got {width}; None takes the spread")
    cover = Cover(embedding, labelled, k, generator, sample, memory, weights=weights, length=width)
    if width is None:
        width = math.sqrt(float(cover.items.norms.double().mean())) if len(embedding) else 1.0
    factor = -1 / (width * width) if width > 0 else -1.0
    cover.similarity = lambda squared: squared.mul_(factor).exp_()
    return cover.choose(k)


def prob_cover(
    embedding: Tensor,
    labelled: Tensor | None,
    k: int,
    generator: torch.Generator,
    *,
    radius: float,
    weights: Tensor | None = None,
    sample: int = SAMPLE,
    memory: int = MEMORY,
) -> Tensor:
    """Greedy cover of the pool by balls: embedding [N, E], labelled [L, E] -> positions [K].

    Each pick has the most items within ``radius`` that no labelled or chosen item covers. The
    original stops, or picks by data order, when all is covered; here the item farthest from all
    labelled and chosen ones is next. The radius by the purity rule: :func:`purity_radius`. Whether
    a pair counts whose distance agrees with the radius to float32's last digits is left open.

    Source: Yehuda, Dekel, Hacohen and Weinshall, Active Learning Through a Covering Lens (2022),
    algorithm 1.

    Args:
        embedding: the pool.
        labelled: items that cover already, or None.
        k: batch size.
        generator: breaks ties, and draws the sample of a large pool.
        radius: of a ball, in the embedding's units.
        weights: of the items as what is covered [N], >= 0; None counts all alike.
        sample: in a larger pool, coverage is measured on this many items drawn from it.
        memory: bytes beside the input and a few numbers an item.

    Raises:
        ValueError: not [N, E] and [L, E], NaN or infinite rows, radius <= 0, or k > N.

    >>> points = torch.tensor([[0.0], [1.0], [2.4], [9.0]])
    >>> prob_cover(points, None, 3, torch.Generator().manual_seed(1), radius=1.5)
    tensor([1, 3, 2])
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"prob_cover needs a positive radius, got {radius}; see purity_radius")
    cover = Cover(embedding, labelled, k, generator, sample, memory, weights=weights, length=radius)
    limit = radius * radius
    cover.similarity = lambda squared: squared.le_(limit)
    return cover.choose(k)
