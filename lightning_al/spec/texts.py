"""What a factory's docstring says of it and of its arguments, as plain text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

__all__ = ["details", "notes", "summary"]

ROLE = re.compile(r":\w+:`~?([^`]*)`")


def summary(factory: Callable[..., Any]) -> str:
    """The first line of its docstring without the full stop; empty where it has none."""
    lines = (inspect.getdoc(factory) or "").splitlines()
    return lines[0].rstrip(".") if lines else ""


def details(factory: Callable[..., Any]) -> str:
    """The paragraphs of its docstring between the first line and its sections; empty for none."""
    from docstring_parser import DocstringStyle, parse  # inside: for help alone

    said = parse(factory.__doc__ or "", style=DocstringStyle.GOOGLE)
    return ROLE.sub(r"\1", said.long_description or "").replace("``", "")


def notes(factory: Callable[..., Any]) -> dict[str, str]:
    """Argument -> what its docstring (or that of a base, or of ``__init__``) says of it.

    >>> notes(notes)
    {}
    """
    from docstring_parser import DocstringStyle, parse  # inside: for help alone

    places: list[Any] = [factory]
    if isinstance(factory, type):
        places = [p for base in factory.__mro__[-2::-1] for p in (base, vars(base).get("__init__"))]
    found: dict[str, str] = {}
    for place in places:
        said = getattr(place, "__doc__", None) or ""
        for parameter in parse(said, style=DocstringStyle.GOOGLE).params:
            found[parameter.arg_name] = _plain(parameter.description or "")
    return found


def _plain(text: str) -> str:
    """One line, without the marks of a documentation tool and the last full stop."""
    text = ROLE.sub(r"\1", " ".join(text.split())).replace("``", "")
    return text.removesuffix(".")
