"""A person answers: questions lie in a file, and the run goes on once the answers do."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.files import cell, replacing
from lightning_al.records import Answers, Later

from .forms import Form, form_of
from .sheets import Line, Sheet, read_sheet

__all__ = ["FileOracle"]

MOST_COLUMNS = 100  # of a row as its file has it
MOST_FEATURES = 50  # more of them help nobody who reads a table
SHOWN = 20  # faults in one message


@dataclass(frozen=True)
class FileOracle:
    """Questions in a CSV file, which a person answers before the same command goes on.

    A query of round 3 is written to ``queries/round-003.csv``: a line an item with its index, its
    file (a PNG in ``queries/round-003`` where a picture is none; of a table the row as its file has
    it, identifiers first; else the inputs, where they are few) and an empty column for each answer.
    The run then ends in good order. Fill the column in, or save the table as
    ``queries/round-003.answers.csv`` beside it, and give the same command again. An answer is a
    class name, the number of a class, or a number; ``skip`` refuses an item for good. A column
    ``annotator`` may say who answered. Nothing of a table with a missing or a wrong answer is
    taken; a message names each such line.

    Args:
        folder: where the files lie; ``queries`` in the run folder by default.
        cost: of each answer.
    """

    folder: str | Path | None = None
    cost: float = 1.0

    def placed(self, run_dir: Path) -> FileOracle:
        """The same with its files below the run folder, unless it has a folder."""
        return self if self.folder is not None else replace(self, folder=run_dir / "queries")

    def price(self, index: Tensor, datamodule: Any) -> Tensor:
        """What each item [K] costs."""
        return torch.full((len(index),), float(self.cost), dtype=torch.float64)

    def check(self, datamodule: Any) -> None:
        """Refuse labels that do not fit into a few columns of a table.

        Raises:
            ValueError: they do not.
        """
        form_of(datamodule)

    def ask(self, index: Tensor, datamodule: Any, round: int) -> Answers | Later:
        """The answers [K, ...] that somebody wrote down; else which file to fill in.

        Raises:
            ValueError: some are missing or wrong; the message names every line.
        """
        if self.folder is None:
            raise ValueError("FileOracle: give a folder, or use it in a run")
        form = form_of(datamodule)
        question = Path(self.folder) / f"round-{round:03d}.csv"
        answered = question.with_suffix(".answers.csv")
        items = index.tolist()
        if answered.is_file():
            return self._answers(read_sheet(answered, form.columns), items, form)
        sheet = read_sheet(question, form.columns) if question.is_file() else None
        if sheet is not None and not sheet.empty:
            return self._answers(sheet, items, form)
        if sheet is None or sheet.items != items:
            lines = _table(items, datamodule, form, question.with_suffix(""))
            with (
                replacing(question) as place,
                open(place, "w", newline="", encoding="utf-8") as file,
            ):
                csv.writer(file, lineterminator="\n").writerows(
                    [cell(value) for value in line] for line in lines
                )
        return Later(
            f"{len(items)} item(s) of round {round} wait for an answer: fill in "
            f"{' and '.join(form.columns)} in {question} (or save the table with the answers as "
            f"{answered.name} beside it) with {form.expected}, then give the same command again"
        )

    def _answers(self, sheet: Sheet, items: Sequence[int], form: Form) -> Answers:
        """What the sheet says of the items, once all of it is right."""
        asked = set(items)
        rows: dict[int, tuple[Line, list[float] | list[int] | None]] = {}
        faults: list[str] = []
        for row in sheet.rows:
            if row.item is None:
                faults.append(f"line {row.line}: expected the index of an item, got {row.index!r}")
            elif row.item not in asked:
                faults.append(
                    f"line {row.line}: item {row.item} was not asked for in this round (move the "
                    "file away if it is of another run)"
                )
            elif row.item in rows:
                first = rows[row.item][0].line
                faults.append(f"line {row.line}: item {row.item} stands in line {first} already")
            else:
                value, fault = form.read(row.cells)
                rows[row.item] = (row, value)
                if fault:
                    faults.append(f"line {row.line} (item {row.item}): {fault}")
        if missing := [i for i in items if i not in rows]:
            shown = ", ".join(map(str, missing[:SHOWN]))
            faults.append(f"no line for {len(missing)} of {len(items)} items: {shown}")
        if faults:
            more = [f"… {len(faults)} in all"] if len(faults) > SHOWN else []
            raise ValueError(
                f"{sheet.path}: {len(faults)} fault(s), nothing of it was taken; mend the file and "
                "give the same command again\n  " + "\n  ".join([*faults[:SHOWN], *more])
            )
        values = [rows[i][1] for i in items]
        refused = torch.tensor([value is None for value in values])
        by = [rows[i][0].annotator for i in items]
        return Answers(
            values=form.answers(values),
            cost=torch.full((len(items),), float(self.cost), dtype=torch.float64),
            refused=refused,
            by=by if any(by) else None,
        )


def _table(items: Sequence[int], datamodule: Any, form: Form, pictures: Path) -> list[list[Any]]:
    """The lines of a question: index, path, row or inputs, empty answers; the header first.

    Pictures that are no files of their own are written into the folder ``pictures``.
    """
    paths = _paths(items, datamodule, pictures)
    names: list[str] = []
    shown: list[list[Any]] = [[] for _ in items]
    if all(p is not None for p in paths):
        names, shown = ["path"], [[p] for p in paths]
    elif (written := getattr(datamodule, "written", None)) is not None:
        names, shown = written(torch.tensor(items))
        names, shown = names[:MOST_COLUMNS], [row[:MOST_COLUMNS] for row in shown]
    elif getattr(datamodule, "pool_items", None) is not None:
        inputs = datamodule.pool_items.inputs(torch.tensor(items))
        if isinstance(inputs, Tensor) and inputs.ndim == 2 and inputs.shape[1] <= MOST_FEATURES:
            given = list(getattr(datamodule, "feature_names", ()) or ())
            names = given if len(given) == inputs.shape[1] else []
            names = names or [f"x{e}" for e in range(inputs.shape[1])]
            shown = [[f"{v:.6g}" for v in row] for row in inputs.double().tolist()]
    taken = {"index", "annotator", *form.columns}
    names = [f"x_{name}" if name in taken else name for name in names]
    empty = [""] * len(form.columns)
    lines = [[i, *cells, *empty] for i, cells in zip(items, shown, strict=True)]
    return [["index", *names, *form.columns], *lines]


def _paths(items: Sequence[int], datamodule: Any, pictures: Path) -> list[str | None]:
    """The file that shows each item, where there is any."""
    path = getattr(datamodule, "item_path", None) or (lambda _: None)
    found: list[str | None] = [path(i) for i in items]
    thumbnail = getattr(datamodule, "thumbnail", None)
    for row, item in enumerate(items):
        if found[row] is not None or thumbnail is None or (image := thumbnail(item)) is None:
            continue
        place = pictures / f"{item:06d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place)
        found[row] = str(place)
    return found
