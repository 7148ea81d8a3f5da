"""Rows about their mean, as kernels that compare items by squared distance want them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Points"]

_BLOCK = 2**18  # elements converted together


class Points:
    """Rows about an origin, of unit length first where asked; held if they fit.

    The origin is taken away before anything is rounded, so a common offset costs no digits.

    Args:
        points: [N, E], any float.
        room: bytes; the converted rows are kept if they take no more.
        unit: scale rows to unit length; zero rows get a direction of their own, at right angles
            to all others.
        origin: default the mean of the (scaled) rows.
        dtype: of the rows about the origin.
    """

    def __init__(
        self,
        points: Tensor,
        room: int,
        unit: bool = False,
        origin: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.points, self.unit, self.origin, self.dtype = points, unit, origin, dtype
        self.held: Tensor | None = None
        size = max(1, _BLOCK // max(1, points.shape[1]))
        self.parts = [slice(start, start + size) for start in range(0, len(points), size)]
        if origin is None and self.parts:
            sums = torch.stack([self._wide(points[part]).double().sum(0) for part in self.parts])
            self.origin = (sums.sum(0) / len(points)).to(torch.promote_types(points.dtype, dtype))
        if self.parts and dtype.itemsize * points.numel() <= room:
            self.held = torch.cat([self[part] for part in self.parts])
        squares = [self[part].square().sum(1) for part in self.parts]
        self.norms = torch.cat(squares) if squares else points.new_empty(0, dtype=dtype)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        some = self.points if self.held is None else self.held
        some = some[rows] if isinstance(rows, slice) else some.index_select(0, rows)
        if self.held is not None:
            return some
        points = self._wide(some)
        if self.origin is not None:
            points = points - self.origin
        return points.to(self.dtype)

    def _wide(self, some: Tensor) -> Tensor:
        """Rows before the origin is taken away, of unit length where asked."""
        points = some.to(torch.promote_types(some.dtype, self.dtype))
        if self.unit:
            norms = points.norm(dim=1, keepdim=True)
            points = torch.cat([points / norms.clamp_min(1e-30), (norms == 0).to(norms.dtype)], 1)
        return points
