"""Numbers as a page shows them."""

from __future__ import annotations

import math

from .statistics import Interval

__all__ = ["number", "signed", "spread"]


def number(value: float | None) -> str:
    """Four decimals, four digits where those say nothing; a dash where there is no number.

    >>> number(0.5), number(12345.6), number(2e-5), number(None)
    ('0.5000', '1.235e+04', '2e-05', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4g}" if abs(value) >= 1000 or 0 < abs(value) < 1e-3 else f"{value:.4f}"


def signed(value: float) -> str:
    """The same with its sign.

    >>> signed(0.5), signed(-0.5)
    ('+0.5000', '−0.5000')
    """
    return "–" if not math.isfinite(value) else ("+" if value >= 0 else "−") + number(abs(value))


def spread(value: Interval) -> str:
    """Mean ± half the interval, three digits and two; the mean alone of a single run.

    >>> spread(Interval(0.5, 0.4, 0.62, 5)), spread(Interval(1.0, -math.inf, math.inf, 1))
    ('0.5 ± 0.11', '1')
    """
    if not value.n:
        return "–"
    half = (value.high - value.low) / 2
    mean = _digits(value.mean)
    return f"{mean} ± {_digits(half, 2)}" if math.isfinite(half) else mean


def _digits(value: float, digits: int = 3) -> str:
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
