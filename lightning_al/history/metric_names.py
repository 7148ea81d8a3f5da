"""Metric names as people read them, and which metric speaks for a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import Past

__all__ = ["human_name", "larger_is_better", "main_metric", "metric_names", "preferred"]

PREFERRED = ("test/accuracy", "test/rmse")
SPELLED = {
    "auroc": "AUROC",
    "brier": "Brier score",
    "ece": "calibration error",
    "f1": "F1",
    "iou": "IoU",
    "mae": "MAE",
    "map": "mAP",
    "mse": "MSE",
    "nll": "negative log-likelihood",
    "r2": "R²",
    "rmse": "RMSE",
}
GROW = {"accuracy", "acc", "auroc", "f1", "hit", "iou", "map", "precision", "r2", "recall", "safe"}
SHRINK = {"brier", "ece", "error", "loss", "mae", "mse", "nll", "regret", "rmse", "unsafe"}


def metric_names(histories: Iterable[Past]) -> list[str]:
    """Every metric some round of some history has, in order of appearance."""
    return list(dict.fromkeys(name for h in histories for r in h.rounds for name in r.metrics))


def main_metric(histories: Sequence[Past], metric: str | None = None) -> str:
    """The metric to show: the one asked for, else ``test/accuracy``, ``test/rmse``, any test one.

    Raises:
        LookupError: no metric at all, or none of that name; the message lists what there is.
    """
    names = metric_names(histories)
    if metric is not None:
        if metric not in names:
            have = ", ".join(names) or "none: no round was committed"
            raise LookupError(f"no metric named {metric!r}; these runs have {have}")
        return metric
    if not names:
        raise LookupError("no metric to show: no round was committed, or nothing was logged in it")
    return preferred(names)


def preferred(names: Sequence[str]) -> str:
    """The one that speaks for a run: accuracy or RMSE on the test set, else the first of it."""
    test = [name for name in names if name.startswith("test/")]
    return next((name for name in PREFERRED if name in names), (test or list(names))[0])


def human_name(metric: str) -> str:
    """A metric's name in words.

    >>> human_name("test/accuracy"), human_name("test/rmse")
    ('test accuracy', 'test RMSE')
    """
    words = metric.replace("/", " ").replace("_", " ").split()
    return " ".join(SPELLED.get(word.lower(), word) for word in words)


def larger_is_better(metric: str) -> bool | None:
    """Whether a larger value is the better one; None where the name does not tell."""
    words = set(metric.lower().replace("/", "_").split("_"))
    if words & SHRINK:
        return False
    return True if words & GROW else None
