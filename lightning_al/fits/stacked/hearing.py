"""What the steps of a stack did to the outside: logged values of all replicas, and single calls."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_al.fits.recorder import NotPlain, Recorder

from .replica import Replica
from .rows import Rows
from .shell import Note, Shell

__all__ = ["StackRecorder", "do_apart"]


class StackRecorder(Recorder):
    """A recorder whose numbers are tensors [R], one for each row.

    Args:
        training: as of a :class:`~lightning_al.fits.recorder.Recorder`.
        hook: that logs.
        rows: R.
    """

    def __init__(self, training: bool, hook: str, rows: int) -> None:
        super().__init__(training)
        self.hook, self.rows = hook, rows
        self.seen: dict[str, Tensor] = {}
        self.told: dict[str, Tensor] = {}

    def number(self, name: str, value: Any) -> Tensor:
        """A logged value as [R]."""
        if isinstance(value, numbers.Number):
            return super().number(name, value).expand(self.rows)
        if not isinstance(value, Tensor):
            raise NotPlain(f"{name!r} is logged as a {type(value).__name__}")
        if value.numel() != self.rows:
            raise NotPlain(f"{name!r} is logged as a tensor {list(value.shape[1:])}")
        return value.clone().reshape(self.rows)

    def gather(self) -> None:
        """Compute what is known by now."""
        if self.entries:
            seen, told = self.metrics()
            self.seen.update(seen)
            self.told.update(told)

    def push(self, replicas: Sequence[Replica], rows: Sequence[int]) -> None:
        """Let each member hear of its own numbers."""
        if not self.seen and not self.told:
            return
        seen = {name: value.unbind(0) for name, value in self.seen.items()}
        told = {name: value.unbind(0) for name, value in self.told.items()}
        for replica, row in zip(replicas, rows, strict=True):
            replica.trainer.hear(
                {name: column[row] for name, column in seen.items()},
                {name: column[row] for name, column in told.items()},
            )
        self.seen, self.told = {}, {}


def do_apart(
    notes: Sequence[Note],
    recorder: StackRecorder,
    shell: Shell,
    rows: Rows,
    replicas: Sequence[Replica],
    places: Sequence[int],
) -> None:
    """Do what a step noted down: numbers for all rows at once, the rest for each replica.

    Args:
        notes: of the step.
        recorder: of its kind.
        shell: that took it.
        rows: of the stack.
        replicas: that are alive.
        places: their rows.
    """
    for note in notes:
        if note.what == "log" and _is_number(note):
            recorder.log(*note.args, **note.named)
            continue
        for replica, row in zip(replicas, places, strict=True):
            if replica.error is None:
                _do(note, shell, rows, replica, row)


def _do(note: Note, shell: Shell, rows: Rows, replica: Replica, row: int) -> None:
    """Do it for one replica; an error is its own."""
    args, named = (shell.told(given, rows, row) for given in (note.args, note.named))
    work = getattr(rows.part(row, note.whose), note.what)
    try:
        replica.hooks.module(shell.step, work, *args, **named)
    except NotPlain:
        raise
    except Exception as error:
        replica.error = error


def _is_number(note: Note) -> bool:
    value = note.args[1] if len(note.args) > 1 else note.named.get("value")
    return isinstance(value, Tensor | numbers.Number)
