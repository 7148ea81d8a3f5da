"""Strategies that combine others: what they trusted, and whether that was worth it."""

from __future__ import annotations

__all__: list[str] = []
