"""The bare loop: the steps, hooks and draws of Lightning's automatic optimisation, and no more.

The order is Lightning's: the forward pass comes before the old gradients are dropped, all of it
inside the optimiser's step; schedules move after the step, and before the validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.trainer.states import RunningStage, TrainerFn
from pytorch_lightning.utilities.parsing import clean_namespace
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

from lightning_al.compat import optimizers_of, overrides

from .late_metrics import LateMetrics
from .lean_hooks import Hooks, evaluating, refuse
from .lean_trainer import LeanTrainer
from .recorder import NotPlain, Recorder
from .stepping import forgetting, quick_step

__all__ = [
    "attached",
    "check_loader",
    "configure",
    "done",
    "due",
    "fit",
    "loss_of",
    "move_schedules",
    "reached",
]
__all__ += ["set_up_validation", "test", "validate"]


def fit(trainer: LeanTrainer) -> None:
    """Fit the trainer's module on its data.

    Raises:
        NotPlain: something that only Lightning does.
    """
    module = trainer.lightning_module
    trainer.state.fn, trainer.state.stage = TrainerFn.FITTING, RunningStage.TRAINING
    trainer.should_stop = False
    trainer.recorder = train = Recorder(training=True)
    hooks = Hooks(trainer)
    with attached(trainer, hooks, "fit"):
        configure(trainer)
        trainer.late = LateMetrics(trainer, module)
        hooks("on_fit_start")
        module.zero_grad()
        if not trainer.set_up_training() or not trainer.max_epochs or not trainer.max_steps:
            raise NotPlain("the fit sees no batch")
        check_loader(trainer.train_loader)
        torch.set_grad_enabled(True)
        if trainer.validates and due(trainer):
            set_up_validation(trainer)
        hooks("on_train_start")
        while not done(trainer):
            _epoch(trainer, hooks, train)
        trainer.late.settle()
        hooks("on_train_end")
        hooks("on_fit_end")


def configure(trainer: LeanTrainer) -> None:
    """Let the module configure its optimiser; say whether the fit validates.

    Raises:
        NotPlain: several optimisers, or none, or a rate that waits for a plateau.
    """
    module = trainer.lightning_module
    trainer.optimizers, trainer.lr_scheduler_configs = optimizers_of(module)
    if len(trainer.optimizers) != 1:
        raise NotPlain(f"the module configures {len(trainer.optimizers)} optimisers")
    if any(config.reduce_on_plateau for config in trainer.lr_scheduler_configs):
        raise NotPlain("a learning rate that waits for a plateau")
    trainer.validates = (
        overrides("validation_step", module)
        and trainer.limits.val > 0
        and trainer.datamodule.val_dataloader() != []
    )


def test(trainer: LeanTrainer) -> dict[str, Tensor]:
    """What the fitted module logs on the test set."""
    trainer.state.fn, trainer.state.stage = TrainerFn.TESTING, RunningStage.TESTING
    trainer.recorder = Recorder(training=False)
    hooks = Hooks(trainer)
    with attached(trainer, hooks, "test"):
        trainer.lightning_module.zero_grad()
        quiet = torch.inference_mode() if trainer.inference_mode else torch.no_grad()
        with quiet:
            return _evaluate(trainer, hooks, "test", trainer.datamodule.test_dataloader())


def validate(trainer: LeanTrainer, datamodule: Any) -> dict[str, Tensor]:
    """What the fitted module logs on the validation set of some data."""
    trainer.state.fn, trainer.state.stage = TrainerFn.VALIDATING, RunningStage.VALIDATING
    trainer.datamodule, trainer.recorder = datamodule, Recorder(training=False)
    hooks = Hooks(trainer)
    with attached(trainer, hooks, "validate"):
        trainer.lightning_module.zero_grad()
        quiet = torch.inference_mode() if trainer.inference_mode else torch.no_grad()
        with quiet:
            return _evaluate(trainer, hooks, "val", trainer.datamodule.val_dataloader())


@contextmanager
def attached(trainer: LeanTrainer, hooks: Hooks, stage: str) -> Iterator[None]:
    """The module belongs to the trainer, and logs into its recorder; set up, and torn down."""
    module, data = trainer.lightning_module, trainer.datamodule
    module.trainer = data.trainer = trainer
    module.log = lambda *args, **kwargs: trainer.recorder.log(*args, **kwargs)  # type: ignore[union-attr]
    try:
        clean_namespace(module.hparams)
        data.prepare_data()
        data.setup(stage)
        hooks("setup", stage)
        trainer.forget_metrics()
        yield
        data.teardown(stage)
        hooks("teardown", stage)
    finally:
        del module.log


def check_loader(loader: Any) -> None:
    """Refuse batches that are not read when they are asked for."""
    if not getattr(loader, "in_process", False):
        raise NotPlain(f"batches come from a {type(loader).__name__}")


# --- training ------------------------------------------------------------------------------------


def reached(count: int, most: int) -> bool:
    """Whether there are as many as there may be; -1 for no end."""
    return most != -1 and count >= most


def done(trainer: LeanTrainer) -> bool:
    """Whether no epoch follows."""
    return (
        reached(trainer.global_step, trainer.max_steps)
        or reached(trainer.current_epoch, trainer.max_epochs)
        or (trainer.should_stop and trainer.can_stop_early)
    )


def due(trainer: LeanTrainer) -> bool:
    """Whether this epoch is one of those that are validated."""
    return (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch == 0


def _epoch(trainer: LeanTrainer, hooks: Hooks, train: Recorder) -> None:
    """One epoch with its validation."""
    trainer.train_loader.sampler.set_epoch(trainer.current_epoch)
    hooks("on_train_epoch_start")
    step = _step_of(trainer, hooks)
    starts, ends = hooks.of("on_train_batch_start"), hooks.of("on_train_batch_end")
    count = trainer.set_up_training()
    for place, batch in enumerate(trainer.train_loader):
        trainer.is_last_batch = last = place + 1 == count
        train.batch(batch)
        if starts:
            refuse(hooks("on_train_batch_start", batch, place))
        outputs = step(batch, place)
        trainer.global_step += 1
        move_schedules(trainer.lr_scheduler_configs, "step", place)
        if last:
            move_schedules(trainer.lr_scheduler_configs, "epoch", trainer.current_epoch)
        if ends:
            hooks("on_train_batch_end", outputs(), batch, place)
        if train.entries:
            trainer.gather()
        train.batch_over()
        stopped = trainer.should_stop and trainer.can_stop_early
        if trainer.validates and due(trainer) and (last or stopped):
            _validate(trainer, hooks, train)
        if last or stopped or reached(trainer.global_step, trainer.max_steps):
            break
    else:
        raise NotPlain(f"an epoch of {count} batches gave fewer")
    train.epoch_over()
    hooks("on_train_epoch_end")
    trainer.gather()
    train.reset()
    trainer.current_epoch += 1


def move_schedules(configs: Sequence[Any], interval: str, place: int) -> None:
    """Let the schedules of an interval move on, after the step or the epoch ``place``."""
    for config in configs:
        if config.interval == interval and (place + 1) % config.frequency == 0:
            config.scheduler.step()


def _step_of(trainer: LeanTrainer, hooks: Hooks) -> Callable[[Any, int], Callable[[], Any]]:
    """What takes one step on a batch, and gives what then gives the step's outputs."""
    module, (optimizer,) = trainer.lightning_module, trainer.optimizers
    training_step, clips = module.training_step, bool(trainer.gradient_clip_val)
    if is_param_in_hook_signature(training_step, "dataloader_iter", explicit=True):
        raise NotPlain("training_step takes its batches itself")
    both = is_param_in_hook_signature(training_step, "batch_idx", min_args=2)
    before_zero, before_step = map(hooks.of, ("on_before_zero_grad", "on_before_optimizer_step"))
    before, after = map(hooks.of, ("on_before_backward", "on_after_backward"))
    forget, move = forgetting(optimizer), quick_step(optimizer)

    def step(batch: Any, place: int) -> Callable[[], Any]:
        made: Any = None
        kept: Tensor | None = None

        def closure() -> Tensor | None:
            nonlocal made, kept
            with torch.enable_grad():
                given = (batch, place) if both else (batch,)
                made = hooks.module("training_step", training_step, *given)
                loss = loss_of(made)
                kept = None if loss is None else loss.detach().clone()
                if before_zero:
                    hooks("on_before_zero_grad", optimizer)
                forget()
                if loss is not None:
                    if before:
                        hooks("on_before_backward", loss)
                    loss.backward()  # type: ignore[no-untyped-call]
                    if after:
                        hooks("on_after_backward")
            if before_step:
                hooks("on_before_optimizer_step", optimizer)
            if clips:
                trainer.clip(optimizer)
            return kept

        move(closure)

        def outputs() -> dict[str, Any]:
            more = {k: v for k, v in made.items() if k != "loss"} if _named(made) else {}
            return {} if kept is None else {"loss": kept, **more}

        return outputs

    return step


