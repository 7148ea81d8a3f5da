"""Batches by uncertainty and diversity together."""

from __future__ import annotations

__all__: list[str] = []
