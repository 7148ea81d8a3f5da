"""Both names of Lightning, and reaches into what other libraries keep private.

``pytorch_lightning`` and ``lightning.pytorch`` are one library under two names, whose classes know
nothing of each other. A Trainer takes modules and data modules of its own name only; callbacks and
loggers it takes of either. So the module of a run decides whose Trainer fits it, and our data
modules are handed over by a bridge. Every reach into a private name stands here, with its reason,
or in ``compat_cli.py`` for the command line; ``tests/house/test_compat.py`` holds each.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

import pytorch_lightning

__all__ = [
    *("NAMES", "bridged", "dummy_logger", "experiment_of", "families"),
    *("beneath_vmap", "put_tensor", "tensor_slots"),
    *("detects_anomalies", "family_of", "forward_value", "load_weights"),
    *("logging_levels", "lonely", "optimizers_of"),
    *(
        "given_hyperparameters",
        "hyperparameters_name",
        "is_a",
        "is_compiled",
        "kinds",
        "name_wandb_run",
    ),
    *("overrides", "set_step", "start_method", "start_step_at", "wandb_run"),
]

NAMES = ("pytorch_lightning", "lightning.pytorch")
LOADERS = tuple(f"{kind}_dataloader" for kind in ("train", "val", "test", "predict"))


def families() -> Iterator[Any]:
    """Lightning's modules, under the names by which it was imported here."""
    yield pytorch_lightning
    if (other := sys.modules.get(NAMES[1])) is not None:
        yield other


def kinds(path: str) -> tuple[type, ...]:
    """A class of Lightning's under all its names.

    >>> [kind.__module__.split(".")[0] for kind in kinds("callbacks.EarlyStopping")][0]
    'pytorch_lightning'
    """
    return _kinds(path, NAMES[1] in sys.modules)


@functools.cache
def _kinds(path: str, both: bool) -> tuple[type, ...]:
    split = [f"{family.__name__}.{path}".rpartition(".") for family in families()]
    return tuple(getattr(import_module(where), name) for where, _, name in split)


def is_a(value: Any, path: str) -> bool:
    """Whether a value is one of Lightning's classes, under either name."""
    return isinstance(value, kinds(path))


def is_compiled(module: Any) -> bool:
    """Whether ``module.compile()`` was called; torch tells by a private attribute alone."""
    return getattr(module, "_compiled_call_impl", None) is not None


def family_of(value: Any) -> Any:
    """The Lightning that an object, or a class, is of; ``pytorch_lightning`` where of none."""
    classes = value.__mro__ if isinstance(value, type) else type(value).__mro__
    for kind in classes:
        for name in NAMES:
            if kind.__module__ == name or kind.__module__.startswith(f"{name}."):
                return import_module(name)
    return pytorch_lightning


def overrides(hook: str, value: Any) -> bool:
    """Whether a module, data module or callback of either name has a hook of its own."""
    own = getattr(type(value), hook, None)
    parents = [
        getattr(kind, hook, None)
        for path in ("LightningModule", "LightningDataModule", "Callback")
        for kind in kinds(path)
        if isinstance(value, kind)
    ]
    if hook in getattr(value, "__dict__", {}):  # put onto the instance, as the command line does
        return True
    return own is not None and all(own is not parent for parent in parents)


def bridged(datamodule: Any, family: Any) -> Any:
    """The data module as Trainers of a family take it: itself, or an image of it."""
    if isinstance(datamodule, family.LightningDataModule):
        return datamodule
    return _bridge(family, frozenset(n for n in LOADERS if overrides(n, datamodule)))(datamodule)


