"""What a factory takes, and whether a plain value is of the type that it asks for."""

from __future__ import annotations

import inspect
from argparse import ArgumentError
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["EMPTY", "Parameter", "Signature", "converted", "mappings", "parts", "said", "signature"]

EMPTY = inspect.Parameter.empty
SCALARS = (NoneType, bool, int, float, str)
LISTS = (list, tuple, set, frozenset, Sequence, Collection, Iterable)
MAPPINGS = (dict, Mapping)


@dataclass(frozen=True)
class Parameter:
    """One argument of a factory."""

    name: str
    hint: Any = Any  # its type; Any where the signature names none, or one that cannot be found
    default: Any = EMPTY

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is EMPTY

    def __str__(self) -> str:
        """As a caller writes it: ``beta=1.0``, or ``score`` where it must be given."""
        if self.required:
            return self.name
        named = getattr(self.default, "__name__", None) if callable(self.default) else None
        return f"{self.name}={named or repr(self.default)}"


@dataclass(frozen=True)
class Signature:
    """What a factory takes by keyword, and what it says it gives."""

    parameters: Mapping[str, Parameter]
    anything: bool = False  # further keywords too
    gives: Any = EMPTY  # the type that a function promises

    def __str__(self) -> str:
        """``score='bald', beta=1.0``, or "no arguments"."""
        return ", ".join(map(str, self.parameters.values())) or "no arguments"


@lru_cache(maxsize=1024)
def signature(factory: Callable[..., Any]) -> Signature:
    """What a class or function takes, looked at once; anything where it does not say."""
    try:
        found = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some that are written in C
        return Signature({}, anything=True)
    hints = _hints(factory)
    named = {
        p.name: Parameter(p.name, hints.get(p.name, Any), p.default)
        for p in found
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    anything = any(p.kind is p.VAR_KEYWORD for p in found)
    return Signature(named, anything, hints.get("return", EMPTY))


def _hints(factory: Any) -> dict[str, Any]:
    source = factory.func if isinstance(factory, partial) else factory
    if isinstance(source, type) and not is_dataclass(source):
        source = getattr(source, "__init__")  # noqa: B009 - as mypy sees it, an instance's
    try:
        found = get_type_hints(source)
    except (NameError, TypeError, AttributeError):  # names that only a type checker imports
        said_of = getattr(source, "__annotations__", {})
        found = {name: hint for name, hint in said_of.items() if not isinstance(hint, str)}
        found |= {"return": Any} if "return" in said_of else {}
    if isinstance(factory, type):
        found.pop("return", None)
    return found


def converted(value: Any, hint: Any) -> Any:
    """A plain value as its type has it: text that is a number becomes one, 2 a float where asked.

    Objects (tensors, functions, whatever is not plain) pass: who takes them looks at them.

    Raises:
        TypeError: a plain value of another type.

    >>> converted("1e-3", float), converted([1, 2], list[float] | None)
    (0.001, [1.0, 2.0])
    """
    allowed = parts(hint)
    if not _is_plain(value) or any(_says_nothing(part) for part in allowed):
        return value
    if type(value) in (bool, int, float) and {*allowed} - {NoneType} == {type(value)}:
        return value  # what the parser below would give, in a hundredth of its time
    if value is None and NoneType not in allowed:
        raise TypeError(f"expected {said(hint)}, got None")
    plain = tuple(part for part in allowed if _is_plain_type(part))
    if plain:
        try:
            made = _parser(Union[plain]).parse_object({"value": value}).value  # noqa: UP007
        except (ArgumentError, TypeError, ValueError):
            pass
        else:
            return tuple(made) if isinstance(value, tuple) and isinstance(made, list) else made
    if any(_is_instance(value, part) for part in allowed if part not in plain):
        return value
    raise TypeError(f"expected {said(hint)}, got {value!r}")


@lru_cache(maxsize=256)
def _parser(hint: Any) -> Any:
    from jsonargparse import ArgumentParser  # inside: most arguments are never given

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def parts(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def mappings(hint: Any) -> bool:
    """Whether a type takes mappings as they are."""
    return any(
        (get_origin(part) or part) in MAPPINGS or _says_nothing(part) for part in parts(hint)
    )


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    return type(value) in SCALARS


def _is_plain_type(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (*LISTS, *MAPPINGS):
        return all(map(_is_plain_type, _inner(hint)))
    if origin in (Union, UnionType):
        return all(map(_is_plain_type, get_args(hint)))
    return hint in (*SCALARS, Path) or origin is Literal


def _inner(hint: Any) -> list[Any]:
    return [part for part in get_args(hint) if part is not Ellipsis]


def _says_nothing(hint: Any) -> bool:
    return hint in (Any, object, EMPTY) or isinstance(hint, TypeVar | ForwardRef | str)


def _is_instance(value: Any, hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if isinstance(value, str) and kind in LISTS:
        return False  # a text is no list of its letters
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return False


def said(hint: Any) -> str:
    """A type in words.

    >>> said(float | None), said(Literal["gp", "none"]), said(Sequence[int])
    ('a float or None', "'gp' or 'none'", 'a list of int')
    """
    words = list(dict.fromkeys(word for part in parts(hint) for word in _words(part)))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _words(hint: Any) -> list[str]:
    origin = get_origin(hint)
    if origin is Literal:
        return [repr(value) for value in get_args(hint)]
    if hint in (None, NoneType):
        return ["None"]
    if _says_nothing(hint):
        return ["anything"]
    kind = origin or hint
    if kind is Callable:
        return ["a function"]
    if kind in LISTS or kind in MAPPINGS:
        inner = _inner(hint)[-1:]
        of = "" if not inner or _says_nothing(inner[0]) else f" of {_bare(inner[0])}"
        return [f"a list{of}" if kind in LISTS else f"a mapping{of}"]
    name = _bare(kind)
    return [f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"]


def _bare(hint: Any) -> str:
    """The type inside a list: "float", "lists"."""
    kind = get_origin(hint) or hint
    return "lists" if kind in LISTS else getattr(kind, "__name__", str(kind))
