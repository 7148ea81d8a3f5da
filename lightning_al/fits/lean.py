"""Fits by a bare loop, where it gives what Lightning gives to the last bit; else by Lightning."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_al.compat import family_of, overrides
from lightning_al.randomness import seeded
from lightning_al.ranks.ranks import ALONE, Ranks

from . import lean_loop
from .backend import FitRequest, Fitted, TrialFit
from .diverged import refuse_diverged
from .lean_trainer import LeanTrainer
from .lightning import (
    LIGHTNING,
    Engine,
    LightningFits,
    load_best,
    refit_by,
    test_round,
)
from .plain import why_not_plain
from .probe import probe
from .recipe import Recipe, quietly
from .recorder import NotPlain
from .thread_count import at

__all__ = ["LEAN", "LeanFits", "falling_back", "lean_fit", "lean_test", "lean_validate"]

log = logging.getLogger(__name__)


def lean_fit(
    module: Any,
    recipe: Recipe,
    datamodule: Any,
    trainer: Any,
    *,
    seed: int,
    round: int,
    ranks: Ranks = ALONE,
) -> Any:
    """:func:`.lightning.fit_round` by a bare loop; the trainer that the module then has.

    Args:
        module: fresh.
        recipe: of the run.
        datamodule: at the round.
        trainer: that Lightning built, for settings and callbacks; it fits nothing.
        seed: of the run.
        round: keys all draws.
        ranks: the processes.

    Raises:
        NotPlain: something that only Lightning does, or an error in the module's own code.
        ValueError: weights that are not finite.
    """
    if why := why_not_plain(module, trainer, datamodule, ranks):
        raise NotPlain(why)
    lean = LeanTrainer(trainer, module, datamodule)
    with falling_back(), seeded(seed, round, "fit"), quietly():
        lean_loop.fit(lean)
        if recipe.restore == "best":
            load_best(module, lean)
    refuse_diverged(module, round)
    return lean


def lean_test(module: Any, datamodule: Any, trainer: Any) -> dict[str, float]:
    """Metrics of the test set by name, by the trainer of :func:`lean_fit`."""
    if not overrides("test_step", module):
        return test_round(module, datamodule, trainer)  # which says so
    with falling_back(), quietly():
        return {name: float(value) for name, value in lean_loop.test(trainer).items()}


def lean_validate(module: Any, datamodule: Any, trainer: Any) -> dict[str, float]:
    """What a module logs on the validation set of some data, by the trainer of :func:`lean_fit`."""
    with falling_back(), quietly():
        found = lean_loop.validate(trainer, datamodule)
    return {name: float(value) for name, value in found.items()}


@contextmanager
def falling_back() -> Iterator[None]:
    """What goes wrong inside goes wrong in Lightning's fit too, which says it best."""
    try:
        yield
    except NotPlain:
        raise
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        raise NotPlain(f"{type(error).__name__}: {first}") from error


LEAN = Engine("lean", lean_fit, lean_test, lean_validate)


class LeanFits(LightningFits):
    """Fits by the bare loop, where facts and a first rehearsal beside Lightning allow it.

    They are looked at once, at the first fit. A later fit that the loop cannot do is done again by
    Lightning, and so are all that follow. The arguments are those of :class:`LightningFits`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._why: str | None = None  # not lean; empty where it is, None before the first fit
        self._refits, self._said = True, False
        self._spare: Any = None  # a Trainer that fits nothing: it serves all lean fits
        self._trying: Any = None  # such a one for trials

    def fit(self, request: FitRequest) -> Fitted:
        """Build, fit, keep and test the module of a round; which backend did so, and why."""
        if self._lean(request.round, request.previous):
            try:
                return self.by(LEAN, request)
            except NotPlain as reason:
                self._why = str(reason)
        if not self._said:
            log.info("fits are Lightning's: %s", self._why)
        self._said = True
        return replace(super().fit(request), reason=self._why or "")

    def _lean(self, round: int, previous: Any) -> bool:
        """Whether fits are lean, found out at the first one."""
        if self._why is None:
            self._why = self._reason(round, previous)
        return not self._why

    def _reason(self, round: int, previous: Any) -> str:
        """Why the fits are Lightning's; empty where they are lean."""
        apart = Recipe(self.recipe.task, self.recipe.trainer, self.recipe.weights)
        where = (self.seed, round)
        module = apart.build_task(*where, previous)
        self._spare = self.recipe.build_trainer((), self.folder, family_of(module))
        if why := why_not_plain(module, self._spare, self.datamodule, self.ranks):
            return why
        modules = module, apart.build_task(*where, previous)
        with at(self.threads):
            return probe(modules, apart, self.datamodule, (LEAN, LIGHTNING), self._spare, *where)

    def trainer_for(self, engine: Engine, callbacks: Sequence[Any], family: Any) -> Any:
        """A lean fit takes settings and fresh callbacks of a Trainer, and leaves it as it is."""
        if engine is LEAN and self.recipe.renew(self._spare, callbacks, family):
            return self._spare
        fresh = super().trainer_for(engine, callbacks, family)
        self._spare = fresh if engine is LEAN else None
        return fresh

    def judge(self, trial: TrialFit, *, round: int, previous: Any = None) -> dict[str, float]:
        """What a module logs in a validation after a fit to other data.

        A trial that the bare loop cannot do is Lightning's, and the next one is tried again: it is
        built otherwise.
        """
        if self._lean(round, previous):
            with suppress(NotPlain):
                return self.judged_by(LEAN, trial, round, previous)
        return super().judge(trial, round=round, previous=previous)

    def trial_trainer(
        self, engine: Engine, recipe: Recipe, callbacks: Sequence[Any], folder: Path, family: Any
    ) -> Any:
        """A lean fit takes settings and fresh callbacks of one that served before, if it can."""
        if engine is LEAN and recipe.renew(self._trying, callbacks, family):
            return self._trying
        fresh = super().trial_trainer(engine, recipe, callbacks, folder, family)
        self._trying = fresh if engine is LEAN else None
        return fresh

    def refit(self, recipe: Recipe, datamodule: Any, *, seed: int, round: int) -> Any:
        """A module fitted on other data than the run's, on one device."""
        where = {"seed": seed, "round": round}
        if self._refits and self._lean(round, None):
            try:
                with at(self.threads):
                    return refit_by(LEAN, recipe, datamodule, **where)
            except NotPlain:
                self._refits = False
        return super().refit(recipe, datamodule, **where)
