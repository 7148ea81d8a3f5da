"""Past measurements of an experiment, in a table, and the box in which the next ones may lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .continuous import ContinuousDataModule
from .readers.encoding import check_columns, number_targets, read_table
from .tensors import TensorItems

__all__ = ["ExperimentDataModule"]


class ExperimentDataModule(ContinuousDataModule):
    """A table of what was measured so far: a row a measurement, a column an input or an outcome.

    Inputs are given with their bounds, within which the next places are looked for. What is
    measured next comes from an oracle (``--oracle File``). The metrics of a run are of another
    table, or else of these measurements: how well they are fitted, not how well the next will be.

    Args:
        path: CSV (plain or compressed) or parquet file with column names.
        bounds: input column -> ``[low, high]``, in the units of the table; their order is that of
            the inputs.
        target: the column of what is measured.
        safety: a column of a second measurement, safe where it is 0 or more; None for none.
        test: path of a table with the same columns; None for this one.
        separator: between the cells of a text file; None takes a tab for ``.tsv``, else a comma.
        kwargs: see :class:`ContinuousDataModule`.

    Raises:
        ValueError: bounds that make no box, or a column that is named twice.
    """

    def __init__(
        self,
        path: str,
        bounds: dict[str, list[float]],
        target: str = "y",
        safety: str | None = None,
        *,
        test: str | None = None,
        separator: str | None = None,
        candidates: int = 5000,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        low, high = _sides(bounds)
        self.path, self.names = Path(path).expanduser(), tuple(bounds)
        self.separator = separator
        self.test_path = None if test is None else Path(test).expanduser()
        columns = [*bounds, target, *([] if safety is None else [safety])]
        if len(set(columns)) < len(columns):
            raise ValueError(
                f"inputs, target and safety are columns of their own, got {', '.join(columns)}"
            )
        self.target, self.safety_name = target, safety
        super().__init__(
            low,
            high,
            outcomes=("y",) if safety is None else (target, safety),  # one alone is always y
            safety=safety,
            initial=0,
            test=TensorItems(torch.zeros(1, len(low)), torch.zeros(1)),  # until it is read
            candidates=candidates,
            batch_size=batch_size,
            seed=seed,
        )

    def past(self) -> tuple[Tensor, Tensor]:
        """Places [n, D] and what was measured there, [n] or [n, 2], float64.

        Raises:
            FileNotFoundError: no file at ``path``.
            ValueError: columns that are missing, cells that are no numbers or empty, or places
                outside the bounds.
        """
        return self._read(self.path)

    def _read(self, path: Path) -> tuple[Tensor, Tensor]:
        frame = read_table(path, self.separator)
        outcomes = (self.target, *([] if self.safety_name is None else [self.safety_name]))
        check_columns(frame, self.names, "input", path)
        check_columns(frame, outcomes, "outcome", path)
        read = {
            name: number_targets(frame[name], path, frozenset()).double()
            for name in (*self.names, *outcomes)
        }
        for name, values in read.items():
            if bool((~values.isfinite()).any()):
                row = int((~values.isfinite()).nonzero()[0])
                raise ValueError(
                    f"{path}: row {row} has no number in {name!r}; fill it in, or leave the "
                    "row out until it was measured"
                )
        x = torch.stack([read[name] for name in self.names], 1)
        for i, name in enumerate(self.names):
            low, high = float(self.box.low[i]), float(self.box.high[i])
            if len(x) and not (low <= float(x[:, i].min()) and float(x[:, i].max()) <= high):
                raise ValueError(
                    f"{path}: {name!r} lies in [{x[:, i].min():g}, {x[:, i].max():g}], its "
                    f"bounds are [{low:g}, {high:g}]; widen them (bounds: {{{name}: [low, high]}})"
                )
        targets = torch.stack([read[name] for name in outcomes], 1)
        return x, targets[:, 0] if len(outcomes) == 1 else targets

    def draw_initial(self, drawn: torch.Generator) -> tuple[Tensor, Tensor]:
        """What was measured so far."""
        return self._placed(self.path)

    def _placed(self, path: Path) -> tuple[Tensor, Tensor]:
        """Measurements of a table as the loaders give them, float32."""
        x, targets = self._read(path)
        places = x.float().clamp(self.box.low.float(), self.box.high.float())
        return places, targets.float()

    def draw_test(self, drawn: torch.Generator) -> TensorItems:
        """The measurements of the other table, or these."""
        return TensorItems(*self._placed(self.path if self.test_path is None else self.test_path))

    def portrait(self) -> dict[str, Any]:
        """What this experiment is."""
        return {**super().portrait(), "inputs": list(self.names)}


def _sides(bounds: Mapping[str, Sequence[float]]) -> tuple[list[float], list[float]]:
    """Lower and upper bounds.

    Raises:
        ValueError: they make no box.
    """
    if not bounds:
        raise ValueError("an experiment has inputs: give bounds: {temperature: [20, 80], ...}")
    for name, sides in bounds.items():
        if len(sides) != 2 or not sides[0] < sides[1]:
            raise ValueError(f"bounds of {name!r} are [low, high], low < high, got {list(sides)}")
    return [float(s[0]) for s in bounds.values()], [float(s[1]) for s in bounds.values()]
