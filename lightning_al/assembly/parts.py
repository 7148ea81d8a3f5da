"""From a parsed configuration to the parts of a run, each built anew whenever asked."""

from __future__ import annotations

import copy
import warnings
from argparse import ArgumentError
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MethodType
from typing import Any

from jsonargparse import ArgumentParser
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningCLI, instantiate_class
from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters_context
from pytorch_lightning.loggers import Logger

from lightning_al.randomness import seeded
from lightning_al.rounds import ActiveLearner
from lightning_al.strategies import resolve
from lightning_al.tasks import Adapter

from .families import FEATURES, ORACLES, POSTERIORS, RULES, make

__all__ = ["Maker", "Parts", "fill_sizes", "learner_of_run"]

OUTSIDE_IDENTITY = (
    "baseline",
    "config",
    "keep_checkpoints",
    "loggers",
    "memory_budget",
    "overwrite",
    "progress",
    "run_dir",
    "seed_everything",
)
"""Settings that do not change what a run does; a run goes on under others."""

OUTSIDE_TRAINER = ("default_root_dir", "enable_progress_bar", "log_every_n_steps", "logger")


class Maker:
    """Builds one object from its part of the configuration, as often as it is called."""

    def __init__(self, base: Any, spec: Any) -> None:
        self._parser = ArgumentParser(exit_on_error=False)
        self._parser.add_argument("--it", type=base)
        self._config = self._parser.parse_object({"it": copy.deepcopy(spec)})

    def __call__(self) -> Any:
        """A new object."""
        return self._parser.instantiate_classes(self._config.clone()).it


