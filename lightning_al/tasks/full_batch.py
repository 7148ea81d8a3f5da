"""What models share that are fitted to all labelled items at once, without an optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from .metric_feeding import MetricFamily
from .metric_specs import ChosenMetrics, MetricSpec
from .task import Task

__all__ = ["FullBatch"]


class FullBatch(Task):
    """A task without a network: :meth:`learn` is given the whole labelled set, once a fit.

    Its state lies in buffers that grow with the labelled set; float64 ones stay float64 under any
    precision of the Trainer.

    Args:
        metrics: those to log on validation and test data, see
            :meth:`~lightning_al.tasks.metric_specs.ChosenMetrics.of`; None for all with a name.
        known: the family of metrics of the task's predictions.
        settings: hyper-parameters, plain values.
        metric_arguments: sizes of the predictions, for the metrics.
    """

    full_batch = True

    def __init__(
        self,
        *,
        metrics: Sequence[MetricSpec] | None,
        known: MetricFamily,
        settings: Mapping[str, Any],
        metric_arguments: Mapping[str, int],
    ) -> None:
        LightningModule.__init__(self)  # not Task's: there is no network, no optimiser
        self.automatic_optimization = False
        self._build_metrics = ChosenMetrics.of(known, metrics, metric_arguments)
        self.metrics = nn.ModuleDict()
        self.save_hyperparameters({**settings, "metrics": self._build_metrics.plain})
        self._learned = False  # in the fit that runs

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Fit to all labelled items."""
        raise NotImplementedError

    def features(self, inputs: Any) -> Tensor:
        """Inputs as [n, d] float64.

        Raises:
            ValueError: inputs that are no tensor, or not finite.
        """
        if not isinstance(inputs, Tensor) or inputs.ndim < 1:
            raise ValueError(
                f"{type(self).__name__} needs one tensor of features [n, ...], got "
                f"{type(inputs).__name__}; let the data set give one tensor an item"
            )
        return inputs.reshape(len(inputs), -1).double()

    # --- the fit -----------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """A new fit learns anew."""
        self._learned = False

    def on_train_epoch_start(self) -> None:
        """There is no loss to forget."""

    def on_train_epoch_end(self) -> None:
        """There is no loss to log."""

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        """Learn from the one batch; there is no second epoch.

        Raises:
            ValueError: the labelled set in several batches.
        """
        if self.trainer.num_training_batches != 1:
            raise ValueError(
                f"{type(self).__name__} is fitted to all labelled items at once, got "
                f"{self.trainer.num_training_batches} batches; use an ActiveDataModule, or one "
                "batch with all items"
            )
        if not self._learned:
            with torch.no_grad():
                self.learn(*self.split(batch))
            self._learned = True
        self.trainer.should_stop = True

    def configure_optimizers(self) -> None:  # type: ignore[override]
        """None is needed."""

    # --- state -------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop what was computed from the state."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name, buffer in self._buffers.items():
            value = state_dict.get(prefix + name)
            if buffer is not None and isinstance(value, Tensor) and value.shape != buffer.shape:
                self._buffers[name] = buffer.new_empty(value.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.forget()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def kept(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            lossy = tensor.dtype == torch.float64 and moved.dtype != torch.float64
            return tensor.to(moved.device) if lossy else moved

        before = self.places()
        done = super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        if self.places() != before:
            self.forget()
        return done

    def places(self) -> set[torch.device]:
        """Devices of what was computed from the state; it is dropped when they change."""
        return {buffer.device for buffer in self.buffers(recurse=False)}
