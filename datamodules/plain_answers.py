"""Answers of items as plain values, for tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["plain_answers"]


def plain_answers(data: Any, index: Tensor) -> list[Any]:
    """Label of each of some items [K]: a number, a list of them, or the name of its class.

    Labels of the data set's own and answers may be of two types: each is shown as it is.

    Args:
        data: a data module.
        index: positions of labelled items.
    """
    laid = data.answered(index)
    told = torch.zeros(len(index), dtype=torch.bool) if laid is None else laid[1]
    found: list[Any] = [None] * len(index)
    for rows in ((~told).nonzero().flatten(), told.nonzero().flatten()):
        if len(rows):
            shown = _plain(data.labels(index[rows]), data.class_names)
            for row, value in zip(rows.tolist(), shown, strict=True):
                found[row] = value
    return found


def _plain(labels: Tensor, names: Any) -> list[Any]:
    values: list[Any] = labels.tolist()
    if names is None or labels.ndim != 1 or labels.is_floating_point():
        return values
    return [str(names[value]) for value in values]
