"""Plain values checked where they are kept: what was expected, what came, and the mend."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = [
    "MOST_SEED",
    "Check",
    "either",
    "flag",
    "folder",
    "narrowed",
    "number",
    "optional",
    "share",
    "sizes",
    "whole",
    "word",
]

Check = Callable[[str, Any], Any]
"""(name, value) -> the value as it is kept; raises where it makes no sense."""
MOST_SEED = 2**32 - 1
"""The largest seed that Lightning and NumPy take."""
DIGITS = 1e-3
"""Rounding that is spoken of, in deviations of the numbers."""


def whole(least: int = 0, most: int | None = None, mend: str = "") -> Check:
    """Whole numbers of a range, those of NumPy too; a bool is none.

    >>> whole(1)("batch_size", 8)
    8
    >>> whole(1)("batch_size", 0)
    Traceback (most recent call last):
    ...
    ValueError: batch_size must be a whole number from 1, got 0
    """

    def check(name: str, value: Any) -> int:
        wanted = f"a whole number {_range(least, most)}"
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
            raise _refused(TypeError, name, wanted, value, mend)
        found = int(value)
        if found < least or (most is not None and found > most):
            raise _refused(ValueError, name, wanted, value, mend)
        return found

    return check


def number(
    least: float = -math.inf,
    most: float = math.inf,
    *,
    open: bool = False,
    mend: str = "",
) -> Check:
    """Finite numbers from ``least`` to ``most``; ``open``: between the two.

    >>> number(0, open=True)("lr", -1)
    Traceback (most recent call last):
    ...
    ValueError: lr must be a finite number above 0, got -1
    """

    def check(name: str, value: Any) -> float:
        wanted = f"a finite number {_open(least, most) if open else _range(least, most)}".strip()
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
            raise _refused(TypeError, name, wanted, value, mend)
        found = value if isinstance(value, (int, float)) else float(value)
        inside = least < found < most if open else least <= found <= most
        if not (math.isfinite(found) and inside):
            raise _refused(ValueError, name, wanted, value, mend)
        return found

    return check


def share(name: str, value: Any) -> float:
    """A probability that leaves something: from 0, below 1.

    >>> share("dropout", 0.2)
    0.2
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise _refused(TypeError, name, "a number from 0, below 1", value)
    found = float(value)
    if not 0 <= found < 1:
        raise _refused(ValueError, name, "a number from 0, below 1", value)
    return found


def sizes(name: str, value: Any) -> list[int]:
    """A list of whole numbers from 1; it may be empty.

    >>> sizes("hidden", (64, 32))
    [64, 32]
    """
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise _refused(TypeError, name, "a list of whole numbers from 1", value)
    return [whole(1)(f"{name}[{i}]", size) for i, size in enumerate(value)]


def word(*allowed: str, mend: str = "") -> Check:
    """One of some words; ``mend`` ends the refusal of others."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            wanted = f"one of {', '.join(allowed)}"
            kind = ValueError if isinstance(value, str) else TypeError
            raise _refused(kind, name, wanted, value, mend)
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """True or False, and nothing that only counts as one of them."""
    if not isinstance(value, (bool, np.bool_)):
        raise _refused(TypeError, name, "True or False", value)
    return bool(value)


def folder(name: str, value: Any) -> str | Path:
    """The path of a folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise _refused(TypeError, name, "the path of a folder", value)
    if not str(value).strip():
        raise _refused(
            ValueError, name, "the path of a folder", value, "leave it out for the one by default"
        )
    return value if isinstance(value, (str, Path)) else Path(value)


def optional(check: Check) -> Check:
    """What a check takes, or None."""
    return lambda name, value: None if value is None else check(name, value)


def either(word: Check, other: Check) -> Check:
    """What one of two checks takes: text the first, anything else the second.

    >>> [either(word("auto"), whole(1))("threads", value) for value in ("auto", 2)]
    ['auto', 2]
    """
    return lambda name, value: (word if isinstance(value, str) else other)(name, value)


def _range(least: float, most: float | None) -> str:
    below = most is None or most == math.inf
    if least == -math.inf:
        return "" if below else f"of {most} at most"
    return f"from {least}" if below else f"from {least} to {most}"


def _open(least: float, most: float) -> str:
    if most == math.inf:
        return f"above {least}"
    return f"between {least} and {most}"


def _refused(
    kind: type[Exception], name: str, wanted: str, value: Any, mend: str = ""
) -> Exception:
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    shown = shown if len(shown) <= 60 else f"a {type(value).__name__}"
    return kind(f"{name} must be {wanted}, got {shown}" + (f"; {mend}" if mend else ""))


def narrowed(values: torch.Tensor, what: str) -> torch.Tensor:
    """Numbers [n, ...] as float32; warns where they lie so far from zero that digits are lost.

    Args:
        values: float64, NaN where there is none; columns [n, D] are looked at one by one.
        what: they are, for the warning.
    """
    kept = values.float()
    if values.dtype != torch.float64 or len(values) < 2:
        return kept
    lost = (kept.double() - values).abs().nan_to_num(0.0).amax(0)
    middle = values.nanmean(0)
    spread = (values - middle).square().nanmean(0).sqrt()
    told = spread > 1e-12 * middle.abs()  # constants have no differences
    if bool((told & (lost > DIGITS * spread)).any()):
        warnings.warn(
            f"{what} lie near {middle.tolist()} with a deviation of {spread.tolist()}, kept "
            "as float32 numbers of 7 digits, which loses some of their differences; subtract "
            "an offset, or change the unit",
            stacklevel=3,
        )
    return kept
