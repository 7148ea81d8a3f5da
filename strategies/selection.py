"""Set kernels: scores in, positions [K] into the first argument out; best first.

Randomness comes in as ``generator``, which also breaks ties: data order never decides. Scores
that differ by less than ``resolution`` are rounded to ties first, so that the last bits of a
float, which depend on batch size and hardware, decide nothing. NaN comes last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "RESOLUTION",
    "power",
    "quantise",
    "range_resolution",
    "relative_resolution",
    "soft_rank",
    "softmax",
    "spread",
    "top_k",
]

RESOLUTION = 1e-6
BLOCK = 2**16  # scores looked at together


def quantise(scores: Tensor, resolution: float = RESOLUTION) -> Tensor:
    """Scores rounded to multiples of ``resolution``, in float64: any shape, the same shape."""
    return (scores.double() / resolution).round_().mul_(resolution)


def relative_resolution(scores: Tensor) -> float:
    """The resolution for scores in arbitrary units: 1e-6 of the largest finite magnitude."""
    parts = scores.split(BLOCK) if scores.numel() else ()
    largest = max((float(p.nan_to_num(0.0, 0.0, 0.0).abs().max()) for p in parts), default=0.0)
    return RESOLUTION * largest if largest > 0 else RESOLUTION


def range_resolution(scores: Tensor) -> float:
    """The resolution for scores without unit or zero: 1e-6 of the range of the finite ones.

    No less than rounding may be: 8 units in the last place of the largest magnitude.
    """
    parts = (part[part.isfinite()] for part in scores.split(BLOCK)) if scores.numel() else ()
    ends = [(float(part.min()), float(part.max())) for part in parts if len(part)]
    if not ends:
        return RESOLUTION
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    rounding = 8 * torch.finfo(scores.dtype).eps * max(abs(low), abs(high))
    return max(RESOLUTION * (high - low), rounding) or RESOLUTION


def top_k(
    scores: Tensor, k: int, generator: torch.Generator, *, resolution: float = RESOLUTION
) -> Tensor:
    """The k highest scores: scores [N] -> positions [K], best first, ties in random order.

    Raises:
        ValueError: not one score an item, or more asked than there are.

    >>> top_k(torch.tensor([0.1, 0.9, 0.5]), 2, torch.Generator())
    tensor([1, 2])
    """
    check_k(scores, k)
    return _best(scores, k, generator, lambda part: quantise(part, resolution))


def power(
    scores: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    beta: float = 1.0,
    resolution: float = RESOLUTION,
) -> Tensor:
    """Sampling without replacement with odds score^beta: scores [N] >= 0 -> positions [K].

    Top-k of ``beta log(score) + Gumbel noise``; a zero score never comes before a positive one.
    Cures the redundancy of top-k batches without looking at pairs.

    Source: Kirsch et al., Stochastic Batch Acquisition (2021; TMLR 2023);
    Kool, van Hoof and Welling (2019) for the Gumbel trick.

    Raises:
        ValueError: a negative score, beta <= 0, or more asked than there are.
    """
    check_k(scores, k)
    _check_beta("power", beta)

    def key(part: Tensor) -> Tensor:
        rounded = quantise(part, resolution)
        if bool((rounded < 0).any()):
            raise ValueError(
                f"power needs scores >= 0, got {float(part[rounded < 0].min()):.4g}; "
                "use softmax, which takes any score"
            )
        return beta * rounded.log() + _gumbel(rounded, generator)

    return _best(scores, k, generator, key)


def softmax(
    scores: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    beta: float = 1.0,
    resolution: float = RESOLUTION,
) -> Tensor:
    """Sampling without replacement with odds exp(beta score / spread): scores [N] -> positions [K].

    Top-k of ``beta score / spread + Gumbel noise``. The spread is the standard deviation of the
    finite scores, so that beta has no unit and a score times any positive number, plus any number,
    has the same odds: an item one deviation above another is e^beta times as likely. (The paper's
    beta is in inverse units of the score; mutual informations of hundredths then leave a random
    draw.) Equal scores are drawn at random.

    Source: Kirsch et al., Stochastic Batch Acquisition (2021; TMLR 2023), but for the spread.

    Raises:
        ValueError: beta <= 0, or more asked than there are.
    """
    check_k(scores, k)
    _check_beta("softmax", beta)
    scale = beta / (spread(scores, resolution) or 1.0)

    def key(part: Tensor) -> Tensor:
        rounded = quantise(part, resolution)
        return scale * rounded + _gumbel(rounded, generator)

    return _best(scores, k, generator, key)


def spread(scores: Tensor, resolution: float = RESOLUTION) -> float:
    """Standard deviation of the finite scores [N], rounded to ``resolution``; 0 where all tie.

    >>> spread(torch.tensor([1.0, 3.0, torch.nan, -torch.inf]))
    1.0
    """
    count, middle, squares, origin = 0, 0.0, 0.0, None
    for part in scores.split(BLOCK) if len(scores) else ():
        fine = quantise(part[part.isfinite()], resolution)
        if not len(fine):
            continue
        origin = fine[0] if origin is None else origin
        fine = fine - origin  # equal scores have no spread, to the last bit
        own, total = float(fine.mean()), count + len(fine)
        squares += float((fine - own).square().sum())
        squares += (own - middle) ** 2 * count * len(fine) / total
        middle, count = middle + (own - middle) * len(fine) / total, total
    return math.sqrt(squares / count) if count else 0.0


def soft_rank(
    scores: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    beta: float = 1.0,
    resolution: float = RESOLUTION,
) -> Tensor:
    """Sampling without replacement with odds rank^-beta: scores [N] -> positions [K].

    Top-k of ``-beta log(rank) + Gumbel noise``, the highest score having rank 1 and equal scores
    ranks in random order. Looks at the order only, so that units do not matter; sorts all N.

    Source: Kirsch et al., Stochastic Batch Acquisition (2021; TMLR 2023).

    Raises:
        ValueError: beta <= 0, or more asked than there are.
    """
    check_k(scores, k)
    _check_beta("soft_rank", beta)
    order = shuffled(len(scores), generator, scores.device)
    rounded = _ordered(quantise(scores, resolution))
    order = order[rounded[order].argsort(descending=True, stable=True)]
    key = torch.empty_like(rounded)
    key[order] = torch.arange(1, len(scores) + 1, dtype=key.dtype, device=key.device)
    key = key.log_().mul_(-beta).masked_fill_(scores.isnan(), torch.nan)
    return _best(key, k, generator, lambda part: part + _gumbel(part, generator))


def check_k(candidates: Tensor, k: int, axes: int = 1) -> None:
    """Refuse a ``k`` that candidates [N, ...] cannot serve.

    Raises:
        ValueError: another number of axes, or k outside 0 to N.
    """
    if candidates.ndim != axes:
        shape = "scores [N]" if axes == 1 else f"{axes} axes, [N, ...]"
        raise ValueError(f"selection needs {shape}, got {list(candidates.shape)}")
    if k > len(candidates):
        raise ValueError(
            f"cannot acquire {k} of {len(candidates)} candidates; lower query_size or end the run"
        )
    if k < 0:
        raise ValueError(f"cannot acquire {k} candidates; k must be at least 0")


def shuffled(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """A random permutation [n], drawn on the generator's device."""
    return torch.randperm(n, generator=generator, device=generator.device).to(device)


