"""The command ``bench``: a grid of runs, done, resumed, collected."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_al.assembly.shipped import config_path
from lightning_al.assembly.words import pairs
from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.engines import shard, slurm_script
from lightning_al.benchmark.grid import BenchConfig, read_bench
from lightning_al.benchmark.results import Results
from lightning_al.benchmark.run_spec import AXES, RunSpec
from lightning_al.benchmark.study import Evidence, study_of
from lightning_al.benchmark.summary import per_run, records, summary
from lightning_al.identity import digest

from .typed import Words, at_least

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["bench_command"]

ENGINES = ("local", "ray", "slurm")


def bench_command(words: Sequence[str]) -> pd.DataFrame | list[RunSpec] | Path:
    """Do what is left of a benchmark and print what it says; status 1 where its study fails it.

    Returns:
        The tidy table; the runs with ``--list``; the job script with ``--engine slurm``.
    """
    known = _parser().parse_args(list(words))
    importlib.import_module("lightning_al.studies")  # makes those that are shipped known
    path = config_path(known.config)
    bench = _only(read_bench(path, seeds=known.seeds, folds=known.folds), known.only)
    if known.list:
        for spec in bench.runs:
            print(spec.run_id, spec)
        return list(bench.runs)
    root = known.out or Path("benches") / f"{path.stem}-{digest(bench.facts())}"
    if known.engine == "slurm":
        Results(root).describe(bench)
        return _write_script(root, words, known.tasks, known.workers)
    units = bench.units()
    mine = shard(units, known.shard) if known.shard else units
    frame = run_bench(
        bench,
        root,
        workers=known.workers,
        engine=known.engine,
        address=known.address,
        specs=[] if known.collect else [spec for unit in mine for spec in unit],
        retry_failed=known.retry_failed,
        keep_checkpoints=known.keep_checkpoints,
        progress=not known.quiet,
    )
    _show(bench, root, frame)
    if not _judged(bench, root, frame):
        raise SystemExit(1)
    return frame


def _parser() -> argparse.ArgumentParser:
    parser = Words(
        prog="lightning-al bench",
        usage="lightning-al bench --config NAME [--workers N] [--seeds N] [--key value ...]",
        description="Compare strategies on a grid of data sets, models, starts and seeds. The "
        "same command goes on where it stopped.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", "-c", required=True, help="a shipped benchmark, or a path")
    add("--out", type=Path, help="folder of the results; default benches/<config>-<hash>")
    add(
        "--workers",
        type=at_least(0),
        default=1,
        help="processes here, one thread each; 0: this one",
    )
    add("--seeds", type=at_least(1), help="how many seeds, instead of the configuration's")
    add("--folds", type=at_least(1), help="how many folds, instead of the configuration's")
    add("--only", action="append", default=[], metavar="AXIS=NAME", help="a part of the grid")
    add("--engine", choices=ENGINES, default="local", help="where the runs are done")
    add("--address", help="of a Ray cluster; a local one by default")
    add("--tasks", type=at_least(1), default=8, help="tasks of the SLURM array (engine slurm)")
    add(
        "--shard",
        metavar="I/N",
        help="do the runs I, I+N, ... only (what the array's tasks do); "
        "runs that are fitted together count as one",
    )
    add("--collect", action="store_true", help="do nothing new, only write the table")
    add("--retry-failed", action="store_true", help="do failed runs again")
    add("--keep-checkpoints", action="store_true", help="keep the last one of each run")
    add("--list", action="store_true", help="say which runs there are, and do none")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _only(bench: BenchConfig, given: Sequence[str]) -> BenchConfig:
    """The part of a benchmark with some values on some axes.

    Raises:
        ValueError: no such axis, or nothing left.
    """
    from dataclasses import replace

    wanted: dict[str, set[str]] = {}
    for text in given:
        axis, equals, value = text.partition("=")
        if axis not in AXES or not equals:
            raise ValueError(f"--only takes AXIS=NAME with an axis of {', '.join(AXES)}: {text!r}")
        wanted.setdefault(axis, set()).add(value)
    left = [s for s in bench.runs if all(str(s.place[a]) in v for a, v in wanted.items())]
    if not left:
        have = {axis: sorted({str(s.place[axis]) for s in bench.runs}) for axis in wanted}
        raise ValueError(f"--only {' '.join(given)} leaves no run; there are {have}")
    return replace(bench, runs=tuple(left))


def _write_script(root: Path, words: Sequence[str], tasks: int, workers: int) -> Path:
    kept: list[str] = []
    for option, value in pairs(words):
        if option not in ("--engine", "--tasks", "--workers", "--out", "--shard"):
            kept += [option] if value is None else [option, value]
    (root / "slurm").mkdir(parents=True, exist_ok=True)
    script = root / "submit.sh"
    script.write_text(slurm_script(kept, tasks, workers, root))
    print(f"written: {script}\nsubmit it with\n  sbatch {script}")
    return script


def _show(bench: BenchConfig, root: Path, frame: pd.DataFrame) -> None:
    outcomes = Results(root).outcomes()
    failed = [o for o in outcomes.values() if o["status"] == "failed"]
    mine = {s.run_id for s in bench.runs}
    print(f"{len(mine & set(outcomes))} of {len(mine)} runs ended, {len(failed)} failed")
    for outcome in failed[:5]:
        print(f"  {outcome['run_id']}  {outcome['error']}", file=sys.stderr)
    if len(frame):
        runs = per_run(frame, bench.facts())
        if len(runs):
            print(_text(summary(runs, bench.facts()), bench))
        print(f"\nresults  {Results(root).table}\nreport   lightning-al report {root}")


def _judged(bench: BenchConfig, root: Path, frame: pd.DataFrame) -> bool:
    """Print what the study of a benchmark says of its results; whether that holds."""
    study = study_of(bench.study)
    evidence = Evidence(frame, bench.facts(), Results(root).folders(frame))
    verdict = None if study is None else study.verdict(bench.runs, evidence)
    if verdict is None:
        return True
    print(*verdict.lines, sep="\n")
    return verdict.holds


def _text(table: pd.DataFrame, bench: BenchConfig) -> str:
    """The summary for a terminal."""
    lines = [f"{bench.metric}, area by the rule {bench.area!r}; the best first"]
    for place, part in table.groupby(["data", "model", "start", "query_size"], sort=True):
        lines.append(f"\n{', '.join(str(p) for p in place[:3] if p != '')}, {place[3]} a query")
        width = max(len(str(s)) for s in part["strategy"])
        for row in records(part):
            lines.append(_line(row, width))
    return "\n".join(lines)


def _line(row: dict[str, Any], width: int) -> str:
    text = f"  {row['strategy']:{width}}  {row['area']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
    text += f"  n={row['n']}  final {row['final']:.4f}"
    if row["better"]:
        text += f"  {row['difference']:+.4f}, p {row['p']:.2g}: {row['better']}"
        if row["better"] == "no difference shown" and row["seeds_needed"] == row["seeds_needed"]:
            text += f" (about {row['seeds_needed']:.0f} seeds would)"
    return text
