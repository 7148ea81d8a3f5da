"""One place at a time: policies, and choices under a safety limit."""

from __future__ import annotations

__all__: list[str] = []
