"""What papers add to a benchmark, a folder each; importing this makes them known to the referee."""

from __future__ import annotations

from .asal.asal_study import Asal
from .pyrelational.pyrelational_study import PyRelational

__all__ = ["Asal", "PyRelational"]
