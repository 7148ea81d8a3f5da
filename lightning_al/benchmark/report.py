"""One page that says what a benchmark found: self-contained HTML, pictures, a table for papers."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from lightning_al.files import replacing
from lightning_al.history.metric_names import human_name, larger_is_better
from lightning_al.history.plots import GRID, INK
from lightning_al.studies.asal.deployment import deployment
from lightning_al.studies.asal.deployment_table import columns, is_deployment, sentences
from lightning_al.studies.asal.maps import draw
from lightning_al.studies.asal.safe_area import areas
from lightning_al.studies.asal.traces import read_trace, run_folders

from . import figures
from .ceilings import GREEDY
from .grid import FULL_DATA
from .results import Results
from .statistics import average_ranks, friedman, penalty_matrix
from .summary import SETTING, Setting, paired, per_run, records, settings, summary

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lightning_al.studies.asal.deployment import Deployed

__all__ = ["Report", "markdown_table", "write_report"]


@dataclass(frozen=True)
class Report:
    """What was written, and what the page says."""

    page: Path
    claims: Sequence[str]
    pictures: Sequence[Path] = field(default_factory=tuple)


def write_report(
    root: str | Path, *more: str | Path, out: str | Path | None = None, metric: str | None = None
) -> Report:
    """Write ``report.html``, ``report.md`` and ``figures/`` (SVG and PNG) of a benchmark.

    Args:
        root: folder of the benchmark, or of one run.
        more: further folders; their runs are put beside those of the first.
        out: folder to write into; ``root`` by default.
        metric: column that counts, instead of the first folder's.

    Raises:
        LookupError: no results in a folder, or none with the benchmark's metric.
    """
    import pandas as pd

    read = [_read(Path(folder)) for folder in (root, *more)]
    frame, facts = pd.concat([f for f, _ in read], ignore_index=True), dict(read[0][1])
    if metric is not None:
        if metric not in frame:
            have = ", ".join(c for c in frame.columns if "/" in c)
            raise LookupError(f"the results hold no {metric!r}; their metrics are {have}")
        facts["metric"] = metric
        higher = larger_is_better(metric) is not False
        frame = frame.assign(value=frame[metric], metric=metric, higher_is_better=higher)
    folders: dict[str, Path] = {}
    for folder, (its_frame, _) in zip((root, *more), read, strict=True):
        folders |= run_folders(Path(folder), its_frame)
    return report_of(frame, facts, Path(out or root), source=Path(root), folders=folders)


def _read(root: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    if (root / "journal.jsonl").exists():
        from .single import read_run

        return read_run(root)
    results = Results(root)
    return results.read_table(), results.facts()


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
        facts: what the benchmark compares.
        out: folder to write into.
        source: where the table is from.
        folders: of runs, by run id, whose queries can be drawn.
    """
    from jinja2 import Environment

    runs = per_run(frame, facts)
    if not len(runs):
        raise LookupError(f"no run in {source or 'the table'} has ended well yet")
    table = summary(runs, facts)
    pictures = _Pictures(out / "figures")
    deployed = deployment(frame, reference=facts.get("reference", "random"))
    sections = [
        _section(s, table, frame, facts, pictures)
        | _deployed(s, [d for d in deployed if d.place == tuple(s.place.values())])
        | {
            "safety": _safety(s, frame, pictures),
            "map": _map(s, folders, pictures),
            "areas": areas(s, folders),
        }
        for s in settings(runs)
    ]
    overall = _overall(runs, frame, pictures)
    failed = frame[frame["status"] == "failed"].drop_duplicates("run_id")
    lost = failed.groupby(["data", "error"], sort=True, as_index=False)
    text = (files("lightning_al.benchmark") / "report.html.jinja").read_text()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "signed": _signed}
    claims = [claim for section in sections for claim in section["claims"]]
    page = environment.from_string(text).render(
        facts=facts,
        metrics=", ".join(human_name(m) for m in dict.fromkeys(runs["metric"])),
        sections=sections,
        overall=overall,
        failed=len(failed),
        lost=records(lost.agg(dict.fromkeys(("strategy", "run_id", "seed"), _listed))),
        runs=int(frame.loc[frame["status"] == "done", "run_id"].nunique()),
        seeds=int(runs.groupby([*SETTING, "strategy"]).size().max()),
        hosts=sorted({str(h) for h in frame["host"].dropna()} - {""}),
        versions={n: version(n) for n in ("torch", "pytorch-lightning")},
        source=None if source is None else source.name,
    )
    for name, content in (("report.html", page), ("report.md", _markdown(table, facts))):
        with replacing(out / name) as file:
            file.write_text(content, encoding="utf-8")
    return Report(out / "report.html", claims, tuple(pictures.written))


