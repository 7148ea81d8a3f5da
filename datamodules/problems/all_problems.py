"""All problems by name; one of your own is registered as a function that gives it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from os import PathLike

from lightning_al.registry import Registry

from .analytic import ANALYTIC
from .fluid import FLUID_SYSTEM
from .problem import Problem
from .recorded import TABLES

__all__ = ["PROBLEMS", "names", "problem"]


def _made(known: Problem, data_dir: str | PathLike[str] | None = None) -> Problem:
    return replace(known, data_dir=data_dir)


PROBLEMS: Registry[Problem] = Registry("problem")
for _each in (*ANALYTIC, *TABLES, FLUID_SYSTEM):
    PROBLEMS.register(_each.name)(partial(_made, _each))


def names() -> list[str]:
    """All names, sorted."""
    return PROBLEMS.names()


def problem(name: str, *, data_dir: str | PathLike[str] | None = None) -> Problem:
    """A problem by its name; no file is read before it is needed.

    Args:
        name: see :func:`names`.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.

    Raises:
        LookupError: no such name; the message lists all.
    """
    return PROBLEMS.build(name, data_dir=data_dir)
