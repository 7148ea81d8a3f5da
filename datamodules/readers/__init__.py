"""Files to arrays: images, tables, and the numbers that are made of them."""

from __future__ import annotations

__all__: list[str] = []
