"""The command ``report``: one page of what a benchmark, or some runs, found."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from lightning_al.benchmark.report import Report, write_report

from .typed import Words

__all__ = ["report_command"]


def report_command(words: Sequence[str]) -> Report:
    """Write the page and say where it lies."""
    parser = Words(
        prog="lightning-al report",
        usage="lightning-al report FOLDER [FOLDER ...] [--out FOLDER]",
        description="A self-contained report.html, a table for papers (report.md) and the "
        "pictures, from the folder of a benchmark or of runs.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="of a benchmark, or of runs")
    parser.add_argument("--out", type=Path, help="where to write; the first folder by default")
    parser.add_argument("--metric", help="column that counts, such as test/accuracy")
    parser.add_argument(
        "--study", help="what adds to the page, such as asal; by default what the benchmark names"
    )
    known = parser.parse_args(list(words))
    importlib.import_module("lightning_al.studies")  # makes those that are shipped known
    options = {"out": known.out, "metric": known.metric, "study": known.study}
    report = write_report(*known.folders, **options)
    for claim in report.claims:
        print(claim)
    print(f"report  {report.page}")
    return report
