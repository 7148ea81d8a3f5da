"""What papers add to a benchmark, a folder each; importing this makes them known to the referee."""

from __future__ import annotations

from .asal.asal_study import Asal
from .autoal.autoal_study import AutoAL
from .balsa.balsa_study import Balsa
from .pyrelational.pyrelational_study import PyRelational

__all__ = ["Asal", "AutoAL", "Balsa", "PyRelational"]
