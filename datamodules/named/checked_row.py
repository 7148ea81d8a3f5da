"""A row of a table file as the arguments of a record or a function, each checked for its type."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NoReturn,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from lightning_al.registry import Registry

__all__ = ["Named", "arguments", "check_keys", "chosen", "refuse"]

T = TypeVar("T")
Named: TypeAlias = str | Mapping[str, Any]  # "text", or {"name": "text", "header": true}
WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def refuse(where: str, key: str, wanted: str, got: object) -> NoReturn:
    """Raise the ``ValueError`` of a wrong value.

    Args:
        where: which row, such as "data set 'glass'".
        key: of the row; what lies deeper with dots and positions, such as "files[1].sha256".
        wanted: what was expected, such as "a whole number".
        got: what stands there.
    """
    raise ValueError(f"{where}: {key} must be {wanted}, got {got!r}; correct it in the row")


def check_keys(
    row: Mapping[str, Any], known: Collection[str], where: str, prefix: str = ""
) -> None:
    """Refuse keys that nothing reads.

    Raises:
        ValueError: names the first such key, a near match, and all that are known.
    """
    for key in row:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            what = ", ".join(known) or "none"
            raise ValueError(
                f"{where}: {prefix}{key} is no key{hint}; keys are {what}; rename it or take it out"
            )


def arguments(
    kind: Callable[..., Any],
    row: Mapping[str, Any],
    where: str,
    *,
    prefix: str = "",
    without: Collection[str] = (),
) -> dict[str, Any]:
    """What to call ``kind`` with: the values of a row, checked against its annotations.

    Lists become tuples, tables become the records that are asked for.

    Args:
        kind: a dataclass or a function.
        row: as a TOML file has it.
        where: which row, for messages.
        prefix: of the keys, for messages.
        without: parameters that the row does not give.

    Raises:
        ValueError: an unknown key, a missing one, or a value of another type; names the row, the
            key, what was expected, and the mend.
    """
    parameters = inspect.signature(kind).parameters
    hints = get_type_hints(kind)
    names = [name for name in parameters if name not in without]
    check_keys(row, names, where, prefix)
    for name in names:
        if name not in row and parameters[name].default is inspect.Parameter.empty:
            wanted = _words(hints[name])
            raise ValueError(f"{where}: {prefix}{name} is missing; add it to the row, as {wanted}")
    return {n: _value(value, hints[n], where, f"{prefix}{n}") for n, value in row.items()}


def chosen(
    registry: Registry[T],
    given: Named,
    where: str,
    key: str,
    without: Collection[str] = (),
) -> tuple[Callable[..., T], dict[str, Any]]:
    """A member of a registry and its arguments, from its name or ``{"name": …, argument: …}``.

    Args:
        registry: of what is named.
        given: the value of the row.
        where: which row, for messages.
        key: of the value.
        without: parameters that the row does not give.

    Raises:
        ValueError: no such name, or arguments that it does not take.
    """
    more = {} if isinstance(given, str) else {k: v for k, v in given.items() if k != "name"}
    name: Any = given if isinstance(given, str) else given.get("name")
    if name not in registry:
        refuse(where, key, f"the name of a {registry.kind}: {', '.join(registry.names())}", name)
    factory = registry.factory(name)
    return factory, arguments(factory, more, where, prefix=f"{key}.", without=without)


def _options(hint: Any) -> list[Any]:
    """The types that a value may have; None is left out, as a table file cannot write it."""
    if get_origin(hint) in (Union, UnionType):
        return [option for option in get_args(hint) if option is not NoneType]
    return [hint]


def _words(hint: Any) -> str:
    """A type in words, for messages."""
    said = []
    for option in _options(hint):
        inside = get_args(option)
        if get_origin(option) is Literal:
            said.append(f"one of {', '.join(map(repr, inside))}")
        elif get_origin(option) is tuple:
            many = inside[-1] is Ellipsis
            said.append(f"a list of {'' if many else f'{len(inside)} times '}{_words(inside[0])}")
        else:
            said.append(WORDS.get(option, "a table"))
    return " or ".join(said)


def _fits(value: object, option: Any) -> bool:
    """Whether a value has this type, whatever lies inside it."""
    origin = get_origin(option)
    if origin is Literal:
        return value in get_args(option)
    if origin is tuple:
        inside = get_args(option)
        return isinstance(value, list) and (inside[-1] is Ellipsis or len(value) == len(inside))
    if option in (str, bool):
        return isinstance(value, option)
    if option in (int, float):
        allowed = (int,) if option is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, Mapping)


def _value(value: Any, hint: Any, where: str, key: str) -> Any:
    for option in _options(hint):
        if not _fits(value, option):
            continue
        if get_origin(option) is tuple:
            inside = get_args(option)[0]
            return tuple(_value(v, inside, where, f"{key}[{i}]") for i, v in enumerate(value))
        if isinstance(option, type) and is_dataclass(option):
            made: Callable[..., Any] = option
            return made(**arguments(made, value, where, prefix=f"{key}."))
        return value
    return refuse(where, key, _words(hint), value)
