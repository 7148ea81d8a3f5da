"""Strategies made of strategies."""

from __future__ import annotations

__all__: list[str] = []
