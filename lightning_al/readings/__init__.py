"""What an output *is*: said once, by a task or an adapter, and never told from its size."""

from __future__ import annotations

from .classes import Binary, Classes, Labels
from .density import Density
from .numbers import Numbers
from .places import Places
from .reading import READINGS, Reading, reading_of
from .undeclared import Undeclared

__all__ = [
    "READINGS",
    "Binary",
    "Classes",
    "Density",
    "Labels",
    "Numbers",
    "Places",
    "Reading",
    "Undeclared",
    "reading_of",
]
