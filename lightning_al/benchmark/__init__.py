"""The referee: grids of runs, their results, statistics and a report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bench import run_bench
    from .grid import BenchConfig, read_bench
    from .report import write_report
    from .results import Results
    from .run_spec import RunSpec
    from .study import STUDIES, Study

__all__ = [
    "STUDIES",
    "BenchConfig",
    "Results",
    "RunSpec",
    "Study",
    "read_bench",
    "run_bench",
    "write_report",
]

HOMES = {
    **dict.fromkeys(("BenchConfig", "read_bench"), "grid"),
    **dict.fromkeys(("STUDIES", "Study"), "study"),
    **{"Results": "results", "RunSpec": "run_spec", "run_bench": "bench", "write_report": "report"},
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for: a worker needs no plotting."""
    if name in HOMES:
        return getattr(importlib.import_module(f".{HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
