"""What a policy has to have shown before it is used: figures of its card against what it promises.

A training promises safety by its gamma, and measures on held-out simulated functions what became
of it. A policy that fell short of its promise is refused where it is loaded, whatever its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .card import Card

__all__ = ["SAFE", "Check", "checks", "pass_or_refuse"]


SAFE = "safe queries on held-out simulated functions"
SPREAD, HEEDED, OFF = 0.02, 0.5, 0.5  # the least of each, of policies that score candidates


@dataclass(frozen=True)
class Check:
    """A figure of a card, and the least that was promised.

    Args:
        what: the figure, as a share of something.
        found: what was measured; NaN counts as short.
        least: what was promised.
    """

    what: str
    found: float
    least: float

    @property
    def passed(self) -> bool:
        """Whether the promise is kept."""
        return self.found >= self.least

    def __str__(self) -> str:
        return f"{self.what}: {_percent(self.found)}, promised {_percent(self.least)}"


def checks(card: Card) -> tuple[Check, ...]:
    """What a card promises and has measured; empty where it says too little.

    A safe policy trained with tolerance gamma promises that a share of 1 - gamma of its queries is
    safe; ``training["validation"]["safe"]`` is the share on held-out simulated functions. One that
    scores candidates has more figures in ``training["evidence"]``
    (:mod:`lightning_al.policies.candidates.evidence`): its queries differ from function to
    function, change with the outcomes, leave the border, and serve better than a Sobol sequence, on
    pools than random rows.

    >>> training = {"config": {"arguments": {"gamma": 0.05}}, "validation": {"safe": 0.264}}
    >>> for check in checks(Card("SetPolicy", {"safe": True}, 9, 9, training)):
    ...     print(check.passed, check)
    False safe queries on held-out simulated functions: 26.4 %, promised 95 %
    """
    found = []
    if card.settings.get("safe"):
        gamma = _number(card.training, "config", "arguments", "gamma")
        safe = _number(card.training, "validation", "safe")
        if card.kind == "CandidatePolicy":  # trained with a stricter gamma than it promises
            gamma = _number(card.training, "config", "promised")
            safe = _number(card.training, "evidence", "safe")
        if gamma is not None and safe is not None:
            found.append(Check(SAFE, safe, 1.0 - gamma))
        rows = _number(card.training, "evidence", "safe_rows")
        if gamma is not None and rows is not None:
            found.append(Check(f"{SAFE}, on pools", rows, 1.0 - gamma))
    return *found, *_heeding(card)


def _heeding(card: Card) -> tuple[Check, ...]:
    """Whether a policy looks at its data, as far as that was watched."""
    found = []
    watched = {
        name: _number(card.training, "evidence", name) for name in ("spread", "heeded", "border")
    }
    spread, heeded, border = (watched[n] for n in ("spread", "heeded", "border"))
    if spread is not None and not card.settings.get("flexible"):
        found.append(Check("spread of queries over functions, of a side", spread, SPREAD))
    if heeded is not None:
        found.append(Check("histories whose outcomes count", heeded, HEEDED))
    if border is not None:
        found.append(Check("coordinates of queries off the border", 1 - border, OFF))
    beside = {
        "error of a Sobol sequence, in the policy's": ("rmse", "rmse_sobol"),
        "error of random rows of a pool, in the policy's": ("rmse_rows", "rmse_random"),
    }
    for what, (mine, theirs) in beside.items():
        error, other = (_number(card.training, "evidence", n) for n in (mine, theirs))
        if error is not None and other is not None and other > 0 and not card.settings.get("safe"):
            found.append(Check(what, other / error, 1.0))
    return tuple(found)


def pass_or_refuse(card: Card, name: str, unchecked: bool) -> None:
    """Let a policy through that keeps its promises, or any where ``unchecked``.

    Raises:
        ValueError: it fell short of one.
    """
    short = [] if unchecked else [str(check) for check in checks(card) if not check.passed]
    if short:
        raise ValueError(
            f"the policy {name} falls short of what its card promises ({'; '.join(short)}); train "
            "it further, let a Gaussian process choose (strategy: safe-variance), or take it as it "
            "is with unchecked=True (--strategy.unchecked true)"
        )


def _number(values: Any, *keys: str) -> float | None:
    """What lies at a path of keys, where it is a number."""
    for key in keys:
        if not isinstance(values, Mapping) or key not in values:
            return None
        values = values[key]
    number = isinstance(values, int | float) and not isinstance(values, bool)
    return float(values) if number else None


def _percent(share: float) -> str:
    return "not a number" if math.isnan(share) else f"{100 * share:.3g} %"
