"""What a study may add to a benchmark: to each setting of its report, and a verdict on its results.

The referee knows the contract and this registry, and no paper: a benchmark says ``study: NAME``.
What a study adds is data (columns, sentences, pictures, tables); the report shows it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from lightning_al.registry import Registry
from lightning_al.spec import read

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .run_spec import RunSpec
    from .summary import Setting

__all__ = [
    *("STUDIES", "Additions", "Cell", "Column", "Evidence", "Picture", "Study", "Table", "Verdict"),
    *("study_of", "study_of_run"),
]


@dataclass(frozen=True)
class Evidence:
    """What a benchmark, or a run, has found so far."""

    frame: pd.DataFrame  # the tidy table: a row a round, failed runs too
    facts: Mapping[str, Any]  # what is compared: metric, area, reference, title, study
    folders: Mapping[str, Path] = field(default_factory=dict)  # of runs whose journals lie here


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    mark: Literal["", "better", "worse"] = ""  # how it stands out


@dataclass(frozen=True)
class Column:
    """One more column of a setting's table of strategies."""

    title: str
    cells: Mapping[str, Cell]  # by strategy; a dash where there is none


@dataclass(frozen=True)
class Picture:
    """A picture of a setting."""

    name: str  # of its file, before that of the setting
    figure: Figure
    caption: str
    wide: bool = False  # under the learning curve, not beside it


@dataclass(frozen=True)
class Table:
    """A table of a setting, under a heading of its own."""

    title: str
    heads: Sequence[str]  # [columns]
    rows: Sequence[Sequence[Cell]]  # [rows][columns]
    note: str = ""  # under it


@dataclass(frozen=True)
class Additions:
    """All that a study adds to one setting of a report."""

    title: str = ""  # of the table of strategies, in place of the referee's own
    columns: Sequence[Column] = ()  # of that table, before the times
    notes: Sequence[str] = ()  # how to read them, each a clause
    sentences: Sequence[str] = ()  # what they allow to say
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Verdict:
    """What a study says of a whole benchmark."""

    lines: Sequence[str]
    holds: bool  # whether ``bench`` ends with status 0


class Study(Protocol):
    """What one paper adds; a subclass gives its ``name`` and whatever it has of the rest.

    A study is filed in :data:`STUDIES` by ``STUDIES.register("my-study")``, or named by its class
    path; the settings of a benchmark then say ``study: my-study``, or ``study: {name: my-study,
    **arguments}``.
    """

    name: ClassVar[str]  # in words, for the page

    def check(self, runs: Sequence[RunSpec]) -> None:
        """Refuse a grid that it cannot speak of, before anything runs.

        Args:
            runs: all of the benchmark.

        Raises:
            ValueError: such a grid; the message says what it lacks.
        """

    def serves(self, settings: Mapping[str, Any]) -> bool:
        """Whether it also speaks of a single run, which declares no study.

        Args:
            settings: of the run, as in its ``config.yaml``.
        """
        return False

    def additions(self, setting: Setting, evidence: Evidence) -> Additions:
        """What stands in the report of one setting.

        Args:
            setting: with the runs that ended well, one row each.
            evidence: all that was found, of every setting.
        """
        return Additions()

    def verdict(self, runs: Sequence[RunSpec], evidence: Evidence) -> Verdict | None:
        """What ``bench`` prints behind its summary, and whether it ends well; None for nothing.

        Args:
            runs: those that the benchmark is to do.
            evidence: what was found.
        """
        return None


STUDIES: Registry[Study] = Registry("study", "studies", contract=Study)


def study_of(spec: str | Mapping[str, Any] | None) -> Study | None:
    """The study that a benchmark names; None where it names none.

    Args:
        spec: a name of :data:`STUDIES`, a class path, or a mapping with arguments.

    Raises:
        LookupError: no such study.
        ValueError: arguments that it does not take, or what is no study.
    """
    named = spec.get("name") if isinstance(spec, Mapping) else spec
    if named is not None and "." not in named and not len(STUDIES):
        raise LookupError(
            f"no study is known yet, and this benchmark names {spec!r}; "
            "`import lightning_al.studies` first, or register your own in STUDIES"
        )
    return None if spec is None else read(spec, STUDIES)


def study_of_run(settings: Mapping[str, Any]) -> str | None:
    """The first study, by name, that serves a single run; None where none does.

    Args:
        settings: of the run.
    """
    for name in STUDIES:
        try:
            inspect.signature(STUDIES.factory(name)).bind()
        except TypeError:
            continue  # nobody says its arguments
        if STUDIES.build(name).serves(settings):
            return name
    return None
