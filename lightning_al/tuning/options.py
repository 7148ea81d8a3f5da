"""What a run is told of its tuning: one frozen record, read from plain values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lightning_al.values import number, whole

from .judges import Judge
from .schedule import Schedule, mode_of
from .space import Space

__all__ = ["Pruner", "Sampler", "Tuning"]

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median")


@dataclass(frozen=True)
class Sampler:
    """Who proposes settings.

    Args:
        name: "tpe" (tree-structured Parzen estimators, Bergstra et al. 2011), "random", or "grid"
            (all combinations, in their order).
        startup: of "tpe": trials drawn at random before its model of them says anything.
    """

    name: str = "tpe"
    startup: int = 10


@dataclass(frozen=True)
class Pruner:
    """Who gives a trial up midway.

    Args:
        name: "none", or "median": a trial whose best value so far is worse than the median of the
            others at the same step.
        startup: trials before it looks.
        warmup: the share of a trial's steps before it looks: of its fits, or of the epochs of its
            one fit.
    """

    name: str = "median"
    startup: int = 5
    warmup: float = 0.4


@dataclass(frozen=True)
class Tuning:
    """How a run looks for settings while it goes.

    Args:
        space: settings by dotted name, each ``{int: [low, high]}``, ``{float: [low, high]}`` (with
            ``log: true``) or ``{choice: [a, b]}``; names as in a configuration, ``model.lr``,
            ``model.network.dropout``, ``optimizer.lr``, ``trainer.max_epochs``; for a task that is
            a function in Python its arguments, ``model.NAME``.
        objective: the metric that a validation of the model logs, such as ``val/nll``.
        mode: "min" or "max"; None where the name of the metric tells.
        when: "never", "first" (in the first round with labels), "every_round", ``{labels: N}``
            (when there are N more) or ``{falls: METRIC, by: AMOUNT}`` (when a metric of the last
            round is worse by so much than its best since).
        judge: "validation" (the fixed validation set), ``{split: 0.25}`` or ``{folds: 5, repeats:
            1}`` of the items labelled at the start; bought items never judge. ``{whole: 0.25}`` of
            all items with all labels, in benchmarks alone.
        trials: a round.
        seconds: of the trials of a round, after which no more is begun; None for no limit.
        sampler: "tpe", "random", "grid", or ``{name: tpe, startup: 10}``.
        pruner: "median", "none", or ``{name: median, startup: 5, warmup: 0.4}``.
    """

    space: Any
    objective: str
    mode: str | None = None
    when: Any = "first"
    judge: Any = None
    trials: int = 20
    seconds: float | None = None
    sampler: Any = "tpe"
    pruner: Any = "median"

    def __post_init__(self) -> None:
        """Read what is given as plain values.

        Raises:
            ValueError, TypeError: values that make no sense.
        """
        put = object.__setattr__
        if not isinstance(self.space, Space):
            put(self, "space", Space.of(self.space))
        put(self, "when", Schedule.of(self.when))
        put(self, "judge", Judge.of(self.judge or {"folds": 5}))
        put(self, "trials", whole(1)("tuning.trials", self.trials))
        if self.seconds is not None:
            put(self, "seconds", number(0, open=True)("tuning.seconds", self.seconds))
        put(self, "mode", self.mode or mode_of(self.objective, "tuning.mode"))
        if self.mode not in ("max", "min"):
            raise ValueError(f"tuning.mode must be 'max' or 'min', got {self.mode!r}")
        put(self, "sampler", _named(Sampler, SAMPLERS, self.sampler))
        put(self, "pruner", _named(Pruner, PRUNERS, self.pruner))
        whole(1)("tuning.sampler: startup", self.sampler.startup)
        whole(1)("tuning.pruner: startup", self.pruner.startup)
        number(0, 1)("tuning.pruner: warmup", self.pruner.warmup)

    @classmethod
    def of(cls, given: Any) -> Tuning | None:
        """The tuning that plain values describe; None of None.

        Raises:
            ValueError: an unknown key, or one that is missing.
        """
        if given is None or isinstance(given, Tuning):
            return given
        if not isinstance(given, Mapping):
            raise ValueError(f"tuning is a mapping with space and objective, got {given!r}")
        _refuse_unknown("tuning", given, [f.name for f in fields(cls)])
        if missing := [name for name in ("space", "objective") if given.get(name) is None]:
            raise ValueError(f"tuning must give {' and '.join(missing)}")
        return cls(**given)


def _named(kind: Any, names: tuple[str, ...], given: Any) -> Any:
    """A sampler or pruner: its name, or a mapping with it."""
    what = f"tuning.{kind.__name__.lower()}"
    if isinstance(given, kind):
        found = given
    elif isinstance(given, Mapping):
        _refuse_unknown(what, given, [f.name for f in fields(kind)])
        found = kind(**given)
    else:
        found = kind(given)
    if found.name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {found.name!r}")
    return found


def _refuse_unknown(what: str, given: Mapping[str, Any], known: list[str]) -> None:
    if other := [str(key) for key in given if key not in known]:
        near = difflib.get_close_matches(other[0], known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{what} takes no {other[0]!r}{hint}; it takes {', '.join(known)}")
