"""The words of a command as pairs of option and value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["pairs"]


def pairs(words: Sequence[str]) -> Iterable[tuple[str, str | None]]:
    """(option, value) of each; the value is None for a flag or a lone word."""
    rest = list(words)
    while rest:
        option = rest.pop(0)
        if option.startswith("--") and "=" in option:
            option, _, value = option.partition("=")
            yield option, value
        elif option.startswith("-") and rest and not rest[0].startswith("--"):
            yield option, rest.pop(0)
        else:
            yield option, None
