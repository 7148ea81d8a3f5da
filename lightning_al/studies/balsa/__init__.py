"""BALSA's published figures, and what density regression adds to a benchmark's page."""

from __future__ import annotations

__all__: list[str] = []
