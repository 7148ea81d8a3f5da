"""Bad data refused at the border: what was expected, what came, and the mend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_al.records import Answers

from .contents import same_content
from .items import Items
from .splits import base_positions, spread

__all__ = [
    "answers",
    "disjoint",
    "finite_inputs",
    "group_per_item",
    "groups_apart",
    "have_labels",
    "measured",
    "not_empty",
    "one_an_item",
    "oracle_answers",
    "repeatable",
    "same_length",
]


def _few(values: Sequence[Any]) -> str:
    shown = ", ".join(map(str, values[:5]))
    return shown + (f", … ({len(values)} in all)" if len(values) > 5 else "")


def not_empty(dataset: Any, name: str) -> None:
    """Refuse an empty data set."""
    if len(dataset) == 0:
        raise ValueError(f"the {name} data are empty: 0 items; check the path or the filter")


def same_length(train: Any, pool: Any) -> None:
    """Refuse a pool view of other items."""
    if len(train) != len(pool):
        raise ValueError(
            f"pool must be the items of train under the test transform: train has {len(train)} "
            f"items, pool has {len(pool)}"
        )


def finite_inputs(items: Items) -> None:
    """Refuse NaN and infinity in data held in tensors."""
    if items.tensors is None or getattr(items.tensors, "finite", False):
        return
    for tensor in items.tensors.inputs:
        if not tensor.is_floating_point():
            continue
        # a sum is finite only if every term is, and costs one pass without a mask
        for start in range(0, len(tensor), 65536):
            block = tensor[start : start + 65536]
            block = block.flatten(1) if block.ndim > 1 else block[:, None]
            if bool(block.sum().isfinite()):
                continue
            bad = (~block.isfinite().all(1)).nonzero().flatten() + start
            if len(bad):
                raise ValueError(
                    f"inputs hold NaN or infinite values, first in the item(s) "
                    f"{_few(bad.tolist())}; drop or impute them"
                )


def repeatable(items: Items) -> None:
    """Refuse a pool view that is random: two reads of one item must be equal."""
    if items.tensors is not None and items.tensors.transform is None:
        return
    for i in spread(len(items), 16):
        first, second = (items.inputs(i[None]) for _ in range(2))
        if not same_content(first, second):
            raise ValueError(
                f"two reads of item {int(i)} differ: the pool would be scored under a random "
                "transform; give pool=… with the same items under the test transform, or say "
                "check_repeatable=False where the reads are the same in what counts"
            )


def disjoint(train: Any, other: Any, name: str) -> None:
    """Refuse held-out data that share items with the training data."""
    (base, mine), (other_base, theirs) = base_positions(train), base_positions(other)
    if base is not other_base:
        return
    shared = mine[torch.isin(mine, theirs)]
    if len(shared):
        raise ValueError(
            f"train and {name} overlap in {len(shared)} item(s), first: {_few(shared.tolist())}; "
            "labels of the pool would leak: make them disjoint"
        )


def have_labels(index: Tensor, has_label: Tensor, what: str) -> None:
    """Refuse items without a label where labels are needed."""
    missing = index[~has_label]
    if len(missing):
        raise ValueError(
            f"{what}: item(s) {_few(missing.tolist())} carry no label in the data set; "
            "give answers for them, or choose others"
        )


def groups_apart(held: Tensor, groups: Sequence[Any], n: int, name: str) -> None:
    """Refuse a held-out part that shares a group with the rest."""
    inside = set(held.tolist())
    held_groups = {str(groups[i]) for i in inside}
    shared = sorted({str(groups[i]) for i in range(n) if i not in inside} & held_groups)
    if shared:
        raise ValueError(
            f"{name} and the rest share the group(s) {_few(shared)}; hold out whole groups"
        )


def group_per_item(groups: Sequence[Any], n: int) -> None:
    """Refuse groups that are not one an item."""
    if len(groups) != n:
        raise ValueError(f"groups must have one entry per item: {n} items, {len(groups)} groups")


def answers(
    index: Tensor, values: Mapping[str, Tensor], classes: int | None, own: Tensor | None = None
) -> None:
    """Refuse answers that are missing, not finite, or no labels of this data set.

    Args:
        index: items [K].
        values: answers by name, each [K, ...].
        classes: of the labels; None where they are no classes.
        own: some labels [n, ...] that the data set itself carries, as examples.
    """
    if len(index) and "y" not in values:
        raise ValueError(f"answers must hold 'y', got {sorted(values)}")
    for name, value in values.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            bad = index[~value.reshape(len(value), -1).isfinite().all(1)]
            raise ValueError(f"answers {name!r} of item(s) {_few(bad.tolist())} are not finite")
    y = values.get("y")
    if y is None or not len(index):
        return
    if own is not None and own.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"answers 'y' have shape {list(y.shape[1:])} an item, the data set's own labels "
            f"{list(own.shape[1:])}; answer in the form of the labels"
        )
    whole = classes is not None and y.ndim == 1 if own is None else not own.is_floating_point()
    if whole and y.is_floating_point():
        raise ValueError(f"answers 'y' must be whole numbers like the labels, got {y.dtype}")
    if classes is not None and not y.is_floating_point():
        _known_classes(index, y, classes)


def oracle_answers(data: Any, index: Tensor, found: Answers) -> None:
    """Refuse answers of items [K] that cannot be the labels of a data module.

    Raises:
        TypeError: no answers.
        ValueError: answers that are missing, not finite, or outside the classes.
    """
    if not isinstance(found, Answers):
        raise TypeError(
            f"an oracle gives Answers(values={{'y': labels}}), got {type(found).__name__}"
        )
    one_an_item(index, found)
    given = ~(found.mask("pending", len(index)) | found.mask("refused", len(index)))
    values = {n: v[given] for n, v in found.values.items()}
    data.state.answers.check(index[given], values)
    several = len(data.outcomes) > 1
    if several:
        measured(index[given], values, data.outcomes.names)
    answers(index[given], values, data.classes, None if several else data._example_label())


def one_an_item(index: Tensor, answers: Answers) -> None:
    """Refuse answers that are not one for each of the items [K].

    Raises:
        ValueError: another number of answers, masks, costs or names.
    """
    parts = {"pending": answers.pending, "refused": answers.refused, "cost": answers.cost}
    for name, value in {**parts, **answers.values}.items():
        if value is not None and len(value) != len(index):
            raise ValueError(
                f"{len(index)} items were asked, but {name!r} has {len(value)} entries"
            )


def measured(index: Tensor, values: Mapping[str, Tensor], outcomes: Sequence[str]) -> None:
    """Refuse answers that lack one of several outcomes, or hold more than a number of each."""
    if not len(index):
        return
    if set(values) != set(outcomes):
        raise ValueError(
            f"each answer has the outcomes {', '.join(outcomes)} here, got "
            f"{', '.join(sorted(values)) or 'none'}; give Answers(values={{name: [K]}})"
        )
    for name, value in values.items():
        if value.shape != index.shape:
            raise ValueError(
                f"{name!r} has a number an item, [{len(index)}], got {list(value.shape)}"
            )


def _known_classes(index: Tensor, y: Tensor, classes: int) -> None:
    wrong = (y < 0) | (y >= classes)
    if y.ndim > 1:
        wrong &= y != -100  # PyTorch's mark for places without a label
    wrong = wrong.reshape(len(y), -1)
    if bool(wrong.any()):
        item = int(wrong.any(1).nonzero()[0])
        label = y[item].reshape(-1)[wrong[item]][0].item()
        raise ValueError(
            f"label {label} of item {int(index[item])} is outside the {classes} classes "
            f"0…{classes - 1}"
        )
