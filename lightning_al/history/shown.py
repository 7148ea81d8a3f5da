"""A history as people see it: five lines, and a page of a notebook."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import Any

from .metric_names import human_name, larger_is_better, main_metric, speaks

__all__ = ["as_html", "as_text"]

ROWS = 20
"""Rounds that a page shows; of more the first and the last ones."""


def as_text(history: Any) -> str:
    """Five lines at most: whose run, how far, what was bought, how good, where it lies."""
    rounds, name = history.rounds, history.name or "a run"
    lines = [f"History of {name}: {len(rounds)} round(s), {_state(history)}"]
    if rounds:
        first, last = rounds[0], rounds[-1]
        bought = len(history.acquired)
        lines.append(
            f"  labelled {first.n_labelled} to {last.n_labelled}, {bought} bought for "
            f"{history.cost:g}, {last.n_pool - len(last.acquired)} left in the pool"
        )
    if speaks([history]):
        lines.append(f"  {_progress(history)}")
    return "\n".join([*lines, f"  run folder {history.run_dir}"])


def as_html(history: Any) -> str:
    """What a notebook shows: the same lines, the learning curve, a table with a row a round."""
    parts = [f"<pre>{escape(as_text(history))}</pre>"]
    if speaks([history]):
        file = BytesIO()
        history.plot().savefig(file, format="png", dpi=100)
        code = base64.b64encode(file.getvalue()).decode("ascii")
        parts.append(f'<img alt="learning curve" src="data:image/png;base64,{code}">')
    if history.rounds:
        frame = history.to_frame()
        parts.append(frame.to_html(max_rows=ROWS, index=False, float_format="{:.4g}".format))
    return "\n".join(parts)


def _state(history: Any) -> str:
    if history.failed:
        return f"ended by {history.stopped}"
    if history.waiting:
        return "waiting for answers"
    return f"ended: {history.stopped}" if history.stopped else "not at its end"


def _progress(history: Any) -> str:
    """The main metric at the first and last round, and where it was best."""
    metric = main_metric([history])
    points = [(r.n_labelled, r.metrics[metric]) for r in history.rounds if metric in r.metrics]
    text = f"{human_name(metric)} {points[0][1]:.4g} to {points[-1][1]:.4g}"
    if (larger := larger_is_better(metric)) is None:
        return text
    n, best = (max if larger else min)(points, key=lambda point: point[1])
    return f"{text}, best {best:.4g} at {n} labels"
