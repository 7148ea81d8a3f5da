"""Columns of class names as numbers: those a data set begins with, and what others must hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["all_labelled", "numbered", "two_or_more"]


def two_or_more(order: Sequence[str], path: Path, target: str) -> None:
    """Refuse a column of fewer than two classes.

    Raises:
        ValueError: it names those there are.
    """
    if len(order) < 2:
        raise ValueError(
            f"{path}: target {target!r} has {len(order)} class(es) ({', '.join(order)}); "
            "classification needs at least two"
        )


def numbered(names: Sequence[str | None], known: Sequence[str], path: Path, origin: Path) -> Tensor:
    """Class of each row [N], -1 where there is none.

    Args:
        names: of the rows.
        known: the classes, in order.
        path: where the rows lie.
        origin: where the classes come from.

    Raises:
        ValueError: a class that is not known.
    """
    if unseen := sorted({name for name in names if name is not None} - set(known)):
        raise ValueError(
            f"{path}: class(es) {', '.join(unseen)} never occur in {origin}, "
            f"which has {', '.join(known)}"
        )
    number = {name: i for i, name in enumerate(known)}
    return torch.tensor([-1 if name is None else number[name] for name in names])


def all_labelled(targets: Tensor, path: Path, target: str) -> None:
    """Refuse test rows without a target: -1 of classes [N], NaN of numbers.

    Raises:
        ValueError: how many there are.
    """
    bare = targets.isnan() if targets.is_floating_point() else targets < 0
    if empty := int(bare.sum()):
        raise ValueError(f"{path}: {empty} test rows have no {target!r}; remove them")
