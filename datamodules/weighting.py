"""A part of the labelled items, some of which count more than others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Status

from . import checks

__all__ = ["Share", "repeated", "require_labelled", "share_of"]


@dataclass(frozen=True)
class Share:
    """Who is labelled, and who may be chosen, in a view on the data."""

    labelled: Tensor  # [M] positions, some several times
    pool: Tensor  # [N] positions
    weights: Tensor | None = None  # [M] odds of the draws of an epoch; None: each once
    held: Tensor | None = None  # [H] positions that are the validation set; None: that of the data


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


def require_labelled(data: Any, index: Tensor) -> None:
    """Refuse items [M] whose labels are out of reach: not labelled, in the run or in this view.

    Raises:
        ValueError: one is not labelled.
    """
    known = data.state.status[index] == int(Status.LABELLED)
    known |= torch.isin(index, data.labelled)
    if not bool(known.all()):
        raise ValueError(
            f"{int((~known).sum())} of {len(index)} items are not labelled, first: item "
            f"{int(index[~known][0])}; labels of the pool are out of reach"
        )


def share_of(
    data: Any,
    index: Tensor | None,
    weights: Tensor | None,
    answers: Tensor | None,
    pool: Tensor | None,
    held: Tensor | None = None,
) -> Share:
    """A part of a data module; see its method ``restricted`` for the arguments.

    Raises:
        ValueError: an item that is not labelled, or weights that are none.
    """
    index = data.labelled if index is None else index
    require_labelled(data, index)
    left = data.pool if pool is None else pool
    if answers is not None and len(answers):
        checks.have_labels(answers, data.has_label(answers), "a fit")
        index = torch.cat([index, answers])
        order = index.argsort(stable=True)  # as they would stand were they labelled
        index = index[order]
        if weights is not None:
            weights = torch.cat([weights, weights.new_ones(len(answers))])[order]
        if pool is None:
            left = left[~torch.isin(left, answers)]
    index, weights = repeated(index, weights)
    return Share(index, left, weights, held)
