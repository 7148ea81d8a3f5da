"""The small trainer that a module and its callbacks see in a lean fit.

It has what modules ask a Trainer for in ordinary steps and hooks. Anything else is an
``AttributeError``, and then the fit is Lightning's: a guess would be worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.trainer.states import RunningStage, TrainerFn, TrainerState
from torch import Tensor

from lightning_al.compat import is_a
from lightning_al.files import replacing
from lightning_al.journal.checkpoints import checkpoint_of

from .recorder import Recorder

__all__ = ["LeanTrainer", "Limits"]


@dataclass(frozen=True)
class Limits:
    """How long a fit goes, as the Trainer was told."""

    max_epochs: int  # -1 for no end
    min_epochs: int
    max_steps: int  # -1 for no end
    min_steps: int | None
    check_val_every_n_epoch: int
    train: int | float  # batches, or 1.0 for all
    val: int | float
    test: int | float

    @classmethod
    def of(cls, trainer: Any) -> Limits:
        """Those of a Trainer; without any a fit ends after 1000 epochs."""
        endless = -1 if trainer.max_steps != -1 else 1000
        return cls(
            endless if trainer.max_epochs is None else trainer.max_epochs,
            trainer.min_epochs or int(trainer.min_steps is not None),
            trainer.max_steps,
            trainer.min_steps,
            trainer.check_val_every_n_epoch,
            trainer.limit_train_batches,
            trainer.limit_val_batches,
            trainer.limit_test_batches,
        )

    def batches(self, kind: str, loader: Any) -> int:
        """How many batches of a loader are taken."""
        limit: int | float = getattr(self, kind)
        return len(loader) if isinstance(limit, float) else min(len(loader), limit)


class LeanStrategy:
    """Where the fit runs: this process, and its CPU."""

    root_device = torch.device("cpu")
    world_size, global_rank, local_rank, is_global_zero = 1, 0, 0, True

    def reduce(self, tensor: Any, *_: Any, **__: Any) -> Any:
        """A value over all processes."""
        return tensor

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """A value of one process."""
        return obj

    def barrier(self, name: str | None = None) -> None:
        """There is nobody to wait for."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """What all processes agree on."""
        return decision

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Remove a file."""
        Path(filepath).unlink(missing_ok=True)


