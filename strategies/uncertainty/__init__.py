"""Scores of single items: what the model is least sure of, or what an answer would bring."""

from __future__ import annotations

__all__: list[str] = []
