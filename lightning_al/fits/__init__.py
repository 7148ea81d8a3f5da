"""How a round's model is fitted: the backend, the start weights, and a strategy's workbench."""

from __future__ import annotations

__all__: list[str] = []
