"""Squared distances between items: cheap upper bounds for many, float64 for the few that decide.

The kernels of this folder ask two questions. *Which items may matter?* is answered in the input's
precision by blocked matrix products, with the rounding error added, so that the answer is a true
upper bound. *Which item is it?* is answered in float64 for those few. So no digit lost by
``|x|^2 + |y|^2 - 2 x.y`` ever decides.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = [
    "CLOSE",
    "MEMORY",
    "Space",
    "Taken",
    "check_finite",
    "check_rows",
    "middle",
    "sampled",
    "tie_keys",
]

MEMORY = 256 * 2**20
"""Default budget in bytes for what a kernel holds beside its input and a few numbers an item."""

CLOSE = 2.0**-11
"""A squared distance below this share of the squared norms is computed anew where it matters.

``|x|^2 + |y|^2 - 2 x.y`` in float32 is wrong by a few 2^-24 of the norms: relative to what is
kept by less than 1e-3.
"""

# Elements of a block's product: 1 MiB of float32, which stays in a core's cache between the
# product and the minimum. A GPU wants few large launches.
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**25
_WIDTH = 512  # centres in one product
_SAMPLE = 256  # rows that settle the origin


class Taken:
    """Some items in float64, ready to be compared: factors [m, E_f], squared norms [m]."""

    __slots__ = ("factors", "norms")

    def __init__(self, factors: Sequence[Tensor], norms: Tensor | None = None) -> None:
        self.factors = tuple(factors)
        if norms is None:
            parts = [f.square().sum(1) for f in self.factors]
            norms = parts[0]
            for more in parts[1:]:
                norms = norms * more
        self.norms = norms

    def __len__(self) -> int:
        return len(self.norms)

    def __getitem__(self, rows: slice | Tensor) -> Taken:
        return Taken([f[rows] for f in self.factors], self.norms[rows])

    def tiny(self) -> float:
        """Relative size below which a squared distance is rounding error."""
        return 4 * (sum(f.shape[1] for f in self.factors) + 16) * 2.0**-53

    def distances(self, other: Taken) -> Tensor:
        """Squared distances [m, m'] in float64; what cannot be told from zero is zero."""
        inner = self.factors[0] @ other.factors[0].T
        for mine, theirs in zip(self.factors[1:], other.factors[1:], strict=True):
            inner.mul_(mine @ theirs.T)
        total = self.norms[:, None] + other.norms
        inner.mul_(-2).add_(total)
        return inner.masked_fill_(inner <= total.mul_(self.tiny()), 0.0)

    def nearest(self, centres: Taken, memory: int = MEMORY) -> Tensor:
        """Smallest squared distance [m] to any centre, infinite without centres."""
        best = self.norms.new_full((len(self),), torch.inf)
        if len(centres) == 0:
            return best
        columns = min(len(centres), 2**10)
        rows = max(1, min(memory // (32 * columns), 2**18 // columns))
        for column in range(0, len(centres), columns):
            some = centres[column : column + columns]
            first, *others = [f.T.contiguous() for f in some.factors]
            if not others:
                first = torch.cat([first * -2, some.norms[None]])
            for start in range(0, len(self), rows):
                part = self[start : start + rows]
                if others:
                    product = part.factors[0] @ first
                    for mine, theirs in zip(part.factors[1:], others, strict=True):
                        product.mul_(mine @ theirs)
                    product.mul_(-2).add_(some.norms)
                else:
                    ones = torch.ones_like(part.norms)[:, None]
                    product = torch.cat([part.factors[0], ones], 1) @ first
                block = best[start : start + rows]
                torch.minimum(block, product.amin(1), out=block)
        best += self.norms
        return best.masked_fill_(best <= self.norms * (2 * self.tiny()), 0.0)

    @staticmethod
    def cat(parts: Sequence[Taken]) -> Taken:
        """All items of all parts, in order."""
        factors = [torch.cat(some) for some in zip(*(p.factors for p in parts), strict=True)]
        return Taken(factors, torch.cat([p.norms for p in parts]))


class Space:
    """Items whose inner products are products of inner products: factors [N, E_f].

    One factor is an ordinary embedding; two are the outer products of their rows, never built:
    ``<a x h, a' x h'> = <a, a'> <h, h'>``. One factor is compared relative to ``origin`` [E], a
    point amid the pool, so that a common offset costs no digits.

    Args:
        factors: tensors [N, E_f] of one N and one device.
        memory: bytes that blocks may take.
        name: who asks and for what, for the error.
        origin: [E] for one factor; default the median of a sample of the rows.

    Raises:
        ValueError: rows that are NaN, infinite, or so large that their squares overflow.
    """

    def __init__(
        self,
        factors: Sequence[Tensor],
        memory: int = MEMORY,
        name: str = "the pool",
        origin: Tensor | None = None,
    ) -> None:
        self.factors = tuple(factors)
        self.device = self.factors[0].device
        self.memory = memory
        double = any(f.dtype == torch.float64 for f in self.factors)
        self.dtype = torch.float64 if double else torch.float32
        width = sum(f.shape[1] for f in self.factors)
        self._gamma = 1.25 * _unit_error(self.dtype, width)
        self.origin: Tensor | None = None
        if len(self.factors) == 1:
            if origin is None:
                origin = middle(self.factors[0][:: sampled(len(self)).step])
            self.origin = origin.to(self.device, self.dtype)
        self.norms = self._norms(name)

    def __len__(self) -> int:
        return len(self.factors[0])

    def take(self, rows: Tensor) -> Taken:
        """Items [m] in float64."""
        return self.outside([f[rows] for f in self.factors])

    def outside(self, factors: Sequence[Tensor]) -> Taken:
        """Any points of this space in float64: factors [m, E_f], not relative to the origin."""
        full = [f.to(self.device, torch.float64) for f in factors]
        if self.origin is not None:
            full[0] = full[0] - self.origin.double()
        return Taken(full)

    def upper(self, centres: Taken, rows: Tensor | None = None) -> Tensor:
        """Upper bounds of the squared distance to the nearest centre: float32 [m] of rows [m]."""
        n = len(self) if rows is None else len(rows)
        best = torch.empty(n, dtype=self.dtype, device=self.device)
        widths = [centres[start : start + _WIDTH] for start in range(0, len(centres), _WIDTH)]
        ready = [self._ready(part) for part in widths]
        for block, factors, norms in self._blocks(min(_WIDTH, len(centres)), rows):
            near = functools.reduce(
                torch.maximum, (_closeness(factors, part).amax(1) for part in ready)
            )
            torch.sub(norms, near, alpha=2, out=best[block])
        norms = self.norms if rows is None else self.norms[rows]
        best.clamp_min_(0)
        # |error| <= gamma (|x| + |y|)^2 and |y| <= |x| + d, whichever centre seemed nearest
        best.add_(norms.sqrt().mul_(2).add_(best.sqrt()).square_().mul_(self._gamma))
        return best.float().mul_(1 + 2.0**-21)

    def closest(self, centres: Taken, rows: Tensor | None = None) -> Tensor:
        """Which centre is nearest, as far as the working precision tells: [m] of rows [m]."""
        n = len(self) if rows is None else len(rows)
        best = torch.empty(n, dtype=torch.int64, device=self.device)
        ready = self._ready(centres)
        for block, factors, _ in self._blocks(len(centres), rows):
            torch.argmax(_closeness(factors, ready), 1, out=best[block])
        return best

    def _ready(self, centres: Taken) -> tuple[Tensor, ...]:
        factors = [f.to(self.dtype) for f in centres.factors]
        half = centres.norms.to(self.dtype).mul(-0.5)
        if len(factors) == 1:  # the norm rides along as one more column
            return (torch.cat([factors[0], half[:, None]], 1).T.contiguous(),)
        return (*(f.T.contiguous() for f in factors), half)

    def _blocks(
        self, columns: int, rows: Tensor | None
    ) -> Iterator[tuple[slice, tuple[Tensor, ...], Tensor]]:
        """Blocks of the rows in the working precision, a column of ones beside one factor."""
        n = len(self) if rows is None else len(rows)
        width = sum(f.shape[1] for f in self.factors) + 1
        room = _CPU_BLOCK if self.device.type == "cpu" else _GPU_BLOCK
        fits = self.memory // (self.dtype.itemsize * (4 * columns + 3 * width))
        size = max(1, min(n, fits, max(64, room // max(columns, width))))
        buffer = torch.ones(
            (size, width) if self.origin is not None else 0, dtype=self.dtype, device=self.device
        )
        for start in range(0, n, size):
            block = slice(start, min(n, start + size))
            which = block if rows is None else rows[block]
            if self.origin is None:
                yield block, tuple(f[which].to(self.dtype) for f in self.factors), self.norms[which]
                continue
            part = self.factors[0][which]
            shifted = buffer[: len(part)]
            torch.sub(part.to(self.dtype), self.origin, out=shifted[:, :-1])
            yield block, (shifted,), self.norms[which]

    def _norms(self, name: str) -> Tensor:
        norms = torch.ones(len(self), dtype=self.dtype, device=self.device)
        size = max(1, (_CPU_BLOCK if self.device.type == "cpu" else _GPU_BLOCK) // 16)
        for factor in self.factors:
            rows = max(1, size * 16 // max(1, factor.shape[1]))
            for start in range(0, len(self), rows):
                part = factor[start : start + rows].to(self.dtype)
                if self.origin is not None:
                    part = part - self.origin
                norms[start : start + rows].mul_(torch.linalg.vector_norm(part, dim=1).square_())
        check_finite(norms, name)
        return norms


def _closeness(factors: tuple[Tensor, ...], ready: tuple[Tensor, ...]) -> Tensor:
    """x.y - |y|^2 / 2 for centres y, which falls as the distance grows: [m, m']."""
    product = factors[0] @ ready[0]
    if len(factors) > 1:
        for mine, theirs in zip(factors[1:], ready[1:-1], strict=True):
            product.mul_(mine @ theirs)
        product.add_(ready[-1])
    return product


def middle(sample: Tensor) -> Tensor:
    """A point amid a sample [m, E] that odd rows do not move: its median, float64 [E]."""
    sample = sample.double()
    sample = sample[sample.square().sum(1) < torch.finfo(torch.float32).max]  # not NaN
    return sample.T.median(1).values if len(sample) else sample.new_zeros(sample.shape[1])


def sampled(total: int) -> range:
    """Positions in a pool of ``total`` rows whose middle is taken."""
    return range(0, total, max(1, total // _SAMPLE))


def _unit_error(dtype: torch.dtype, width: int) -> float:
    """Relative error of a squared distance by matrix products over ``width`` features."""
    if dtype == torch.float64:
        return (width + 16) * 2.0**-53
    error = (width + 16) * 2.0**-24
    return error if _full_products() else error + 2.0**-7  # factors rounded to bfloat16


def _full_products() -> bool:
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
    except RuntimeError:  # set through the newer interface
        return False
    return not torch.backends.cuda.matmul.allow_tf32


def check_finite(values: Tensor, name: str) -> None:
    """Refuse items whose value is NaN or infinite: one value an item, [N].

    Raises:
        ValueError: names how many rows, and the first of them.
    """
    if bool(values.isfinite().all()):
        return
    bad = (~values.isfinite()).nonzero().squeeze(1)
    some = ", ".join(map(str, bad[:5].tolist())) + (", ..." if len(bad) > 5 else "")
    raise ValueError(
        f"{name} must be finite, got {len(bad)} of {len(values)} rows that are NaN, infinite or "
        f"too large to square (rows {some}); drop these rows, or mend what computed them"
    )


def check_rows(points: Tensor, name: str) -> None:
    """Refuse rows [N, E] that are NaN, infinite, or too large to be squared in float32.

    Raises:
        ValueError: names how many rows, and the first of them.
    """
    wide = torch.promote_types(points.dtype, torch.float32)
    check_finite(torch.linalg.vector_norm(points, dim=1, dtype=wide).float().square_(), name)


def tie_keys(index: Tensor, seed: int) -> Tensor:
    """A random int64 an item that depends on its index [m] and the seed alone, to settle ties.

    Unlike a permutation it costs nothing for the items that are not tied, and is the same on
    every rank. (The finaliser of SplitMix64: Steele, Lea and Flood, 2014.)
    """
    key = (index + 1) * -7046029254386353131 + seed
    key = (key ^ ((key >> 30) & (2**34 - 1))) * -4658895280553007687
    key = (key ^ ((key >> 27) & (2**37 - 1))) * -7723592293110705685
    return key ^ ((key >> 31) & (2**33 - 1))
