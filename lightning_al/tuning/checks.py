"""A tuning that cannot work, refused before anything is fitted."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from lightning_al.compat import family_of, overrides
from lightning_al.fits.lightning import validate_round
from lightning_al.fits.recipe import Recipe
from lightning_al.randomness import seeded
from lightning_al.ranks.ranks import Ranks
from lightning_al.records import RunPlan

from .options import Tuning
from .tuner import base_settings, objective_of

__all__ = ["check_tuning"]


def check_tuning(
    tuning: Tuning | None, recipe: Recipe, datamodule: Any, plan: RunPlan, ranks: Ranks
) -> None:
    """Build the model at each end of the space, and look for what judges it.

    Args:
        tuning: of the run; None is nothing to check.
        recipe: of its fits.
        datamodule: at the start of the run.
        plan: seed, and whether labels of the pool may be looked at.
        ranks: the processes; all of them call it.

    Raises:
        LookupError: a setting that does not exist, or an objective that is never logged.
        ValueError: a judge without items, a value that the model refuses, weights that go on over
            rounds while their shapes change, or while what judges was learned from.
    """
    if tuning is None:
        return
    base_settings(tuning, recipe)
    judge, seed = tuning.judge, plan.seed
    if judge.privileged and not plan.privileged:
        raise ValueError(
            "tuning.judge looks at the labels of the pool (whole); it runs only inside `bench`"
        )
    if recipe.weights != "reset" and judge.kind != "validation":
        raise ValueError(
            f"weights={recipe.weights!r} begins each fit with weights that have seen the items "
            "which are to judge it; give judge: validation and a validation set, or weights=reset"
        )
    if len(datamodule.labelled) or judge.kind != "validation":
        nobody = torch.empty(0, dtype=torch.int64)
        parts = ranks.together(lambda: judge.parts(datamodule, nobody, seed))
    ranks.together(lambda: _ends(tuning, recipe, seed))
    if len(datamodule.labelled):
        _objective(tuning, recipe, datamodule, parts[0], seed)


def _ends(tuning: Tuning, recipe: Recipe, seed: int) -> None:
    """Every value at an end of the space builds; where weights go on, of the same shapes."""
    shapes = _shapes(recipe.build_task(seed, 0, None))
    for name, value in tuning.space.ends():
        try:
            under = recipe.under({name: value})
            if name.startswith("trainer."):
                under.build_trainer()
                continue
            found = _shapes(under.build_task(seed, 0, None))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"tuning.space: {name} = {value!r} is refused: {error}") from error
        if recipe.weights != "reset" and found != shapes:
            raise ValueError(
                f"tuning.space: {name} = {value!r} changes the shapes of the model, so that "
                f"weights={recipe.weights!r} cannot go on from the round before; give "
                "weights=reset, or leave it out of the space"
            )


def _shapes(module: Any) -> dict[str, Any]:
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


def _objective(tuning: Tuning, recipe: Recipe, datamodule: Any, part: Any, seed: int) -> None:
    """The untrained model logs the objective; one that is fitted to all items at once says later.

    Raises:
        LookupError: it does not.
    """
    module = recipe.build_task(seed, 0, None)
    if not overrides("validation_step", module):
        raise LookupError(
            f"tuning.objective: {type(module).__name__} has no validation_step, so that no trial "
            f"can be judged; write one that logs {tuning.objective!r}"
        )
    if getattr(module, "full_batch", False):
        return
    view = datamodule.restricted(part.train, answers=part.answers, held=part.held)
    trainer = Recipe(recipe.task, recipe.trainer).build_trainer(family=family_of(module))
    trainer.loggers, trainer.callbacks = [], []
    with seeded(seed, 0, "tune-check"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logged = validate_round(module, view, trainer)
    objective_of(tuning.objective, logged)
