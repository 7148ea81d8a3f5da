"""One registry type for every family of named things."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from .spec import call

__all__ = ["Registry"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Names mapped to factories (classes or functions) that build a ``T``.

    Args:
        kind: what the members are, for messages ("strategy").
        plural: its plural, where adding an "s" is wrong.
        contract: a protocol or base class that every member satisfies; :mod:`lightning_al.spec`
            holds what it reads against it.
        suffix: an end that all names share and that may be left out ("Oracle").
    """

    def __init__(
        self,
        kind: str,
        plural: str | None = None,
        *,
        contract: type[Any] | None = None,
        suffix: str = "",
    ) -> None:
        self.kind = kind
        self.plural = plural or f"{kind}s"
        self.contract = contract
        self.suffix = suffix
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator that files a factory under ``name``; a name is given once."""

        def add(factory: F) -> F:
            if name in self._factories:
                raise ValueError(f"a {self.kind} named {name!r} is registered already")
            self._factories[name] = factory
            return factory

        return add

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._factories)

    def factory(self, name: str) -> Callable[..., T]:
        """The factory filed under ``name``, which may lack the suffix.

        Raises:
            LookupError: no such name; the message lists the valid ones.
        """
        for full in (name, f"{name}{self.suffix}"):
            if full in self._factories:
                return self._factories[full]
        near = difflib.get_close_matches(str(name), self._factories, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise LookupError(
            f"no {self.kind} named {name!r}{hint}; choose one of {', '.join(self.names())}"
        )

    def build(self, name: str, /, **kwargs: Any) -> T:
        """Build the member called ``name``; arguments are held against its signature first.

        Raises:
            LookupError: no such name.
            ValueError: an argument that this member does not take, one of another type, or one
                that is missing.
        """
        made: T = call(self.factory(name), kwargs, f"{self.kind} {name!r}")
        return made

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._factories)
