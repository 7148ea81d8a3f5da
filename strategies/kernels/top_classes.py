"""BAIT for many classes: an item's information is an expectation over its likeliest classes.

With all classes the information of an item is ``sum over y of p_y g_y g_y^T``, where
``g_y = (e_y - p) x h`` is the last layer's gradient of the loss under class y. Here the sum is over
the r likeliest classes alone, so that an item costs an [r, r] system however many classes there
are. The gradients [C E] are never built where that is long: they are projected at random to d
numbers, ``(U (e_y - p)) * (W h) / sqrt(d)`` with U [d, C] and W [d, E] of normal numbers, which
keeps inner products in expectation, since the gradient is a product of two vectors.

The search is that of :mod:`.greedy_fisher`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..selection import shuffled
from .fisher import BLOCK, Systems
from .greedy_fisher import Information, check_bait, forward_backward

__all__ = ["bait_of_top_classes"]


def bait_of_top_classes(
    embedding: Tensor,
    probs: Tensor,
    labelled: Tensor,
    labelled_probs: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    top: int = 5,
    width: int = 512,
    ridge: float = 1.0,
    weight: float = 1.0,
    oversample: float = 2.0,
    candidates: int | None = None,
) -> Tensor:
    """BAIT by the likeliest classes: embedding [N, E], probs [N, C] -> rows [K].

    With ``top = C`` and ``width >= C E`` the same objective as :func:`.greedy_fisher.bait`. A step
    costs about ``4 N d top^2`` operations.

    Args:
        embedding: the last layer's inputs ``h``; any float type, any device that knows float64.
        probs: class probabilities of the same items.
        labelled: embeddings [L, E] of the labelled items; [0, E] at a cold start.
        labelled_probs: their class probabilities [L, C].
        k: how many, 0 to N.
        generator: of all draws.
        top: how many classes of an item the expectation is over, r.
        width: numbers that a gradient is projected to, d; one of C E or fewer is kept as it is.
        ridge: regularisation, > 0.
        weight: of a labelled item, >= 0, where a pick's is 1.
        oversample: how many times k are added before the rest is taken away; 1 is forward only.
        candidates: how many are looked at, at most: of a larger pool a random part (at least
            ``k``). The pool's information is always that of all. Each takes 4 d r bytes.

    Source: Huseljic et al., Fast Fishing: Approximating BAIT for Efficient and Scalable Deep Active
    Image Classification (2024), for the expectation over the most probable classes; Ash et al.,
    Gone Fishing (2021), for the rest; projections of gradients: Holzmüller et al. (2023).

    Raises:
        ValueError: not two axes, two sizes, k > N, ridge <= 0 or oversample < 1.

    >>> probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]])
    >>> none = torch.ones(0, 4), probs[:0]
    >>> bait_of_top_classes(torch.ones(3, 4), probs, *none, 1, torch.Generator(), top=2)
    tensor([1])
    """
    check_bait(embedding, probs, labelled, labelled_probs, k, ridge, oversample)
    rows = shuffled(len(embedding), generator, embedding.device)
    if k == 0 or probs.shape[1] == 1 or embedding.shape[1] == 0:  # nothing is informative
        return rows[:k]
    rows = rows[: None if candidates is None else max(k, candidates)]
    roots = _Roots.drawn(probs.shape[1], embedding.shape[1], top, width, generator)
    known = roots.information(labelled, labelled_probs)
    pool = roots.information(embedding, probs) + known
    start = weight * known + ridge * torch.eye(len(pool), dtype=torch.float64, device=pool.device)

    def systems(part: Tensor, sign: int, dtype: torch.dtype) -> Systems:
        return _Factors(roots(embedding[part], probs[part]), sign, dtype)

    return forward_backward(Information(start, pool), systems, rows, k, oversample)


@dataclass(frozen=True)
class _Roots:
    """What makes roots V [r, d] of items, with ``V^T V`` their information."""

    classes: Tensor  # [C, d] float32, U^T
    features: Tensor  # [E, d] float32, W^T over sqrt(d)
    top: int

    @classmethod
    def drawn(
        cls, classes: int, features: int, top: int, width: int, generator: torch.Generator
    ) -> _Roots:
        """The projection; none where a gradient is short enough."""
        if classes * features <= width:
            one, two = torch.eye(classes), torch.eye(features)
            return cls(
                one.repeat_interleave(features, 1), two.repeat(1, classes), min(top, classes)
            )
        device = generator.device
        one = torch.randn(classes, width, generator=generator, device=device)
        two = torch.randn(features, width, generator=generator, device=device)
        return cls(one, two / math.sqrt(width), min(top, classes))

    def __call__(self, embedding: Tensor, probs: Tensor) -> Tensor:
        """Roots of items: embedding [n, E], probs [n, C] -> [n, r, d] float32."""
        each = self.top * self.classes.shape[1]
        parts = [
            self._of(h, p)
            for h, p in zip(
                *(v.split(max(1, BLOCK // each)) for v in (embedding, probs)), strict=True
            )
        ]
        return torch.cat(parts)

    def _of(self, embedding: Tensor, probs: Tensor) -> Tensor:
        classes, features = self.classes.to(probs.device), self.features.to(probs.device)
        p = probs.float()
        p = p / p.sum(1, keepdim=True)
        best, which = p.topk(self.top, dim=1)
        away = classes[which] - (p @ classes)[:, None]  # U (e_y - p)
        return away * best.sqrt()[:, :, None] * (embedding.float() @ features)[:, None]

    def information(self, embedding: Tensor, probs: Tensor) -> Tensor:
        """Sum of the items' information [d, d], float64, in blocks."""
        d = self.classes.shape[1]
        total = torch.zeros(d, d, dtype=torch.float64, device=embedding.device)
        size = max(1, BLOCK // (self.top * d))
        for start in range(0, len(embedding), size):
            part = slice(start, start + size)
            flat = self._of(embedding[part], probs[part]).flatten(0, 1)
            total += flat.T @ flat
        return total


class _Factors(Systems):
    """The systems of candidates whose roots [n, r, d] are held."""

    def __init__(self, roots: Tensor, sign: int, dtype: torch.dtype) -> None:
        n, rank, _ = roots.shape
        super().__init__(rank, n, sign, dtype, roots.device)
        self.roots = roots

    def _times(self, some: slice, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """V and V matrix of some candidates: matrix [d, m] -> [n, r, d] and [n, r, m]."""
        v = self.roots[some].to(self.z.dtype)
        return v, v @ matrix.to(v.dtype)

    def compute(self, inverse: Tensor, through: Tensor) -> None:
        """Z and P from the inverse A and from A F A."""
        for target, matrix in ((self.z, inverse), (self.p, through)):
            for some in self.steps(self.roots[:1].numel()):
                v, seen = self._times(some, matrix)
                target[:, :, some] = (seen @ v.mT).permute(1, 2, 0)
        self.z.mul_(self.sign).diagonal().add_(1)

    def update(self, one: Tensor, two: Tensor) -> None:
        """Z -= l l^T and P += l g^T (symmetric in effect), l = V^T one and g = V^T two."""
        both = torch.cat([one, two], 1)
        for some in self.steps(self.roots[:1].numel()):
            _, seen = self._times(some, both)
            left, right = seen.permute(1, 2, 0).contiguous().split(one.shape[1], 1)
            self.apply(some, left, right)

    def vectors(self, rows: Tensor) -> Tensor:
        """V of some candidates, transposed: rows [m] -> [m, r, d], float64."""
        return self.roots[rows].double()
