"""PyRelationAL's published tables, beside ours."""

from __future__ import annotations

__all__: list[str] = []
