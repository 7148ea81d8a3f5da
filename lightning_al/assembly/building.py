"""From a parsed configuration to the parts of a run, each built anew whenever asked."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import operator
import warnings
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MethodType
from typing import Any

from jsonargparse import ArgumentParser
from pytorch_lightning.cli import LightningCLI, instantiate_class

from lightning_al.compat import given_hyperparameters, kinds
from lightning_al.compat_cli import parse_as_declared
from lightning_al.randomness import seeded
from lightning_al.records import RunPlan
from lightning_al.records.plan import options_of
from lightning_al.rounds import ActiveLearner
from lightning_al.strategies import resolve
from lightning_al.tasks import Adapter

from .command_plan import CommandPlan
from .explaining import explain
from .families import built
from .settings_tree import numbers_apart, setting, with_settings
from .trainer_class import trainer_class

__all__ = ["Assembly", "Maker", "fill_sizes"]

parse_as_declared()

OUTSIDE_TRAINER = ("default_root_dir", "enable_progress_bar", "log_every_n_steps", "logger")
"""Settings of the Trainer that do not change what a run does."""


class Maker:
    """Builds one object from its part of the configuration, as often as it is called.

    Args:
        base: its type; of a tuple of classes any.
        spec: its part of the configuration.
    """

    def __init__(self, base: Any, spec: Any) -> None:
        self._parser = ArgumentParser(exit_on_error=False)
        self._parser.add_argument("--it", type=_one_of(base, spec))
        self._config = self._parser.parse_object({"it": copy.deepcopy(spec)})

    @classmethod
    def of(cls, base: Any, spec: Any) -> Maker:
        """One that served before where it is the same: reading a specification takes long."""
        try:
            key = json.dumps(spec)
        except (TypeError, ValueError):  # more than plain values
            return cls(base, spec)
        return _made(base, key)

    def renumbered(self, numbers: Mapping[str, int | float]) -> Maker | None:
        """The maker of the same specification with other numbers, without reading it again.

        Args:
            numbers: by their dotted places in the specification.

        Returns:
            None where one of them is not held as a number of its type: it must be read then.
        """
        made = copy.copy(self)
        made._config = self._config.clone()
        for name, value in numbers.items():
            if type(made._config.get(f"it.{name}")) is not type(value):
                return None
            made._config[f"it.{name}"] = value
        return made

    def __call__(self) -> Any:
        """A new object.

        Raises:
            ValueError: what its class says of its settings.
        """
        try:
            return self._parser.instantiate_classes(self._config.clone()).it
        except ValueError as error:
            if not str(error).startswith("Does not validate"):  # a parser's, about what it says
                raise
            raise ValueError(explain(str(error))) from error


@functools.lru_cache(maxsize=32)
def _made(base: Any, spec: str) -> Maker:
    return Maker(base, json.loads(spec))


class Assembly:
    """What a configuration of ``run`` describes.

    Args:
        config: plain values, as parsed: model, data, trainer and the options of ``run``.
        plan: whose options these are.
    """

    def __init__(self, config: Mapping[str, Any], plan: type[RunPlan] = CommandPlan) -> None:
        self.config, self.plan = dict(config), plan
        self._under: tuple[dict[str, Any], Assembly] | None = None  # the last one
        for name in ("model", "data"):
            if not self.config.get(name):
                raise ValueError(f"the configuration names no {name}; give --{name} or --config")
        self._live()  # a wrong name is said before any data are read
        self.datamodule: Any = Maker(kinds("LightningDataModule"), self.config["data"])()
        if not hasattr(self.datamodule, "acquire"):
            raise TypeError(
                f"run needs an ActiveDataModule as data, got {type(self.datamodule).__name__}"
            )
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")
        self._fill()
        either: Any = functools.reduce(operator.or_, kinds("loggers.Logger"))
        logger = self.config.get("trainer", {}).get("logger")
        self._logger = Maker.of(list[either] | either | bool | None, logger)
        self._read_trainer()

    def _read_trainer(self) -> None:
        given = self.config.get("trainer", {})
        trainer = {k: v for k, v in given.items() if v is not None and k != "logger"}
        self._trainer = _trainer_parser(trainer_class())
        self._trainer_config = self._trainer.parse_object({"trainer": trainer})
        self._plain_trainer: dict[str, Any] | None = None  # of plain values alone

    def under(self, settings: Mapping[str, Any]) -> Assembly:
        """The same data with another model and Trainer: settings by dotted name, put in.

        Raises:
            LookupError: a setting that does not exist.
            ValueError: a value that is not of its type.
        """
        if self._under is None or self._under[0] != settings:
            made = copy.copy(self)
            made.config = with_settings(self.config, settings)
            made._under = None
            heads = {name.partition(".")[0] for name in settings}
            try:
                if "model" in heads:
                    made._fill(self)
                if "trainer" in heads:
                    made._read_trainer()
            except ArgumentError as error:
                raise ValueError(explain(str(error))) from error
            self._under = dict(settings), made
        return self._under[1]

    def _fill(self, like: Assembly | None = None) -> None:
        """The model with the sizes that the data have.

        Args:
            like: one that may differ in numbers alone; its model is not read again then.
        """
        self._filled_for = getattr(self.datamodule, "items", None)
        self.model_config = copy.deepcopy(self.config["model"])
        fill_sizes(self.model_config, self.datamodule)
        apart = None if like is None else numbers_apart(like.model_config, self.model_config)
        made = None if like is None or apart is None else like._model.renumbered(apart)
        self._model: Maker = made or Maker.of(kinds("LightningModule"), self.model_config)

    def task(self) -> Any:
        """A fresh module, with the optimiser of the command line if it names one."""
        if getattr(self.datamodule, "items", None) is not self._filled_for:
            self._fill()  # the data were read anew, as a run began with them
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")
            with given_hyperparameters(self._hyperparameters()):
                module = self._model()
        if (optimizer := self.config.get("optimizer")) is not None:
            scheduler = self.config.get("lr_scheduler")

            def configure(module: Any) -> Any:
                made = _instantiated("optimizer", module.parameters(), optimizer)
                schedule = _instantiated("lr_scheduler", made, scheduler) if scheduler else None
                return LightningCLI.configure_optimizers(module, made, schedule)

            configured: Any = MethodType(configure, module)
            module.configure_optimizers = configured
        return module

    def _hyperparameters(self) -> dict[str, Any]:
        config = copy.deepcopy(self.model_config)
        return {"_class_path": config["class_path"], **config.get("init_args", {})}

    def trainer(self) -> dict[str, Any]:
        """Trainer arguments, with fresh callbacks and all else that is an object."""
        arguments = self._plain_trainer
        if arguments is None:
            made = self._trainer.instantiate_classes(self._trainer_config.clone()).trainer
            arguments = {k: v for k, v in vars(made).items() if v is not None}
            if all(isinstance(v, bool | int | float | str) for v in arguments.values()):
                self._plain_trainer = arguments  # the same each time
        arguments = dict(arguments)
        callbacks = arguments.get("callbacks") or []
        arguments["callbacks"] = callbacks if isinstance(callbacks, list) else [callbacks]
        return arguments

    def loggers(self) -> list[Any]:
        """The loggers that the Trainer's settings name, built once."""
        made = self._logger()
        if isinstance(made, bool) or made is None:
            return []
        return made if isinstance(made, list) else [made]

    def identity(self) -> dict[str, Any]:
        """The settings that make this run this run."""
        outside = {each.name for each, facts in options_of(self.plan) if not facts.identity}
        outside |= {"config", "seed_everything"}
        config = {k: v for k, v in self.config.items() if k not in outside}
        config["trainer"] = {
            k: v
            for k, v in config.get("trainer", {}).items()
            if v is not None and k not in OUTSIDE_TRAINER
        }
        return {k: v for k, v in config.items() if v is not None}

    def learner(self, **changes: Any) -> ActiveLearner:
        """The learner; ``changes`` are passed to it over the configuration."""
        given = {each.name: self.config.get(each.name) for each, _ in options_of(ActiveLearner)}
        options = {name: value for name, value in given.items() if value is not None}
        if isinstance(options.get("seed"), list):
            options["seed"] = options["seed"][0]  # `run` gives each of them
        fixed = {
            "task": Assembled(self, "task"),
            "datamodule": self.datamodule,
            "trainer": Assembled(self, "trainer"),
            "config": self.identity(),
        }
        return ActiveLearner(**(options | self._live() | fixed | changes))

    def _live(self) -> dict[str, Any]:
        """The objects that specifications name; wrong names are refused."""
        found: dict[str, Any] = {}
        for each, facts in options_of(self.plan):
            spec = self.config.get(each.name)
            if spec is None or not facts.part:
                continue
            if facts.part == "strategy":
                resolve(spec)  # stays a name: what made a run the same run is how it was written
            elif facts.several:
                found[each.name] = [built(facts.part, one) for one in spec]
            elif each.name == "features":
                found[each.name] = self.features
            else:
                found[each.name] = built(facts.part, spec)
        if (adapter := Maker.of(Adapter | None, self.config.get("adapter"))()) is not None:
            found["adapter"] = adapter
        return found

    @cached_property
    def features(self) -> Any:
        """The feature extractor, built once: being frozen it serves all runs."""
        with seeded(0, 0, "features"):  # weights drawn in there are the same in every process
            return built("features", self.config.get("features"))


