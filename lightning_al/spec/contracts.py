"""Whether a class or an object is what a protocol or a base class asks for."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["absent_methods", "wanting"]


def _asked(contract: type[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The methods, and the other attributes, that a protocol names."""
    methods: dict[str, None] = {}
    facts: dict[str, None] = {}
    for base in contract.__mro__:
        if not getattr(base, "_is_protocol", False) or base.__module__ == "typing":
            continue
        for name, value in vars(base).items():
            if inspect.isfunction(value) and (name == "__call__" or name[:1] != "_"):
                methods[name] = None
            elif isinstance(value, property):
                facts[name] = None
        facts |= dict.fromkeys(n for n in inspect.get_annotations(base) if n[:1] != "_")
    return tuple(methods), tuple(facts)


def absent_methods(thing: Any, contract: type[Any] | None) -> list[str]:
    """The methods of a protocol that a class or an object lacks; those of a base class all or none.

    Of a class all that counts is what it or its bases define: facts may be set when it is built.
    """
    if contract is None:
        return []
    if not getattr(contract, "_is_protocol", False):
        of = thing if isinstance(thing, type) else type(thing)
        return [] if issubclass(of, contract) else [contract.__name__]
    methods, _ = _asked(contract)
    if isinstance(thing, type):
        defined = {name for base in thing.__mro__ for name in vars(base)}
        return [name for name in methods if name not in defined]
    return [name for name in methods if not callable(getattr(thing, name, None))]


def wanting(thing: Any, contract: type[Any] | None) -> str:
    """Why a class or an object does not satisfy a contract; empty where it does.

    Of a class only the methods are looked for.
    """
    if contract is None:
        return ""
    protocol = getattr(contract, "_is_protocol", False)
    if absent := absent_methods(thing, contract):
        return f"it has no method {' and '.join(absent)}" if protocol else f"it is no {absent[0]}"
    if isinstance(thing, type) or not protocol:
        return ""
    missing = [name for name in _asked(contract)[1] if not hasattr(thing, name)]
    where = f"{contract.__module__}.{contract.__qualname__}"
    return f"it lacks {', '.join(missing)} (see {where})" if missing else ""
