"""From multiplicities and losses to a value an item."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_al.threads import small

__all__ = ["Estimate", "values_by_means", "values_by_ridge"]

RANGE = (-4.0, 4.0)  # of the penalties, powers of ten of the mean square of a direction
STEPS = 33
SINGULAR = 1e-9  # of the largest: directions that were never drawn


@dataclass(frozen=True, eq=False)
class Estimate:
    """Values of items, and how far they are to be trusted."""

    values: Tensor  # [n] float64; larger is better, 0 is an average item
    alpha: float  # the penalty
    r2: float  # share of the variance of losses foretold, each fit by the other fits; at most 1


def values_by_ridge(counts: Tensor, losses: Tensor, part: Tensor | None = None) -> Estimate:
    """Values [n] of items by a ridge regression of -loss on how often each was fitted on.

    With C the counts less their mean over the fits of a part, and y those of -loss,
    ``values = (C'C + alpha I)^-1 C'y``; alpha has the least squared error of each fit foretold by
    all others, in closed form: (y - H y)_t / (1 - H_tt), as the intercepts are not penalised. A
    value is by how much one copy more lowers the loss, in place of an average item: where all fits
    of a part are of one size, values add up to 0.

    Source: the specification of ALRM, 9.3; leave-one-out in closed form by Golub, Heath and Wahba
    (1979), multiplicities as in the data models of Ilyas et al. (2022).

    Args:
        counts: multiplicities [T, n]; those of items that judge a fit are any constant there.
        losses: of the T fits, finite.
        part: which set of judges each fit had [T]; fits of a part share an intercept.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, or fewer than two fits in
            each part.

    >>> counts = torch.tensor([[2, 0], [0, 2], [1, 1], [2, 0], [0, 2]])
    >>> values_by_ridge(counts, -counts[:, 0].double()).values.sign()
    tensor([ 1., -1.], dtype=torch.float64)
    """
    counts, y, part = _checked(counts, losses, part)
    work = len(counts) * min(counts.shape) * counts.shape[1]

    with small(work):
        c, y0, share = _within(counts, part), _within(y, part), _shares(part)
        u, s, vt = torch.linalg.svd(c, full_matrices=False)
        kept = s > SINGULAR * s.max().clamp_min(1e-300)
        u, s, vt = u[:, kept], s[kept], vt[kept]
        seen = share < 1  # a part of one fit foretells nothing
        null = (y0 / (1 - share).clamp_min(1e-12))[seen].square().sum()
        if not len(s) or float(null) == 0:
            return Estimate(counts.new_zeros(counts.shape[1]), torch.inf, 0.0)
        scale = s.square().mean()
        alphas = scale * torch.logspace(*RANGE, STEPS, dtype=torch.float64)
        shrink = s.square() / (s.square() + alphas[:, None])  # [A, r]
        along = u.T @ y0
        hat = share + shrink @ u.square().T  # [A, T], the diagonal of H
        gap = (y0 - (shrink * along) @ u.T) / (1 - hat).clamp_min(1e-12)
        error = gap[:, seen].square().sum(1)
        best = int(error.argmin())
        values = vt.T @ (s / (s.square() + alphas[best]) * along)
    return Estimate(values, float(alphas[best]), float(1 - error[best] / null))


def values_by_means(counts: Tensor, losses: Tensor, part: Tensor | None = None) -> Estimate:
    """Values [n] of items, each by itself: ``sum (c - mean c) y / sum (c - mean c)^2`` over fits.

    The middle road of the specification of ALRM, 9.3: what other items were drawn is noise here.
    Arguments and errors are those of :func:`values_by_ridge`.
    """
    counts, y, part = _checked(counts, losses, part)
    c, y0 = _within(counts, part), _within(y, part)
    spread = c.square().sum(0)
    drawn = spread > 0
    values = torch.where(drawn, (c.T @ y0) / torch.where(drawn, spread, 1.0), 0.0)
    return Estimate(values, 0.0, float("nan"))


def _checked(counts: Tensor, losses: Tensor, part: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    counts, y = counts.detach().double().cpu(), -losses.detach().double().cpu()
    part = torch.zeros(len(y), dtype=torch.int64) if part is None else part
    if counts.ndim != 2 or y.shape != (len(counts),) or part.shape != y.shape:
        raise ValueError(
            "expected counts [T, n], losses [T] and part [T], got "
            f"{list(counts.shape)}, {list(y.shape)} and {list(part.shape)}"
        )
    if not bool(y.isfinite().all()) or not bool(counts.isfinite().all()):
        raise ValueError(
            f"counts and losses must be finite, {int((~y.isfinite()).sum())} of {len(y)} losses are"
            " not; leave those fits out, or lower the learning rate"
        )
    if len(y) < 2 or int(part.bincount().max()) < 2:
        raise ValueError(
            f"values need two fits of a part at least, got {len(y)} fits; ask for more refits"
        )
    return counts, y, part


def _shares(part: Tensor) -> Tensor:
    """One over the number of fits of its part, for each fit [T]."""
    return 1 / part.bincount()[part].double()


def _within(values: Tensor, part: Tensor) -> Tensor:
    """Values [T, ...] less their mean over the fits of the same part."""
    sums = values.new_zeros(int(part.max()) + 1, *values.shape[1:]).index_add(0, part, values)
    size = part.bincount().double().reshape(-1, *[1] * (values.ndim - 1))
    return values - (sums / size.clamp_min(1))[part]
