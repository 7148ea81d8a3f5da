"""Who is held out and who is labelled first, drawn by the seed of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_al.randomness import generator
from lightning_al.records import Status, positions

from . import checks
from .splits import draw, is_dataset, one_per_class, share_to_count

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["hold", "initial_positions"]


def hold(data: Any, name: str) -> Tensor | None:
    """Hold out the items of "test" or "val": their positions; None where it is a data set.

    Args:
        data: the data module; the items leave the pool of its state.
        name: of the part.

    Raises:
        ValueError: positions that are no candidates, or that share a group with the rest.
    """
    spec, groups = getattr(data.splits, name), data.splits.groups
    if spec is None or is_dataset(spec):
        return None
    if isinstance(spec, (int, float)):
        if spec == 0:
            return None
        free = data.state.pool
        free = free[data.has_label(free)]
        count = share_to_count(spec, len(free), name)
        labels = data.strata(free) if data.stratified else None
        drawn = generator(data.seed, 0, f"hold-{name}")
        held = draw(free, count, drawn, labels=labels, groups=groups)
        if groups is not None:
            _hold_mates(data, held, groups)
    else:
        held = positions(spec)
        data.state.require(held, name)
        checks.have_labels(held, data.has_label(held), name)
        if groups is not None:
            checks.groups_apart(held, groups, len(data.state), name)
    data.state.hold(held)
    return held


def _hold_mates(data: Any, held: Tensor, groups: Sequence[Any]) -> None:
    """Keep items without a label out of the pool where their group is held out."""
    n = len(data.state)
    if not bool(data.has_label(torch.arange(n)).all()):
        names = {str(groups[i]) for i in held.tolist()}
        data.state.hold(positions([i for i in range(n) if str(groups[i]) in names]))


def initial_positions(data: Any, drawn: torch.Generator) -> Tensor:
    """The items [n] labelled in round 0, as ``data.initial`` says.

    Raises:
        ValueError: an ``initial`` that is not known.
        TypeError: True or False.
    """
    wanted = data.initial
    if callable(wanted):
        return positions(wanted(data, drawn))
    plain = isinstance(wanted, (str, int, float, Tensor)) or hasattr(wanted, "__len__")
    if isinstance(wanted, bool) or not plain:
        raise TypeError(
            f"initial must be a count, a share, positions, 'one_per_class', 'given' or a function, "
            f"got {wanted}; give 10, say"
        )
    if not isinstance(wanted, (str, int, float)):
        return positions(wanted)
    free = data.state.where(Status.POOL)
    free = free[data.has_label(free)]
    if wanted == "given":
        return free
    if wanted == "one_per_class":
        return one_per_class(free, data.strata(free), drawn)
    if isinstance(wanted, str):
        raise ValueError(
            f"initial={wanted!r} is not known; give a count, a share, positions, "
            "'one_per_class', 'given', or a function (datamodule, generator) -> positions"
        )
    count = share_to_count(wanted, len(free), "initial")
    return draw(free, count, drawn, labels=data.strata(free) if data.stratified else None)