def _named(made: Any) -> bool:
    return isinstance(made, Mapping)


def loss_of(made: Any) -> Tensor | None:
    """The loss in what a training step returned."""
    loss = made.get("loss") if _named(made) else made
    if not isinstance(loss, Tensor) and (loss is not None or _named(made)):
        raise NotPlain(f"training_step returns a {type(made).__name__}")
    return loss


# --- evaluation ----------------------------------------------------------------------------------


def set_up_validation(trainer: LeanTrainer) -> None:
    """Get the loader of validation batches, once."""
    if trainer.val_loader is None:
        trainer.val_loader = trainer.datamodule.val_dataloader()
        if trainer.val_loader != []:
            trainer.num_val_batches = [trainer.limits.batches("val", trainer.val_loader)]


def _validate(trainer: LeanTrainer, hooks: Hooks, train: Recorder) -> None:
    """Validate in a fit; the training goes on as it was."""
    trainer.state.stage, trainer.recorder = RunningStage.VALIDATING, Recorder(training=False)
    trainer.late.begin(trainer.recorder)
    trainer.lightning_module.zero_grad()
    set_up_validation(trainer)
    with torch.no_grad():
        _evaluate(trainer, hooks, "val", trainer.val_loader)
    trainer.state.stage, trainer.recorder = RunningStage.TRAINING, train


