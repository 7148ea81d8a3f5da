"""A round is an ordinary Lightning fit: do one again, from the journal and the data."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import CSVLogger

from lightning_al.compat import family_of
from lightning_al.fits.lightning import fit_round
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.thread_count import at
from lightning_al.journal.checkpoints import read_checkpoint, trouble_of
from lightning_al.journal.extension import known_items, stand_as_known
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.run_folder import check_same_run
from lightning_al.journal.standing import Standing
from lightning_al.records.plan import options_of

from .driver import ActiveLearner
from .parts import Parts, describe

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
            the round. A run of the command line is rebuilt from the first line of its journal.

    Raises:
        LookupError: a round that was never fitted.
        JournalError: a damaged journal, a learner of another run, or data that have changed since.
    """
    run_dir = Path(run_dir)
    records, _ = read_journal(run_dir / "journal.jsonl")
    if not records:
        raise LookupError(f"{run_dir} holds no journal; give the folder of a run")
    standing = Standing.of(records, run_dir)
    if not standing.has(round, "fitted") or standing.checkpoint(round) is None:
        done = [r.round for r in standing.committed if r.batches]
        raise LookupError(f"round {round} was not fitted in {run_dir}; it holds rounds {done}")
    if standing.start["world"] != 1:
        raise JournalError(
            f"{run_dir} ran on {standing.start['world']} processes; replay fits on one, where the "
            "batches would differ"
        )
    if learner is None:
        from lightning_al.assembly.recall import learner_of_run  # inside: a composition root

        learner = learner_of_run(run_dir, round)
    learner = learner.with_(loggers=())
    parts = learner.parts()
    recipe = parts.recipe(learner)
    _at_round(standing, round, learner, parts, recipe)
    before = None if learner.weights == "reset" else standing.checkpoint(round - 1)
    previous = None
    if before is not None:
        if why := trouble_of(run_dir / before, standing.hash_of(round - 1)):
            raise JournalError(f"{run_dir}: round {round} starts from {before}, which {why}")
        previous = read_checkpoint(run_dir, before, trust=learner.trust)["state_dict"]
    with at(standing.start["threads"]), tempfile.TemporaryDirectory() as scratch:
        module: LightningModule = recipe.build_task(learner.seed, round, previous)
        trainer = recipe.build_trainer(folder=Path(scratch), family=family_of(module))
        if trainer.loggers:  # some callbacks insist on one
            trainer.loggers = [CSVLogger(scratch)]
        fit_round(module, recipe, learner.datamodule, trainer, seed=learner.seed, round=round)
        return module


def _at_round(
    standing: Standing, round: int, learner: ActiveLearner, parts: Parts, recipe: Recipe
) -> None:
    """Bring the learner's datamodule to where it stood when the round was fitted."""
    datamodule = learner.datamodule
    datamodule.prepare_data()
    stand_as_known(datamodule, known_items(standing.path))
    datamodule.start(learner.seed)
    config, identity, _ = describe(learner, parts, recipe.build_task(learner.seed, 0, None))
    usual = {each.name: each.default for each, _ in options_of(learner)}
    then = {**standing.start, "config": standing.config(round)}
    start = {"identity": identity}
    check_same_run(then, config, start, standing.path, usual=usual, folder=False)
    standing.replay(datamodule, before=round)
    datamodule.round = round
