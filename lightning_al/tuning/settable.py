"""What builds a task or a Trainer from settings that tuning may change, and the same under others.

A configuration knows all its settings by their dotted names (``Assembly``); a function in Python
has its arguments: ``model.width`` is the argument ``width`` of the task, ``trainer.max_epochs``
one of the Trainer.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning
from torch import nn

__all__ = ["Settable", "no_such", "settable", "under"]


@runtime_checkable
class Settable(Protocol):
    """Builds a task, or a Trainer's arguments, when called; knows its settings by dotted name."""

    def __call__(self) -> Any:
        """A new object."""
        ...

    def value(self, name: str) -> Any:
        """What a setting is now.

        Raises:
            LookupError: there is none of this name; the message says the nearest.
        """
        ...

    def under(self, settings: Mapping[str, Any]) -> Settable:
        """The same, under other values of some settings."""
        ...


TASK, TRAINER = "model", "trainer"


@dataclass(frozen=True)
class Function:
    """A function, or a class, whose arguments are the settings below a head."""

    head: str
    function: Any

    def __call__(self) -> Any:
        """What it makes."""
        return self.function()

    def value(self, name: str) -> Any:
        """The default of an argument; None where it has none.

        Raises:
            LookupError: it takes no such argument.
        """
        names = inspect.signature(self.function).parameters
        argument = _below(self.head, name, names)
        default = names[argument].default
        return None if default is inspect.Parameter.empty else default

    def under(self, settings: Mapping[str, Any]) -> Function:
        """It with some arguments given."""
        mine = _mine(self.head, settings)
        return Function(self.head, functools.partial(self.function, **mine)) if mine else self


@dataclass(frozen=True)
class Arguments:
    """Arguments of a Trainer."""

    given: Mapping[str, Any]

    def __call__(self) -> Any:
        """They themselves; whoever builds a Trainer copies them."""
        return self.given

    def value(self, name: str) -> Any:
        """What is given, else the Trainer's default.

        Raises:
            LookupError: a Trainer takes no such argument.
        """
        names = inspect.signature(pytorch_lightning.Trainer).parameters
        argument = _below(TRAINER, name, names)
        return self.given.get(argument, names[argument].default)

    def under(self, settings: Mapping[str, Any]) -> Arguments:
        """They with some replaced."""
        return Arguments({**self.given, **_mine(TRAINER, settings)})


def _mine(head: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.partition(".")[2]: value
        for name, value in settings.items()
        if name.partition(".")[0] == head
    }


def _below(head: str, name: str, names: Iterable[str]) -> str:
    """The argument that a name means."""
    mine, _, argument = name.partition(".")
    if mine != head or argument not in names:
        raise no_such(name, [f"{head}.{each}" for each in names])
    return argument


def no_such(name: str, names: Iterable[str]) -> LookupError:
    """That a setting does not exist, with the nearest that do."""
    names = list(names)
    end = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, names, n=3)
    near += [other for other in names if other.rpartition(".")[2] == end and other not in near]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else f"there are {', '.join(names)}"
    return LookupError(f"tuning.space: no setting named {name!r}; {hint}")


def settable(task: Any, trainer: Any) -> tuple[Settable, Settable]:
    """Task and Trainer of a run as things whose settings can be looked up and changed.

    Raises:
        ValueError: a live task, which has no settings.
    """
    if isinstance(task, nn.Module):
        raise ValueError(
            f"tuning cannot build a {type(task).__name__} anew that was given as an object: give "
            "task=… as a function of its settings, def task(lr=1e-3, width=64): return …, or run "
            "a configuration"
        )
    first = task if isinstance(task, Settable) else Function(TASK, task)
    if isinstance(trainer, Settable):
        return first, trainer
    if callable(trainer):
        return first, Function(TRAINER, trainer)
    return first, Arguments(dict(trainer or {}))


def under(task: Any, trainer: Any, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Task and Trainer of a run under other settings, of the kinds that they were.

    Args:
        task: builds a module.
        trainer: arguments of a Trainer, or a function.
        settings: by dotted name; none change nothing.
    """
    if not settings:
        return task, trainer
    first, second = (each.under(settings) for each in settable(task, trainer))
    return first, second.given if isinstance(second, Arguments) else second
