"""A run of the command line, rebuilt from what lies in its folder."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path

from lightning_al.rounds import ActiveLearner

from .building import Assembly
from .parser import parse

__all__ = ["learner_of_run"]


def learner_of_run(run_dir: Path) -> ActiveLearner:
    """The learner of a run of the command line, from the ``config.yaml`` in its folder.

    Raises:
        LookupError: the folder holds no such file, or that of a run written in Python.
    """
    path = run_dir / "config.yaml"
    if not path.exists():
        raise LookupError(f"{run_dir} holds no config.yaml; give the folder of a run")
    try:
        config = parse(["run", "--config", str(path)])
    except ArgumentError:
        raise LookupError(
            f"{path} is not of the command line; rebuild the learner in Python and pass it: "
            "replay(run_dir, round, learner)"
        ) from None
    return Assembly(config).learner(run_dir=run_dir, overwrite=False)