# --- parts of the page ---------------------------------------------------------------------------


def _section(
    setting: Setting,
    table: pd.DataFrame,
    frame: pd.DataFrame,
    facts: Mapping[str, Any],
    pictures: _Pictures,
) -> dict[str, Any]:
    mine = table
    for name in SETTING:
        mine = mine[mine[name] == setting.place[name]]
    rows = records(mine)
    full = rows[0]["full_data"] if rows else math.nan
    key = _key(setting)
    return {
        "name": setting.name,
        "metric": human_name(setting.metric),
        "direction": "higher" if setting.higher_is_better else "lower",
        "rows": rows,
        "full": full if math.isfinite(full) else None,
        "reference": facts.get("reference", "random"),
        "claims": list(_claims(setting, rows, facts)),
        "curve": pictures.add(f"curve-{key}", figures.curves(setting, frame)),
        "times": pictures.add(f"time-{key}", figures.times(setting)),
    }


def _key(setting: Setting) -> str:
    return re.sub(r"[^a-z0-9]+", "-", setting.name.lower()).strip("-")


def _listed(values: pd.Series) -> str:
    return ", ".join(sorted(values.astype(str).unique()))


def _deployed(setting: Setting, rows: Sequence[Deployed]) -> dict[str, Any]:
    """A setting's second table and what it allows to say; the best area first, as in the first."""
    area = setting.runs.groupby("strategy")["area"].mean()
    order = list(area.sort_values(ascending=not setting.higher_is_better).index)
    place = {name: i for i, name in enumerate(order)}
    return {
        "end": "At deployment" if is_deployment(rows) else "Time",
        "columns": columns(rows),
        "deployed": sorted(rows, key=lambda row: place.get(row.strategy, len(place))),
        "said": [f"{setting.name}: {text}" for text in sentences(rows)],
    }


def _safety(setting: Setting, frame: pd.DataFrame, pictures: _Pictures) -> str | None:
    figure = figures.safety(setting, frame)
    return None if figure is None else pictures.add(f"safety-{_key(setting)}", figure)


def _map(setting: Setting, folders: Mapping[str, Path], pictures: _Pictures) -> str | None:
    """Where each strategy asked, in the run of the least seed whose folder lies here."""
    runs = setting.runs[setting.runs["run_id"].isin(list(folders))]
    if not len(runs):
        return None
    runs = runs[runs["strategy"] != FULL_DATA].sort_values(["seed", "fold"])
    first = runs.drop_duplicates("strategy")
    order = setting.runs.groupby("strategy")["area"].mean()
    order = order.sort_values(ascending=not setting.higher_is_better)
    by_name = dict(zip(first["strategy"], first["run_id"], strict=True))
    found = []
    for name in (n for n in order.index if n in by_name):
        trace = read_trace(folders[by_name[name]], name)
        if trace is None:
            return None  # the data of all strategies of a setting are the same
        found.append(trace)
    return pictures.add(f"map-{_key(setting)}", draw(found)) if found else None


