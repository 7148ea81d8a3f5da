"""In which rounds a run tunes: a pure function of the rounds so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_al.history.metric_names import larger_is_better
from lightning_al.history.records import Round
from lightning_al.values import number, whole

__all__ = ["Schedule"]

WORDS = ("never", "first", "every_round")
FORMS = f"{', '.join(WORDS)}, {{labels: N}}, or {{falls: METRIC, by: AMOUNT}}"


@dataclass(frozen=True)
class Schedule:
    """When a run tunes; the first time always in the first round in which anything is labelled.

    Args:
        word: "never", "first", "every_round", "labels" or "falls".
        labels: of "labels": how many labels more than at the last tuning there must be.
        metric: of "falls": which metric of the last round.
        by: of "falls": by how much it is worse than its best since the last tuning.
        mode: of "falls": "max" where a larger value is the better one.
    """

    word: str = "first"
    labels: int = 0
    metric: str = ""
    by: float = 0.0
    mode: str = "max"

    @classmethod
    def of(cls, given: Any) -> Schedule:
        """The schedule that a word or a mapping describes.

        Raises:
            ValueError: something else.

        >>> Schedule.of({"labels": 50}).labels
        50
        """
        if isinstance(given, Schedule):
            return given
        if isinstance(given, str) and given in WORDS:
            return cls(given)
        if isinstance(given, Mapping) and set(given) == {"labels"}:
            return cls("labels", labels=whole(1)("tuning.when: labels", given["labels"]))
        if isinstance(given, Mapping) and {"falls"} <= set(given) <= {"falls", "by", "mode"}:
            metric = given["falls"]
            mode = given.get("mode") or mode_of(metric, "tuning.when: mode")
            if mode not in ("max", "min"):
                raise ValueError(f"tuning.when: mode must be 'max' or 'min', got {mode!r}")
            by = number(0)("tuning.when: by", given.get("by", 0.0))
            return cls("falls", metric=metric, by=by, mode=mode)
        raise ValueError(f"tuning.when must be {FORMS}, got {given!r}")

    def due(self, n_labelled: int, rounds: Sequence[Round], tuned: Mapping[int, int]) -> bool:
        """Whether a round tunes.

        Args:
            n_labelled: items that its fit will see.
            rounds: before it, all that were committed.
            tuned: the rounds that have tuned, with how many labels there were then.

        Raises:
            LookupError: no round has the metric that must fall.
        """
        if self.word == "never" or not n_labelled:
            return False
        if not tuned or self.word == "every_round":
            return True
        last = max(tuned)
        if self.word == "labels":
            return n_labelled - tuned[last] >= self.labels
        if self.word != "falls":
            return False
        fitted = [r for r in rounds if r.round >= last and r.batches]
        if not fitted:
            return False
        sign = 1.0 if self.mode == "max" else -1.0
        values = [sign * self._value(r) for r in fitted]
        return bool(values[-1] < max(values) - self.by)

    def look(self, rounds: Sequence[Round]) -> None:
        """Look for the metric in the last round, as :meth:`due` will.

        Raises:
            LookupError: it is not there.
        """
        if self.word == "falls" and rounds[-1].batches:
            self._value(rounds[-1])

    def _value(self, round: Round) -> float:
        if self.metric not in round.metrics:
            raise LookupError(
                f"tuning.when: no metric named {self.metric!r} in round {round.round}; choose one "
                f"of {', '.join(sorted(round.metrics)) or 'none at all'}"
            )
        return round.metrics[self.metric]


def mode_of(metric: Any, name: str) -> str:
    """Whether a metric is to be large or small, where its name tells.

    Raises:
        ValueError: it does not, or is no name.
    """
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"a metric is named by a text, such as val/nll, got {metric!r}")
    larger = larger_is_better(metric)
    if larger is None:
        raise ValueError(
            f"whether {metric!r} is better large or small cannot be known; say {name}: max or min"
        )
    return "max" if larger else "min"
