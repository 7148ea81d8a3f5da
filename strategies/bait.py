"""BAIT: the batch that leaves least of the pool's Fisher information unexplained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_al.records import Pool

from .registry import STRATEGIES
from .selection import RESOLUTION, shuffled
from .sets import BLOCK, SetStrategy, covered, mean_probs

__all__ = ["Bait", "bait"]

MEMORY = 2**28  # bytes of the candidates' small matrices


@STRATEGIES.register("bait")
@dataclass(frozen=True, repr=False, eq=False)
class Bait(SetStrategy):
    """Minimises tr((ridge I + sum of I_x over labelled and chosen)^-1 I_pool) on the last layer.

    ``I_x = (diag(p) - p p^T) x h h^T`` is the Fisher information of an item, ``I_pool`` that of
    candidates and labelled items together. Greedy: twice k are added, then k are taken away again.

    Source: Ash, Goel, Krishnamurthy and Kakade, Gone Fishing: Neural Active Learning with Fisher
    Embeddings (2021), algorithm 1. Where C E is large the embedding is sketched by a random
    projection (Holzmüller et al. 2023, section 3.3).

    Args:
        ridge: regularisation, > 0.
        oversample: how many times k are added before the rest is taken away; 1 is forward only.
        sketch: C E at most (the matrices are of that size squared); a longer embedding is
            projected to ``sketch / C`` features, drawn by the generator.
    """

    ridge: float = 1.0
    oversample: float = 2.0
    sketch: int = 1024

    needs: ClassVar[tuple[str, ...]] = ("probs", "embedding")
    keeps: ClassVar[tuple[str, ...]] = ("probs", "embedding")

    def __post_init__(self) -> None:
        if not (self.ridge > 0 and self.oversample >= 1 and self.sketch >= 1):
            raise ValueError(
                "bait needs ridge > 0, oversample >= 1 and sketch >= 1, got "
                f"{self.ridge}, {self.oversample} and {self.sketch}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Tensor:
        """Forward and backward greedy search."""
        points, probs = pool.embedding, mean_probs(pool.probs, "bait")
        known, known_probs = points[:0], probs[:0]
        labelled = covered(pool)
        if labelled is not None and labelled.embedding is not None and labelled.probs is not None:
            known = labelled.embedding.to(points.device)
            known_probs = mean_probs(labelled.probs, "bait").to(points.device)
        width = max(1, self.sketch // probs.shape[1])
        if points.shape[1] > width:
            drawn = torch.randn(
                points.shape[1], width, generator=generator, device=generator.device
            ).to(points.device)
            drawn /= math.sqrt(width)
            points, known = points.float() @ drawn, known.float() @ drawn
        return bait(
            *(points, probs, known, known_probs, k, generator),
            ridge=self.ridge,
            oversample=self.oversample,
        )


def bait(
    embedding: Tensor,
    probs: Tensor,
    labelled: Tensor,
    labelled_probs: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    ridge: float = 1.0,
    oversample: float = 2.0,
    memory: int = MEMORY,
) -> Tensor:
    """BAIT: embedding [N, E], probs [N, C] (, the same of labelled items) -> rows [K].

    Each candidate keeps two C x C matrices, its information seen through the inverse and through
    inverse x pool x inverse; a pick changes them by products of [C E, C] matrices (Woodbury), so
    a step costs N C^2 E and nothing of [N, C E] is built. Float64. A pool whose small matrices
    exceed ``memory`` is thinned to a random part that fits (the pool's information is of all).
    Values within 1e-6 of the best are ties, drawn by the generator.

    Source: Ash et al. (2021), algorithm 1 and appendix A.
    """
    n, classes = probs.shape
    rows = shuffled(n, generator, embedding.device)
    rows = rows[: max(k, memory // (16 * classes * classes))]
    start = _fisher(labelled, labelled_probs)
    pool = _fisher(embedding, probs) + start
    start.diagonal().add_(ridge)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(start))
    state = _State(inverse, inverse @ pool @ inverse, embedding[rows], probs[rows])
    chosen: list[int] = []
    free = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    for _ in range(min(len(rows), max(k, math.ceil(oversample * k)))):
        gain = state.change(1)
        row = _best(gain, free)
        chosen.append(row)
        free[row] = False
        state.update(row, 1)
    taken = torch.tensor(chosen, dtype=torch.int64, device=rows.device)
    if len(chosen) > k:
        state = state.of(taken)
        held = torch.ones(len(taken), dtype=torch.bool, device=rows.device)
        for _ in range(len(chosen) - k):
            row = _best(-state.change(-1), held)
            held[row] = False
            state.update(row, -1)
        taken = taken[held]
    return rows[taken]


def _root(probs: Tensor) -> Tensor:
    """D [n, C, C] with D D^T = diag(p) - p p^T: columns sqrt(p_y) (e_y - p)."""
    probs = probs.double()
    eye = torch.eye(probs.shape[1], dtype=torch.float64, device=probs.device)
    return (eye - probs[:, :, None]) * probs[:, None, :].sqrt()


def _fisher(embedding: Tensor, probs: Tensor) -> Tensor:
    """Sum over items of (diag(p) - p p^T) x h h^T: [C E, C E], float64, in blocks of items."""
    (n, features), classes = embedding.shape, probs.shape[1]
    total = torch.zeros(classes, features, classes, features, dtype=torch.float64)
    total = total.to(embedding.device)
    for start in range(0, n, max(1, BLOCK // max(1, features))):
        h = embedding[start : start + max(1, BLOCK // max(1, features))].double()
        p = probs[start : start + len(h)].double()
        for c in range(classes):
            for d in range(c, classes):
                weight = -p[:, c] * p[:, d] + (p[:, c] if c == d else 0.0)
                block = (h * weight[:, None]).T @ h
                total[c, :, d] += block
                if c != d:
                    total[d, :, c] += block.T
    return total.reshape(classes * features, classes * features)


class _State:
    """The inverse A, Q = A F A, and of each candidate V^T A V and V^T Q V [n, C, C]."""

    def __init__(self, inverse: Tensor, through: Tensor, embedding: Tensor, probs: Tensor) -> None:
        self.inverse, self.through = inverse, through
        self.embedding, self.probs = embedding, probs
        self.classes = probs.shape[1]
        self.seen = self._all(inverse)
        self.passed = self._all(through)

    def of(self, rows: Tensor) -> _State:
        """The same state for some candidates."""
        return _State(self.inverse, self.through, self.embedding[rows], self.probs[rows])

    def _steps(self, width: int) -> list[slice]:
        size = max(1, BLOCK // max(1, width))
        return [slice(i, i + size) for i in range(0, len(self.embedding), size)]

    def _all(self, matrix: Tensor) -> Tensor:
        """V^T matrix V of each candidate [n, C, C]."""
        c, e = self.classes, self.embedding.shape[1]
        blocks = matrix.view(c, e, c, e)
        parts = []
        for some in self._steps(c * c * e):
            h, root = self.embedding[some].double(), _root(self.probs[some])
            inner = torch.einsum("ne,cedf,nf->ncd", h, blocks, h)
            parts.append(root.transpose(1, 2) @ inner @ root)
        return torch.cat(parts)

    def change(self, sign: int) -> Tensor:
        """By how much adding (1) a candidate lowers, taking one (-1) raises the objective [n]."""
        eye = torch.eye(self.classes, dtype=torch.float64, device=self.seen.device)
        solved = torch.linalg.solve(eye + sign * self.seen, self.passed)
        return solved.diagonal(dim1=1, dim2=2).sum(1)

    def update(self, row: int, sign: int) -> None:
        """Add (1) or take away (-1) a candidate."""
        c, e = self.classes, self.embedding.shape[1]
        h, root = self.embedding[row].double(), _root(self.probs[row : row + 1])[0]
        vector = torch.einsum("cy,e->cey", root, h).reshape(c * e, c)  # V [C E, C]
        one, two = self.inverse @ vector, self.through @ vector
        eye = torch.eye(c, dtype=torch.float64, device=h.device)
        core = torch.linalg.inv(eye + sign * self.seen[row])
        core = sign * (core + core.T) / 2
        middle = core @ self.passed[row] @ core / 2
        half = one @ middle - two @ core  # Q changes by one half^T + half one^T
        self.inverse.addmm_(one @ core, one.T, alpha=-1)
        self.through.addmm_(one, half.T).addmm_(half, one.T)
        for some in self._steps(c * c + e):
            left = self._seen_by(some, one)  # V_x^T A V
            right = left @ middle - self._seen_by(some, two) @ core
            self.seen[some] -= left @ core @ left.transpose(1, 2)
            change = left @ right.transpose(1, 2)
            self.passed[some] += change + change.transpose(1, 2)

    def _seen_by(self, some: slice, matrix: Tensor) -> Tensor:
        """V^T matrix of some candidates: [C E, C] -> [n, C, C]."""
        c, e = self.classes, self.embedding.shape[1]
        p = self.probs[some].double()
        turned = matrix.view(c, e, c).transpose(0, 1).reshape(e, c * c)
        inner = (self.embedding[some].double() @ turned).view(-1, c, c)
        return (inner - p[:, None, :] @ inner) * p.sqrt()[:, :, None]


def _best(value: Tensor, free: Tensor) -> int:
    """The free row of largest value, the first of those that are tied (rows are shuffled)."""
    top = value[free].max()
    slack = RESOLUTION * float(top.abs())
    return int((free & (value >= top - slack)).nonzero()[0])
