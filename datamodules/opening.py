"""A data module's data sets at the border: what they are, and which items carry a label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_al.randomness import seeded
from lightning_al.records import Finite

from . import checks
from .containers import map_style
from .items import Items, no_label, parts_that_count
from .splits import is_dataset, spread

__all__ = ["opened"]

LOOKED_AT = 128  # items of a data set that can only be read one by one
ALL_ALIKE = 8  # items that are asked whether labels are words


def opened(data: Any) -> tuple[Items, Items]:
    """The items of training and pool of a data module, checked; ``data.given`` is set.

    Args:
        data: the data module, with its splits.

    Raises:
        ValueError: data sets that are none, empty, random, or overlap; items whose label is not
            known or is missing where it is needed.
    """
    splits = data.splits
    for name in ("train", "pool", "test", "val"):
        map_style(getattr(splits, name), name)
    checks.not_empty(splits.train, "train")
    items = Items(splits.train, data.label, data.collate)
    pool = splits.train if splits.pool is None else splits.pool
    checks.same_length(splits.train, pool)
    if splits.groups is not None:
        checks.group_per_item(splits.groups, len(items))
    with seeded(0, 0, "random-pool-check"):
        _label_part_known(items, "train")
        items.names = _names(data, items)
        if data.given is None and isinstance(data.domain, Finite):
            data.given = _given(items)
        if data.given is not None:
            _inside(data.given, len(items))
            items.labelled = items.labelled or len(data.given) > 0
        items.stand_in = _example(items, data.given)
        pool_items = items.like(pool)
        pool_items.labelled = items.labelled
        checks.finite_inputs(pool_items)
        if data.check_repeatable:
            checks.repeatable(pool_items)
        for name in ("test", "val"):
            other = getattr(splits, name)
            if is_dataset(other):
                _open_held(items, other, splits.train, name)
    return items, pool_items


def _open_held(items: Items, other: Any, train: Any, name: str) -> None:
    """Check a data set of its own for test or validation."""
    if name == "test":
        checks.not_empty(other, name)
    checks.disjoint(train, other, name)
    if not len(other):
        return
    held = items.like(other)
    _label_part_known(held, name)
    found = _without_label(held)
    if len(found) and held.labelled:
        raise ValueError(
            f"{len(found)} {name} item(s) have no label, or NaN for one, first: item "
            f"{int(found[0])}; metrics would be NaN: remove them from {name}"
        )


# --- which part is the label ---------------------------------------------------------------------


def _label_part_known(items: Items, name: str) -> None:
    """Refuse items of many parts where it is not known which is the label, or it is an index."""
    if items.tensors is not None:
        last = len(items.tensors.inputs)
        place = items.label if isinstance(items.label, int) else last
        if place not in (-1, last) and items.tensors.targets is not None:
            raise ValueError(
                f"label={place}, but {name} holds its labels apart from the inputs, as part {last} "
                "of an item; leave label out"
            )
        return
    if items.label is None:
        return
    first = items.dataset[0]
    if not isinstance(first, (tuple, list)) or len(first) < 3:
        items.split(first)  # says what is missing
        return
    index = spread(len(items), 16)
    counting = parts_that_count(items.read(index), index) if len(index) > 2 else []
    try:
        items.split(first)
    except ValueError as error:
        if counting:
            raise ValueError(
                f"{error}; part {counting[-1]} counts up with the position: an index is no label"
            ) from None
        raise
    place = int(items.label) % len(first)
    if place in counting and len(index) == 16:
        raise ValueError(
            f"label={items.label}, but part {place} of the items counts up with their position: an "
            "index is no label; name the position of the label"
        )


def _names(data: Any, items: Items) -> dict[str, int] | None:
    """The number of each class where labels are words; the data module is told the classes.

    They are those that the data module or the data set names, else all that occur, sorted.
    """
    if items.tensors is not None or items.label is None:
        return None
    words = [items.split(item)[1] for item in items.read(spread(len(items), ALL_ALIKE))]
    if not any(isinstance(word, str) for word in words):
        return None
    named = getattr(data, "class_names", None) or getattr(items.dataset, "classes", None)
    if named is None or not {w for w in words if isinstance(w, str)} <= set(named):
        found: set[str] = set()
        n = len(items) if data.begun is None else data.begun
        for start in range(0, n, 256):
            some = torch.arange(start, min(start + 256, n))
            found |= {
                w for w in (items.split(i)[1] for i in items.read(some)) if isinstance(w, str)
            }
        named = sorted(found)
    data.class_names = tuple(named)
    if data.classes is None:
        data.classes = len(named)
    return {name: number for number, name in enumerate(named)}


# --- which items carry one -----------------------------------------------------------------------


def _given(items: Items) -> Tensor | None:
    """Positions of the items that carry a label; None where all do, or none does."""
    bare = _without_label(items)
    if not len(bare) or len(bare) == len(items):
        if len(bare) and items.tensors is None:
            items.labelled = False
        return None
    kept = torch.ones(len(items), dtype=torch.bool)
    kept[bare] = False
    return kept.nonzero().flatten()


def _without_label(items: Items) -> Tensor:
    """Positions of the items without a label, [] where a look at some of them finds none."""
    none = torch.empty(0, dtype=torch.int64)
    if items.tensors is not None:
        targets = items.tensors.targets
        if targets is None or items.label is None:
            return none
        _warn_of_minus_one(targets)
        if not targets.is_floating_point():
            return none
        return targets.reshape(len(targets), -1).isnan().any(1).nonzero().flatten()
    if items.label is None:
        return none
    some = spread(len(items), LOOKED_AT)
    labels = [items.label_of(item) for item in items.read(some)]
    _warn_of_minus_one(labels)
    beside = getattr(items.dataset, "targets", None)
    told = isinstance(beside, (list, tuple)) and any(value is None for value in beside)
    if not told and not any(no_label(label) for label in labels):
        return none
    found = []
    for start in range(0, len(items), 256):
        rows = torch.arange(start, min(start + 256, len(items)))
        for row, item in zip(rows.tolist(), items.read(rows), strict=True):
            if no_label(items.label_of(item)):
                found.append(row)
    return torch.tensor(found, dtype=torch.int64)


def _warn_of_minus_one(labels: Tensor | Sequence[Any]) -> None:
    """Say that -1 beside 0, 1, … looks like scikit-learn's mark for no label."""
    try:
        values = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        return
    if values.ndim != 1 or values.is_floating_point() or not len(values):
        return
    if int(values.amin()) == -1 and bool((values == 0).any()):
        warnings.warn(
            f"{int((values == -1).sum())} of {len(values)} labels looked at are -1, which often "
            "marks items without a label and is a class here; name the items that carry a label "
            "in given=[…]",
            stacklevel=2,
        )


def _example(items: Items, given: Tensor | None) -> Any:
    """A label for items that have none, where a collation wants whole items."""
    if items.tensors is not None or not items.labelled or not items.foreign:
        return 0
    row = 0 if given is None else int(given[0])
    found = items.label_of(items.dataset[row])
    return 0 if found is None else found


def _inside(given: Tensor, n: int) -> None:
    if len(given) and (int(given.min()) < 0 or int(given.max()) >= n):
        raise ValueError(f"given names items outside the data set of {n} items")
