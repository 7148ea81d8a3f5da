"""Losses of policies in training beside the published ones, and whether they pass.

``python benchmarks/policy_curves.py asal-1d=runs/policy-asal-1d/.../metrics.csv asal-safe-2d=...``;
several files of one training (it was resumed) are given one after another under the same name, and
the later one counts. A figure is the mean of the 50 losses that end at its step. Ends with status 1
where a test fails; one that a training has not got to yet does not.

The published figures are those of the loss curves that come with the policies of Li, Toussaint,
Rakitsch, Zimmer (2026), "Amortized Safe Active Learning for Real-Time Data Acquisition: Pretrained
Neural Policies from Simulated Nonparametric Functions".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_al.policies.training_progress import KEPT
from lightning_al.policies.training_record import read_metrics

Losses = Mapping[int, float]  # by step, counted from 0

ASAL = (1, 50, 100, 250, 500, 1000, 2000, 3000, 5000, 8000, 10000)
DAD = (1, 50, 500, 1000, 5000, 10000, 20000)


@dataclass(frozen=True)
class Published:
    """A published curve: losses at steps; one figure at the first."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    remark: str = ""

    @property
    def last(self) -> int:
        """Steps of the whole training."""
        return self.steps[-1]


def _asal(*losses: float, remark: str = "") -> Published:
    return Published(ASAL, losses, remark)


def _dad(*losses: float, remark: str = "") -> Published:
    return Published(DAD, losses, remark)


PUBLISHED = {
    "asal-1d": _asal(
        *(-0.291, -0.465, -0.605, -0.652, -0.642, -0.664),
        *(-0.667, -0.688, -0.689, -0.685, -0.695),
    ),
    "asal-2d": _asal(
        *(-0.270, -0.797, -1.070, -1.129, -1.104, -1.132),
        *(-1.134, -1.330, -1.373, -1.368, -1.379),
        remark="published with a learning rate of 5e-4",
    ),
    "asal-safe-2d": _asal(
        *(0.247, -0.033, -1.077, -1.802, -1.839, -1.873),
        *(-1.826, -2.056, -2.121, -2.131, -2.141),
        remark="the first steps depend on the network's seed, the plateau does not",
    ),
    "asal-safe-7d": _asal(
        *(0.057, 0.086, 0.073, 0.088, 0.060, 0.083),
        *(0.114, 0.061, 0.066, 0.064, 0.062),
        remark="the published policy never learned: its curve is flat, and no target",
    ),
    "dad-1d-10": _dad(1.955, 0.756, 0.459, 0.319, 0.288, 0.269, 0.286),
    "dad-1d": _dad(1.068, 0.429, 0.274, 0.172, 0.136, 0.111, 0.096),
    "dad-2d-10": _dad(0.735, 0.143, 0.022, 0.008, 0.007, 0.002, 0.003),
    "dad-2d-20": _dad(0.166, 0.047, 0.004, 0.003, 0.000, 0.000, 0.000),
    "dad-2d": _dad(0.089, 0.023, 0.007, 0.019, 0.002, 0.001, 0.000),
    "dad-5d": _dad(*(0.0,) * 7, remark="published to learn nothing: the loss is 0 throughout"),
}
"""By the names of the configurations; a number behind it is a horizon other than theirs."""


@dataclass(frozen=True)
class Acceptance:
    """What a training has to reach.

    Args:
        says: in words.
        at: the step that counts; None for the last of the published ones.
        low: least mean of the 50 losses up to there.
        high: the largest.
        by: a mean up to any step until `at` counts, not only the one at it.
    """

    says: str
    at: int | None
    low: float
    high: float
    by: bool = False

    def verdict(self, losses: Losses, whole: int) -> str:
        """A word, then the figure; "not yet" where the training has not come so far."""
        at, reached = self.at or whole, max(losses, default=-1) + 1
        ends = range(KEPT, min(at, reached) + 1) if self.by else [at]
        means = [m for m in (mean_at(losses, end) for end in ends) if m is not None]
        good = [m for m in means if self.low <= m <= self.high]
        if good:
            return f"passed: {min(good):.3f}"
        if reached < at:
            return f"not yet (step {reached} of {whole})"
        return f"FAILED: {min(means):.3f}" if means else "not known: losses are missing there"


