"""The bare loop of a stack: steps of all replicas at once, hooks and callbacks of each alone.

It is :mod:`lightning_al.fits.lean_loop` with a first axis: the same order of steps, schedules,
validation and hooks. All replicas that are alive have taken as many steps. One whose fit is over
keeps its weights and leaves; its row is computed on, unheard, until a quarter of the rows is dead,
and then all dead ones are cut out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from pytorch_lightning.trainer.states import RunningStage, TrainerFn

from lightning_al.compat import optimizers_of
from lightning_al.fits import lean_loop
from lightning_al.fits.diverged import refuse_diverged
from lightning_al.fits.late_metrics import LateMetrics
from lightning_al.fits.lean_hooks import evaluating
from lightning_al.fits.lightning import load_best
from lightning_al.fits.recorder import NotPlain, Recorder
from lightning_al.fits.stepping import quick_step

from .fields import rebuilt, together
from .hearing import StackRecorder, do_apart
from .optimizing import StackedOptimizer, clip
from .replica import Replica
from .rows import Rows
from .shell import Shell
from .streams import Streams, fit_stream

__all__ = ["Loop"]

CROWDED = 0.75  # of rows alive, at and below which the dead ones are cut out


class Loop:
    """The fit of a stack.

    Args:
        replicas: members, none of whose fits has begun.
        apart: methods of the module that are done for each replica after its step.
    """

    def __init__(self, replicas: Sequence[Replica], apart: Sequence[str] = ()) -> None:
        self.replicas, self._apart = list(replicas), apart
        self.row = {id(replica): row for row, replica in enumerate(self.replicas)}
        self.alive = list(self.replicas)
        self._shells: dict[str, Shell] = {}

    # --- a fit -------------------------------------------------------------------------------

    def fit(self) -> None:
        """Fit all.

        Raises:
            NotPlain: something that a stack cannot do.
        """
        with ExitStack() as leaving:
            for replica in self.replicas:
                leaving.push(replica.leaving)
                self._begin(replica)
            self._stack()
            for replica in self.replicas:
                replica.call("on_fit_start")
                replica.module.zero_grad()
                trainer = replica.trainer
                if not trainer.set_up_training() or not trainer.max_epochs or not trainer.max_steps:
                    raise NotPlain("the fit sees no batch")
            self._check_batches()
            torch.set_grad_enabled(True)
            for replica in self.replicas:
                if replica.trainer.validates and lean_loop.due(replica.trainer):
                    lean_loop.set_up_validation(replica.trainer)
                replica.call("on_train_start")
            self._leave_or_stay()
            while self.alive:
                self._epoch()
                self._leave_or_stay()

    def _begin(self, replica: Replica) -> None:
        trainer = replica.trainer
        trainer.state.fn, trainer.state.stage = TrainerFn.FITTING, RunningStage.TRAINING
        trainer.should_stop, trainer.recorder = False, replica.train
        replica.leaving.enter_context(lean_loop.attached(trainer, replica.hooks, "fit"))
        lean_loop.configure(trainer)
        trainer.late = LateMetrics(trainer, replica.module)

    def _stack(self) -> None:
        first = self.replicas[0]
        self.rows = Rows([replica.module for replica in self.replicas])
        shell = self._shell("training_step")
        (lead,), self._schedules = optimizers_of(shell.module)
        if self._schedules:
            lead.step()  # of no gradients; schedules want to have seen one
        own = [replica.trainer.optimizers[0] for replica in self.replicas]
        self.optimizer = StackedOptimizer(self.rows, own, lead)
        self._step = quick_step(self.optimizer.optimizer)
        self.streams = Streams([fit_stream(r.member.seed, r.member.round) for r in self.replicas])
        for replica in self.replicas:
            replica.trainer.bring_states = self._bringing(replica)
        if any(r.trainer.validates != first.trainer.validates for r in self.replicas):
            raise NotPlain("only some of the replicas have a validation set")

    def _check_batches(self) -> None:
        counts = {replica.trainer.num_training_batches for replica in self.replicas}
        if len(counts) > 1:
            raise NotPlain("replicas differ in the number of their batches")

    def _shell(self, step: str) -> Shell:
        """What runs a step, made at its first use."""
        if step not in self._shells:
            self._shells[step] = Shell(self.alive[0].module, step, self._apart)
        return self._shells[step]

    @property
    def _places(self) -> list[int]:
        return [self.row[id(replica)] for replica in self.alive]

    # --- an epoch ----------------------------------------------------------------------------

    def _epoch(self) -> None:
        shell, first = self._shell("training_step"), self.alive[0]
        for replica in self.alive:
            replica.trainer.train_loader.sampler.set_epoch(replica.trainer.current_epoch)
            replica.call("on_train_epoch_start")
        self._enter(shell)
        heard = StackRecorder(True, shell.step, len(self.rows))
        ends = [(r, r.hooks.of("on_train_batch_end")) for r in self.alive]
        ends = [(r, hooks) for r, hooks in ends if hooks]
        count = first.trainer.set_up_training()
        taken = 0
        for place, batch in enumerate(self._batches([r.trainer.train_loader for r in self.alive])):
            last = place + 1 == count
            for replica in self.alive:
                replica.trainer.is_last_batch = last
            heard.batch(_first(batch))
            self._take_step(shell, batch, place, heard)
            if not self._some_left():
                return
            first = self.alive[0]
            shell.module.trainer = first.trainer
            for replica in self.alive:
                replica.trainer.global_step += 1
            self._move("step", place)
            if last:
                self._move("epoch", first.trainer.current_epoch)
            for _, hooks in ends:
                for _, hook in hooks:
                    hook({}, batch, place)
            heard.gather()
            heard.batch_over()
            taken += 1
            if last or lean_loop.reached(first.trainer.global_step, first.trainer.max_steps):
                break
        if (
            taken < count
            and not last
            and not lean_loop.reached(first.trainer.global_step, first.trainer.max_steps)
        ):
            raise NotPlain(f"an epoch of {count} batches gave fewer")
        self._leave(shell)
        heard.push(self.alive, self._places)
        if last and first.trainer.validates and lean_loop.due(first.trainer):
            self._validate()
            if not self.alive:
                return
        heard.epoch_over()
        heard.gather()
        heard.push(self.alive, self._places)
        for replica in self.alive:
            replica.call("on_train_epoch_end")
            replica.trainer.gather()
            replica.train.reset()
            replica.trainer.current_epoch += 1

    def _take_step(self, shell: Shell, batch: Any, place: int, heard: StackRecorder) -> None:
        """Forward, backward and the optimiser's step of all rows."""
        trained = self.optimizer.parameters
        made, notes = shell(self.rows, batch, place, self.streams)
        losses = lean_loop.loss_of(made)
        if losses is None or losses.shape != (len(self.rows),):
            raise NotPlain("training_step gives no single loss")
        do_apart(notes, heard, shell, self.rows, self.alive, self._places)
        for parameter in self.rows.trained:
            parameter.grad = None
        losses.sum().backward()  # type: ignore[no-untyped-call]
        trainer = self.alive[0].trainer
        if trainer.gradient_clip_val:
            clip(trained, trainer.gradient_clip_val, trainer.gradient_clip_algorithm == "value")
        self._step()

    def _move(self, interval: str, place: int) -> None:
        if self._schedules:
            lean_loop.move_schedules(self._schedules, interval, place)
            self.optimizer.follow()

    def _batches(self, loaders: Sequence[Any]) -> Iterator[Any]:
        """Batches [R, n, ...]; dead rows are given those of the first that is alive."""
        for loader in loaders:
            lean_loop.check_loader(loader)
            if not loader.view.plain:
                raise NotPlain("the data are no tensors in memory")
        rows = {row: place for place, row in enumerate(self._places)}
        takes = [rows.get(row, 0) for row in range(len(self.rows))]
        for each in zip(*loaders, strict=True):
            yield together("a batch", [each[place] for place in takes], torch.stack)

    # --- around steps ------------------------------------------------------------------------

    def _enter(self, shell: Shell) -> None:
        """Before steps: what hooks have done to the modules is done to the stack."""
        places = self._places
        shell.module.trainer = self.alive[0].trainer
        self.rows.reclaim(places)
        self.rows.gather(places, shell.parts)

    def _leave(self, shell: Shell) -> None:
        """After them: what they have done to attributes is done to the modules."""
        self.rows.scatter(self._places, shell.fields)

    def _validate(self) -> None:
        """Validate all; the training goes on as it was."""
        for replica in self.alive:
            trainer = replica.trainer
            trainer.state.stage, trainer.recorder = RunningStage.VALIDATING, Recorder(False)
            trainer.late.begin(trainer.recorder)
            lean_loop.set_up_validation(trainer)
        with torch.no_grad(), ExitStack() as modes:
            for replica in self.alive:
                modes.enter_context(evaluating(replica.module))
            self._evaluate("val", [r.trainer.val_loader for r in self.alive])
        for replica in self.alive:
            trainer = replica.trainer
            trainer.state.stage, trainer.recorder = RunningStage.TRAINING, replica.train

    def _evaluate(self, kind: str, loaders: Sequence[Any]) -> None:
        stage = "validation" if kind == "val" else kind
        trainers = [replica.trainer for replica in self.alive]
        counts = {
            t.limits.batches(kind, loader) for t, loader in zip(trainers, loaders, strict=True)
        }
        if len(counts) > 1:
            raise NotPlain(f"replicas differ in the number of {stage} batches")
        (count,) = counts
        if not count:
            return
        for replica, loader in zip(self.alive, loaders, strict=True):
            if replica.trainer.fitting:
                loader.sampler.set_epoch(replica.trainer.current_epoch)
            replica.call(f"on_{stage}_start")
            replica.call(f"on_{stage}_epoch_start")
        shell = self._shell(f"{stage}_step")
        self._enter(shell)
        heard = StackRecorder(False, shell.step, len(self.rows))
        for place, batch in enumerate(self._batches(loaders)):
            heard.batch(_first(batch))
            _, notes = shell(self.rows, batch, place, self.streams)
            do_apart(notes, heard, shell, self.rows, self.alive, self._places)
            if not self._some_left():
                return
            heard.gather()
            heard.batch_over()
            if place + 1 == count:
                break
        else:
            raise NotPlain(f"an evaluation of {count} batches gave fewer")
        self._leave(shell)
        heard.epoch_over()
        heard.gather()
        heard.push(self.alive, self._places)
        for replica in self.alive:
            recorder = replica.trainer.recorder
            assert recorder is not None  # a stage runs
            replica.trainer.gather()
            replica.call(f"on_{stage}_epoch_end")
            replica.trainer.gather()
            replica.call(f"on_{stage}_end")
            if kind == "val":
                replica.trainer.late.note(recorder)
            recorder.reset()

    # --- leaving -----------------------------------------------------------------------------

    def _some_left(self) -> bool:
        """Whether any replica is alive, once those with an error of their own have left."""
        for replica in self.alive:
            if replica.error is not None:
                self.streams.generators[self.row[id(replica)]] = None
        self.alive = [replica for replica in self.alive if replica.error is None]
        return bool(self.alive)

    def _leave_or_stay(self) -> None:
        """Those whose fits are over leave; dead rows are cut out when there are many."""
        over = [replica for replica in self.alive if lean_loop.done(replica.trainer)]
        for replica in over:
            self._finish(replica)
        self.alive = [replica for replica in self.alive if replica not in over]
        if self.alive and len(self.alive) <= CROWDED * len(self.rows):
            index = self.rows.keep(self._places)
            self.optimizer.keep(index)
            self.streams.generators = [self.streams.generators[row] for row in index.tolist()]
            self.row = {id(replica): row for row, replica in enumerate(self.alive)}

    def _bringing(self, replica: Replica) -> Callable[[], None]:
        def bring() -> None:
            (own,), row = replica.trainer.optimizers, self.row[id(replica)]
            self.optimizer.hand_out(row, own, replica.module)
            pairs = zip(replica.trainer.lr_scheduler_configs, self._schedules, strict=True)
            for mine, lead in pairs:
                mine.scheduler.load_state_dict(copy.deepcopy(lead.scheduler.state_dict()))

        return bring

    def _finish(self, replica: Replica) -> None:
        row = self.row[id(replica)]
        replica.trainer.bring_states()
        self.rows.release(row)
        self.streams.generators[row] = None
        replica.trainer.late.settle()
        replica.call("on_train_end")
        replica.call("on_fit_end")
        replica.leaving.close()
        replica.trainer.write_held()
        if replica.member.recipe.restore == "best":
            load_best(replica.module, replica.trainer, replica.trainer.held.__getitem__)
        replica.trainer.held.clear()
        try:
            refuse_diverged(replica.module, replica.member.round)
        except ValueError as error:
            replica.error = error


def _first(batch: Any) -> Any:
    """The batch of the first row, whose sizes are those of all."""
    return rebuilt(batch, lambda t: t[0])
