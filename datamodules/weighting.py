"""A part of the labelled items, some of which count more than others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Share", "repeated"]


@dataclass(frozen=True)
class Share:
    """Who is labelled, and who may be chosen, in a view on the data."""

    labelled: Tensor  # [M] positions, some several times
    pool: Tensor  # [N] positions
    weights: Tensor | None = None  # [M] odds of the draws of an epoch; None: each once


def repeated(index: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Items [M] under weights [M]: repeated where these are whole numbers, else with odds.

    >>> repeated(torch.tensor([5, 7]), torch.tensor([2.0, 1.0]))
    (tensor([5, 5, 7]), None)

    Raises:
        ValueError: weights that are negative, not finite, all zero, or not one an item.
    """
    if weights is None:
        return index, None
    weights = torch.as_tensor(weights)
    if weights.shape != index.shape:
        raise ValueError(f"weights must be one an item, [{len(index)}], got {list(weights.shape)}")
    if bool((weights < 0).any()) or not bool(weights.double().isfinite().all()):
        raise ValueError("weights must be finite and not negative; leave items out by 0")
    if not bool((weights > 0).any()):
        raise ValueError("all weights are 0: nothing is left to fit on")
    if bool((weights == weights.round()).all()):
        return index.repeat_interleave(weights.long()), None
    return index, weights.double()
