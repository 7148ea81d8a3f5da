"""A round is an ordinary Lightning fit: do one again, from the journal and the data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import CSVLogger

from lightning_al.fits.lightning import fit_round
from lightning_al.identity import describe, differences
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.run_folder import read_checkpoint
from lightning_al.journal.standing import Progress

from .driver import ActiveLearner

__all__ = ["replay"]


def replay(
    run_dir: str | Path, round: int, learner: ActiveLearner | None = None
) -> LightningModule:
    """Fit round ``round`` of a run again with a plain ``Trainer.fit``: no driver, no AL callback.

    On the CPU, at the recorded number of threads, the weights equal the round's checkpoint bit for
    bit.

    Args:
        run_dir: the run folder; nothing in it is changed, and no logger hears of the fit.
        round: which round, from 0.
        learner: the learner of the run where it was written in Python; its datamodule is left at
            the round. A run of the command line is rebuilt from its ``config.yaml``.

    Raises:
        LookupError: a round that was never fitted.
        JournalError: a damaged journal, a learner of another run, or data that have changed since.
    """
    run_dir = Path(run_dir)
    records, _ = read_journal(run_dir / "journal.jsonl")
    if not records:
        raise LookupError(f"{run_dir} holds no journal; give the folder of a run")
    progress = Progress.of(records, run_dir)
    if not progress.has(round, "fitted") or progress.checkpoint(round) is None:
        done = [r.round for r in progress.committed if r.batches]
        raise LookupError(f"round {round} was not fitted in {run_dir}; it holds rounds {done}")
    if progress.start["world"] != 1:
        raise JournalError(
            f"{run_dir} ran on {progress.start['world']} processes; replay fits on one, where the "
            "batches would differ"
        )
    if learner is None:
        from lightning_al.assembly.parts import learner_of_run  # inside: a composition root

        learner = learner_of_run(run_dir)
    _at_round(progress, round, learner)
    recipe = learner.with_(loggers=()).recipe()
    before = None if recipe.weights == "reset" else progress.checkpoint(round - 1)
    previous = None if before is None else read_checkpoint(run_dir, before)["state_dict"]
    with _threads(progress.start["threads"]), tempfile.TemporaryDirectory() as scratch:
        trainer: Any = recipe.build_trainer(folder=Path(scratch))
        if trainer.loggers:  # some callbacks insist on one
            trainer.loggers = [CSVLogger(scratch)]
        return fit_round(
            recipe,
            learner.datamodule,
            trainer,
            seed=learner.seed,
            round=round,
            previous=previous,
        )


def _at_round(progress: Progress, round: int, learner: ActiveLearner) -> None:
    """Bring the learner's datamodule to where it stood when the round was fitted."""
    from lightning_al.strategies import resolve  # inside: the core never imports a sibling

    datamodule = learner.datamodule
    datamodule.prepare_data()
    datamodule.start(learner.seed)
    progress.check_state(datamodule.fingerprint(), -1)
    config = describe(learner, resolve(learner.strategy), datamodule)
    if found := differences(progress.start["config"], config):
        raise JournalError(
            f"{progress.path} holds a run of another learner ({'; '.join(found[:5])})"
        )
    for r in range(round):
        progress.apply(r, datamodule)
    progress.check_state(datamodule.fingerprint(), round - 1)
    progress.receive(round, datamodule)
    datamodule.round = round


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
