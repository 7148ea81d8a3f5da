"""Files of settings as they come from people: text in UTF-8, names with values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["plain_yaml", "settings_of", "text_of"]

MOST = 100_000
"""Values in one file; its aliases are counted as often as they are used."""


def text_of(path: Path) -> str:
    """What a file of settings holds.

    Raises:
        ValueError: bytes that are no text in UTF-8.
    """
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is no text in UTF-8 (byte 0x{raw[error.start]:02x} in line {line}); save it "
            "as UTF-8, or give the YAML file that was meant"
        ) from None


def settings_of(text: str, where: str | Path) -> dict[str, Any]:
    """The settings by name that a text of YAML says; none where it is empty.

    Args:
        text: of a file.
        where: its name, for messages.

    Raises:
        ValueError: no YAML, or no names with values.
    """
    found = plain_yaml(text, where)
    if not isinstance(found, dict | None):
        raise ValueError(
            f"{where} must hold settings, one `key: value` a line, got a {type(found).__name__}"
        )
    if other := [key for key in found or {} if not isinstance(key, str)]:
        raise ValueError(
            f"{where}: settings have names, got the key {other[0]!r}; put it in quotes"
        )
    return found or {}


def plain_yaml(text: str, where: str | Path) -> Any:
    """The plain values that a text of YAML says.

    Args:
        text: of a file, or as it was typed.
        where: its name, for messages.

    Raises:
        ValueError: no YAML, or one whose aliases stand for more values than any settings have.
    """
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-40
        raise ValueError(f"{where} is no YAML: {_said(error)}; mend it there") from None
    if _count(found, {}) > MOST:
        raise ValueError(
            f"{where} holds aliases that stand for themselves, or for more than {MOST} values; "
            "write the settings out"
        )
    return found


def _count(value: Any, known: dict[int, int]) -> int:
    """How many values there are, aliases written out; each is looked at once."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST + 1  # while it is looked at: it may hold itself
        inside = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(each, known) for each in inside)
    return known[id(value)]


def _said(error: Exception) -> str:
    """What a reader found, and in which line, in one."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return problem if mark is None else f"{problem} in line {mark.line + 1}"