class LeanTrainer:
    """State of one lean fit, and of its test.

    Args:
        trainer: that Lightning built of the run's settings; gives callbacks and limits.
        module: to be fitted.
        datamodule: gives the loaders.
    """

    fast_dev_run = barebones = sanity_checking = predicting = interrupted = False
    world_size, num_nodes, num_devices, global_rank, local_rank, node_rank = 1, 1, 1, 0, 0, 0
    is_global_zero, is_last_batch = True, False
    accumulate_grad_batches, val_check_interval, overfit_batches = 1, 1.0, 0.0
    num_sanity_val_steps = 0
    logger = log_dir = ckpt_path = None
    precision = "32-true"

    def __init__(self, trainer: Any, module: Any, datamodule: Any) -> None:
        self._built, self._limits = trainer, Limits.of(trainer)
        self.lightning_module = self.model = module
        self.datamodule = datamodule
        self.strategy = LeanStrategy()
        self.callbacks: Sequence[Any] = list(trainer.callbacks)
        self.loggers: Sequence[Any] = []
        self.default_root_dir = trainer.default_root_dir
        self.optimizers: Sequence[Any] = []
        self.lr_scheduler_configs: Sequence[Any] = []
        self.state = TrainerState()
        self.should_stop = False
        self.current_epoch = self.global_step = 0
        self.train_loader: Any = None
        self.val_loader: Any = None
        self.num_training_batches: int | float = math.inf
        self.num_val_batches: list[int | float] = []
        self.validates = False
        self.recorder: Recorder | None = None
        self.late: Any = None  # metrics that wait for the end of the fit
        self._seen: dict[str, Tensor] = {}
        self._told: dict[str, Tensor] = {}

    # --- settings ----------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """How long it goes."""
        return self._limits

    @property
    def max_epochs(self) -> int:
        """Epochs at most; -1 for no end."""
        return self._limits.max_epochs

    @property
    def min_epochs(self) -> int:
        """Epochs at least."""
        return self._limits.min_epochs

    @property
    def max_steps(self) -> int:
        """Steps at most; -1 for no end."""
        return self._limits.max_steps

    @property
    def min_steps(self) -> int | None:
        """Steps at least."""
        return self._limits.min_steps

    @property
    def check_val_every_n_epoch(self) -> int:
        """Epochs from one validation to the next."""
        return self._limits.check_val_every_n_epoch

    @property
    def limit_train_batches(self) -> int | float:
        """Batches an epoch."""
        return self._limits.train

    @property
    def limit_val_batches(self) -> int | float:
        """Batches a validation."""
        return self._limits.val

    @property
    def limit_test_batches(self) -> int | float:
        """Batches of the test."""
        return self._limits.test

    @property
    def gradient_clip_val(self) -> float | None:
        """Where gradients are cut."""
        value: float | None = self._built.gradient_clip_val
        return value

    @property
    def gradient_clip_algorithm(self) -> Any:
        """By norm or by value."""
        return self._built.gradient_clip_algorithm

    @property
    def enable_validation(self) -> bool:
        """Whether the fit validates."""
        return self.validates

    @property
    def inference_mode(self) -> bool:
        """Whether the test runs in inference mode."""
        return bool(self._built.test_loop.inference_mode)

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Steps that the fit will take, if nothing stops it early."""
        if self.max_epochs == -1:
            return math.inf if self.max_steps == -1 else self.max_steps
        total = max(self.set_up_training(), 1) * max(self.max_epochs, 1)
        return total if self.max_steps == -1 else min(total, self.max_steps)

    def set_up_training(self) -> int:
        """Get the loader of training batches, once; how many it gives an epoch."""
        if self.train_loader is None:
            self.train_loader = self.datamodule.train_dataloader()
            self.num_training_batches = self._limits.batches("train", self.train_loader)
        return int(self.num_training_batches)

    # --- where it stands ---------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Whether a training step runs."""
        return self.state.stage == RunningStage.TRAINING

    @property
    def validating(self) -> bool:
        """Whether a validation runs."""
        return self.state.stage == RunningStage.VALIDATING

    @property
    def testing(self) -> bool:
        """Whether a test runs."""
        return self.state.stage == RunningStage.TESTING

    @property
    def evaluating(self) -> bool:
        """Whether either runs."""
        return self.validating or self.testing

    @property
    def fitting(self) -> bool:
        """Whether the validation, if one runs, is that of a fit."""
        return self.state.fn == TrainerFn.FITTING

    @property
    def can_stop_early(self) -> bool:
        """Whether the least number of epochs and steps is reached."""
        least = self._limits
        epochs = not least.min_epochs or self.current_epoch >= least.min_epochs
        return epochs and (not least.min_steps or self.global_step >= least.min_steps)

    @property
    def early_stopping_callback(self) -> Any:
        """The first EarlyStopping."""
        return next((c for c in self.callbacks if is_a(c, "callbacks.EarlyStopping")), None)

    @property
    def checkpoint_callback(self) -> Any:
        """The first ModelCheckpoint."""
        return next((c for c in self.callbacks if is_a(c, "callbacks.Checkpoint")), None)

    # --- metrics -----------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """What was logged so far."""
        self.gather()
        return self._seen

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What loggers would have heard."""
        self.gather()
        return self._told

    def gather(self) -> dict[str, Tensor]:
        """Take in what the running loop has logged; what loggers hear of it."""
        if self.recorder is None or not self.recorder.entries:
            return {}
        seen, told = self.recorder.metrics()
        self._seen.update(seen)
        self._told.update(told)
        return told

    def hear(self, seen: Mapping[str, Tensor], told: Mapping[str, Tensor]) -> None:
        """Take in what was logged elsewhere: by the steps of a stack, or late."""
        self._seen.update(seen)
        self._told.update(told)

    def forget_metrics(self) -> None:
        """A fit or a test begins."""
        self._seen, self._told = {}, {}

    # --- what it does ------------------------------------------------------------------------

    def clip(self, optimizer: Any) -> None:
        """Clip the gradients, by the Trainer's own function."""
        if self.gradient_clip_val:
            how = self.gradient_clip_algorithm
            by = {} if how is None else {"gradient_clip_algorithm": how}
            self._built.precision_plugin.clip_gradients(optimizer, self.gradient_clip_val, **by)

    def save_checkpoint(self, filepath: str | Path, weights_only: bool | None = None) -> None:
        """Write a checkpoint of Lightning's form, without the state of its loops.

        Args:
            filepath: where.
            weights_only: leave out what a fit would go on with.
        """
        state = checkpoint_of(self, self.lightning_module, self.datamodule)
        if not weights_only:
            state |= {
                "optimizer_states": [each.state_dict() for each in self.optimizers],
                "lr_schedulers": [c.scheduler.state_dict() for c in self.lr_scheduler_configs],
                "callbacks": {c.state_key: s for c in self.callbacks if (s := c.state_dict())},
            }
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            torch.save(state, temporary)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """To the terminal."""
        print(*args, **kwargs)
