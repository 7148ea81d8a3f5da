"""A run of the command line, rebuilt from the first line of its journal.

``config.yaml`` shows the same to people; what somebody writes into it changes no run that was.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_al.journal.amendments import in_force
from lightning_al.journal.journal import read_journal
from lightning_al.journal.order import first_line
from lightning_al.rounds import ActiveLearner

from .building import Assembly
from .parser import parse

__all__ = ["config_of_run", "learner_of_run", "parse_run"]


def config_of_run(run_dir: Path, round: int | None = None) -> dict[str, Any]:
    """The settings of a run, as its journal has them.

    Args:
        run_dir: its folder.
        round: those in force at the fit of this round; the last ones by default.

    Raises:
        LookupError: the folder holds no journal.
        JournalError: one that does not say what run it is.
    """
    path = run_dir / "journal.jsonl"
    if not path.is_file():
        raise LookupError(f"{run_dir} holds no journal; give the folder of a run")
    records, _ = read_journal(path)
    first_line(records, run_dir)
    return in_force(records, round)


def parse_run(run_dir: Path, words: Sequence[str] = (), round: int | None = None) -> dict[str, Any]:
    """The resolved configuration of a run, changed by what ``words`` say.

    Args:
        run_dir: its folder.
        words: of a command line.
        round: whose settings; the last ones by default.

    Raises:
        LookupError: a folder without a journal, or a run that was written in Python.
        ArgumentError: words that make no sense.
    """
    config = config_of_run(run_dir, round)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "config.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        alone = ["run", "--config", str(file)]
        try:
            return parse([*alone, *words])
        except ArgumentError:
            if words and _is_command(alone):
                raise  # of the words
            raise LookupError(
                f"the run in {run_dir} is not of the command line; rebuild the learner in Python "
                "(for a replay: replay(run_dir, round, learner))"
            ) from None


def _is_command(words: Sequence[str]) -> bool:
    try:
        parse(list(words))
    except ArgumentError:
        return False
    return True


def learner_of_run(run_dir: Path, round: int | None = None) -> ActiveLearner:
    """The learner of a run of the command line, from the journal in its folder.

    Args:
        run_dir: the folder.
        round: under whose settings; the last ones by default.

    Raises:
        LookupError: a folder without a journal, or a run that was written in Python.
    """
    return Assembly(parse_run(run_dir, round=round)).learner(run_dir=run_dir, overwrite=False)
