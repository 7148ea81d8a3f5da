"""Who is labelled, and what was answered: pure state, hashed, replayed from the journal."""

from __future__ import annotations

from .overlay import Overlay
from .state import LabelState

__all__ = ["LabelState", "Overlay"]
