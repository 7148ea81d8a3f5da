"""Reference figures, columns and pictures of one paper each."""

from __future__ import annotations

__all__: list[str] = []
