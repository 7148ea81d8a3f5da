"""The registry of query strategies, what each declares, and how a specification becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

from lightning_al.protocols import QueryStrategy
from lightning_al.records import DENSITY
from lightning_al.registry import Registry
from lightning_al.spec import read

__all__ = ["EQUIVALENT", "STRATEGIES", "Declared", "Kind", "build", "kind_of", "names", "resolve"]

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["classification", "regression", "density", "safe", "either"]
"""What a task must be for a strategy.

"density": whole predictive densities of numbers; "safe": numbers y beside a safety measurement z.
"""


@dataclass(frozen=True)
class Declared:
    """What a strategy declares where it is registered: what its overlay is made of."""

    kind: Kind = "either"
    members: int | None = None  # posterior samples that it is shown with, by dropout
    example: Sequence[str] | Mapping[str, Any] | None = None  # arguments to show; None: by default
    settings: Mapping[str, Any] = field(default_factory=dict)  # of a run, beside the strategy
    behind: str | None = None  # a shipped configuration with data that serve it; None: by its kind

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(map(repr, get_args(Kind)))
            raise ValueError(f"kind is one of {kinds}, got {self.kind!r}")


class Strategies(Registry[QueryStrategy]):
    """The registry, which also files what each strategy declares."""

    def __init__(self) -> None:
        super().__init__("strategy", "strategies", contract=QueryStrategy)
        self._declared: dict[str, Declared] = {}

    def register(
        self,
        name: str,
        *,
        kind: Kind | None = None,
        members: int | None = None,
        example: Sequence[str] | Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        behind: str | None = None,
    ) -> Callable[[F], F]:
        """Decorator that files a strategy, the first line of whose docstring says what it is.

        Args:
            name: given once.
            kind: of task that it is for, by its default arguments: "classification", "regression",
                "density", "safe" or "either" (default: the attribute ``kind`` of the class, else
                "either").
            members: where it needs many posterior samples, how many dropout masks its overlay
                takes.
            example: names of the arguments that the overlay shows, or the values it shows them
                with; by default all that have a plain default other than None.
            settings: of a run that belong to it.
            behind: the shipped configuration with data that it goes behind.

        Raises:
            ValueError: a name that is taken, or no such kind.
        """
        file = super().register(name)

        def add(factory: F) -> F:
            own: Kind = kind or getattr(factory, "kind", None) or "either"
            declared = Declared(own, members, example, dict(settings or {}), behind)
            added = file(factory)
            self._declared[name] = declared
            return added

        return add

    def declared(self, name: str) -> Declared:
        """What the strategy filed under ``name`` declares.

        Raises:
            LookupError: no such name.
        """
        self.factory(name)
        return self._declared[name]


STRATEGIES = Strategies()

EQUIVALENT: Mapping[str, str] = MappingProxyType(
    {
        "bald-naive": "variance",
        "balsa-bald-entropy": "balsa-kl-grid",
        "balsa-nflows-out": "balsa-mi",
        "consensus-kl": "bald",
        "posterior-entropy": "entropy",
        "posterior-least-confidence": "least-confidence",
        "posterior-margin": "margin",
        "posterior-ratio": "ratio",
        "power": "power-bald",
        "regression-bald": "variance",  # of one output
        "softmax": "softmax-bald",
    }
)
"""Names that choose as another one does from the same members, by their defaults: name -> other.

A ``posterior-*`` name asks for the members of a posterior, where the plain one takes the model as
it is.
"""

FIELDS_OF: Mapping[str, Kind] = MappingProxyType(
    {
        "probs": "classification",
        "logits": "classification",
        "mean": "regression",
        "variance": "regression",
        **dict.fromkeys(DENSITY, "density"),
    }
)
"""Fields that only one kind of task has."""


def names() -> list[str]:
    """All registered strategies, sorted."""
    return STRATEGIES.names()


def build(name: str, **kwargs: Any) -> QueryStrategy:
    """Build a registered strategy.

    Raises:
        LookupError: no such name; the message lists the valid ones.
        ValueError: an argument that it does not take, one of another type, or one that is missing.
    """
    return STRATEGIES.build(name, **kwargs)


def kind_of(strategy: str | QueryStrategy) -> Kind:
    """What a strategy is for: "classification", "regression", "safe" or "either".

    A name has the kind that its registration declares. An object has its attribute ``kind``; one
    without is for the only kind of task that has the fields that it needs, else for either.

    Raises:
        LookupError: no such name.
    """
    if isinstance(strategy, str):
        return STRATEGIES.declared(strategy).kind
    if (own := getattr(strategy, "kind", None)) is not None:
        return Declared(own).kind
    return next((FIELDS_OF[name] for name in strategy.needs if name in FIELDS_OF), "either")


def resolve(spec: Any) -> QueryStrategy:
    """A strategy from any way of writing it down.

    Args:
        spec: a registered name; ``{"name": ..., **arguments}``; the import path of a class, or of a
            function that says that it makes one (``-> QueryStrategy``); ``{"class_path": ...,
            "init_args": {...}}``, of a path or a name; or a strategy object, which is returned as
            it is.

    Raises:
        LookupError: no such name or path.
        ValueError: nothing of these, or wrong arguments.
    """
    if callable(spec) and not isinstance(spec, type) and not hasattr(spec, "choose"):
        raise ValueError(
            f"a strategy is a name, a dict with 'name' or 'class_path', or a strategy object, got "
            f"{spec!r}; wrap a scoring function in ScoreStrategy(function)"
        )
    return read(spec, STRATEGIES)
