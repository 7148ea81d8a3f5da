"""What tuning may set: ranges and choices for settings by their dotted names, checked when read."""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_al.values import flag, number, whole

__all__ = ["HEADS", "Choice", "Range", "Space"]

HEADS = ("model", "optimizer", "lr_scheduler", "trainer")
"""What a name begins with: the parts of a configuration that decide a fit."""
FORMS = "{int: [LOW, HIGH]}, {float: [LOW, HIGH]} or {choice: [A, B]}"
POINTS = 5  # of a range that a grid looks at, where it does not say


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both of them possible.

    Args:
        low: the least.
        high: the largest, above ``low``.
        whole: only whole numbers.
        log: their logarithm is what is drawn evenly; ``low`` is above 0 then.
        points: how many of them a grid takes.
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False
    points: int = POINTS

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return self.low <= value <= self.high and (not self.whole or value == int(value))

    def ends(self) -> tuple[Any, ...]:
        """Its least and its largest value."""
        return self.low, self.high

    def grid(self) -> list[Any]:
        """Values at equal distances, on the scale on which it is drawn, each once.

        >>> Range(1, 16, whole=True, log=True, points=3).grid()
        [1, 4, 16]
        """
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        steps = [low + (high - low) * i / (self.points - 1) for i in range(self.points)]
        found = [min(max(math.exp(s) if self.log else s, self.low), self.high) for s in steps]
        return list(dict.fromkeys(round(v) for v in found)) if self.whole else found


@dataclass(frozen=True)
class Choice:
    """One of some plain values: numbers, texts, lists."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return _key(value) in map(_key, self.values)

    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def grid(self) -> list[Any]:
        """All of them."""
        return list(self.values)

    def place(self, value: Any) -> int:
        """The place of one of them."""
        return [_key(v) for v in self.values].index(_key(value))


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class Space:
    """Settings by their dotted names, each with its values.

    >>> space = Space.of({"model.lr": {"float": [1e-4, 0.1], "log": True}})
    >>> space.settings["model.lr"].ends()
    (0.0001, 0.1)
    """

    settings: Mapping[str, Range | Choice]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Space:
        """The space that plain values describe.

        Args:
            given: ``{int: [low, high]}`` or ``{float: [low, high]}``, with ``log: true`` and
                ``points: N`` (for a grid) beside it, or ``{choice: [a, b]}``, by name.

        Raises:
            ValueError: an empty space or range, or a form that is none of these.
            TypeError: a bound that is no number.
        """
        if not isinstance(given, Mapping) or not given:
            raise ValueError(
                f"tuning.space must name at least one setting, such as model.lr: {FORMS}, got "
                f"{given!r}"
            )
        for name in given:
            head, dot, rest = str(name).partition(".")
            if head not in HEADS or not (dot and rest):
                near = difflib.get_close_matches(head, HEADS, n=1)
                hint = f" (did you mean {near[0]}.{rest or 'NAME'}?)" if near else ""
                raise ValueError(
                    f"tuning.space names {name!r}{hint}; a setting begins with one of "
                    f"{', '.join(f'{h}.' for h in HEADS)} and is written as in a configuration"
                )
        return cls({str(name): _values(str(name), spec) for name, spec in given.items()})

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether settings name all of it, each with a value that it has."""
        return set(settings) == set(self.settings) and all(
            values.holds(settings[name]) for name, values in self.settings.items()
        )

    def ends(self) -> Iterator[tuple[str, Any]]:
        """Each setting with each end of its values, or each of its choices."""
        for name, values in self.settings.items():
            yield from ((name, end) for end in values.ends())

    def grid(self) -> Iterator[dict[str, Any]]:
        """All combinations of the grids of its settings, the last setting moves first."""
        names = list(self.settings)
        for values in itertools.product(*(self.settings[name].grid() for name in names)):
            yield dict(zip(names, values, strict=True))


def _values(name: str, spec: Any) -> Range | Choice:
    """The values of one setting."""
    where = f"tuning.space: {name}"
    kinds = [k for k in ("int", "float", "choice") if isinstance(spec, Mapping) and k in spec]
    if len(kinds) != 1:
        raise ValueError(f"{where} must be {FORMS}, got {spec!r}")
    (kind,) = kinds
    known = (kind,) if kind == "choice" else (kind, "log", "points")
    if other := [key for key in spec if key not in known]:
        raise ValueError(f"{where} takes no {other[0]!r}; beside {kind} it takes {known[1:]}")
    inside = spec[kind]
    if not isinstance(inside, Sequence) or isinstance(inside, str):
        raise ValueError(f"{where} must be {FORMS}, got {spec!r}")
    if kind == "choice":
        return _choice(where, inside)
    if len(inside) != 2:
        raise ValueError(f"{where}: {kind} takes two bounds, [LOW, HIGH], got {list(inside)}")
    check = whole(-(2**53)) if kind == "int" else number()
    low, high = (check(f"{where}: {kind}", end) for end in inside)
    low, high = (low, high) if kind == "int" else (float(low), float(high))
    log = flag(f"{where}: log", spec.get("log", False))
    points = whole(2)(f"{where}: points", spec.get("points", POINTS))
    if low >= high:
        raise ValueError(
            f"{where}: the range [{low}, {high}] is empty; give LOW below HIGH, or set the one "
            "value in the configuration itself"
        )
    if log and low <= 0:
        raise ValueError(f"{where}: a log range begins above 0, got [{low}, {high}]")
    return Range(low, high, kind == "int", log, points)


def _choice(where: str, inside: Sequence[Any]) -> Choice:
    try:
        keys = [_key(value) for value in inside]
    except (TypeError, ValueError):
        raise ValueError(
            f"{where}: choices are plain values (numbers, texts, lists, mappings), got "
            f"{list(inside)}"
        ) from None
    if len(set(keys)) < max(len(keys), 2):
        raise ValueError(f"{where}: choice takes two different values or more, got {list(inside)}")
    return Choice(tuple(inside))
