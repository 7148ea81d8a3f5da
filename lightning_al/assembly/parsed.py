"""Settings of many runs that differ in seeds and splits: parsed once, the numbers put in."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from .parser import parse

__all__ = ["parsed"]

Place = tuple[str, ...]
KEPT = 32
NUMBERS = ("seed", "split_seed", "fold")
_known: list[tuple[dict[str, Any], dict[str, Any]]] = []  # settings, parsed; the last used last


def parsed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved settings of ``run``, as plain values, of what a YAML file of it would say.

    A parser takes a third of a second, and the runs of a grid differ in seeds and splits. So what
    was parsed before is taken again where nothing but these differ, and the parser has left them
    as they were.

    Args:
        config: plain values, as in a configuration file.
    """
    given = dict(config)
    for i, (before, result) in enumerate(_known):
        made = _with_numbers_of(given, before, result)
        if made is not None:
            _known.append(_known.pop(i))
            return made
    result = _parse(given)
    _known.append((copy.deepcopy(given), result))
    del _known[:-KEPT]
    return copy.deepcopy(result)


def _parse(config: dict[str, Any]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        return parse(["run", "--config", file.name])


def _with_numbers_of(
    config: dict[str, Any], before: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any] | None:
    """What ``config`` would give, told from other settings; None where that cannot be told."""
    try:
        changed = list(_changes(config, before, ()))
        if any(type(_at(result, place)) is not int for place in changed):
            return None
    except (LookupError, TypeError):
        return None
    made = copy.deepcopy(result)
    for *inside, last in changed:
        _at(made, inside)[last] = _at(config, (*inside, last))
    return made


def _changes(new: Any, old: Any, place: Place) -> Iterator[Place]:
    """Where two settings differ.

    Raises:
        LookupError: in more than the numbers that tell the runs of a grid apart.
    """
    if isinstance(new, Mapping) and isinstance(old, Mapping) and list(new) == list(old):
        for name in new:
            yield from _changes(new[name], old[name], (*place, name))
    elif type(new) is not type(old) or new != old:
        if place[-1] not in NUMBERS or type(new) is not int or type(old) is not int:
            raise LookupError(place)
        yield place


def _at(config: Any, place: Iterable[str]) -> Any:
    for name in place:
        config = config[name]
    return config
