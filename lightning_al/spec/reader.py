"""The reader of specifications, and the call that checks arguments by name and by type."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from .contracts import absent_methods, wanting
from .signatures import EMPTY, Parameter, Signature, converted, mappings, parts, said, signature

__all__ = ["call", "factory_of", "find", "read"]

T = TypeVar("T")
Made = TypeVar("Made", covariant=True)


class Family(Protocol[Made]):
    """What a reader needs of a :class:`lightning_al.registry.Registry`."""

    @property
    def kind(self) -> str:
        """What the members are, for messages."""
        ...

    @property
    def plural(self) -> str:
        """Several of them."""
        ...

    @property
    def contract(self) -> type[Any] | None:
        """What every member satisfies."""
        ...

    @property
    def suffix(self) -> str:
        """An end of all names that may be left out."""
        ...

    def names(self) -> list[str]:
        """All names, sorted."""
        ...

    def factory(self, name: str) -> Callable[..., Made]:
        """The factory of a name."""
        ...

    def __contains__(self, name: object) -> bool: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class _Unnamed:
    """A family without names: members are given by their paths."""

    kind: str
    contract: type[Any] | None
    suffix: str = ""

    @property
    def plural(self) -> str:
        """Of the kind."""
        return f"{self.kind}s"

    def names(self) -> list[str]:
        """None."""
        return []

    def factory(self, name: str) -> Callable[..., Any]:
        """There is none."""
        raise LookupError(f"no {self.kind} named {name!r}; give its import path")

    def __contains__(self, name: object) -> bool:
        return False

    def __len__(self) -> int:
        return 0


def read(spec: Any, registry: Family[T]) -> T:
    """The member of a family that a specification means.

    Args:
        spec: a registered name; ``{"name": …, **arguments}``; an import path of a class, of a
            function that says that it makes such a member, or of a member; ``{"class_path": …,
            "init_args": {…}}``, of a path or a name; or a member, which is returned as it is.
        registry: the family. An argument that is called like its kind (the ``oracle`` of an oracle)
            is read in the same way.

    Raises:
        LookupError: no such name or path; the message lists the names.
        ValueError: nothing of these, something that is no such member, or wrong arguments.
    """
    if isinstance(spec, str):
        return _made(spec, {}, registry)
    if isinstance(spec, Mapping):
        return _made(*_named(spec, registry), registry)
    if isinstance(spec, type) or absent_methods(spec, registry.contract):
        hint = "; give an instance of it" if isinstance(spec, type) else ""
        raise ValueError(f"{_forms(registry)}, got {spec!r}{hint}")
    if reason := wanting(spec, registry.contract):
        raise ValueError(f"{type(spec).__name__} is no {registry.kind}: {reason}")
    member: T = spec
    return member


def _made(path: str, arguments: Mapping[str, Any], registry: Family[T]) -> T:
    factory = factory_of(path, registry)
    inside = signature(factory).parameters.get(registry.kind)
    if inside is not None and str not in parts(inside.hint):
        given = arguments.get(registry.kind)
        if isinstance(given, str | Mapping):
            arguments = {**arguments, registry.kind: read(given, registry)}
    made: T = call(factory, arguments, f"{registry.kind} {path!r}")
    if reason := wanting(made, registry.contract):
        raise ValueError(f"{path} is no {registry.kind}: {reason}")
    return made


def _named(spec: Mapping[str, Any], registry: Family[Any]) -> tuple[str, dict[str, Any]]:
    """The name or path of a dict, and its arguments."""
    given = dict(spec)
    if "name" in given:
        path, arguments = given.pop("name"), given
    else:
        path, arguments = given.pop("class_path", None), given.pop("init_args", None) or {}
        if path is None or given:
            raise ValueError(
                f"{_a(registry.kind)}'s dict has 'name' and arguments, or 'class_path' and "
                f"'init_args', got {sorted(map(str, spec))}"
            )
    if not isinstance(path, str) or not isinstance(arguments, Mapping):
        raise ValueError(
            f"{_a(registry.kind)} is named by a text and its init_args are a dict, got {dict(spec)}"
        )
    return path, dict(arguments)


def _forms(registry: Family[Any]) -> str:
    ways = "a name, a dict with 'name' or 'class_path'," if len(registry) else "a dict with "
    ways += "" if len(registry) else "'class_path' and 'init_args',"
    return f"{_a(registry.kind)} is {ways} or a {registry.kind} object"


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"


def factory_of(path: str, registry: Family[T]) -> Callable[..., T]:
    """What builds the member of this name, or at this import path.

    Raises:
        LookupError: no such name or path; the message lists the names.
        ValueError: something that makes no such member; it is not called.
    """
    if "." not in path or path in registry:
        if not len(registry):
            raise ValueError(f"{_forms(registry)}, got {path!r}")
        return registry.factory(path)
    names = f" or one of {', '.join(registry.names())}" if len(registry) else ""
    found = find(path, registry.kind, f"give an importable path{names}")
    contract = registry.contract
    wanted = getattr(contract, "__name__", "Any")
    if isinstance(found, type):
        if reason := wanting(found, contract):
            raise ValueError(f"{path} is no {registry.kind}: {reason}")
        return found
    if inspect.isfunction(found) and _promises(signature(found).gives, contract):
        return found
    if absent_methods(found, contract):
        says = f"a function that makes one says so, def {path.rpartition('.')[2]}(…) -> {wanted}"
        reason = says if inspect.isfunction(found) else wanting(found, contract)
        raise ValueError(f"{path} is no {registry.kind}: {reason}")
    return partial(_itself, found)


def _promises(gives: Any, contract: type[Any] | None) -> bool:
    """Whether a function says that it makes such a member; one that gives anything says nothing."""
    if gives is EMPTY:
        return False
    return any(isinstance(part, type) and not wanting(part, contract) for part in parts(gives))


def _itself(member: T) -> T:
    return member


def find(path: str, what: str, mend: str) -> Any:
    """What lies at an import path ``package.module.name``.

    Raises:
        LookupError: nothing; the message says what was wanted and the mend.
    """
    place, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(place)
    except (ImportError, ValueError) as error:
        raise LookupError(f"no {what} at {path!r} ({error}); {mend}") from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"{place} has no {name}"
        raise LookupError(f"no {what} at {path!r} ({hint}); {mend}")
    return getattr(module, name)


def call(factory: Callable[..., T], arguments: Mapping[str, Any], who: str) -> T:
    """Call a factory, its arguments first held against its signature.

    Args:
        factory: a class or function.
        arguments: by name; numbers given as text are converted, objects pass.
        who: how messages name it, "strategy 'power'".

    Raises:
        ValueError: an unknown argument, a missing one, or one of another type.
    """
    takes = signature(factory)
    known = takes.parameters
    unknown = [name for name in arguments if name not in known]
    if unknown and not takes.anything:
        near = difflib.get_close_matches(str(unknown[0]), known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{who}: no argument {unknown[0]!r}{hint}; it takes {takes}")
    missing = [name for name, p in known.items() if p.required and name not in arguments]
    if missing:
        raise ValueError(f"{who}: {' and '.join(missing)} must be given; it takes {takes}")
    if not arguments:
        return factory()
    ready = {
        name: _ready(value, known[name], who, takes) if name in known else value
        for name, value in arguments.items()
    }
    return factory(**ready)


def _ready(value: Any, parameter: Parameter, who: str, takes: Signature) -> Any:
    """The value as its parameter has it; a dict with a class path where a class is asked for."""
    if value is parameter.default:
        return value
    if isinstance(value, Mapping) and "class_path" in value and not mappings(parameter.hint):
        for part in parts(parameter.hint):
            if isinstance(part, type) and part is not object:
                return read(value, _Unnamed(part.__name__, part))
    try:
        return converted(value, parameter.hint)
    except TypeError:
        raise ValueError(
            f"{who}: {parameter.name} must be {said(parameter.hint)}, got {value!r}; "
            f"it takes {takes}"
        ) from None
