"""The families of parts that an option of a run names: what is shipped, and what a member must be.

A member of a user's own is given by its import path, or registered in its family:
``POSTERIORS.register("mine")``.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from lightning_al import oracles, posteriors
from lightning_al.protocols import Oracle
from lightning_al.registry import Registry
from lightning_al.rounds import stopping
from lightning_al.scoring.extractor_names import FEATURES
from lightning_al.spec import read
from lightning_al.strategies import STRATEGIES

__all__ = [
    "FAMILIES",
    "FEATURES",
    "ORACLES",
    "POSTERIORS",
    "RULES",
    "built",
    "make",
]


def _family(kind: str, module: ModuleType, contract: type[Any], suffix: str = "") -> Registry[Any]:
    """The classes that a module offers (whose names end so), protocols left out."""
    family: Registry[Any] = Registry(kind, contract=contract, suffix=suffix)
    for name in module.__all__:
        found = getattr(module, name)
        if not name.endswith(suffix):
            continue
        if isinstance(found, type) and not getattr(found, "_is_protocol", False):
            family.register(name)(found)
    return family


POSTERIORS = _family("posterior", posteriors, posteriors.Posterior)
ORACLES = _family("oracle", oracles, Oracle, "Oracle")  # Noisy is NoisyOracle
RULES = _family("stopping rule", stopping, stopping.StoppingRule)

FAMILIES: dict[str, Registry[Any]] = {
    "strategy": STRATEGIES,
    "first": STRATEGIES,
    "baseline": STRATEGIES,
    "posterior": POSTERIORS,
    "features": FEATURES,
    "oracle": ORACLES,
    "stopping": RULES,
}
"""Option of a run -> what it names a member of."""


def make(family: Registry[Any], spec: Any) -> Any:
    """Build one member; None gives None. See :func:`lightning_al.spec.read` for what may be given.

    Raises:
        LookupError: no such name or path; the message lists the names.
        ValueError: arguments that it does not take, or something that is no such member.
    """
    return None if spec is None else read(spec, family)


def built(part: str, spec: Any) -> Any:
    """The object that a specification names; an object is given back as it is."""
    return make(FAMILIES[part], spec) if isinstance(spec, (str, dict)) else spec
