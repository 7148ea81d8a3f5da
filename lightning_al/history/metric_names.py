"""Metric names as people read them, and which metric speaks for a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import Past

__all__ = [
    *("human_name", "larger_is_better", "main_metric", "metric_names", "preferred", "speaks"),
]

PREFERRED = ("test/accuracy", "test/rmse")
TEST = {"test", "testing"}
VAL = {"val", "valid", "validation", "dev", "eval"}
TRAIN = {"train", "training", "fit"}
STEPS = {"step", "epoch"}
MAIN = ({"accuracy"}, {"acc"}, {"rmse"})
"""Words of metrics' names, lower case."""
SPELLED = {
    "auroc": "AUROC",
    "brier": "Brier score",
    "crps": "CRPS",
    "ece": "calibration error",
    "f1": "F1",
    "iou": "IoU",
    "mae": "MAE",
    "map": "mAP",
    "mse": "MSE",
    "nll": "negative log-likelihood",
    "pit": "PIT histogram's distance from an even one",
    "r2": "R²",
    "rmse": "RMSE",
}
GROW = {"accuracy", "acc", "auroc", "f1", "hit", "iou", "map", "precision", "r2", "recall", "safe"}
SHRINK = {"brier", "crps", "ece", "error", "loss", "mae", "mse", "nll", "pit", "regret", "rmse"}
SHRINK |= {"unsafe"}


def metric_names(histories: Iterable[Past]) -> list[str]:
    """Every metric some round of some history has, in order of appearance."""
    return list(dict.fromkeys(name for h in histories for r in h.rounds for name in r.metrics))


def main_metric(histories: Sequence[Past], metric: str | None = None) -> str:
    """The metric to show: the one asked for, else the one that is :func:`preferred`.

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
    if not (found := preferred(names)):
        raise LookupError(
            f"these runs have figures of their training alone ({', '.join(names)}), which say "
            "nothing of how good a model is; name one (metric=…, --metric), or log a metric in "
            "test_step"
        )
    return found


def speaks(histories: Iterable[Past]) -> bool:
    """Whether some metric speaks for these runs."""
    return bool(preferred(metric_names(histories)))


def preferred(names: Sequence[str]) -> str:
    """The one that speaks for a run; empty where there are figures of the training alone.

    ``test/accuracy``, ``test/rmse``, those under another prefix, any of the test set, then so of
    the validation set, then what belongs to no set.

    >>> preferred(["train_loss", "val_loss", "test_loss", "test_acc"])
    'test_acc'
    >>> preferred(["loss", "valid/f1"]), preferred(["train/accuracy", "loss_epoch"])
    ('valid/f1', '')
    """
    if named := [name for name in PREFERRED if name in names]:
        return named[0]
    for part in (TEST, VAL):
        of = [name for name in names if _words(name) & part and not _words(name) & TRAIN]
        main = [name for name in of if _words(name) - part in MAIN]
        if of:
            return (main or of)[0]
    rest = [n for n in names if not (_words(n) & TRAIN or _words(n) - STEPS <= {"loss"})]
    return rest[0] if rest else ""


def _words(metric: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", metric.lower())) - {""}


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
