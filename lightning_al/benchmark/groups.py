"""Which runs of a grid are fitted as one: told from the whole grid, and from nothing else.

The fits of one round of such runs have the same network, as many labels and the same settings; so
they can be one stack (:mod:`lightning_al.fits.together`). What else is done of a grid (a part of
it, on how many workers, what has ended already) changes no stack: the last bits of a fit in float32
may depend on who was fitted beside it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_al.identity import digest
from lightning_al.spec import find

from .run_spec import AXES, RunSpec

__all__ = ["MOST", "Unit", "groups_of", "units_of"]

Unit = tuple[RunSpec, ...]
"""Runs that are done together by one process: a group, or one run alone."""

MOST = 64
"""Runs of a group at most: on a CPU larger stacks gain nothing."""

ASIDE = ("strategy", "first", "posterior", "features", "seed")
"""Settings that change no network, and not how many are labelled."""


def groups_of(runs: Sequence[RunSpec]) -> tuple[Unit, ...]:
    """The groups of a grid, in its order; runs that are done alone are in none.

    In a group seeds and strategies differ. A strategy's seeds stay together where they are no more
    than :data:`MOST`, so that one strategy asked for by itself is a group, or a part of one.

    Args:
        runs: the whole grid.
    """
    cells: dict[str, dict[str, list[RunSpec]]] = {}
    for spec in runs:
        if _stackable(spec):
            cell = cells.setdefault(_cell(spec), {})
            cell.setdefault(str(spec.place["strategy"]), []).append(spec)
    found = [group for cell in cells.values() for group in _packed(list(cell.values()))]
    return tuple(group for group in found if len(group) > 1)


def units_of(runs: Sequence[RunSpec], groups: Sequence[Unit]) -> list[Unit]:
    """What is handed out to do some runs: each with its whole group, in the order of the first.

    Args:
        runs: that are asked for.
        groups: of the whole grid.
    """
    of = {spec.run_id: group for group in groups for spec in group}
    found: dict[str, Unit] = {}
    for spec in runs:
        unit = of.get(spec.run_id, (spec,))
        found.setdefault(unit[0].run_id, unit)
    return list(found.values())


def _stackable(spec: RunSpec) -> bool:
    """Whether a run's fits may be part of a stack, by what is declared."""
    if spec.config.get("fits") != "stacked" or spec.takes_all:
        return False
    if spec.config.get("tuning") is not None:
        return False  # each seed has settings of its own then
    return not _full_batch(spec.config["model"])


def _full_batch(model: Any) -> bool:
    """Whether a task is fitted on all items at once."""
    path = str(model.get("class_path", "")) if isinstance(model, Mapping) else str(model)
    try:
        found = find(path, "model", "give an importable class path")
    except LookupError:
        return False  # the run itself says so better
    return bool(getattr(found, "full_batch", False))


def _cell(spec: RunSpec) -> str:
    """What the runs of a group have in common."""
    config = {k: v for k, v in copy.deepcopy(dict(spec.config)).items() if k not in ASIDE}
    (config["data"].get("init_args") or {}).pop("split_seed", None)
    place = {axis: spec.place[axis] for axis in AXES if axis not in ("strategy", "seed")}
    return digest({"config": config, "place": place})


def _packed(blocks: Sequence[Sequence[RunSpec]]) -> list[Unit]:
    """Blocks of runs, one a strategy, packed into groups of at most :data:`MOST`, in order."""
    groups: list[list[RunSpec]] = []
    for block in blocks:
        for part in _parts(block):
            if not groups or len(groups[-1]) + len(part) > MOST:
                groups.append([])
            groups[-1].extend(part)
    return [tuple(group) for group in groups]


def _parts(block: Sequence[RunSpec]) -> list[Sequence[RunSpec]]:
    """A block in as few parts of at most :data:`MOST` as can be, all about as large."""
    count = -(-len(block) // MOST)
    edges = [len(block) * i // count for i in range(count + 1)]
    return [block[a:b] for a, b in itertools.pairwise(edges)]
