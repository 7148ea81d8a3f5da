"""A trial as the journal has it, and what a round settles on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Settled", "Trial", "settle"]

STATES = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Trial:
    """One look at some settings: a line ``tried`` of the journal.

    Args:
        trial: its number in the round, from 0.
        settings: by dotted name.
        state: "complete", "pruned" (given up midway) or "failed".
        value: the objective, the mean over its fits; None where it failed.
        steps: ``[step, value]`` after each fit of several, or after epochs of one.
        why: of a failure, in words.
        seconds: that it took.
    """

    trial: int
    settings: Mapping[str, Any]
    state: str
    value: float | None
    steps: Sequence[Sequence[float]] = ()
    why: str = ""
    seconds: float = 0.0

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trial:
        """The trial of a line."""
        return cls(**{f.name: record[f.name] for f in fields(cls) if f.name in record})

    def to_json(self) -> dict[str, Any]:
        """The fields of its line."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found |= {"settings": dict(self.settings), "steps": [list(step) for step in self.steps]}
        return {k: v for k, v in found.items() if k != "why" or v}


@dataclass(frozen=True)
class Settled:
    """What a round has settled on: a line ``tuned`` of the journal.

    Args:
        settings: of the best trial.
        trial: its number.
        value: its objective.
        trials: how many there were.
        n_labelled: items that were labelled then.
        stop: why there were no more: "trials", "seconds" or "space".
        seconds: of all trials.
    """

    settings: Mapping[str, Any]
    trial: int
    value: float
    trials: int
    n_labelled: int
    stop: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The fields of its line."""
        return {**vars(self), "settings": dict(self.settings)}


def settle(trials: Sequence[Trial], mode: str, stop: str, n_labelled: int) -> Settled:
    """The best complete trial, the first of equal ones.

    Args:
        trials: all of the round.
        mode: "max" or "min".
        stop: why there are no more.
        n_labelled: items that are labelled.

    Raises:
        ValueError: none is complete.
    """
    sign = 1.0 if mode == "max" else -1.0
    done = [(sign * t.value, t) for t in trials if t.state == "complete" and t.value is not None]
    if not done:
        why = next((t.why for t in trials if t.why), "none was done to its end")
        raise ValueError(
            f"all {len(trials)} trials failed; the first one: {why}. Give tuning.space values with "
            "which the model can be fitted (a lower learning rate, a smaller network)"
        )
    best, chosen = done[0]
    for value, trial in done[1:]:
        if value > best:
            best, chosen = value, trial
    assert chosen.value is not None
    seconds = sum(t.seconds for t in trials)
    return Settled(
        *(chosen.settings, chosen.trial, chosen.value, len(trials), n_labelled, stop, seconds)
    )