@functools.cache
def _bridge(family: Any, loaders: frozenset[str]) -> type:
    """A data module of a family that hands everything on to another one that has some loaders."""

    class Bridge(family.LightningDataModule):  # type: ignore[misc,name-defined]
        """A data module of the other name of Lightning."""

        def __init__(self, inner: Any) -> None:
            self.__dict__["inner"] = inner
            super().__init__()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["inner"], name)

        @property
        def trainer(self) -> Any:
            return self.__dict__["inner"].trainer

        @trainer.setter
        def trainer(self, value: Any) -> None:
            if "inner" in self.__dict__:
                self.__dict__["inner"].trainer = value

        def __setattr__(self, name: str, value: Any) -> None:
            inner = self.__dict__.get("inner")
            theirs = name not in ("trainer", "prepare_data_per_node") and hasattr(inner, name)
            (inner if theirs else super()).__setattr__(name, value)  # as BatchSizeFinder does

        def prepare_data(self) -> None:
            self.inner.prepare_data()

        def setup(self, stage: str) -> None:
            self.inner.setup(stage)

        def train_dataloader(self) -> Any:
            return self.inner.train_dataloader()

        def val_dataloader(self) -> Any:
            return self.inner.val_dataloader()

        def test_dataloader(self) -> Any:
            return self.inner.test_dataloader()

        def predict_dataloader(self) -> Any:
            return self.inner.predict_dataloader()

        def state_dict(self) -> dict[str, Any]:
            state: dict[str, Any] = self.inner.state_dict()
            return state

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.inner.load_state_dict(state_dict)

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return self.inner.transfer_batch_to_device(batch, device, dataloader_idx)

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return self.inner.on_before_batch_transfer(batch, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return self.inner.on_after_batch_transfer(batch, dataloader_idx)

    for name in {*LOADERS} - loaders:  # a Trainer calls what it finds
        delattr(Bridge, name)
    return Bridge


def load_weights(module: Any, state: Mapping[str, Any]) -> None:
    """Put weights into a module as a Trainer would.

    A module that says ``strict_loading = False`` keeps what the weights leave out, as a frozen
    backbone that its ``state_dict`` does not hold.
    """
    module.load_state_dict(dict(state), strict=getattr(module, "strict_loading", True))


@contextmanager
def lonely() -> Iterator[None]:
    """Inside, this process takes itself for the only one.

    Work that one rank does alone must not wait for the others. Lightning's ``prepare_data`` waits
    for all processes, and torchmetrics and synchronised batch norms gather over them, wherever
    ``torch.distributed`` says that there are several; none of them has a switch for it.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        yield
        return
    asked = dist.is_initialized
    dist.is_initialized = lambda: False
    try:
        yield
    finally:
        dist.is_initialized = asked


def dummy_logger(trainer: Any) -> Any:
    """A logger that swallows everything, of the Trainer's Lightning.

    It is what ``fast_dev_run`` puts in the place of loggers, so that modules that reach for
    ``self.logger`` work; it is not among the names that Lightning offers.
    """
    where = import_module(f"{family_of(trainer).__name__}.loggers.logger")
    return where.DummyLogger()


def start_step_at(trainer: Any, offset: int) -> None:
    """Let the Trainer's logger step go on from ``offset`` instead of 0.

    Lightning logs every training, epoch and evaluation metric under the private counter
    ``fit_loop.epoch_loop._batches_that_stepped``; nothing else reads it: ``global_step``,
    ``max_steps``, learning rate schedules and checkpoint names count on their own. Only *which*
    batches are logged (every ``log_every_n_steps``) is then counted over the rounds too. A fit that
    goes on from a checkpoint of its own round already carries the offset and is left alone.
    """
    loop = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = max(loop._batches_that_stepped, offset)


def set_step(trainer: Any, step: int) -> None:
    """Let the Trainer's logger count its steps from here (see :func:`start_step_at`)."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


# --- what a bare loop does as Lightning does it --------------------------------------------------


def detects_anomalies(trainer: Any) -> bool:
    """Whether the Trainer looks for NaN in each backward pass; the setting is private."""
    return bool(trainer._detect_anomaly)


def optimizers_of(module: Any) -> tuple[list[Any], list[Any]]:
    """The optimisers of a module and their schedules, as Lightning reads what it configures."""
    from pytorch_lightning.core import optimizer as core

    given = module.configure_optimizers()
    if given is None:
        return [], []
    optimizers, schedules, monitor = core._configure_optimizers(given)
    configs = core._configure_schedulers_automatic_opt(schedules, monitor)
    core._validate_optimizers_attached(optimizers, configs)
    core._validate_scheduler_api(configs, module)
    return optimizers, configs


def logging_levels(hook: str, on_step: bool | None, on_epoch: bool | None) -> tuple[bool, bool]:
    """Whether a hook logs on the step and on the epoch; what it must not do is an error."""
    from pytorch_lightning.trainer.connectors.logger_connector.fx_validator import _FxValidator

    found: tuple[bool, bool] = _FxValidator.check_logging_and_get_default_levels(
        hook, on_step=on_step, on_epoch=on_epoch
    )
    return found


def forward_value(metric: Any) -> Any:
    """What a metric of torchmetrics found in its last batch; None where it was only updated."""
    return metric._forward_cache


# --- what a stack of modules needs of torch ------------------------------------------------------


def tensor_slots(module: Any) -> Iterator[tuple[Any, str, Any]]:
    """Where a module and its parts keep parameters and buffers: (part, name, tensor), all of them.

    The public iterators leave out a tensor that was met before; one that is tied stands in several
    places, and each must be filled.
    """
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            for name, value in table.items():
                if value is not None:
                    yield part, name, value


def put_tensor(part: Any, name: str, value: Any) -> None:
    """Put any tensor where a module keeps a parameter or a buffer, as ``functional_call`` does.

    Assigning it would be refused: inside ``vmap`` a parameter is no ``nn.Parameter``.
    """
    table = part._parameters if name in part._parameters else part._buffers
    table[name] = value


def beneath_vmap(make: Callable[[Any], Any], like: Any) -> Any:
    """A tensor of each row, made outside the running ``vmap`` and given to it.

    Args:
        make: from a tensor with all its rows [R, ...], whatever lies along its first axis, to
            another [R, ...].
        like: a tensor inside one ``vmap``.

    Returns:
        What ``make`` made, inside ``vmap``; None where ``like`` is the same for all rows.
    """
    from torch._C import _functorch as inner
    from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack

    if not inner.is_batchedtensor(like):
        return None
    level = inner.maybe_get_level(like)
    rows = inner.get_unwrapped(like).movedim(inner.maybe_get_bdim(like), 0)
    with temporarily_pop_interpreter_stack():
        made = make(rows)
    return inner._add_batch_dim(made, 0, level)


def start_method(trainer: Any) -> str | None:
    """How a Trainer starts new processes inside each fit ("spawn", "fork"); None: it does not.

    The launcher that does so, and what it calls its way, are private.
    """
    launcher = trainer.strategy.launcher
    if not is_a(launcher, "strategies.launchers._MultiProcessingLauncher"):
        return None
    method: str = launcher._start_method
    return method


def experiment_of(logger: Any) -> Any:
    """What a logger of TensorBoard or W&B has opened so far; None before its first value.

    The public ``experiment`` would open it.
    """
    return logger._experiment


def wandb_run(logger: Any) -> Any:
    """The W&B run that a logger began; None where none is open, or one of somebody else's.

    A run that was open before, as in a sweep, belongs to the one who opened it: it has another id
    than the private ``_wandb_init`` asks for.
    """
    run = experiment_of(logger)
    return run if run is not None and run.id == logger._wandb_init["id"] else None


def name_wandb_run(logger: Any, name: str) -> None:
    """Say late, before its first use, which id the W&B run of a logger has.

    The logger takes the id when it is built, and keeps it in private arguments of ``wandb.init``.
    """
    logger._id = logger._wandb_init["id"] = name
    if logger._wandb_init.get("anonymous") is None:
        logger._wandb_init.pop("anonymous", None)  # W&B warns of the bare argument


def given_hyperparameters(values: dict[str, Any]) -> AbstractContextManager[None]:
    """Inside, modules keep these as their hyper-parameters, as LightningCLI has it.

    ``load_from_checkpoint`` then builds any module again; the context is private.
    """
    from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters_context

    made: AbstractContextManager[None] = _given_hyperparameters_context(
        hparams=values, instantiator="pytorch_lightning.cli.instantiate_module"
    )
    return made


def hyperparameters_name(module: Any) -> str | None:
    """How a module's checkpoints call its hyper-parameters, beside the public key of that name."""
    return getattr(module, "_hparams_name", None)
