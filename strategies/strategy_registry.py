"""The registry of query strategies, and how a specification becomes one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lightning_al.protocols import QueryStrategy
from lightning_al.registry import Registry

__all__ = ["EQUIVALENT", "STRATEGIES", "build", "names", "resolve"]

STRATEGIES: Registry[QueryStrategy] = Registry("strategy", "strategies")

EQUIVALENT: Mapping[str, str] = MappingProxyType(
    {
        "consensus-kl": "bald",
        "power": "power-bald",
        "regression-bald": "variance",  # of one output
        "softmax": "softmax-bald",
    }
)
"""Names that always choose as another one does, by their defaults: name -> the other."""

FACTS = ("needs", "keeps", "members", "privileged", "choose")


def names() -> list[str]:
    """All registered strategies, sorted."""
    return STRATEGIES.names()


def build(name: str, **kwargs: Any) -> QueryStrategy:
    """Build a registered strategy.

    Raises:
        LookupError: no such name; the message lists the valid ones.
        ValueError: an argument that it does not take, or one that is missing.
    """
    return STRATEGIES.build(name, **kwargs)


def resolve(spec: Any) -> QueryStrategy:
    """A strategy from any way of writing it down.

    Args:
        spec: a registered name; ``{"name": ..., **arguments}``; ``{"class_path": ...,
            "init_args": {...}}`` (a dotted path of a class or function, or a registered name);
            or a strategy object, which is returned as it is.

    Raises:
        LookupError: no such name or path.
        ValueError: nothing of these, or wrong arguments.
    """
    if isinstance(spec, str):
        return STRATEGIES.build(spec)
    if isinstance(spec, Mapping):
        return _from_mapping(spec)
    missing = [fact for fact in FACTS if not hasattr(spec, fact)]
    if isinstance(spec, type) or len(missing) == len(FACTS):
        hint = "; wrap a scoring function in ScoreStrategy(function)" if callable(spec) else ""
        hint = "; give an instance of it" if isinstance(spec, type) else hint
        raise ValueError(
            f"a strategy is a name, a dict with 'name' or 'class_path', or a strategy object, "
            f"got {spec!r}{hint}"
        )
    if missing:
        raise ValueError(
            f"{type(spec).__name__} is no query strategy: it lacks {', '.join(missing)} "
            "(see lightning_al.protocols.QueryStrategy)"
        )
    strategy: QueryStrategy = spec
    return strategy


def _from_mapping(spec: Mapping[str, Any]) -> QueryStrategy:
    given = dict(spec)
    if "name" in given:
        return STRATEGIES.build(given.pop("name"), **given)
    if "class_path" not in given or set(given) - {"class_path", "init_args"}:
        raise ValueError(
            f"a strategy's dict has 'name' and arguments, or 'class_path' and 'init_args', "
            f"got {sorted(given)}"
        )
    path, arguments = given["class_path"], dict(given.get("init_args") or {})
    if "." not in path:
        return STRATEGIES.build(path, **arguments)
    module, _, attribute = path.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LookupError(
            f"no strategy at {path!r} ({error}); give an importable path or one of "
            f"{', '.join(names())}"
        ) from error
    return resolve(factory(**arguments))
