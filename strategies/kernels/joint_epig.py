"""Batch EPIG: the batch whose answers, taken together, say most about the answers at targets.

The objective is the mean over targets of the mutual information of all answers of the batch and
the one at the target. It is grown greedily: the gain of an item is its mutual information with a
target's answer *given* the answers chosen so far.

For classes the state is that of BatchBALD: the label configurations of the chosen items, each
with its weight and the members' probabilities given those labels; the gain is their mean EPIG. A
gain may rise as the batch grows (unlike BatchBALD's), so old gains bound nothing: all items are
bounded anew at each pick, at a small part of the cost of a gain (see :mod:`.label_cells`). In a
pool above a limit that work goes to a shortlist, by the configurations that matter most.

For Gaussian answers the members' covariances are conditioned on each pick in the space of the
members, so that one step costs what one pass of ``regression_epig`` does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_al.scores.epig import regression_epig

from ..selection import RESOLUTION, check_k, shuffled
from .batch_bald import MEMORY, _Configurations, _Items
from .label_cells import Targets, race

__all__ = ["batch_epig", "informed_batch_epig", "joint_epig", "regression_batch_epig"]

SAMPLES, SHORTLIST = 128, 2000  # label configurations, candidates: the defaults
_HEAD = 32  # configurations by which items are put on the shortlist


def batch_epig(
    log_probs: Tensor,
    targets: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    samples: int = SAMPLES,
    shortlist: int = SHORTLIST,
    pending: Tensor | None = None,
    memory: int = MEMORY,
    resolution: float = RESOLUTION,
) -> Tensor:
    """Greedy joint EPIG: log_probs [N, S, C], targets [T, S, C] -> positions [K], first pick first.

    Exact for the S members while the label configurations of the chosen items (C^m, less those of
    negligible weight) fit in ``samples``; then that many stand for all, thinned without bias (see
    :func:`.batch_bald.batch_bald`), and every gain is an unbiased estimate. Each pick is that of a
    full search over the same configurations while there are at most ``shortlist`` candidates, or
    ``shortlist x samples`` pairs of a candidate and a configuration (by default the first pick in
    256,000 candidates; the second in 25,600 of 10 classes). Above, the search is among the
    ``shortlist`` candidates (more while there are fewer configurations than ``samples``) of the
    highest estimates under the 32 configurations with the most information left. The objective is
    not submodular, so greedy has no guarantee.

    With P pairs a pick takes P C (S² + 3 logarithms) operations for the bounds, and T C (2 S + one
    logarithm) for each of the P C cells that the bounds leave over, some percent of them.

    Items are never chosen twice. Gains that agree to ``resolution`` (nats) are ties, broken by
    ``generator``. The first pick is the highest ``epig`` (where all are searched); the first
    picks of a larger batch are those of a smaller one.

    Source: Bickford Smith et al., Prediction-Oriented Bayesian Active Learning (2023), for EPIG;
    the greedy joint form as in Kirsch, van Amersfoort and Gal, BatchBALD (2019); the bounds:
    Sason and Verdú (2016).

    Args:
        log_probs: log-probabilities of each item under each member; any float type, -inf allowed.
        targets: log-probabilities of the targets under the same members.
        k: batch size.
        generator: breaks ties, and draws once for each thinning.
        samples: label configurations kept, at most.
        shortlist: candidates searched at a pick in a pool that is larger.
        pending: rows [B] of items that are being labelled: they count as chosen already.
        memory: bytes that may be used beside the input.
        resolution: gains are rounded to multiples of this before ties are broken.

    Raises:
        ValueError: not [N, S, C] and [T, S, C] of the same members, no targets, rows that are no
            log-probabilities (NaN, logits), or k > N.

    >>> agree, split = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    >>> pool, targets = torch.tensor([agree, split]).log(), torch.tensor([split]).log()
    >>> batch_epig(pool, targets, 1, torch.Generator())
    tensor([1])
    """
    rows, _ = _searched(
        *(log_probs, targets, k, generator, samples, shortlist, pending, memory, resolution)
    )
    return rows


def informed_batch_epig(
    log_probs: Tensor,
    targets: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    samples: int = SAMPLES,
    shortlist: int = SHORTLIST,
) -> tuple[Tensor, float]:
    """The batch of :func:`batch_epig`, and what its labels say about the member, in nats.

    log_probs [N, S, C], targets [T, S, C] -> positions [K], their joint mutual information with
    the member, in [0, log S]: what they can say about any target at most. Exact where the search
    is, else an unbiased estimate.
    """
    rows, state = _searched(
        *(log_probs, targets, k, generator, samples, shortlist, None, MEMORY, RESOLUTION)
    )
    return rows, 0.0 if state is None else state.told_with(log_probs[rows[-1:]], samples, generator)


def _searched(
    log_probs: Tensor,
    targets: Tensor,
    k: int,
    generator: torch.Generator,
    samples: int,
    shortlist: int,
    pending: Tensor | None,
    memory: int,
    resolution: float,
) -> tuple[Tensor, _Configurations | None]:
    """The picks, and the configurations of all but the last one; None without picks."""
    given = _check(log_probs, targets, k, samples, pending, shortlist)
    device = log_probs.device
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=device), None
    items, known = _Items(log_probs, memory), Targets(targets.to(device), memory)
    state = _Configurations.none(items.members, device)
    priority = shuffled(len(log_probs), generator, device)
    free = torch.ones(len(log_probs), dtype=torch.bool, device=device)
    chosen: list[int] = []
    for step in range(len(given) + k):
        if step < len(given):
            row = given[step]
        else:
            rows = free.nonzero().squeeze(1)
            limit = shortlist * samples // len(state)
            if len(rows) > limit:
                rows = _shortlist(items, known, state, rows[priority[rows].argsort()], limit)
            gain, rows = race(items, known.under(state), rows, 2 * resolution)
            rounded = (gain / resolution).round()
            best = rows[rounded == rounded.max()]
            row = int(best[priority[best].argmin()])
            chosen.append(row)
        free[row] = False
        if len(chosen) < k:
            state = state.extended(items.probs(row), samples, generator)
    return torch.tensor(chosen, dtype=torch.int64, device=device), state


def joint_epig(
    log_probs: Tensor, targets: Tensor, generator: torch.Generator, *, samples: int = 10_000
) -> Tensor:
    """Information of a batch's labels on a target's: [B, S, C], [T, S, C] -> scalar, nats.

    Mean over the targets, by the chain rule over the items, float64; exact while the label
    configurations of all items but the last fit in ``samples``, then an unbiased estimate.

    Source: Bickford Smith et al. (2023), for several labels.

    Raises:
        ValueError: as for :func:`batch_epig`.

    >>> split = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).log()  # says which member it is
    >>> round(float(joint_epig(split.expand(2, 2, 2), split, torch.Generator())), 4)
    0.6931
    """
    _check(log_probs, targets, 0, samples, None)
    device = log_probs.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    items, known = _Items(log_probs, MEMORY), Targets(targets.to(device), MEMORY)
    state = _Configurations.none(items.members, device)
    for row in range(len(log_probs)):
        total += known.under(state).gains(items, torch.tensor([row], device=device)).sum()
        if row + 1 < len(log_probs):
            state = state.extended(items.probs(row), samples, generator)
    return total


def regression_batch_epig(
    mean: Tensor,
    targets: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    noise: Tensor | float,
    target_noise: Tensor | float,
    resolution: float = RESOLUTION,
) -> Tensor:
    """Greedy joint EPIG of Gaussians: mean [N, S], targets [T, S] -> positions [K].

    Answers are Gaussian, with the covariance of the means over the S members plus noise. The
    information of a batch on one target is ½ log of by how much it shrinks the variance of that
    target's answer, ½ (log det K_BB + log k_tt - log det K_Bt,Bt); the mean over the targets is
    grown greedily. A pick takes N T (2 S + one logarithm) operations in float64. Not submodular in
    general, so without a guarantee.

    The members' deviations are held in float64 ([N, S] and [T, S]); after a pick ``a`` with answer
    variance v each row x becomes ``x - b (x · a) a``, which turns K into K - k_a k_aᵀ / v.

    Source: Bickford Smith et al., Prediction-Oriented Bayesian Active Learning (2023),
    for Gaussian answers; conditioning: Rasmussen and Williams (2006), equation A.6.

    Args:
        mean: members' means of the candidates.
        targets: members' means of the targets.
        k: batch size.
        generator: breaks ties.
        noise: variance of the candidates' noise, [N] or one for all, in squared target units.
        target_noise: of the targets', [T] or one for all.
        resolution: gains (nats) are rounded to multiples of this before ties are broken.

    Raises:
        ValueError: not [N, S] and [T, S] of the same members, no targets, or k > N.

    >>> mean = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    >>> regression_batch_epig(mean, mean[:1], 1, torch.Generator(), noise=1.0, target_noise=1.0)
    tensor([0])
    """
    check_k(mean, k, axes=2)
    if targets.ndim != 2 or targets.shape[1] != mean.shape[1] or not len(targets):
        raise ValueError(
            f"targets must be [T, {mean.shape[1]}] with T >= 1, of the members of the candidates "
            f"{list(mean.shape)}, got {list(targets.shape)}"
        )
    own, theirs = (v.double() for v in (mean, targets.to(mean.device)))
    own, theirs = (v - v.mean(1, keepdim=True) for v in (own, theirs))
    members = own.shape[1]
    spread = torch.as_tensor(noise, dtype=own.dtype, device=own.device).expand(len(own))
    priority = shuffled(len(own), generator, own.device)
    free = torch.ones(len(own), dtype=torch.bool, device=own.device)
    chosen: list[int] = []
    for _ in range(k):
        gain = regression_epig(own[..., None], theirs[..., None], spread, target_noise)
        rounded = (gain / resolution).round()
        rounded[~free] = -torch.inf
        best = (rounded == rounded.max()).nonzero().squeeze(1)
        row = int(best[priority[best].argmin()])
        chosen.append(row)
        free[row] = False
        pick = own[row].clone()
        square = float(pick.square().sum())
        total = square + members * float(spread[row])  # S v
        if square > 0 and len(chosen) < k:
            step = 1 / (total * (1 + math.sqrt(max(0.0, 1 - square / total))))
            for rows in (own, theirs):
                rows.addr_(rows @ pick, pick, alpha=-step)
    return torch.tensor(chosen, dtype=torch.int64, device=mean.device)


def _check(
    log_probs: Tensor,
    targets: Tensor,
    k: int,
    samples: int,
    pending: Tensor | None,
    shortlist: int = 1,
) -> list[int]:
    check_k(log_probs, k, axes=3)
    if targets.ndim != 3 or targets.shape[1] != log_probs.shape[1] or not len(targets):
        raise ValueError(
            f"batch_epig needs targets [T, {log_probs.shape[1]}, C] with T >= 1, of the members "
            f"of the candidates {list(log_probs.shape)}, got {list(targets.shape)}"
        )
    if samples < 1:
        raise ValueError(f"batch_epig needs samples >= 1, got {samples}; {SAMPLES} is the default")
    if shortlist < 1:
        raise ValueError(f"batch_epig needs shortlist >= 1, got {shortlist}; {SHORTLIST} is usual")
    given: list[int] = [] if pending is None else pending.tolist()
    if k + len(given) > len(log_probs):
        raise ValueError(
            f"cannot acquire {k} of {len(log_probs)} candidates of which {len(given)} are pending; "
            "lower query_size or end the run"
        )
    return given


def _shortlist(
    items: _Items, targets: Targets, state: _Configurations, rows: Tensor, count: int
) -> Tensor:
    """The ``count`` rows with the highest estimates under a few configurations; ties in order."""
    head = state.uncertainty().argsort(descending=True)[:_HEAD]
    _, about = targets.under(state.some(head)).bounds(items, rows)
    return rows[about.argsort(descending=True, stable=True)[:count]]
