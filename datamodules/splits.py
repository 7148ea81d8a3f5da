"""Who belongs where: drawing validation, test and the initial labelled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from lightning_al.records import positions

__all__ = [
    "Splits",
    "base_positions",
    "draw",
    "is_dataset",
    "one_per_class",
    "share_to_count",
    "spread",
]


@dataclass(frozen=True)
class Splits:
    """What :meth:`PoolDataModule.load` gives: data sets, or shares of ``train``."""

    train: Any  # map-style; items with or without labels
    test: Any  # data set, share, or positions in train
    pool: Any = None  # the items of train under the test transform
    val: Any = None  # data set, share, count, or positions in train
    groups: Sequence[Any] | None = None  # one group an item of train


def is_dataset(value: Any) -> bool:
    """Whether a split is given as data of its own (not as a share, a count or positions)."""
    if isinstance(value, Dataset):
        return True
    plain = value is None or isinstance(value, (int, float, str, list, tuple, range, Tensor))
    return not plain and hasattr(value, "__getitem__") and not hasattr(value, "__array__")


def share_to_count(amount: float | int, available: int, what: str) -> int:
    """A share in (0, 1) or a count as a count.

    A whole number above 1 is a count also where a parser made it a float.

    Raises:
        ValueError: negative, more than there is, or a share outside (0, 1).
    """
    if isinstance(amount, float) and amount > 1 and amount.is_integer():
        amount = int(amount)
    if isinstance(amount, float) and amount != 0:
        if not 0 < amount < 1:
            mend = "a count is a whole number" + (": 1 for one item" if amount == 1 else "")
            raise ValueError(f"{what} as a share must lie in (0, 1), got {amount}; {mend}")
        return max(1, round(amount * available))
    if amount < 0:
        raise ValueError(f"{what} cannot be negative, got {amount}")
    if amount > available:
        raise ValueError(f"{what} asks for {int(amount)} of {available} items; lower it")
    return int(amount)


def draw(
    candidates: Tensor,
    count: int,
    generator: torch.Generator,
    *,
    labels: Tensor | None = None,
    groups: Sequence[Any] | None = None,
) -> Tensor:
    """Draw ``count`` of the candidates [N] at random; sorted positions [K].

    Args:
        candidates: positions in the data set.
        count: K.
        generator: source of all randomness.
        labels: [N] classes of the candidates; given, each class gets its share (largest
            remainders, at least one of each class where count allows).
        groups: one group per item of the data set; whole groups are drawn until ``count`` is
            reached, so K may be larger.
    """
    if groups is not None:
        return _draw_groups(candidates, count, generator, groups)
    order = torch.randperm(len(candidates), generator=generator)
    if labels is None:
        return candidates[order[:count]].sort().values
    labels = labels[order]
    classes, sizes = labels.unique(return_counts=True)
    ideal = sizes.double() * count / len(candidates)
    quota = ideal.floor().long()
    if count >= len(classes):
        quota.clamp_(min=1)
    while int(quota.sum()) > count:
        quota[int((quota - ideal).masked_fill(quota <= 1, -torch.inf).argmax())] -= 1
    rest = count - int(quota.sum())
    room = (ideal - quota).masked_fill(quota >= sizes, -torch.inf)
    quota[room.argsort(descending=True, stable=True)[:rest]] += 1
    picks = [order[labels == c][: int(q)] for c, q in zip(classes, quota, strict=True)]
    return candidates[torch.cat(picks)].sort().values


def _draw_groups(
    candidates: Tensor, count: int, generator: torch.Generator, groups: Sequence[Any]
) -> Tensor:
    members: dict[Any, list[int]] = {}
    for i in candidates.tolist():
        members.setdefault(_plain(groups[i]), []).append(i)
    names = list(members)
    chosen: list[int] = []
    for g in torch.randperm(len(names), generator=generator).tolist():
        if len(chosen) >= count:
            break
        chosen += members[names[g]]
    return positions(sorted(chosen))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def one_per_class(candidates: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """One random candidate of each class that occurs; sorted positions [C]."""
    order = torch.randperm(len(candidates), generator=generator)
    shuffled = labels[order]
    first = [order[shuffled == c][0] for c in shuffled.unique()]
    return candidates[torch.stack(first)].sort().values


def base_positions(dataset: Any) -> tuple[Any, Tensor]:
    """The data set beneath nested ``Subset``s and the positions [N] in it."""
    index = torch.arange(len(dataset))
    while type(dataset) is Subset:
        index = torch.as_tensor(dataset.indices, dtype=torch.int64)[index]
        dataset = dataset.dataset
    return dataset, index


def spread(n: int, count: int) -> Tensor:
    """At most ``count`` of n positions, evenly from the first to the last."""
    if n <= count:
        return torch.arange(n)
    return torch.arange(count) * (n - 1) // max(count - 1, 1)
