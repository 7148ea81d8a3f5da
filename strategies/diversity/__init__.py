"""Batches that cover the pool, by embeddings alone."""

from __future__ import annotations

__all__: list[str] = []
