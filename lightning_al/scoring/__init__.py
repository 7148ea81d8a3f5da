"""One pass over the pool: what a model says of each candidate, and what of it is kept."""

from __future__ import annotations

__all__: list[str] = []
