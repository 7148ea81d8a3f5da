"""The processes of a run, and how they agree."""

from __future__ import annotations

__all__: list[str] = []
