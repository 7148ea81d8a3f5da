"""Learning curves: a metric on the test set against the number of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.special import stdtrit

from lightning_al.files import replacing

from .metric_names import human_name, main_metric
from .records import Past

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["Curve", "curves_of", "learning_curve", "mark_amendments", "plain_text"]

# Okabe & Ito (2008), told apart under every common colour blindness; the yellow is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":", "-.")
INK = "#333333"
GRID = "#e6e6e6"
CROWDED = 60  # more points than this are drawn as a line alone
END_LABELS = 6  # more curves than this get a legend instead
BESIDE = 2.2  # inches that such a legend takes beside the axes
LONGEST = 36  # letters of what a dashed line says
LABEL_HEIGHT = 0.062  # of one end label, as a share of the axes' height


@dataclass(frozen=True)
class Curve:
    """One line of the picture: a run, or the mean of several seeds of one name."""

    name: str
    x: np.ndarray  # [R] labelled items
    y: np.ndarray  # [R] the metric, or its mean over the seeds
    low: np.ndarray | None = None  # [R] lower edge of the band
    high: np.ndarray | None = None
    seeds: int = 1
    band: str = ""  # what the band is


class Picture(Figure):
    """A figure that shows itself in a notebook, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def learning_curve(
    histories: Iterable[Past], *, metric: str | None = None, path: str | Path | None = None
) -> Figure:
    """Draw ``metric`` against labelled items, a curve a name.

    Several histories of one name are seeds: their mean is drawn with a band, the 95 % t-interval of
    the mean for three or more, the range for two; the legend says which.

    Args:
        histories: the runs; ``history.name`` is the name of the curve.
        metric: what to draw; ``test/accuracy``, ``test/rmse`` or the first test metric by default.
        path: where to save the picture, PNG (150 dpi) or SVG by suffix; nothing is saved without.

    Raises:
        LookupError: a metric that no run has; the message lists those there are.
        ValueError: a path that ends in neither .png nor .svg.
    """
    histories = list(histories)
    metric = main_metric(histories, metric)
    suffix = "" if path is None else Path(path).suffix.lower()
    if path is not None and suffix not in (".png", ".svg"):
        raise ValueError(f"a learning curve is saved as .png or .svg, got {str(path)!r}")
    curves = curves_of(histories, metric)
    figure = _draw(curves, metric)
    mark_amendments(figure.axes[0], histories, curves)
    if path is not None:
        with (
            mpl.rc_context({"svg.hashsalt": "lightning-al", "svg.fonttype": "none"}),
            replacing(path) as temporary,
        ):
            metadata = {"Date": None} if suffix == ".svg" else None
            figure.savefig(temporary, dpi=150, metadata=metadata)
    return figure


def plain_text(name: str) -> str:
    """A name as a figure shows it: its dollars are dollars, and begin no formula."""
    return name.replace("$", r"\$")


def curves_of(histories: Sequence[Past], metric: str) -> list[Curve]:
    """The lines to draw, in order of first appearance of their names.

    Seeds are averaged where all of them have been (values between two rounds of a seed are
    interpolated linearly); seeds that share no such range are drawn one by one.
    """
    by_name: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for history in histories:
        points = [(r.n_labelled, r.metrics.get(metric, math.nan)) for r in history.rounds]
        points = [(x, y) for x, y in points if math.isfinite(y)]
        if points:
            x, y = np.array(points, dtype=float).T
            by_name.setdefault(history.name, []).append((x, y))
    return [curve for name, runs in by_name.items() for curve in _averaged(name, runs)]


