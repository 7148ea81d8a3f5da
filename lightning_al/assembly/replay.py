"""A round is an ordinary Lightning fit: do one again, from the journal and the data."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import CSVLogger

from lightning_al.compat import family_of
from lightning_al.fits.lightning import fit_round
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.recorder import NotPlain
from lightning_al.fits.stacked import Member, fit_stack
from lightning_al.fits.thread_count import at
from lightning_al.journal.checkpoints import read_checkpoint, trouble_of
from lightning_al.journal.extension import known_items, stand_as_known
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.run_folder import check_same_run
from lightning_al.journal.standing import Standing
from lightning_al.records.plan import options_of
from lightning_al.rounds.driver import ActiveLearner
from lightning_al.rounds.parts import Parts, describe

from .recall import learner_of_run

__all__ = ["replay"]

log = logging.getLogger(__name__)


def replay(
    run_dir: str | Path, round: int, learner: ActiveLearner | None = None
) -> LightningModule:
    """Fit round ``round`` of a run again with a plain ``Trainer.fit``: no driver, no AL callback.

    On the CPU, at the recorded number of threads, the weights equal the round's checkpoint bit for
    bit. A round that was fitted together with those of other runs of a benchmark, ``fits:
    stacked``, is fitted with them again where their folders lie beside this one, with weights equal
    bit for bit; else alone, with weights equal to rounding (1e-9 where the network is float64).

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
    standing = _standing(run_dir)
    if not standing.has(round, "fitted") or standing.checkpoint(round) is None:
        done = [r.round for r in standing.committed if r.batches]
        raise LookupError(f"round {round} was not fitted in {run_dir}; it holds rounds {done}")
    if standing.start["world"] != 1:
        raise JournalError(
            f"{run_dir} ran on {standing.start['world']} processes; replay fits on one, where the "
            "batches would differ"
        )
    with at(standing.start["threads"]), tempfile.TemporaryDirectory() as scratch:
        mine = _member(standing, round, learner, Path(scratch))
        if names := standing.stack(round):
            try:
                return _stacked(names, mine, standing, Path(scratch))
            except (LookupError, NotPlain) as why:
                log.warning(
                    "round %d of %s was fitted together with %d other runs, and is fitted alone "
                    "now, which is the same to rounding: %s",
                    *(round, run_dir, len(names) - 1, why),
                )
                mine = _member(standing, round, learner, Path(scratch))
        where: dict[str, Any] = {"seed": mine.seed, "round": round}
        fit_round(mine.module, mine.recipe, mine.datamodule, mine.trainer, **where)
        module: LightningModule = mine.module
        return module


def _standing(run_dir: Path) -> Standing:
    records, _ = read_journal(run_dir / "journal.jsonl")
    if not records:
        raise LookupError(f"{run_dir} holds no journal; give the folder of a run")
    return Standing.of(records, run_dir)


def _stacked(
    names: Sequence[str], mine: Member, standing: Standing, scratch: Path
) -> LightningModule:
    """The module of a round, fitted again together with those of other runs.

    Raises:
        LookupError: not all of their folders are there.
        NotPlain: they cannot be fitted together here.
        ValueError: its weights are not finite.
    """
    path = standing.path.resolve()
    if path.name not in names:
        raise LookupError(f"the folder is none of {', '.join(names)} any more")
    members = [
        mine
        if name == path.name
        else _member(_standing(path.parent / name), mine.round, None, scratch / name)
        for name in names
    ]
    fitted = fit_stack(members)[names.index(path.name)]
    if isinstance(fitted, Exception):
        raise fitted
    module: LightningModule = mine.module
    return module


def _member(standing: Standing, round: int, learner: ActiveLearner | None, scratch: Path) -> Member:
    """The fit of a round of a run, as it was before it began."""
    run_dir = standing.path
    learner = learner_of_run(run_dir, round) if learner is None else learner
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
    recipe = recipe.under(standing.settings(round))
    module = recipe.build_task(learner.seed, round, previous)
    trainer = recipe.build_trainer(folder=scratch, family=family_of(module))
    if trainer.loggers:  # some callbacks insist on one
        trainer.loggers = [CSVLogger(scratch)]
    return Member(module, recipe, learner.datamodule, trainer, learner.seed, round)


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
