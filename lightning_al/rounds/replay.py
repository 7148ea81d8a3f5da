"""A round is an ordinary Lightning fit: do one again, from the journal and the data."""

from __future__ import annotations

from pathlib import Path

import torch
from pytorch_lightning import LightningModule

from .driver import ActiveLearner
from .fitting import fit_round
from .journal import JournalError, read_journal
from .resume import Progress

__all__ = ["replay"]


def replay(
    run_dir: str | Path, round: int, learner: ActiveLearner | None = None
) -> LightningModule:
    """Fit round ``round`` of a run again with a plain ``Trainer.fit``: no driver, no AL callback.

    On the CPU, at the recorded number of threads, the weights equal the round's checkpoint bit for
    bit.

    Args:
        run_dir: the run folder; nothing in it is changed.
        round: which round, from 0.
        learner: the learner of the run where it was written in Python; a run of the command line
            is rebuilt from its ``config.yaml``.

    Raises:
        LookupError: a round that was never fitted.
        JournalError: a damaged journal, or data that have changed since.
    """
    run_dir = Path(run_dir)
    records, _ = read_journal(run_dir / "journal.jsonl")
    if not records:
        raise LookupError(f"{run_dir} holds no journal; give the folder of a run")
    if learner is None:
        from lightning_al.cli.build import learner_of_run  # inside: a composition root

        learner = learner_of_run(run_dir)
    progress = Progress.of(records, run_dir)
    done = [r.round for r in progress.committed]
    if not progress.has(round, "fitted"):
        raise LookupError(f"round {round} was not fitted in {run_dir}; it holds rounds {done}")
    if progress.start["world"] != 1:
        raise JournalError(
            f"{run_dir} ran on {progress.start['world']} processes; replay fits on one, where the "
            "batches would differ"
        )
    datamodule = learner.datamodule
    datamodule.prepare_data()
    datamodule.start(learner.seed)
    for r in range(round):
        progress.apply(r, datamodule)
    datamodule.round = round
    recipe = learner.with_(loggers=()).recipe()
    previous = _weights(run_dir, progress, round - 1) if recipe.weights != "reset" and round else None
    threads = torch.get_num_threads()
    torch.set_num_threads(progress.start["threads"])
    try:
        trainer = recipe.build_trainer()
        return fit_round(
            recipe, datamodule, trainer, seed=learner.seed, round=round, previous=previous
        )
    finally:
        torch.set_num_threads(threads)


def _weights(run_dir: Path, progress: Progress, round: int) -> dict[str, torch.Tensor]:
    checkpoint = progress.fitted(round).checkpoint
    if checkpoint is None or not (run_dir / checkpoint).exists():
        raise JournalError(f"{run_dir}: the checkpoint of round {round} is gone; cannot go on from it")
    state = torch.load(run_dir / checkpoint, map_location="cpu", weights_only=False)
    weights: dict[str, torch.Tensor] = state["state_dict"]
    return weights