class Parts:
    """What a configuration of ``run`` describes.

    Args:
        config: plain values, as parsed: model, data, trainer and the arguments of ``run``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        for name in ("model", "data"):
            if not self.config.get(name):
                raise ValueError(f"the configuration names no {name}; give --{name} or --config")
        self._helpers()  # a wrong name is said before any data are read
        self.datamodule: LightningDataModule = Maker(LightningDataModule, self.config["data"])()
        if not hasattr(self.datamodule, "acquire"):
            raise TypeError(
                f"run needs an ActiveDataModule as data, got {type(self.datamodule).__name__}"
            )
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")
        self.model_config = copy.deepcopy(self.config["model"])
        fill_sizes(self.model_config, self.datamodule)
        self._model = Maker(LightningModule, self.model_config)
        trainer = {k: v for k, v in self.config.get("trainer", {}).items() if v is not None}
        self._logger = Maker(list[Logger] | Logger | bool | None, trainer.pop("logger", None))
        self._trainer = ArgumentParser(exit_on_error=False)
        self._trainer.add_class_arguments(Trainer, "trainer", instantiate=False)
        self._trainer_config = self._trainer.parse_object({"trainer": trainer})

    def task(self) -> LightningModule:
        """A fresh module, with the optimiser of the command line if it names one."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")
            with _given_hyperparameters_context(
                hparams=self._hyperparameters(),
                instantiator="pytorch_lightning.cli.instantiate_module",
            ):  # what LightningCLI does, so that load_from_checkpoint rebuilds any module
                module: LightningModule = self._model()
        if (optimizer := self.config.get("optimizer")) is not None:
            scheduler = self.config.get("lr_scheduler")

            def configure(module: LightningModule) -> Any:
                made = instantiate_class(module.parameters(), optimizer)
                schedule = instantiate_class(made, scheduler) if scheduler else None
                return LightningCLI.configure_optimizers(module, made, schedule)

            configured: Any = MethodType(configure, module)
            module.configure_optimizers = configured  # type: ignore[method-assign]
        return module

    def _hyperparameters(self) -> dict[str, Any]:
        config = copy.deepcopy(self.model_config)
        return {"_class_path": config["class_path"], **config.get("init_args", {})}

    def trainer(self) -> dict[str, Any]:
        """Trainer arguments, with fresh callbacks and all else that is an object."""
        made = self._trainer.instantiate_classes(self._trainer_config.clone()).trainer
        arguments = {k: v for k, v in vars(made).items() if v is not None}
        callbacks = arguments.get("callbacks") or []
        arguments["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        return arguments

    def loggers(self) -> list[Logger]:
        """The loggers that the Trainer's settings name, built once."""
        made = self._logger()
        if isinstance(made, bool) or made is None:
            return []
        return made if isinstance(made, list) else [made]

    def identity(self) -> dict[str, Any]:
        """The settings that make this run this run."""
        config = {k: v for k, v in self.config.items() if k not in OUTSIDE_IDENTITY}
        config["trainer"] = {
            k: v
            for k, v in config.get("trainer", {}).items()
            if v is not None and k not in OUTSIDE_TRAINER
        }
        return {k: v for k, v in config.items() if v is not None}

    def learner(self, **changes: Any) -> ActiveLearner:
        """The learner; ``changes`` are passed to it over the configuration."""
        config = self.config
        plain = ("weights", "restore", "overwrite", "keep_checkpoints", "memory_budget")
        arguments: dict[str, Any] = {
            "task": self.task,
            "datamodule": self.datamodule,
            "strategy": config["strategy"],
            "first": config.get("first"),
            "query_size": config["query_size"],
            "budget": config["budget"],
            "trainer": self.trainer,
            "config": self.identity(),
            "seed": config["seed"],
            "adapter": Maker(Adapter | None, config.get("adapter"))(),
            "cost_budget": config.get("cost_budget"),
            "hit_ratio_at": config.get("hit_ratio_at"),
            **{name: config[name] for name in plain if name in config},
            **self._helpers(),
        }
        return ActiveLearner(**(arguments | changes))

    def _helpers(self) -> dict[str, Any]:
        """Posterior, features, oracle and rules; wrong names, strategies' too, are refused."""
        config = self.config
        for spec in (config["strategy"], config.get("first"), config.get("baseline")):
            if spec is not None:
                resolve(spec)
        rules = [make(RULES, spec) for spec in config.get("stopping") or ()]
        return {
            "posterior": make(POSTERIORS, config.get("posterior")),
            "features": self.features,
            "oracle": make(ORACLES, config.get("oracle")),
            "stopping": rules,
        }

    @cached_property
    def features(self) -> Any:
        """The feature extractor, built once: being frozen it serves all runs."""
        with seeded(0, 0, "features"):  # weights drawn in there are the same in every process
            return make(FEATURES, self.config.get("features"))


def fill_sizes(spec: Any, datamodule: Any) -> None:
    """Put the sizes that the data give where a model's settings leave them ``null``.

    ``in_features``, ``in_channels``, ``image_size`` and ``classes`` are the datamodule's;
    ``outputs`` is its number of classes, or of targets (twice that for a Gaussian likelihood, in
    the network only). ``safety`` is whether the last of several measures is ``z``.
    """
    sizes = {
        name: getattr(datamodule, name, None)
        for name in ("in_features", "in_channels", "image_size", "classes")
    }
    measures = tuple(getattr(datamodule, "measures", ("y",)))
    sizes["safety"] = len(measures) > 1 and measures[-1] == "z"
    targets = sizes["classes"] or getattr(datamodule, "outputs", None)
    _fill(spec, sizes, targets, targets)


def _fill(spec: Any, sizes: Mapping[str, Any], outputs: Any, network_outputs: Any) -> None:
    arguments = spec.get("init_args") if isinstance(spec, dict) else None
    if not isinstance(arguments, dict):
        return
    if arguments.get("likelihood") == "gaussian" and outputs is not None:
        network_outputs = 2 * outputs
    for name, value in {**sizes, "outputs": outputs}.items():
        if value is not None and name in arguments and arguments[name] is None:
            arguments[name] = value
    for inner in arguments.values():
        _fill(inner, sizes, network_outputs, network_outputs)


def learner_of_run(run_dir: Path) -> ActiveLearner:
    """The learner of a run of the command line, from the ``config.yaml`` in its folder.

    Raises:
        LookupError: the folder holds no such file, or that of a run written in Python.
    """
    from lightning_al.cli.command import parse

    path = run_dir / "config.yaml"
    if not path.exists():
        raise LookupError(f"{run_dir} holds no config.yaml; give the folder of a run")
    try:
        config = parse(["run", "--config", str(path)])
    except ArgumentError:
        raise LookupError(
            f"{path} is not of the command line; rebuild the learner in Python and pass it: "
            "replay(run_dir, round, learner)"
        ) from None
    return Parts(config).learner(run_dir=run_dir, overwrite=False)
