"""What a run leaves: records of its rounds, tables, pictures, and what loggers are told."""

from __future__ import annotations

__all__: list[str] = []
