"""What a density regression said of the items that were asked for, beside their answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from lightning_al.densities import PredictiveDensity
from lightning_al.files import if_writable, replacing
from lightning_al.randomness import seeded
from lightning_al.safe_load import load_plain
from lightning_al.tasks import DensityRegression

from .history import History
from .plots import COLOURS, GRID, INK, Picture
from .records import Round

__all__ = ["DensityPictures", "Panel", "density_map", "density_panels"]

MOST = 9  # items in one picture
PLACES, REACH = 241, 3.5  # along the target, out to so many standard normal scores
ITEMS = 2000  # whose inputs tell the range of one input


@dataclass(frozen=True)
class Panel:
    """The predicted density of one item, and its answer."""

    index: int  # position in the data set
    y: np.ndarray  # [G] in target units
    density: np.ndarray  # [G] per unit of the target
    answer: float


def density_panels(panels: Sequence[Panel], title: str = "") -> Picture:
    """Draw densities item by item, each with a line where its answer lies."""
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Picture(figsize=(0.6 + 2.6 * across, 0.9 + 1.9 * down), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, color=INK)
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(down, across, place)
        axes.fill_between(panel.y, panel.density, color=COLOURS[0], alpha=0.25, linewidth=0)
        axes.plot(panel.y, panel.density, color=COLOURS[0], linewidth=1.5)
        axes.axvline(panel.answer, color=COLOURS[1], linewidth=1.5)
        axes.set_title(f"item {panel.index}, answer {panel.answer:.4g}", fontsize=8, color=INK)
        axes.set_ylim(bottom=0)
        axes.set_yticks([])
        axes.tick_params(labelsize=7, colors=INK)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def density_map(
    x: np.ndarray,
    y: np.ndarray,
    density: np.ndarray,
    labelled: tuple[np.ndarray, np.ndarray],
    queried: tuple[np.ndarray, np.ndarray],
    title: str = "",
) -> Picture:
    """Draw p(y | x) over one input, the labelled items, and those that were asked for last.

    Args:
        x: input [A].
        y: target [B].
        density: [B, A]; each column is drawn relative to its largest value.
        labelled: inputs and answers.
        queried: inputs and answers.
        title: above the picture.
    """
    figure = Picture(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    relative = density / density.max(0, keepdims=True).clip(min=np.finfo(float).tiny)
    axes.pcolormesh(x, y, relative, cmap="Blues", shading="nearest", rasterized=True)
    axes.plot(*labelled, "o", color=INK, markersize=3, alpha=0.6, label="labelled")
    axes.plot(*queried, "D", color=COLOURS[1], markersize=5, label="asked for last")
    axes.set_xlabel("input, as the model takes it", color=INK)
    axes.set_ylabel("target", color=INK)
    axes.set_title(title, fontsize=10, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=GRID, linewidth=0.5)
    axes.legend(fontsize=8, frameon=True)
    return figure


class DensityPictures:
    """Observer: ``densities.png`` at the end of a run, and ``density_over_x.png`` for one input.

    The densities are those of the fit that the last query was made with, so the answers were not
    known to it (where its checkpoint is gone: of the last fit, as the title says). For tasks of one
    target.

    Args:
        make: builds the run's task, a :class:`~lightning_al.tasks.DensityRegression`.
        file: name of the first picture in the run folder.
        over_input: of the second.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        file: str = "densities.png",
        over_input: str = "density_over_x.png",
    ) -> None:
        self.make, self.file, self.over_input = make, file, over_input
        self._data: Any = None

    def run_started(self, plan: Mapping[str, Any], done: Sequence[Round]) -> None:
        """Remember whose items they are."""
        self._data = plan["datamodule"]

    def stage_started(self, round: int, stage: str) -> None:
        """Nothing to draw."""

    def round_ended(self, round: Round, datamodule: Any) -> None:
        """Nothing to draw yet."""

    def run_ended(self, history: History) -> None:
        """Draw what was asked last."""
        asked = [r for r in history.rounds if len(r.acquired)]
        if history.failed or not asked or history.final_checkpoint is None:
            return
        last = asked[-1]
        known = set(self._data.labelled.tolist())
        rows = torch.tensor([i for i in last.acquired if i in known], dtype=torch.int64)
        kept = last.checkpoint is not None
        path = history.run_dir / last.checkpoint if last.checkpoint else history.final_checkpoint
        task = self._task(path)
        if task is None or not len(rows):
            return
        when = "before" if kept else "after"
        title = f"predicted {when} the answers of round {last.round} were known"
        with torch.no_grad():
            picture = density_panels(self._panels(task, rows[:MOST]), title)
            self._save(history.run_dir / self.file, picture)
            self._over_input(task, rows, history.run_dir, title)

    def _task(self, path: Path) -> DensityRegression | None:
        """The fitted task; None where the run's is another, or predicts several numbers."""
        with seeded(0, 0, "picture"):  # building draws weights, which are thrown away
            task = self.make()
        if not isinstance(task, DensityRegression) or task.outputs != 1:
            return None
        task.load_state_dict(load_plain(path)["state_dict"])
        return task.eval()

    def _panels(self, task: DensityRegression, rows: Tensor) -> list[Panel]:
        ((_, inputs),) = self._data.bare_batches(rows, len(rows))
        density = _density(task, inputs)
        answers = self._data.labels(rows).double().reshape(-1)
        y = _places(density, answers)  # [G, n]
        p = density.log_prob(y.unsqueeze(-1)).double().exp()
        return [
            Panel(int(row), y[:, i].numpy(), p[:, i].numpy(), float(answers[i]))
            for i, row in enumerate(rows)
        ]

    def _over_input(self, task: DensityRegression, rows: Tensor, folder: Path, title: str) -> None:
        """The second picture, where items are one number."""
        every = torch.cat([self._data.labelled, self._data.pool])[:ITEMS]
        values = self._one_input(every)
        if values is None:
            return
        shape = values.shape[1:]
        x = torch.linspace(float(values.min()), float(values.max()), 161)
        labelled = self._data.labelled
        answers = self._data.labels(labelled).double().reshape(-1)
        density = _density(task, x.reshape(-1, *shape).to(values))
        span = _places(density, answers.mean().expand(len(x)))
        low = min(float(span.quantile(0.02)), float(answers.min()))
        high = max(float(span.quantile(0.98)), float(answers.max()))
        y = torch.linspace(low, high, PLACES, dtype=torch.float64)
        p = density.log_prob(y[:, None, None].expand(-1, len(x), 1)).double().exp()
        marks = []
        for items in (labelled, rows):
            one = self._one_input(items)
            assert one is not None  # as all items are
            marks.append((one.reshape(-1).numpy(), self._data.labels(items).reshape(-1).numpy()))
        figure = density_map(x.numpy(), y.numpy(), p.numpy(), marks[0], marks[1], title)
        self._save(folder / self.over_input, figure)

    def _one_input(self, rows: Tensor) -> Tensor | None:
        """Inputs [n, ...] of items that are one number each; None for others."""
        found = []
        for _, inputs in self._data.bare_batches(rows):
            if not isinstance(inputs, Tensor) or math.prod(inputs.shape[1:]) != 1:
                return None
            found.append(inputs)
        return torch.cat(found) if found else None

    def _save(self, path: Path, figure: Picture) -> None:
        with if_writable(path), replacing(path) as temporary:
            figure.savefig(temporary, dpi=150, format="png")


def _density(task: DensityRegression, inputs: Any) -> PredictiveDensity:
    return task.density(*inputs) if isinstance(inputs, (tuple, list)) else task.density(inputs)


def _places(density: PredictiveDensity, answers: Tensor) -> Tensor:
    """Targets [G, n] across each density and its answer."""
    scores = torch.tensor([-REACH, REACH]).to(density.like)[:, None, None]
    low, high = density.units.target(density.at_scores(scores.expand(-1, len(answers), 1)))[..., 0]
    low, high = torch.minimum(low, answers), torch.maximum(high, answers)
    steps = torch.linspace(0, 1, PLACES, dtype=torch.float64)[:, None]
    return low + (high - low) * steps
