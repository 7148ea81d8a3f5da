"""Strategies that train a model of their own, or run the task's anew."""

from __future__ import annotations

__all__: list[str] = []
