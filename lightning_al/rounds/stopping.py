"""When a run ends before its budget is spent: pure functions of the rounds so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lightning_al.history.records import Round

__all__ = ["MetricTarget", "NoImprovement", "StoppingRule"]


class StoppingRule(Protocol):
    """Looks at the rounds so far; a text means stop, and why."""

    def __call__(self, rounds: Sequence[Round]) -> str | None:
        """The reason to stop after the last of ``rounds``, or None."""
        ...


def _values(rounds: Sequence[Round], metric: str) -> list[float]:
    rounds = [done for done in rounds if done.batches]  # before the first label nothing is fitted
    for done in rounds:
        if metric not in done.metrics:
            raise LookupError(
                f"stopping rule: no metric named {metric!r} in round {done.round}; "
                f"choose one of {', '.join(sorted(done.metrics)) or 'none at all'}"
            )
    return [done.metrics[metric] for done in rounds]


def _check_mode(mode: str) -> None:
    if mode not in ("max", "min"):
        raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")


@dataclass(frozen=True)
class MetricTarget:
    """Stop once a metric reaches a target.

    Args:
        metric: such as ``test/accuracy`` or ``val/rmse``.
        target: in the metric's unit.
        mode: "max" if larger is better, "min" if smaller is.
    """

    metric: str
    target: float
    mode: str = "max"

    def __post_init__(self) -> None:
        _check_mode(self.mode)

    def __call__(self, rounds: Sequence[Round]) -> str | None:
        """The reason to stop, once the last round reached the target."""
        values = _values(rounds, self.metric)
        if not values:
            return None
        value = values[-1]
        reached = value >= self.target if self.mode == "max" else value <= self.target
        return f"{self.metric} reached {value:.4g} (target {self.target:g})" if reached else None


@dataclass(frozen=True)
class NoImprovement:
    """Stop when a metric has not improved for some rounds.

    Args:
        metric: such as ``val/accuracy``.
        rounds: how many rounds without improvement are too many.
        min_delta: what counts as an improvement, in the metric's unit.
        mode: "max" if larger is better, "min" if smaller is.
    """

    metric: str
    rounds: int = 5
    min_delta: float = 0.0
    mode: str = "max"

    def __post_init__(self) -> None:
        _check_mode(self.mode)
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")

    def __call__(self, rounds: Sequence[Round]) -> str | None:
        """The reason to stop, once the last rounds brought nothing."""
        values = _values(rounds, self.metric)
        sign = 1.0 if self.mode == "max" else -1.0
        best, best_at = -float("inf"), 0
        for at, value in enumerate(values):
            if sign * value > best + self.min_delta:
                best, best_at = sign * value, at
        if len(values) - 1 - best_at >= self.rounds:
            return f"{self.metric} has not improved for {self.rounds} rounds"
        return None
