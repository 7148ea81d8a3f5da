"""The Fisher information of a softmax layer's items, and the small systems of many items at once.

Probabilities sum to one, so everything is in the coordinates of all classes but the last: q
[N, C-1]. An item's information is ``V V^T = (diag(q) - q q^T) x h h^T``, ``V = D x h``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["Items", "Systems", "fisher", "trace"]

BLOCK = 2**20  # elements looked at together
_SMALL = 16  # order of the systems that are eliminated side by side


def fisher(embedding: Tensor, probs: Tensor) -> Tensor:
    """Sum over items of (diag(q) - q q^T) x h h^T: [(C-1) E, (C-1) E], float64, in blocks."""
    (n, e), c = embedding.shape, probs.shape[1] - 1
    total = torch.zeros(c, e, c, e, dtype=torch.float64, device=embedding.device)
    step = max(1, BLOCK // max(1, c * e))
    for start in range(0, n, step):
        h = embedding[start : start + step].double()
        p = probs[start : start + step].double()
        p = p / p.sum(1, keepdim=True)
        for i in range(c):
            weight = -p[:, i, None] * p[:, i:c]  # [n, c - i]
            weight[:, 0] += p[:, i]
            product = h.T @ (weight[:, :, None] * h[:, None]).flatten(1)
            total[i, :, i:] += product.view(e, c - i, e)
    for i in range(c):
        for j in range(i + 1, c):
            total[j, :, i] = total[i, :, j].T
    return total.view(c * e, c * e)


class Systems:
    """Z and P [r, r, n] of candidates, for adding (sign 1) or taking away (-1) each.

    A subclass knows the roots V of the candidates' information: ``compute``, ``update`` and
    ``vectors``. The candidates lie along the last axis.
    """

    def __init__(self, rank: int, n: int, sign: int, dtype: torch.dtype, device: Any) -> None:
        self.sign = sign
        self.z = torch.empty(rank, rank, n, dtype=dtype, device=device)
        self.p = torch.empty_like(self.z)

    def compute(self, inverse: Tensor, through: Tensor) -> None:
        """Z and P from the inverse A and from A F A."""
        raise NotImplementedError

    def update(self, one: Tensor, two: Tensor) -> None:
        """Z -= l l^T and P += l g^T (symmetric in effect), l = V^T one and g = V^T two."""
        raise NotImplementedError

    def vectors(self, rows: Tensor) -> Tensor:
        """V of some candidates, transposed: rows [m] -> [m, r, d], float64."""
        raise NotImplementedError

    def steps(self, width: int) -> list[slice]:
        """Blocks of candidates of which ``width`` elements each are looked at."""
        size = max(1, BLOCK // max(1, width))
        return [slice(i, i + size) for i in range(0, self.z.shape[2], size)]

    def apply(self, some: slice, left: Tensor, right: Tensor) -> None:
        """Z -= left left^T, P += left right^T for some candidates: left and right [r, m, n]."""
        z, p = self.z[:, :, some], self.p[:, :, some]
        if len(left) <= _SMALL:
            for i in range(left.shape[1]):
                z.addcmul_(left[:, None, i], left[None, :, i], value=-1)
                p.addcmul_(left[:, None, i], right[None, :, i])
        else:
            left, right = left.permute(2, 0, 1), right.permute(2, 1, 0)
            z -= (left @ left.transpose(1, 2)).permute(1, 2, 0)
            p += (left @ right).permute(1, 2, 0)

    def change(self) -> Tensor:
        """By how much adding a candidate lowers, or taking it away raises the objective [n]."""
        width = 2 * len(self.z) ** 2
        return torch.cat([trace(self.z[..., s], self.p[..., s]) for s in self.steps(width)])


class Items(Systems):
    """The systems of all classes but one: r = C-1.

    In the coordinates of all classes but the last, q, an item's root is
    ``D = (I - q 1^T / (1 + sqrt(p_C))) diag(sqrt(q))``: ``D D^T = diag(q) - q q^T``, and no
    entry grows as a probability vanishes.
    """

    def __init__(self, embedding: Tensor, probs: Tensor, sign: int, dtype: torch.dtype) -> None:
        p = probs.double()
        p = (p / p.sum(1, keepdim=True)).T
        super().__init__(len(p) - 1, len(embedding), sign, dtype, p.device)
        self.embedding = embedding
        self.exact = (p[:-1].sqrt(), p[:-1] / (1 + p[-1].sqrt()))  # float64
        self.root, self.mix = (part.to(dtype) for part in self.exact)  # [c, n]
        self.features = embedding.T.to(dtype).contiguous()  # [E, n]

    def compute(self, inverse: Tensor, through: Tensor) -> None:
        """Z and P from the inverse A and from A F A."""
        c, e = len(self.root), len(self.features)
        for target, matrix in ((self.z, inverse), (self.p, through)):
            blocks = matrix.view(c, e, c, e).transpose(1, 2).to(self.features.dtype)
            for some in self.steps(c * e):
                h = self.features[:, some]
                inner = h.new_empty(c, c, h.shape[1])
                for i in range(c):
                    seen = (blocks[i, i:].reshape(-1, e) @ h).view(c - i, e, -1)
                    inner[i, i:] = inner[i:, i] = seen.mul_(h).sum(1)
                turned = self.turned(inner, some).transpose(0, 1)
                target[:, :, some] = self.turned(turned, some)
        self.z.mul_(self.sign).diagonal().add_(1)

    def turned(self, inner: Tensor, some: slice) -> Tensor:
        """D^T inner of some candidates: [c, m, n] -> [c, m, n]."""
        mixed = torch.linalg.vecdot(self.mix[:, None, some], inner, dim=0)
        return (inner - mixed).mul_(self.root[:, None, some])

    def update(self, one: Tensor, two: Tensor) -> None:
        """Z -= l l^T and P += l g^T (symmetric in effect), l = V^T one and g = V^T two."""
        c, e, r = len(self.root), len(self.features), one.shape[1]
        both = torch.cat([one, two], 1).view(c, e, 2 * r).transpose(1, 2).reshape(-1, e)
        both = both.to(self.features.dtype)
        for some in self.steps(4 * c * r):
            inner = (both @ self.features[:, some]).view(c, 2 * r, -1)
            self.apply(some, *self.turned(inner, some).split(r, 1))

    def vectors(self, rows: Tensor) -> Tensor:
        """V of some candidates, transposed: rows [m] -> [m, C-1, (C-1) E], float64."""
        root, mix = (part[:, rows] for part in self.exact)
        eye = torch.eye(len(root), dtype=root.dtype, device=root.device)
        d = (eye[:, None] - mix[:, :, None]) * root.T  # [c, m, c]
        return torch.einsum("cmk,me->mkce", d, self.embedding[rows].double()).flatten(2)


def trace(z: Tensor, p: Tensor) -> Tensor:
    """tr(z^-1 p) of symmetric positive z, p [c, c, n]: [n]; elimination on both sides of p."""
    c = len(z)
    if c > _SMALL:
        solved, _ = torch.linalg.solve_ex(z.permute(2, 0, 1), p.permute(2, 0, 1))
        return solved.diagonal(dim1=1, dim2=2).sum(1)
    total = p[0, 0] / z[0, 0]
    for _ in range(1, c):
        factor = z[1:, 0] / z[0, 0]
        column = p[1:, 0] - factor * p[0, 0]
        z = torch.addcmul(z[1:, 1:], factor[:, None], z[None, 0, 1:], value=-1)
        p = torch.addcmul(p[1:, 1:], factor[:, None], p[None, 0, 1:], value=-1)
        p.addcmul_(column[:, None], factor[None], value=-1)
        total = total + p[0, 0] / z[0, 0]
    return total