def _claims(
    setting: Setting, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> Iterator[str]:
    """One sentence a strategy, with the number of pairs it stands on."""
    reference = facts.get("reference", "random")
    for row in rows:
        if not row["better"]:
            continue
        n, gap = row["n"], f"{row['difference']:+.4g}"
        stands = f"{n} pairs, mean difference {gap}, corrected p {row['p']:.2g}"
        if row["better"] == "no difference shown":
            more = row["seeds_needed"]
            hint = "" if math.isnan(more) else f"; about {more:.0f} pairs would show such a gap"
            said = f"and {reference} are not told apart ({stands}{hint})"
        else:
            said = f"is {row['better']} than {reference} ({stands})"
        yield f"{setting.name}: {row['strategy']} {said}."


def _overall(runs: pd.DataFrame, frame: pd.DataFrame, pictures: _Pictures) -> dict[str, Any]:
    """Ranks, critical differences and penalties over everything, with what they rest on."""
    import pandas as pd

    tables = {s.name: paired(s) * (1 if s.higher_is_better else -1) for s in settings(runs)}
    shared = [n for n in _all_strategies(runs) if all(n in t for t in tables.values())]
    if len(shared) < 2:
        return {}
    means = pd.DataFrame({name: t[shared].mean() for name, t in tables.items() if len(t)}).T
    blocks = pd.concat([t[shared] for t in tables.values()])
    several = means.index.size > 1
    ranks = average_ranks(means.to_numpy())
    best = sorted(zip(shared, ranks, strict=True), key=lambda pair: pair[1])
    curves = [c for s in settings(runs) if (c := _curves(s, frame, shared)) is not None]
    matrix = penalty_matrix(curves) if curves else None
    return {
        "ranks": best,
        "settings": means.index.size,
        "blocks": len(blocks),
        "friedman_blocks": friedman(blocks.to_numpy()) if len(blocks) > 1 else math.nan,
        "friedman_settings": friedman(means.to_numpy()) if several else math.nan,
        "dependent": len(blocks) > means.index.size,
        "critical": None
        if len(shared) < 3 or len(blocks) < 2
        else pictures.add("critical-difference", figures.critical_difference(blocks)),
        "penalties": None
        if matrix is None
        else pictures.add("penalties", figures.penalties(matrix, shared, len(curves))),
    }


def _all_strategies(runs: pd.DataFrame) -> list[str]:
    return [str(n) for n in runs["strategy"].unique() if n not in (FULL_DATA, GREEDY)]


def _curves(setting: Setting, frame: pd.DataFrame, names: Sequence[str]) -> Any:
    """[blocks, strategies, fits] where all runs of a setting have the same numbers of labels.

    Of metrics that should be low, the negative.
    """
    import numpy as np

    rows = frame[frame["run_id"].isin(setting.runs["run_id"]) & frame["strategy"].isin(names)]
    wide = rows.pivot_table(
        index=["fold", "seed"], columns=["strategy", "n_labelled"], values="value"
    ).dropna()
    parts = [wide[n].to_numpy() for n in names if n in wide.columns.get_level_values(0)]
    if len(parts) < len(names) or len({p.shape for p in parts}) > 1 or not len(wide):
        return None
    return np.stack(parts, axis=1) * (1 if setting.higher_is_better else -1)


# --- pictures ------------------------------------------------------------------------------------


class _Pictures:
    """Saves each figure as SVG and PNG; gives back SVG to put into the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def add(self, name: str, figure: Figure) -> str:
        """The figure as an ``<svg>`` element without fixed size, its ink that of the page."""
        from markupsafe import Markup

        figure.patch.set_alpha(0.0)
        for axes in figure.axes:
            axes.patch.set_alpha(0.0)
        with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        svg = text.getvalue()
        for suffix in (".svg", ".png"):
            path = self.folder / f"{name}{suffix}"
            with replacing(path) as file:
                if suffix == ".svg":
                    file.write_text(svg, encoding="utf-8")
                else:
                    figure.savefig(file, dpi=150, facecolor="white")
            self.written.append(path)
        return Markup(_inline(svg, name))  # our own figure; its texts are escaped


def _inline(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 role="img"', svg, count=1)
    for ink in (INK, "#000000"):
        svg = svg.replace(f"fill: {ink}", "fill: currentColor")
        svg = svg.replace(f"stroke: {ink}", "stroke: currentColor")
    svg = svg.replace(f"stroke: {GRID}", "stroke: var(--line)")
    # one page holds several figures: their inner names must not meet
    prefix = re.sub(r"\W", "-", name)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)


# --- numbers -------------------------------------------------------------------------------------


def _number(value: float) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4g}" if abs(value) >= 1000 or 0 < abs(value) < 1e-3 else f"{value:.4f}"


def _signed(value: float) -> str:
    return "–" if not math.isfinite(value) else ("+" if value >= 0 else "−") + _number(abs(value))


def markdown_table(table: pd.DataFrame) -> str:
    """Mean area ± half the interval, data sets down, strategies across; the best in bold."""
    lines = []
    strategies = list(dict.fromkeys(table["strategy"]))
    lines.append("| | " + " | ".join(strategies) + " |")
    lines.append("|---" * (len(strategies) + 1) + "|")
    for place, part in table.groupby(list(SETTING), sort=True):
        by_name = {row["strategy"]: row for row in records(part)}
        best = part.iloc[0]["strategy"]
        cells = []
        for name in strategies:
            row = by_name.get(name)
            text = "" if row is None else f"{_number(row['area'])} ± {_number(_half(row))}"
            cells.append(f"**{text}**" if name == best else text)
        label = ", ".join(str(p) for p in place if p != "")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _half(row: Mapping[str, Any]) -> float:
    return (row["high"] - row["low"]) / 2


def _markdown(table: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    pairs = sorted(set(table["n"]))
    seen = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    metrics = ", ".join(human_name(m) for m in dict.fromkeys(table["metric"]))
    return (
        f"{facts.get('title') or 'Benchmark'}\n\n{metrics}: area under the learning curve (rule "
        f"{facts.get('area', 'budget')}); mean ± half the 95 % bootstrap interval over {seen} "
        "paired runs; best mean of a row in bold.\n\n" + markdown_table(table)
    )
