"""What ``run`` prints at its end: a table, where things lie, and commands to try next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.command_line import CommandLine
from lightning_al.files import if_writable
from lightning_al.history.aligned import aligned
from lightning_al.history.history import History
from lightning_al.history.metric_names import human_name, main_metric, speaks
from lightning_al.history.plots import learning_curve
from lightning_al.history.progress import round_table

from .pictures import DENSITIES

__all__ = ["Outcome", "next_commands", "seed_table", "show"]

CLASSES = "classification"  # of a reading's kinds
ONCE = ("run_dir", "overwrite", "change", "extend")
"""Options that belong to one folder alone."""


@dataclass(frozen=True)
class Outcome:
    """What a command ``run`` did."""

    root: Path
    histories: Sequence[History]  # one a seed
    baselines: Sequence[History]  # one a seed, or none
    line: CommandLine
    parts: Assembly


def show(outcome: Outcome) -> None:
    """Draw the picture and print the table."""
    runs = [*outcome.histories, *outcome.baselines]
    if waiting := [run for run in runs if run.waiting]:
        print()
        for run in waiting:
            print(run.stopped)
        print(f"\nrun folder      {outcome.root}")
        return
    picture = outcome.root / "curve.png"
    print()
    drawn = len(runs) == 1 and outcome.parts.config["files"]  # by the run itself
    if speaks(runs):
        if not drawn:
            with if_writable(picture):
                learning_curve(runs, path=picture)
        if len(outcome.histories) > 1:
            print(seed_table(outcome.histories, outcome.baselines))
        else:
            print(round_table(runs[0], runs[1] if outcome.baselines else None))
    print(f"\nrun folder      {outcome.root}")
    if picture.exists():
        print(f"learning curve  {picture}")
    for run in outcome.histories:
        if (drawn_last := run.run_dir / DENSITIES).exists():
            print(f"last query      {drawn_last}")
    print("\nwhat to try next")
    for words, why in next_commands(outcome):
        print(f"  {shlex.join(words)}\n      {why}")


def seed_table(histories: Sequence[History], baselines: Sequence[History] = ()) -> str:
    """Mean and standard deviation over the seeds, at the numbers of labels that all seeds reached.

    With a baseline also the difference of the two, seed by seed.
    """
    metric = main_metric([*histories, *baselines])
    columns = [_values(histories, metric)]
    names = [histories[0].name]
    if baselines:
        columns.append(_values(baselines, metric))
        names += [baselines[0].name, "difference"]
    shared = sorted(set.intersection(*(set(c) for c in columns)))
    largest = max(float(abs(c[n]).max()) for c in columns for n in shared)
    places = 3 if largest < 10 else 2 if largest < 1000 else 0
    rows = [["labelled", *names]]
    for n in shared:
        values = [column[n] for column in columns]
        if baselines:
            values.append(values[0] - values[1])
        cells = [f"{v.mean():.{places}f} ± {v.std(ddof=1):.{places}f}" for v in values]
        rows.append([str(n), *cells])
    head = f"{human_name(metric)}, mean ± standard deviation of {len(histories)} seeds"
    return "\n".join([head, *aligned(rows)])


def _values(histories: Sequence[History], metric: str) -> dict[int, np.ndarray]:
    """The metric of every seed [S] by number of labels, where all seeds have it."""
    each = [
        {r.n_labelled: r.metrics[metric] for r in history.rounds if metric in r.metrics}
        for history in histories
    ]
    shared = set.intersection(*(set(values) for values in each))
    return {n: np.array([values[n] for values in each]) for n in shared}


def next_commands(outcome: Outcome) -> list[tuple[list[str], str]]:
    """Commands that go on from here, as words, each with what it is for."""
    line, parts = outcome.line, outcome.parts
    command = ["lightning-al", *line.without("strategy", "posterior", *ONCE)]
    found = []
    if (other := _other_strategy(parts)) is not None:
        found.append(([*command, *other], "another strategy"))
    if len(outcome.histories) == 1:
        again = ["lightning-al", *line.without("seed", "baseline", *ONCE)]
        seeds = ["--seed", "[0,1,2,3,4]", "--baseline", "random"]
        found.append(([*again, *seeds], "more seeds beside random: one run proves little"))
    last = outcome.histories[-1]
    left = last.rounds[-1].n_pool - len(last.rounds[-1].acquired)
    if last.final_checkpoint is not None and left > 0:
        suggest = ["lightning-al", "suggest", "--ckpt", str(last.final_checkpoint)]
        found.append(([*suggest, "--k", str(min(20, left))], "which items to label next"))
    return [*found, (["lightning-al", "configs"], "the other shipped configurations")]


def _other_strategy(parts: Assembly) -> list[str] | None:
    """A strategy that this model can serve and that was not used, with what it needs."""
    spec = parts.config["strategy"]
    used = spec.get("name") if isinstance(spec, dict) else spec
    reading = getattr(parts.task(), "reading", None)
    regression = parts.datamodule.classes is None if reading is None else reading.kind != CLASSES
    network = (parts.config["model"].get("init_args") or {}).get("network") or {}
    arguments = network.get("init_args") or {}
    drops = {name: p for name, p in arguments.items() if name.endswith("dropout")}
    several = "variance" if regression else "bald"
    if used != several and (drops or "members" in arguments):
        posterior = ["--posterior", "MCDropout"] if "members" not in arguments else []
        off = posterior and not any(drops.values())
        dropout = [f"--model.init_args.network.init_args.{next(iter(drops))}", "0.2"] if off else []
        return ["--strategy", several, *posterior, *dropout]
    if regression:
        return None
    return ["--strategy", "margin" if used != "margin" else "entropy"]
