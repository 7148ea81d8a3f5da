"""Settings of a configuration by their dotted names, as people write them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from lightning_al.tuning.settable import no_such
from lightning_al.tuning.space import HEADS

__all__ = ["numbers_apart", "pasted", "setting", "with_settings"]


def setting(config: Mapping[str, Any], name: str) -> Any:
    """The value under a dotted name; ``init_args`` are reached into, places of lists are numbers.

    >>> setting({"model": {"class_path": "a.B", "init_args": {"hidden": [8, 4]}}}, "model.hidden.1")
    4

    Args:
        config: plain values.
        name: such as ``model.network.dropout``.

    Raises:
        LookupError: no such setting; the message says the nearest.
    """
    place, key = _place(config, name)
    return place[key]


def with_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with other values of some settings; the one given stays as it is.

    Raises:
        LookupError: no such setting.
    """
    made = {k: copy.deepcopy(v) if k in HEADS else v for k, v in config.items()}
    for name, value in settings.items():
        place, key = _place(made, name)
        place[key] = copy.deepcopy(value)
    return made


def numbers_apart(old: Any, new: Any, name: str = "") -> dict[str, int | float] | None:
    """Where two specifications differ, as dotted places with the new numbers.

    None where they differ in more than numbers, or in the type of one.

    >>> numbers_apart({"a": {"b": 1, "c": "x"}}, {"a": {"b": 2, "c": "x"}})
    {'a.b': 2}
    >>> numbers_apart({"a": 1}, {"a": 1.0}) is None
    True
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping) and list(old) == list(new):
        found: dict[str, int | float] = {}
        for key in new:
            inside = numbers_apart(old[key], new[key], f"{name}.{key}" if name else str(key))
            if inside is None:
                return None
            found |= inside
        return found
    if type(old) is not type(new):
        return None
    if old == new:
        return {}
    return {name: new} if type(new) in (int, float) else None


def pasted(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a part of a configuration that may stand behind the one they belong to.

    Classes that they are arguments of are named; a list is there as a whole.

    Raises:
        LookupError: no such setting.
    """
    whole, found = with_settings(config, settings), dict[str, Any]()
    for name in settings:
        here, there = whole, found
        for word in name.split("."):
            if "class_path" in here and word not in here:
                there["class_path"] = here["class_path"]
                here, there = here["init_args"], there.setdefault("init_args", {})
            here = here[word]
            if not isinstance(here, Mapping):
                there[word] = here
                break
            there = there.setdefault(word, {})
        else:
            there.update(here)
    return found


def _place(config: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    """What holds a setting, and its key or place there."""
    here: Any = config
    *path, last = name.split(".")
    for word in path:
        here = _inside(here, word)
        here = here[_key(here, word, config, name)]
    here = _inside(here, last)
    return here, _key(here, last, config, name)


def _inside(here: Any, word: str) -> Any:
    """The arguments of what is named by a class path."""
    if isinstance(here, Mapping) and "class_path" in here and word not in here:
        return here.get("init_args") or {}
    return here


def _key(here: Any, word: str, config: Mapping[str, Any], name: str) -> Any:
    if isinstance(here, Mapping) and word in here:
        return word
    if isinstance(here, list) and word.isdigit() and int(word) < len(here):
        return int(word)
    raise no_such(name, sorted(_names(config)))


def _names(config: Mapping[str, Any]) -> Iterator[str]:
    for head in HEADS:
        if config.get(head) is not None:
            yield from _below(config[head], head)


def _below(here: Any, name: str) -> Iterator[str]:
    """All settings below a name, without ``init_args``."""
    if isinstance(here, Mapping) and "class_path" in here:
        here = here.get("init_args") or {}
    if isinstance(here, Mapping):
        for key, value in here.items():
            yield from _below(value, f"{name}.{key}")
    else:
        yield name
