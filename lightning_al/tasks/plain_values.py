"""What a checkpoint may keep of a setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_plain"]


def is_plain(value: Any) -> bool:
    """Whether it is a number, text, None, or lists and mappings of such.

    >>> is_plain({"beta": [1.0, None, "a"]}), is_plain([object()])
    (True, False)
    """
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