def _evaluate(trainer: LeanTrainer, hooks: Hooks, kind: str, loader: Any) -> dict[str, Tensor]:
    """One pass over an evaluation set; what it logged for loggers."""
    module, recorder = trainer.lightning_module, trainer.recorder
    assert recorder is not None  # a stage runs
    count = 0 if loader == [] else trainer.limits.batches(kind, loader)
    if not count:
        return {}
    check_loader(loader)
    stage = "validation" if kind == "val" else kind
    if trainer.fitting:
        loader.sampler.set_epoch(trainer.current_epoch)
    name = f"{stage}_step"
    step = getattr(module, name)
    both = is_param_in_hook_signature(step, "batch_idx", min_args=2)
    starts, ends = f"on_{stage}_batch_start", f"on_{stage}_batch_end"
    with evaluating(module):
        hooks(f"on_{stage}_start")
        hooks(f"on_{stage}_epoch_start")
        for place, batch in enumerate(loader):
            recorder.batch(batch)
            hooks(starts, batch, place)
            given = (batch, place) if both else (batch,)
            output = hooks.module(name, step, *given)
            hooks(ends, output, batch, place)
            if recorder.entries:
                trainer.gather()
            recorder.batch_over()
            if place + 1 == count:
                break
        else:
            raise NotPlain(f"an evaluation of {count} batches gave fewer")
        recorder.epoch_over()
        told = dict(trainer.gather())
        hooks(f"on_{stage}_epoch_end")
        told.update(trainer.gather())
        hooks(f"on_{stage}_end")
        if kind == "val":
            trainer.late.note(recorder)
        recorder.reset()
    return told
