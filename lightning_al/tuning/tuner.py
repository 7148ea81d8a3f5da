"""The trials of a run, one at a time: each an ordinary fit of the run's recipe under settings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from lightning_al.fits.backend import TrialFit, Watch
from lightning_al.fits.diverged import Diverged
from lightning_al.fits.lightning import LightningFits
from lightning_al.identity import digest
from lightning_al.journal.standing import Standing
from lightning_al.randomness import derive
from lightning_al.ranks.ranks import Ranks
from lightning_al.records import RunPlan
from lightning_al.records.plan import options_of

from .judges import Part
from .options import Tuning
from .settable import settable
from .shared import SharedTrials
from .study import Proposal, propose
from .trials import Trial, settle

__all__ = ["Tuner", "base_settings", "objective_of", "stop_of", "tuner_of"]

EPOCHS = 20  # steps of one fit that a pruner looks at


class Tuner:
    """Does the next trial of a round, or says what the round has settled on.

    What it does follows from the journal alone, so that a run that was killed goes on with the
    trial that it was at.

    Args:
        tuning: what is looked for.
        fits: fits the trials, and stands at the settings of the round.
        shared: trials of other runs; None for none.
        decided: plain values that decide the trials beside the labels, for the shared ones.
    """

    def __init__(
        self,
        tuning: Tuning,
        fits: LightningFits,
        *,
        shared: SharedTrials | None = None,
        decided: Mapping[str, Any] | None = None,
    ) -> None:
        self.tuning, self.fits = tuning, fits
        self.shared, self.decided = shared, decided
        self._known: tuple[int, list[Part]] = (-1, [])

    @property
    def _ranks(self) -> Ranks:
        return self.fits.ranks

    def step(
        self, round: int, standing: Standing, previous: Callable[[], Any] = lambda: None
    ) -> tuple[str, dict[str, Any]] | None:
        """The next line of a round: ``tried`` or ``tuned``; None where the round does not tune.

        Collective: every rank calls it.

        Args:
            round: at which the data stand.
            standing: what the journal says.
            previous: gives the weights that the fits of the round go on from; None for none.

        Raises:
            LookupError: the objective is never logged.
            ValueError: all trials failed.
        """
        data, tuning = self.fits.datamodule, self.tuning
        if not tuning.when.due(len(data.labelled), standing.committed, standing.tuned_at(round)):
            return None
        tried = [Trial.from_json(line) for line in standing.tried(round)]
        first = standing.settings(round) or base_settings(tuning, self.fits.given)
        stop = stop_of(tuning, tried)
        if not stop:
            bought = [p.index for done in standing.committed for p in done.ledger]
            trial = self.trial(round, tried, first, bought, previous)
            if trial is not None:
                return "tried", trial.to_json()
            stop = "space"
        return "tuned", settle(tried, tuning.mode or "", stop, len(data.labelled)).to_json()

    def trial(
        self,
        round: int,
        tried: Sequence[Trial],
        first: Mapping[str, Any],
        bought: Sequence[int] = (),
        previous: Callable[[], Any] = lambda: None,
    ) -> Trial | None:
        """The next trial; None where a grid has no more.

        Args:
            round: whose labels these are.
            tried: the trials before it.
            first: settings that trial 0 looks at, where the space holds them.
            bought: positions of the items that the run has asked for.
            previous: gives the weights that fits go on from.
        """
        parts = self._parts(round, bought)
        steps = len(parts) if len(parts) > 1 else EPOCHS
        seed = derive(self.fits.seed, round, "tune", len(tried))
        made: list[Proposal | None] = []

        def look() -> dict[str, Any] | None:
            made.append(propose(self.tuning, tried, first, seed, steps))
            return None if made[0] is None else made[0].settings

        settings = self._ranks.on_zero(look)
        if settings is None:
            return None

        def work() -> Trial:
            proposal = made[0] if made else None  # on rank 0, which alone decides
            fits = _Fits(self.tuning, self.fits, round, previous(), proposal)
            return fits.trial(len(tried), settings, parts)

        if self.shared is None or self._ranks.size > 1 or self.fits.given.weights != "reset":
            return work()  # weights that go on hold more than the labels of now
        told = {"decided": self.decided, "state": self.fits.datamodule.fingerprint()}
        key = digest({**told, "seed": self.fits.seed, "round": round, "first": dict(first)})
        return self.shared.once(key, len(tried), work)

    def _parts(self, round: int, bought: Sequence[int]) -> list[Part]:
        """What the fits of a trial see, drawn once a round."""
        if self._known[0] != round:
            taken = torch.tensor(list(bought), dtype=torch.int64)
            data = self.fits.datamodule
            self._known = round, self.tuning.judge.parts(data, taken, self.fits.seed)
        return self._known[1]


def tuner_of(
    tuning: Tuning | None, fits: LightningFits, plan: RunPlan, told: Mapping[str, Any]
) -> Tuner | None:
    """The tuner of a run; None where it tunes nothing.

    Args:
        tuning: what is looked for.
        fits: of the run.
        plan: its options.
        told: plain values that make it this run; those of its ``config`` that only decide what is
            asked for next are no part of what decides a trial.
    """
    if tuning is None:
        return None
    asking = {each.name for each, facts in options_of(plan) if facts.change}
    config = {k: v for k, v in told["config"].items() if k not in asking}
    shared = None if plan.tuning_shared is None else SharedTrials(Path(plan.tuning_shared))
    return Tuner(tuning, fits, shared=shared, decided={**told, "config": config})


@dataclass(frozen=True)
class _Fits:
    """The fits of one trial.

    Args:
        tuning: what is looked for.
        fits: the backend.
        round: whose labels these are.
        previous: weights that the fits go on from.
        proposal: takes in what comes; None on ranks that decide nothing.
    """

    tuning: Tuning
    fits: LightningFits
    round: int
    previous: Any
    proposal: Proposal | None

    def trial(self, number: int, settings: Mapping[str, Any], parts: Sequence[Part]) -> Trial:
        """Fit and judge; what goes wrong is written down, and ends no run."""
        on_zero = self.fits.ranks.on_zero
        clock = time.perf_counter()
        # on several processes an error of one would leave the others in the middle of a fit
        survived = (Diverged,) if self.fits.ranks.size > 1 else (ValueError, RuntimeError)
        why, values, state = "", [], "complete"
        try:
            recipe = replace(self.fits.given.under(settings), loggers=())
            for part in parts:
                value = self._value(recipe, part, alone=len(parts) == 1)
                if value is None:
                    state = "pruned"
                    break
                values.append(value)
                if len(parts) > 1 and self._report(len(values), fmean(values)):
                    state = "pruned" if len(values) < len(parts) else state
                    if state == "pruned":
                        break
        except (*survived, ArithmeticError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            state = "failed"
        return Trial(
            trial=number,
            settings=dict(settings),
            state=state,
            value=fmean(values) if values and not why else None,
            steps=on_zero(lambda: [] if self.proposal is None else self.proposal.steps),
            why=why,
            seconds=on_zero(lambda: time.perf_counter() - clock),
        )

    def _value(self, recipe: Any, part: Part, *, alone: bool) -> float | None:
        """The objective of one fit; None where it was given up."""
        data, tuning = self.fits.datamodule, self.tuning
        judge = data.restricted(part.train, answers=part.answers, held=part.held)
        fitted, watch = data.restricted(part.train, answers=part.answers), None
        if alone and tuning.pruner.name != "none":
            fitted, watch = judge, self._watch()
        fit = TrialFit(recipe, fitted, judge, watch)
        logged = self.fits.judge(fit, round=self.round, previous=self.previous)
        if watch is not None and not logged:
            return None
        value = objective_of(tuning.objective, logged)
        value = self.fits.ranks.on_zero(lambda: value)
        if not math.isfinite(value):
            raise ArithmeticError(f"{tuning.objective} is {value}")
        return value

    def _watch(self) -> Watch:
        """Looks at the objective while one fit goes on."""
        proposal = self.proposal

        def begin() -> None:
            if proposal is not None:
                proposal.steps.clear()

        def report(share: float, value: float) -> bool:
            return self._report(round(share * EPOCHS), value)

        return Watch(self.tuning.objective, begin, report)

    def _report(self, step: int, value: float) -> bool:
        proposal = self.proposal
        return self.fits.ranks.on_zero(
            lambda: proposal is not None and proposal.report(step, value)
        )


def stop_of(tuning: Tuning, tried: Sequence[Trial]) -> str:
    """Why a round has trials enough; empty where it has not. Told from the journal alone."""
    if len(tried) >= tuning.trials:
        return "trials"
    late = tuning.seconds is not None and sum(t.seconds for t in tried) >= tuning.seconds
    return "seconds" if late and tried else ""


def base_settings(tuning: Tuning, recipe: Any) -> dict[str, Any]:
    """What the settings of a space are before tuning, as far as anybody says.

    Raises:
        LookupError: one that does not exist.
        ValueError: a task that has no settings.
    """
    task, trainer = settable(recipe.task, recipe.trainer)
    return {
        name: (trainer if name.startswith("trainer.") else task).value(name)
        for name in tuning.space.settings
    }


def objective_of(objective: str, logged: Mapping[str, float]) -> float:
    """The objective among what a validation logged.

    Raises:
        LookupError: it is not there; the message says what is.
    """
    if objective not in logged:
        there = ", ".join(sorted(logged))
        raise LookupError(
            f"tuning.objective: a validation of the model logs no {objective!r}; "
            + (f"choose one of {there}" if there else "it logs nothing: log a metric in the module")
        )
    return logged[objective]
