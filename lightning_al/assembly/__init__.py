"""From settings to the parts of a run: for the command line, the referee and replay alike."""

from __future__ import annotations

__all__: list[str] = []
