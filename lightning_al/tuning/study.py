"""Which settings a trial looks at: optuna's samplers and pruners, fed from the journal alone.

A study is made anew for each trial, from the trials before it in its round, and seeded by (run,
round, trial): so a run that was killed proposes what an undisturbed one would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .options import Tuning
from .space import Choice, Range, Space
from .trials import Trial

__all__ = ["Proposal", "propose"]

MOST = 2**32


class Proposal:
    """Settings that a trial is to look at, and whether it should be given up.

    Args:
        settings: by dotted name.
        trial: optuna's own; None where it does not prune.
    """

    def __init__(self, settings: Mapping[str, Any], trial: Any = None) -> None:
        self.settings = dict(settings)
        self.steps: list[list[float]] = []
        self._trial = trial

    def report(self, step: int, value: float) -> bool:
        """Take in the objective after a step, counted from 1; whether to give the trial up."""
        self.steps.append([step, value])
        if self._trial is None:
            return False
        self._trial.report(value, step)
        return bool(self._trial.should_prune())


def propose(
    tuning: Tuning, tried: Sequence[Trial], first: Mapping[str, Any] | None, seed: int, steps: int
) -> Proposal | None:
    """What the next trial of a round looks at; None where a grid has no more.

    Args:
        tuning: of the run.
        tried: the trials before it in its round.
        first: what trial 0 looks at, where the space holds it: the best of the round before.
        seed: of this trial.
        steps: that a whole trial has, for the pruner.
    """
    first = first if first is not None and tuning.space.holds(first) else None
    chosen = first if not tried else None
    if tuning.sampler.name == "grid" and chosen is None:
        done = [dict(t.settings) for t in tried]
        chosen = next((point for point in tuning.space.grid() if point not in done), None)
        if chosen is None:
            return None
    with _quiet():
        return _ask(tuning, tried, chosen, seed, steps)


def _ask(
    tuning: Tuning,
    tried: Sequence[Trial],
    chosen: Mapping[str, Any] | None,
    seed: int,
    steps: int,
) -> Proposal:
    import optuna

    space: Space = tuning.space
    known = {name: _distribution(values) for name, values in space.settings.items()}
    pruner: Any = optuna.pruners.NopPruner()
    if tuning.pruner.name == "median":
        warmup = int(tuning.pruner.warmup * steps)
        pruner = optuna.pruners.MedianPruner(tuning.pruner.startup, warmup)
    if tuning.sampler.name == "tpe":
        sampler: Any = optuna.samplers.TPESampler(
            n_startup_trials=tuning.sampler.startup, seed=seed % MOST
        )
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed % MOST)
    study = optuna.create_study(
        direction="maximize" if tuning.mode == "max" else "minimize",
        sampler=sampler,
        pruner=pruner,
    )
    study.add_trials(_frozen(trial, space, known) for trial in tried)
    if chosen is not None:
        study.enqueue_trial(_params(chosen, space))
    asked = study.ask(known)
    settings = chosen or {
        name: values.values[asked.params[name]]
        if isinstance(values, Choice)
        else asked.params[name]
        for name, values in space.settings.items()
    }
    return Proposal(settings, asked)


def _frozen(trial: Trial, space: Space, known: Mapping[str, Any]) -> Any:
    """A trial as optuna keeps it."""
    import optuna

    states = optuna.trial.TrialState
    state = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
    return optuna.trial.create_trial(
        state=state[trial.state],
        value=trial.value if trial.state == "complete" else None,
        params=_params(trial.settings, space),
        distributions=dict(known),
        intermediate_values={int(step): value for step, value in trial.steps},
    )


def _params(settings: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Settings with the places of choices, which may be lists."""
    return {
        name: values.place(settings[name]) if isinstance(values, Choice) else settings[name]
        for name, values in space.settings.items()
    }


def _distribution(values: Range | Choice) -> Any:
    import optuna

    if isinstance(values, Choice):
        return optuna.distributions.CategoricalDistribution(range(len(values.values)))
    if values.whole:
        low, high = int(values.low), int(values.high)
        return optuna.distributions.IntDistribution(low, high, log=values.log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of each study that it makes."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
