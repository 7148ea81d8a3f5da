"""Where a run is, on the terminal, and the table it ends with."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from .aligned import aligned
from .history import History
from .metric_names import human_name, larger_is_better, main_metric, preferred
from .records import Round

__all__ = ["RoundProgress", "round_table"]

BAR = "{desc} |{bar}| {elapsed}<{remaining}{postfix}"


class RoundProgress:
    """Observer: one bar over the rounds on stderr; a plain line a round where that is no terminal.

    ``round 3/10 · 80 labelled · fit |███       | 00:12<00:40, test accuracy=0.853``

    Args:
        metric: what to show beside the bar; the main test metric by default.
        stream: where to write; stderr by default.
    """

    def __init__(self, metric: str | None = None, stream: TextIO | None = None) -> None:
        self.metric = metric
        self.stream = stream
        self._bar: tqdm[Any] | None = None
        self._total: int | None = None
        self._labelled = 0

    def run_started(self, plan: Mapping[str, Any], done: Sequence[Round]) -> None:
        """Start the bar at the rounds that are done."""
        self._total = plan.get("rounds")
        self._labelled = int(plan.get("n_labelled") or 0)
        stream = self.stream or sys.stderr
        if stream.isatty():
            self._bar = tqdm(
                total=self._total,
                initial=len(done),
                file=stream,
                bar_format=BAR,
                dynamic_ncols=True,
            )
        elif done:
            self._say(f"going on after {_rounds(len(done))}")
        if done:
            self._take(done[-1])

    def stage_started(self, round: int, stage: str) -> None:
        """Show the stage."""
        if self._bar is not None:
            where = f"{self._where(round)} · {self._labelled} labelled · {stage}"
            self._bar.set_description_str(where)

    def round_ended(self, round: Round, datamodule: Any) -> None:
        """One round further."""
        if self._bar is not None:
            self._bar.update(1)
        else:
            shown = [f"{name} {value}" for name, value in self._shown(round).items()]
            parts = [f"{round.n_labelled} labelled", *shown, f"{_seconds(round):.1f} s"]
            self._say(f"{self._where(round.round)}: {', '.join(parts)}")
        self._take(round)

    def run_ended(self, history: History) -> None:
        """Close the bar, and say why the run ended."""
        if self._bar is not None:
            self._bar.set_description_str(f"{_rounds(len(history))} · {self._labelled} labelled")
            self._bar.close()
            self._bar = None
        told = history.stopped and not history.failed  # the error itself is shown by its raiser
        why = f": {history.stopped}" if told else ""
        self._say(f"ended after {_rounds(len(history))}{why}")

    def _say(self, line: str) -> None:
        print(line, file=self.stream or sys.stderr, flush=True)

    def _where(self, round: int) -> str:
        return f"round {round + 1}/{self._total}" if self._total else f"round {round + 1}"

    def _take(self, round: Round) -> None:
        self._labelled = round.n_labelled + len(set(round.acquired) - set(round.refused))
        if self._bar is not None:
            self._bar.set_postfix(self._shown(round))

    def _shown(self, round: Round) -> dict[str, str]:
        """The metric to show, by its name in words."""
        if not round.metrics:
            return {}
        name = self.metric
        if name is None or name not in round.metrics:
            name = preferred(list(round.metrics))
        if not name:
            return {}
        return {human_name(name): _number(round.metrics[name])}


def round_table(history: History, beside: History | None = None, metric: str | None = None) -> str:
    """The rounds as an aligned plain table: round, labelled, main metric, seconds.

    Args:
        history: the run.
        beside: a second run, shown at the same numbers of labels; the better value gets a ``*``.
        metric: what to show; the main test metric by default.

    Raises:
        LookupError: no such metric in these runs.
    """
    runs = [history] if beside is None else [history, beside]
    metric = main_metric(runs, metric)
    names = [run.name or f"run {i + 1}" for i, run in enumerate(runs)]
    if beside is None:
        names = [human_name(metric)]
    elif names[0] == names[1]:
        names = [f"{name} ({i + 1})" for i, name in enumerate(names)]
    # a run alone shows each of its rounds; two are compared at the same number of labels
    keys = [{r.round if beside is None else r.n_labelled: r for r in run.rounds} for run in runs]
    rows = [["round", "labelled", *names, "seconds"]]
    for key in sorted(set().union(*keys)):
        found = [by.get(key) for by in keys]
        values = [math.nan if r is None else r.metrics.get(metric, math.nan) for r in found]
        first = next(r for r in found if r is not None)
        cells = [_cell(v, _best(values, metric)) for v in values]
        seconds = "-" if found[0] is None else f"{_seconds(found[0]):.1f}"
        rows.append([str(first.round), str(first.n_labelled), *cells, seconds])
    lines = aligned(rows)
    if beside is not None:
        lines.insert(0, f"{human_name(metric)} (* the better one; seconds of {names[0]})")
    return "\n".join(lines)


def _best(values: Sequence[float], metric: str) -> float | None:
    """The best of two values that differ, where the metric's name tells which is better."""
    up = larger_is_better(metric)
    if up is None or len(values) < 2 or any(map(math.isnan, values)) or len(set(values)) == 1:
        return None
    return max(values) if up else min(values)


def _cell(value: float, best: float | None) -> str:
    mark = "" if best is None else "*" if value == best else " "
    return ("-" if math.isnan(value) else _number(value)) + mark


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 100 or value == 0 else f"{value:.4g}"


def _seconds(round: Round) -> float:
    fit = round.seconds_tune + round.seconds_fit + round.seconds_test
    return fit + round.seconds_score + round.seconds_choose


def _rounds(n: int) -> str:
    return f"{n} round" if n == 1 else f"{n} rounds"
