"""The callback that watches the fit of a trial, and may end it."""

from __future__ import annotations

import math

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_al.fits.backend import Watch

__all__ = ["Pruning"]

LOOKS = 20  # at a fit, at most


class Pruning(Callback):
    """Reports a metric after validations of a fit, and stops it where it is told to.

    It looks twenty times at most, however many epochs there are: at the first validation at or
    behind each twentieth of the fit.

    Args:
        watch: what it looks at, and whom it tells.
    """

    counts_batches = True  # one of the run's own, which no user sees

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.ended = False
        self._look = 0  # the last twentieth at which it looked

    @property
    def monitor(self) -> str:
        """The metric that it looks at."""
        return self.watch.metric

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.watch.begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, where this twentieth is a new one; a metric that is not there is passed by."""
        value = trainer.callback_metrics.get(self.watch.metric)
        share = _share(trainer)
        look = int(share * LOOKS + 1e-9)
        if value is None or look <= self._look or share >= 1:
            return
        self._look = look
        if math.isfinite(float(value)) and self.watch.report(look / LOOKS, float(value)):
            self.ended = True
            trainer.should_stop = True


def _share(trainer: Trainer) -> float:
    """How much of the fit is over with this epoch; 0 where nobody knows its end."""
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    if (trainer.max_epochs or 0) > 0:
        shares.append((trainer.current_epoch + 1) / trainer.max_epochs)  # type: ignore[operator]
    return max(shares)
