"""What a process is handed: a group of runs that are fitted together, or one run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .execute import execute
from .groups import Unit

__all__ = ["outcomes_of"]


def outcomes_of(unit: Unit, root: Path, keep: bool = False) -> Iterator[dict[str, Any]]:
    """Do what was handed out, a group or one run; outcomes as they come."""
    if len(unit) == 1:
        yield execute(unit[0], root, keep=keep)
        return
    from .lockstep import in_lockstep  # inside: it loads all that runs need

    yield from in_lockstep(unit, root, keep=keep)
