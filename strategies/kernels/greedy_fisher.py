"""BAIT: the batch that leaves least of the pool's Fisher information unexplained.

Forward and backward greedy search on ``tr(A F)``: ``A`` is the inverse of the information of what
is labelled and chosen, ``F`` the pool's. The information of an item is ``V V^T`` with
``V = D x h``, ``D D^T = diag(p) - p p^T``; adding it lowers the objective by ``tr(Z^-1 P)``,
``Z = I + V^T A V`` and ``P = V^T Q V``, ``Q = A F A``. What makes the search fast, and leaves its
picks as they are:

- Probabilities sum to one, so C - 1 coordinates say everything: the classes but the last, in which
  the ridge is ``ridge (I - 1 1^T / C)``, and ``D`` is known in closed form (:mod:`.fisher`).
- Every candidate keeps Z and P. A pick changes them by products of [(C - 1) E, C - 1] matrices
  (Woodbury): one matrix product of the features with 2 (C - 1)^2 columns a step, nothing of size
  [N, C E], and no inverse of a large matrix after the first.
- The candidates lie along the last axis, so that all their small systems are eliminated together.
- Candidates are compared in float32, the leaders then in float64 from A and Q. If the two
  disagree, Z and P are computed anew; where float32 cannot tell the leaders apart, the rest of
  the search is in float64.

No candidate is passed by: a gain may rise as the batch grows, and what bounds the rise (the gains
since, weighted by ``tr(V^T A V)``) is too wide to exclude anyone before the search is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..selection import RESOLUTION, check_k, shuffled
from .fisher import Items, Systems, fisher, trace

__all__ = ["Information", "bait", "check_bait", "forward_backward"]

_NEAR = 4e-4  # candidates this close to the best (relative) are compared in float64
_TRUST = 1e-4  # relative error of float32 that is put up with
_LEADERS = 24  # compared in float64, at most
_FEW = 768  # candidates that are not worth the two precisions
_TINY = 1e-14  # least eigenvalue of Z, which is above zero but for rounding
_PENDING = 72  # columns of low-rank changes that wait


def bait(
    embedding: Tensor,
    probs: Tensor,
    labelled: Tensor,
    labelled_probs: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    ridge: float = 1.0,
    weight: float = 1.0,
    oversample: float = 2.0,
    candidates: int | None = None,
) -> Tensor:
    """BAIT: embedding [N, E], probs [N, C] -> rows [K], in the order of choice.

    Greedily minimises ``tr((ridge I + weight sum of I_x over labelled + sum of I_x over chosen)^-1
    I_pool)``, where ``I_x = (diag(p) - p p^T) x h h^T`` and ``I_pool`` sums over candidates and
    labelled items. ``oversample * k`` rows are added, then the least missed are taken away. The
    picks are those of float64; values within 1e-6 of the best are ties, drawn by the generator.

    A step costs about ``4 N E (C - 1)^2`` operations. The matrices are of size (C E)^2.

    Args:
        embedding: the last layer's inputs ``h``; any float type, any device that knows float64.
        probs: class probabilities of the same items.
        labelled: embeddings [L, E] of the labelled items; [0, E] at a cold start.
        labelled_probs: their class probabilities [L, C].
        k: how many, 0 to N.
        generator: of all draws.
        ridge: regularisation, > 0.
        weight: of a labelled item, >= 0, where a pick's is 1.
        oversample: how many times k are added before the rest is taken away; 1 is forward only.
        candidates: how many are looked at, at most: of a larger pool a random part (at least
            ``k``). The pool's information is always that of all. Each takes 16 (C - 1)^2 bytes.

    Source: Ash, Goel, Krishnamurthy and Kakade, Gone Fishing: Neural Active Learning with Fisher
    Embeddings (2021).

    Raises:
        ValueError: not two axes, two sizes, k > N, ridge <= 0 or oversample < 1.

    >>> probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]])
    >>> bait(torch.ones(3, 4), probs, torch.ones(0, 4), probs[:0], 1, torch.Generator())
    tensor([1])
    """
    check_bait(embedding, probs, labelled, labelled_probs, k, ridge, oversample)
    n, classes = probs.shape
    rows = shuffled(n, generator, embedding.device)
    if k == 0 or classes == 1 or embedding.shape[1] == 0:  # nothing is informative
        return rows[:k]
    rows = rows[: None if candidates is None else max(k, candidates)]
    known = fisher(labelled, labelled_probs)
    pool = fisher(embedding, probs) + known
    flat = torch.eye(classes - 1, dtype=torch.float64, device=pool.device) - 1 / classes
    start = weight * known + ridge * torch.kron(flat, torch.eye(embedding.shape[1]).to(flat))

    def systems(part: Tensor, sign: int, dtype: torch.dtype) -> Systems:
        return Items(embedding[part], probs[part], sign, dtype)

    return forward_backward(Information(start, pool), systems, rows, k, oversample)


def forward_backward(
    information: Information,
    systems: Callable[[Tensor, int, torch.dtype], Systems],
    rows: Tensor,
    k: int,
    oversample: float,
) -> Tensor:
    """Add ``oversample * k`` of some rows, then take the least missed away: rows [K].

    Args:
        information: what there is before.
        systems: (rows [n], sign, dtype) -> those of these candidates.
        rows: of the candidates, shuffled.
        k: how many are left, at most as many as there are rows.
        oversample: how many times k are added.
    """
    count = min(len(rows), max(k, math.ceil(oversample * k)))
    search = _Search(information, systems, rows, 1)
    rows = rows[torch.tensor([search.step() for _ in range(count)], device=rows.device)]
    if count > k:
        search = _Search(information, systems, rows, -1)
        for _ in range(count - k):
            search.step()
        rows = rows[search.free]
    return rows


def check_bait(
    embedding: Tensor,
    probs: Tensor,
    labelled: Tensor,
    labelled_probs: Tensor,
    k: int,
    ridge: float,
    oversample: float,
) -> None:
    """Refuse what is no input of BAIT.

    Raises:
        ValueError: not two axes, two sizes, k > N, ridge <= 0 or oversample < 1.
    """
    check_k(embedding, k, axes=2)
    shapes = [list(t.shape) for t in (probs, labelled, labelled_probs)]
    features, classes = embedding.shape[1], probs.shape[-1]
    want = [[len(embedding), classes], [len(labelled), features], [len(labelled), classes]]
    if shapes != want or classes == 0:
        raise ValueError(
            f"bait needs probs [N, C], labelled [L, E] and labelled_probs [L, C] beside embedding "
            f"{list(embedding.shape)}, got {shapes}; average posterior samples with probs.mean(1)"
        )
    if not (ridge > 0 and oversample >= 1):
        raise ValueError(f"bait needs ridge > 0 and oversample >= 1, got {ridge} and {oversample}")


class Information:
    """The inverse A of the information so far, and Q = A F A; both symmetric, float64.

    A change is of low rank: it is kept as factors until there are many, since each pass over the
    matrices costs as much as a step's arithmetic.
    """

    def __init__(self, start: Tensor, pool: Tensor) -> None:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(start))
        self.matrices = torch.stack([inverse, inverse @ pool @ inverse])
        self.size = len(start)
        self._one = self._two = start[:, :0]
        self._sign = start[:0, 0]

    def times(self, vectors: Tensor) -> Tensor:
        """A v and Q v: [m, d] -> [2, m, d]."""
        seen = (vectors @ self.matrices.view(-1, self.size).T).view(-1, 2, self.size)
        one, two = vectors @ self._one, vectors @ self._two
        seen[:, 0].addmm_(one * self._sign, self._one.T, alpha=-1)
        seen[:, 1].addmm_(one, self._two.T, alpha=0.5).addmm_(two, self._one.T, alpha=0.5)
        return seen.transpose(0, 1)

    def change(self, one: Tensor, two: Tensor, sign: int) -> None:
        """A -= sign one one^T, Q += (one two^T + two one^T) / 2, of [d, r]."""
        self._one, self._two = torch.cat([self._one, one], 1), torch.cat([self._two, two], 1)
        self._sign = torch.cat([self._sign, self._sign.new_full((one.shape[1],), sign)])
        if self._one.shape[1] > _PENDING:
            self.settle()

    def settle(self) -> None:
        """Apply what is pending."""
        self.matrices[0].addmm_(self._one * self._sign, self._one.T, alpha=-1)
        left, right = torch.cat([self._one, self._two], 1), torch.cat([self._two, self._one], 1)
        self.matrices[1].addmm_(left, right.T, alpha=0.5)
        self._one = self._two = self._one[:, :0]
        self._sign = self._sign[:0]


class _Search:
    """Adds (sign 1) or takes away (-1) candidates one by one."""

    def __init__(
        self,
        information: Information,
        systems: Callable[[Tensor, int, torch.dtype], Systems],
        rows: Tensor,
        sign: int,
    ) -> None:
        self.information, self.sign = information, sign
        self.systems, self.rows = systems, rows
        self.free = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        self._compute(torch.float32 if len(rows) > _FEW else torch.float64)

    def _compute(self, dtype: torch.dtype) -> None:
        """Z and P from scratch."""
        self.information.settle()
        self.items = self.systems(self.rows, self.sign, dtype)
        self.items.compute(*self.information.matrices)

    def step(self) -> int:
        """The candidate that lowers the objective most, or raises it least."""
        fresh = False
        while self.items.z.dtype == torch.float32:
            value = self._values()
            top = float(value.max())
            near = (value >= top - _NEAR * abs(top)).nonzero().squeeze(1)
            if 0 < len(near) <= _LEADERS:
                seen = self._seen(near)
                exact = self.sign * trace(*seen[2:])
                if float((exact - value[near]).abs().max()) <= _TRUST * abs(top):
                    best = _first(exact)
                    self._move(int(near[best]), *(s[..., best] for s in seen))
                    return int(near[best])
            self._compute(torch.float64 if fresh or len(near) > _LEADERS else torch.float32)
            fresh = True
        row = _first(self._values())
        seen = self._seen(torch.tensor([row], device=self.free.device))
        self._move(row, *(s[..., 0] for s in seen))
        return row

    def _values(self) -> Tensor:
        return (self.sign * self.items.change()).masked_fill_(~self.free, -torch.inf)

    def _seen(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Float64 A V, Q V [(C-1) E, C-1, m] and Z, P [C-1, C-1, m] of some candidates."""
        vectors = self.items.vectors(rows)  # [m, c, d]
        one, two = self.information.times(vectors.flatten(0, 1)).view(2, *vectors.shape)
        z, p = self.sign * (one @ vectors.mT), two @ vectors.mT
        z.diagonal(dim1=1, dim2=2).add_(1)
        z = (z + z.mT) / 2
        return one.permute(2, 1, 0), two.permute(2, 1, 0), z.permute(1, 2, 0), p.permute(1, 2, 0)

    def _move(self, row: int, one: Tensor, two: Tensor, z: Tensor, p: Tensor) -> None:
        """Add the candidate, or take it away."""
        self.free[row] = False
        values, turn = torch.linalg.eigh(z)
        turn = turn / values.clamp_min(_TINY).sqrt()  # T, with T T^T = Z^-1
        one, two, p = one @ turn, two @ turn, turn.T @ p @ turn
        two = one @ p - 2 * self.sign * two
        self.information.change(one, two, self.sign)
        self.items.update(one, two)


def _first(value: Tensor) -> int:
    """The row of the largest value, the first of those that are tied (rows are shuffled)."""
    top = value.max()
    return int((value >= top - RESOLUTION * top.abs()).nonzero()[0])
