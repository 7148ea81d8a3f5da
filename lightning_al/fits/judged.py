"""A fit that is only judged: a trial of other settings, of which nothing is kept."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from lightning_al.compat import family_of
from lightning_al.randomness import seeded
from lightning_al.ranks.ranks import fitting

from .backend import TrialFit
from .thread_count import at

__all__ = ["judged"]

SCRATCH: weakref.WeakKeyDictionary[Any, Path] = weakref.WeakKeyDictionary()
"""Backend -> where its trials write; one place, for a Trainer that serves many of them."""


def judged(fits: Any, engine: Any, trial: TrialFit, round: int, previous: Any) -> dict[str, float]:
    """What a module logs in a validation after its fit; nothing where its watch has ended that.

    Args:
        fits: the backend; gives seed, ranks, threads and the Trainer.
        engine: that fits and validates.
        trial: what is fitted on what, and held against what.
        round: keys all draws.
        previous: weights that the fit goes on from.
    """
    from lightning_al.callbacks import Pruning  # inside: a sibling

    watching = [] if trial.watch is None else [Pruning(trial.watch)]
    module = trial.recipe.build_task(fits.seed, round, previous)
    where: dict[str, Any] = {"seed": fits.seed, "round": round, "ranks": fits.ranks}
    scratch = _scratch(fits)
    logged: dict[str, float] = {}
    try:
        with at(fits.threads):
            family = family_of(module)
            trainer = fits.trial_trainer(engine, trial.recipe, watching, scratch, family)
            used = engine.fit(module, trial.recipe, trial.data, trainer, **where)
            if not any(each.ended for each in watching):
                with seeded(fits.seed, round, "judge"), fitting(fits.ranks):
                    logged = engine.validate(module, trial.judge, used)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return logged


def _scratch(fits: Any) -> Path:
    """A folder for the files of a trial, as long as its backend lives."""
    if fits not in SCRATCH:
        folder = mkdtemp()
        weakref.finalize(fits, shutil.rmtree, folder, ignore_errors=True)
        SCRATCH[fits] = Path(folder, "trial")
    return SCRATCH[fits]