NEVER = float("-inf")
TESTS = {
    "asal-1d": (
        Acceptance("mean of steps 51-100 within -0.60 +- 0.03", 100, -0.63, -0.57),
        Acceptance("last 50 of the whole training <= -0.67", None, NEVER, -0.67),
    ),
    "asal-safe-2d": (
        Acceptance("<= -1.75 by step 300", 300, NEVER, -1.75, by=True),
        Acceptance("last 50 of the whole training <= -2.05", None, NEVER, -2.05),
    ),
}


def mean_at(losses: Losses, step: int) -> float | None:
    """Mean of the 50 losses that end at a step counted from 1, or of the first alone.

    None where any of them is missing.

    >>> mean_at({k: float(k) for k in range(60)}, 60)
    34.5
    """
    first = 0 if step == 1 else step - KEPT
    wanted = range(first, step)
    if first < 0 or any(k not in losses for k in wanted):
        return None
    return sum(losses[k] for k in wanted) / len(wanted)


def table(name: str, losses: Losses) -> str:
    """Ours beside published, a step a line."""
    published = PUBLISHED[name]
    reached = max(losses) + 1
    lines = [
        f"{name}: {reached} of {published.last} steps",
        f"{'step':>8}{'ours':>10}{'published':>11}",
    ]
    for step, loss in zip(published.steps, published.losses, strict=True):
        ours = mean_at(losses, step)
        mine = "missing" if step <= reached else "not yet"
        lines.append(f"{step:8}{mine if ours is None else f'{ours:.3f}':>10}{loss:11.3f}")
    if reached not in published.steps and (now := mean_at(losses, reached)) is not None:
        lines.append(f"{reached:8}{now:10.3f}{'':>11}  (the last)")
    if published.remark:
        lines.append(f"  {published.remark}")
    return "\n".join(lines)


def plot(runs: Mapping[str, Losses], path: Path) -> None:
    """Running means of 50 losses as lines, the published ones as points; a panel a training."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(runs), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for axes, (name, losses) in zip(panels, runs.items(), strict=True):
        published = PUBLISHED[name]
        steps = sorted(losses)
        axes.plot(
            [s + 1 for s in steps],
            [losses[s] for s in steps],
            color="#c9d8e6",
            linewidth=0.6,
            label="ours, each step",
        )
        means = [(s + 1, m) for s in steps if (m := mean_at(losses, s + 1)) is not None and s]
        if means:
            axes.plot(*zip(*means, strict=True), color="#0072B2", label="ours, mean of 50")
        axes.plot(
            published.steps,
            published.losses,
            "o",
            color="#D55E00",
            markersize=4,
            label="published, mean of 50",
        )
        axes.set_xscale("log")
        axes.set_title(name, loc="left")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.grid(color="#e6e6e6")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE", help=", ".join(PUBLISHED))
    parser.add_argument("--plot", type=Path, help="picture of the curves")
    options = parser.parse_args()
    files: dict[str, list[str]] = {}
    for word in options.runs:
        name, equals, file = word.partition("=")
        if not equals or name not in PUBLISHED:
            parser.error(f"{word}: NAME=FILE with a name of {', '.join(PUBLISHED)}")
        files.setdefault(name, []).append(file)
    runs = {name: read_metrics(paths).get("train/loss", {}) for name, paths in files.items()}
    if empty := [name for name, losses in runs.items() if not losses]:
        parser.error(f"no losses yet of {', '.join(empty)}")
    verdicts = []
    for name, losses in runs.items():
        print(table(name, losses))
        for test in TESTS.get(name, ()):
            verdicts.append(test.verdict(losses, PUBLISHED[name].last))
            print(f"  {test.says}: {verdicts[-1]}")
        print()
    if options.plot:
        plot(runs, options.plot)
        print(f"picture  {options.plot}")
    return int(any(v.startswith("FAILED") for v in verdicts))


if __name__ == "__main__":
    sys.exit(main())
