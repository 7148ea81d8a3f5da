"""Posteriors, features, oracles and stopping rules from their part of the configuration."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

from lightning_al import oracles, posteriors
from lightning_al.registry import Registry
from lightning_al.rounds import stopping
from lightning_al.scoring import extractors as features

__all__ = ["FAMILIES", "FEATURES", "ORACLES", "POSTERIORS", "RULES", "built", "make"]


def _family(kind: str, module: ModuleType, suffix: str = "") -> Registry[Any]:
    """The classes that a module offers (whose names end so), protocols left out."""
    family: Registry[Any] = Registry(kind)
    for name in module.__all__:
        found = getattr(module, name)
        if not name.endswith(suffix):
            continue
        if isinstance(found, type) and not getattr(found, "_is_protocol", False):
            family.register(name)(found)
    return family


POSTERIORS = _family("posterior", posteriors)
FEATURES = _family("feature extractor", features)
ORACLES = _family("oracle", oracles, "Oracle")
RULES = _family("stopping rule", stopping)


def make(family: Registry[Any], spec: Any, has: str) -> Any:
    """Build one member.

    Args:
        family: those that have short names.
        spec: a short name, a class path, ``{"name": …, **arguments}``, or
            ``{"class_path": …, "init_args": {…}}``; None gives None.
        has: the method that a member has.

    Raises:
        LookupError: no such name or path; the message lists the names.
        ValueError: arguments that it does not take, or an object without the method.
    """
    if spec is None:
        return None
    given: dict[str, Any] = {"class_path": spec} if isinstance(spec, str) else dict(spec)
    if "name" in given:
        path, arguments = given.pop("name"), given
    else:
        path, arguments = given.get("class_path"), dict(given.get("init_args") or {})
    if family is ORACLES:
        path = f"{path}Oracle" if f"{path}Oracle" in ORACLES else path  # Noisy is NoisyOracle
        if isinstance(inner := arguments.get("oracle"), (str, dict)):
            arguments["oracle"] = make(ORACLES, inner, has)
    if not isinstance(path, str) or "." not in path:
        return family.build(path or "", **arguments)  # type: ignore[arg-type]
    found = _found(family, path)
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        takes = inspect.signature(found)
        raise ValueError(f"{family.kind} {path}: {error}; it takes {takes}") from None
    made = found(**arguments)
    if not callable(getattr(made, has, None)):
        raise ValueError(f"{path} is no {family.kind}: it has no method {has}")
    return made


def _found(family: Registry[Any], path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(
            f"no {family.kind} at {path!r} ({error}); give an importable class path or one of "
            f"{', '.join(family.names())}"
        ) from error


FAMILIES = {
    "posterior": (POSTERIORS, "start"),
    "features": (FEATURES, "__call__"),
    "oracle": (ORACLES, "ask"),
    "stopping": (RULES, "__call__"),
}
"""Families by the part of a plan that names their members, and the method that a member has."""


def built(part: str, spec: Any) -> Any:
    """The object that a specification names; an object is given back as it is."""
    family, has = FAMILIES[part]
    return make(family, spec, has) if isinstance(spec, (str, dict)) else spec