@dataclass(frozen=True)
class Assembled:
    """What an assembly builds, with its settings by dotted name (a ``Settable`` of the tuning).

    Args:
        assembly: that builds it.
        what: "task" or "trainer".
    """

    assembly: Assembly
    what: str

    def __call__(self) -> Any:
        """A fresh one."""
        return getattr(self.assembly, self.what)()

    def value(self, name: str) -> Any:
        """What a setting is.

        Raises:
            LookupError: there is none of this name.
        """
        return setting(self.assembly.config, name)

    def under(self, settings: Mapping[str, Any]) -> Assembled:
        """The same under other settings."""
        return Assembled(self.assembly.under(settings), self.what)


@functools.cache
def _trainer_parser(kind: type) -> ArgumentParser:
    """Of Trainer arguments; it is looked at alone, so that all runs have the same."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "trainer", instantiate=False)
    return parser


def _instantiated(option: str, first: Any, spec: Any) -> Any:
    """An optimiser, or its schedule, as the command line names it.

    Raises:
        ValueError: it refuses its settings.
    """
    try:
        return instantiate_class(first, spec)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"--{option} {spec.get('class_path')} refuses its settings ({error}); give others with "
            f"--{option}.KEY"
        ) from error


def fill_sizes(spec: Any, datamodule: Any) -> None:
    """Put the sizes that the data give where a model's settings leave them ``null``.

    ``in_features``, ``in_channels``, ``image_size`` and ``classes`` are the datamodule's;
    ``labels`` are its outputs; ``outputs`` is its number of classes, or of targets; of the network
    what the task says that it
    needs for them (its ``network_outputs(targets, arguments)``). ``safety`` is whether one of its
    outcomes says how safe an item is.
    """
    sizes = {
        name: getattr(datamodule, name, None)
        for name in ("in_features", "in_channels", "image_size", "classes")
    }
    if (outcomes := getattr(datamodule, "outcomes", None)) is not None:  # `fit` takes any data
        sizes["safety"] = outcomes.safety is not None
    sizes["labels"] = getattr(datamodule, "outputs", None)
    targets = sizes["classes"] or sizes["labels"]
    _fill(spec, sizes, targets, targets)


def _fill(spec: Any, sizes: Mapping[str, Any], outputs: Any, network_outputs: Any) -> None:
    arguments = spec.get("init_args") if isinstance(spec, dict) else None
    if not isinstance(arguments, dict):
        return
    needed = getattr(class_of(spec), "network_outputs", None)
    if needed is not None and outputs is not None:
        network_outputs = needed(outputs, arguments)
    for name, value in {**sizes, "outputs": outputs}.items():
        if value is not None and name in arguments and arguments[name] is None:
            arguments[name] = value
    for inner in arguments.values():
        _fill(inner, sizes, network_outputs, network_outputs)


def _one_of(base: Any, spec: Any) -> Any:
    """Of several classes the one that is meant: what it says while it is built is then its own."""
    if not isinstance(base, tuple):
        return base
    found = class_of(spec) if isinstance(spec, Mapping) else None
    meant = [kind for kind in base if isinstance(found, type) and issubclass(found, kind)]
    return meant[0] if meant else functools.reduce(operator.or_, base)


def class_of(spec: Mapping[str, Any]) -> Any:
    """The class that a specification names, where it can be imported."""
    module, _, name = str(spec.get("class_path", "")).rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None) if module else None
    except ImportError:
        return None  # the parser says so better
