"""The fit backends by name."""

from __future__ import annotations

from typing import Any

from .lean import LeanFits
from .lightning import LightningFits
from .stacked import StackedFits

__all__ = ["backend_of"]

BACKENDS = {"lightning": LightningFits, "lean": LeanFits, "stacked": StackedFits, "auto": LeanFits}
"""By the values of the option ``fits``; "auto" is lean where that gives the same, never a stack."""


def backend_of(fits: str, *args: Any, **kwargs: Any) -> LightningFits:
    """The backend that the option ``fits`` names, of the arguments of :class:`LightningFits`."""
    return BACKENDS[fits](*args, **kwargs)
