"""One page that says what a benchmark found: self-contained HTML, pictures, a table for papers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lightning_al.files import read_only, replacing
from lightning_al.history.metric_names import human_name, larger_is_better

from .inline_svg import Pictures
from .overall import overall
from .paper_table import markdown_page
from .results import Results
from .sections import section
from .shown_numbers import number, signed
from .study import Additions, Evidence, study_of
from .summary import SETTING, per_run, records, settings, summary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "report_of", "write_report"]

FIGURES = "figures"


@dataclass(frozen=True)
class Report:
    """What was written, and what the page says."""

    page: Path
    claims: Sequence[str]
    pictures: Sequence[Path] = field(default_factory=tuple)


def write_report(
    root: str | Path,
    *more: str | Path,
    out: str | Path | None = None,
    metric: str | None = None,
    study: str | None = None,
) -> Report:
    """Write ``report.html``, ``report.md`` and ``figures/`` (SVG and PNG) of a benchmark.

    Args:
        root: folder of the benchmark, or of one run.
        more: further folders; their runs are put beside those of the first.
        out: folder to write into; ``root`` by default.
        metric: column that counts, instead of the first folder's.
        study: name of the study that adds to the page, instead of the first folder's.

    Raises:
        LookupError: no results in a folder, none with the benchmark's metric, or no such study.
        OSError: nothing can be written there.
    """
    import pandas as pd

    _check_place(Path(out or root))
    read = [_read(Path(folder)) for folder in (root, *more)]
    frame, facts = pd.concat([e.frame for e in read], ignore_index=True), dict(read[0].facts)
    if metric is not None:
        if metric not in frame:
            have = ", ".join(c for c in frame.columns if "/" in c)
            raise LookupError(f"the results hold no {metric!r}; their metrics are {have}")
        facts["metric"] = metric
        higher = larger_is_better(metric) is not False
        frame = frame.assign(value=frame[metric], metric=metric, higher_is_better=higher)
    if study is not None:
        facts["study"] = study
    folders = {run: path for e in read for run, path in e.folders.items()}
    return report_of(frame, facts, Path(out or root), source=Path(root), folders=folders)


def _check_place(place: Path) -> None:
    """Say before anything is drawn where nothing can be written.

    Raises:
        OSError: a folder on a disk that takes nothing, or of somebody else.
        ValueError: its ``figures`` are a link, which leads elsewhere.
    """
    if (place / FIGURES).is_symlink():
        raise ValueError(
            f"{place / FIGURES} is a symbolic link, by which the report would write elsewhere; put "
            "a folder in its place, or name another for the report with --out FOLDER (out=…)"
        )
    if not place.is_dir():
        return  # what is not there yet is made, or is no folder with results
    try:
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        if not read_only(error):
            raise
        raise OSError(
            error.errno,
            f"nothing can be written into {place} ({os.strerror(error.errno or 0)}); name a folder "
            "for the report with --out FOLDER (out=…)",
        ) from error


def _read(root: Path) -> Evidence:
    if (root / "journal.jsonl").exists():
        from .single import read_run

        return read_run(root)
    return Results(root).evidence()


def report_of(
    frame: pd.DataFrame,
    facts: Mapping[str, Any],
    out: Path,
    *,
    source: Path | None = None,
    folders: Mapping[str, Path] = MappingProxyType({}),
) -> Report:
    """The report of a tidy table; see :func:`write_report`.

    Args:
        frame: the table.
        facts: what the benchmark compares, and the ``study`` that adds to the page.
        out: folder to write into.
        source: where the table is from.
        folders: of runs, by run id, whose journals can be read.
    """
    from jinja2 import Environment

    study = study_of(facts.get("study"))
    runs = per_run(frame, facts)
    if not len(runs):
        raise LookupError(f"no run in {source or 'the table'} has ended well yet")
    table = summary(runs, facts)
    pictures = Pictures(out / FIGURES)
    evidence = Evidence(frame, facts, folders)
    sections = []
    for setting in settings(runs):
        added = Additions() if study is None else study.additions(setting, evidence)
        sections.append(section(setting, table, evidence, added, pictures))
    text = (files("lightning_al.benchmark") / "report.html.jinja").read_text()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "signed": signed}
    claims = [claim for section in sections for claim in section["claims"]]
    page = environment.from_string(text).render(
        facts=facts,
        metrics=", ".join(human_name(m) for m in dict.fromkeys(runs["metric"])),
        sections=sections,
        overall=overall(runs, frame, pictures),
        **_failures(frame),
        runs=int(frame.loc[frame["status"] == "done", "run_id"].nunique()),
        seeds=int(runs.groupby([*SETTING, "strategy"]).size().max()),
        hosts=sorted({str(h) for h in frame["host"].dropna()} - {""}),
        versions={n: version(n) for n in ("torch", "pytorch-lightning")},
        source=None if source is None else source.name,
        study=None if study is None else study.name,
    )
    for name, content in (("report.html", page), ("report.md", markdown_page(table, facts))):
        with replacing(out / name) as file:
            file.write_text(content, encoding="utf-8")
    return Report(out / "report.html", claims, tuple(pictures.written))


def _failures(frame: pd.DataFrame) -> dict[str, Any]:
    """How many runs have failed, and each error with the runs that had it."""
    failed = frame[frame["status"] == "failed"].drop_duplicates("run_id")
    lost = failed.groupby(["data", "error"], sort=True, as_index=False)
    return {
        "failed": len(failed),
        "lost": records(lost.agg(dict.fromkeys(("strategy", "run_id", "seed"), _listed))),
    }


def _listed(values: pd.Series) -> str:
    return ", ".join(sorted(values.astype(str).unique()))
