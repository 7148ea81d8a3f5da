"""Tuning outside of a run: on the labels at hand, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .trials import Settled, Trial, settle
from .tuner import Tuner, base_settings, stop_of

__all__ = ["tune_once"]


def tune_once(
    tuner: Tuner,
    *,
    bought: Sequence[int] = (),
    tell: Callable[[Trial], None] = lambda trial: None,
) -> tuple[Settled, list[Trial]]:
    """All trials of one round, and what they settle on; nothing is written down.

    Args:
        tuner: with the data as they stand.
        bought: positions of items that never judge.
        tell: is told of each trial as it ends.

    Raises:
        LookupError: the objective is never logged.
        ValueError: all trials failed.
    """
    tuning, data = tuner.tuning, tuner.fits.datamodule
    first, tried = base_settings(tuning, tuner.fits.given), list[Trial]()
    while not (stop := stop_of(tuning, tried)):
        trial = tuner.trial(data.round, tried, first, bought)
        if trial is None:
            stop = "space"
            break
        tried.append(trial)
        tell(trial)
    return settle(tried, tuning.mode or "", stop, len(data.labelled)), tried