def mark_amendments(axes: Axes, histories: Iterable[Past], curves: Sequence[Curve]) -> None:
    """A dashed line where a run was changed, with what changed in words; once for all runs.

    It stands at the number of labels from which on the change holds; the words, where the curves
    are farther off.
    """
    found: dict[int, dict[str, None]] = {}
    for history in histories:
        for done in history.rounds:
            found.setdefault(done.n_labelled, {}).update(dict.fromkeys(done.amended))
    for x, texts in found.items():
        if not texts:
            continue
        lines = [text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for text in texts]
        first = x == min(found)  # where nothing is left of it
        low = _is_high(axes, curves, x)
        axes.axvline(x, color="#888888", linestyle="--", linewidth=1.0, zorder=2)
        axes.annotate(
            plain_text("\n".join(lines)),
            xy=(x, 0.02 if low else 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(3 if first else -3, 0),
            textcoords="offset points",
            rotation=90,
            ha="left" if first else "right",
            va="bottom" if low else "top",
            fontsize=8.5,
            color="#666666",
        )


def _is_high(axes: Axes, curves: Sequence[Curve], x: float) -> bool:
    """Whether the curves run through the upper half of a picture at x."""
    bottom, top = axes.get_ylim()
    there = [np.interp(x, curve.x, curve.y) for curve in curves]
    return bool(there) and float(np.mean(there)) > (bottom + top) / 2


def _averaged(name: str, runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Curve]:
    low = max(x.min() for x, _ in runs)
    high = min(x.max() for x, _ in runs)
    if len(runs) == 1 or low > high:
        return [Curve(name, x, y) for x, y in runs]
    grid = np.unique(np.concatenate([x for x, _ in runs]))
    grid = grid[(grid >= low) & (grid <= high)]
    values = np.stack([np.interp(grid, x, y) for x, y in runs])  # [seeds, R]
    n, mean = len(runs), values.mean(0)
    if n == 2:
        return [Curve(name, grid, mean, values.min(0), values.max(0), n, "range")]
    half = stdtrit(n - 1, 0.975) * values.std(0, ddof=1) / math.sqrt(n)
    return [Curve(name, grid, mean, mean - half, mean + half, n, "95 % t-interval of the mean")]


def _draw(curves: Sequence[Curve], metric: str) -> Figure:
    figure = Picture(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    axes = figure.add_subplot()
    for i, curve in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            curve.x,
            curve.y,
            label=plain_text(curve.name or "this run"),
            color=colour,
            marker=MARKERS[i % len(MARKERS)] if len(curve.x) <= CROWDED else "",
            linestyle=STYLES[i // len(COLOURS) % len(STYLES)],
            linewidth=2.2,
            markersize=6 if len(curve.x) <= 25 else 3,
            markeredgecolor="white",
            markeredgewidth=0.8,
            zorder=3,
        )
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    _dress(axes, metric)
    if len(curves) > 1 or any(c.seeds > 1 for c in curves):
        _name_curves(axes, curves)
    return figure


def _dress(axes: Axes, metric: str) -> None:
    axes.set_xlabel("labelled items", fontsize=13, color=INK)
    axes.set_ylabel(plain_text(human_name(metric)), fontsize=13, color=INK)
    axes.tick_params(labelsize=11.5, color="#999999", labelcolor=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if metric.endswith(("accuracy", "/acc")):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.margins(x=0.03, y=0.06)


def _name_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    """Names at the ends of the lines where they fit, else in a legend; the bands always there."""
    handles: list[Artist] = []
    labels: list[str] = []
    if not _label_ends(axes, curves):
        handles, labels = axes.get_legend_handles_labels()
        names = {len([c for c in curves if c.name == name]) for name in labels}
        if names != {1}:  # seeds drawn one by one share a name: one entry is enough
            unique = dict(zip(labels, handles, strict=True))
            labels, handles = list(unique), list(unique.values())
    bands = dict.fromkeys((c.band, c.seeds) for c in curves if c.seeds > 1)
    for band, seeds in bands:
        handles.append(Patch(facecolor="#888888", alpha=0.35))
        labels.append(f"{band}, {seeds} seeds")
    look = {"frameon": False, "fontsize": 11, "labelcolor": INK}
    if len(handles) > END_LABELS:  # so many cover the curves: beside them
        figure: Any = axes.figure
        width, height = figure.get_size_inches()
        figure.set_size_inches(width + BESIDE, height)
        labels = [fill(label, 24) for label in labels]
        figure.legend(handles, labels, loc="outside right center", **look)
    elif handles:
        axes.legend(handles, labels, loc="best", **look)


def _label_ends(axes: Axes, curves: Sequence[Curve]) -> bool:
    """Write each name right of its last point; False if there are too many or they crowd."""
    if len(curves) > END_LABELS or len({c.name for c in curves}) < len(curves):
        return False
    low, high = axes.get_ylim()
    ends = [(c.y[-1] - low) / (high - low) for c in curves]
    places = _spread(ends, LABEL_HEIGHT)
    right = max(c.x[-1] for c in curves)
    too_far = any(abs(p - e) > 2 * LABEL_HEIGHT for p, e in zip(places, ends, strict=True))
    if too_far or any(c.x[-1] < right for c in curves):
        return False
    for line, curve, place in zip(axes.lines, curves, places, strict=True):
        axes.annotate(
            plain_text(curve.name or "this run"),
            xy=(1.0, place),
            xycoords="axes fraction",
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=12,
            fontweight="bold",
            color=line.get_color(),
        )
    return True


def _spread(places: Sequence[float], apart: float) -> list[float]:
    """Move places as little as needed so that neighbours are ``apart``, in the same order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []  # neighbours that touch, spread evenly about their own mean

    def centre(group: Sequence[int]) -> float:
        return sum(places[i] for i in group) / len(group)

    for i in order:
        groups.append([i])
        while len(groups) > 1:
            a, b = groups[-2], groups[-1]
            if centre(b) - centre(a) >= apart * (len(a) + len(b)) / 2:
                break
            groups[-2:] = [a + b]
    moved = list(places)
    for group in groups:
        for rank, i in enumerate(group):
            moved[i] = centre(group) + (rank - (len(group) - 1) / 2) * apart
    return moved