def _best(
    scores: Tensor, k: int, generator: torch.Generator, key: Callable[[Tensor], Tensor]
) -> Tensor:
    """Positions [K] of the k largest keys; equal keys in random order, NaN after -inf.

    Goes through the scores in blocks and holds the keys that may still win, so that it needs a
    few MiB beside a million scores (more only where more are tied). Only the ties at the
    threshold are shuffled.
    """
    if k == 0:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    held: list[tuple[Tensor, Tensor]] = []  # (keys, positions), ascending positions
    threshold, room = -torch.inf, 0  # the k-th largest key so far; how much more may be held
    for start in range(0, len(scores), BLOCK):
        part = _ordered(key(scores[start : start + BLOCK]))
        rows = (part >= threshold).nonzero().squeeze(1)
        held.append((part[rows], rows + start))
        room -= len(rows)
        if room < 0 or start + BLOCK >= len(scores):
            keys, at = (torch.cat(some) for some in zip(*held, strict=True))
            if len(keys) >= k:
                threshold = float(keys.topk(k, sorted=False).values.min())
            best = keys >= threshold
            held = [(keys[best], at[best])]
            room = max(k, int(best.sum()))
    ((keys, at),) = held
    above = (keys > threshold).nonzero().squeeze(1)
    tied = (keys == threshold).nonzero().squeeze(1)
    drawn = tied[shuffled(len(tied), generator, keys.device)][: k - len(above)]
    above = above[shuffled(len(above), generator, keys.device)]
    above = above[keys[above].argsort(descending=True, stable=True)]
    return at[torch.cat([above, drawn])]


def _ordered(keys: Tensor) -> Tensor:
    """The same order with room below: NaN becomes -inf, -inf the lowest finite number."""
    lowest = torch.finfo(keys.dtype).min
    return keys.masked_fill(keys == -torch.inf, lowest).masked_fill(keys.isnan(), -torch.inf)


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.empty(like.shape, dtype=torch.float64, device=generator.device)
    return uniform.exponential_(generator=generator).log_().neg_().to(like.device)


def _check_beta(name: str, beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"{name} needs beta > 0, got {beta}; large beta means top-k, small random")


def __getattr__(name: str) -> Any:
    """The kernels of :mod:`.kernels` under this name too (they build on this module)."""
    kernels = import_module("lightning_al.strategies.kernels")
    if name in kernels.__all__:
        return getattr(kernels, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
