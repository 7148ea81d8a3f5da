"""``lightning-al fit | validate | test | predict | run``: one LightningCLI."""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning
import yaml
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from lightning_al.compat import bridged, family_of, kinds
from lightning_al.compat_cli import open_cli, titled
from lightning_al.records import RunPlan

from .building import Maker, fill_sizes
from .command_line import CommandLine
from .command_plan import CommandPlan, run_options
from .explaining import explain
from .trainer_class import trainer_class

__all__ = ["ActiveCLI", "parse"]

TITLES = {
    "strategy": "the run",
    "model": "the model",
    "data": "the data",
    "optimizer": "the optimiser, instead of the model's own",
    "lr_scheduler": "its schedule",
    "trainer": "the Trainer",
}
"""Of the groups in the help, by one of their options, in this order."""

TRAINED = ("validate", "test", "predict")
"""Commands that make sense for a model that was trained."""
QUIET = (".*isinstance.treespec, LeafSpec.*", ".*across ranks is zero.*", ".*logging interval.*")


class ActiveCLI(open_cli()):  # type: ignore[misc]
    """LightningCLI with ``run`` beside Lightning's own sub-commands.

    Args:
        line: what was typed.
        run: does the command ``run``, with its configuration and line; None parses only.
        plan: whose options ``run`` takes.
    """

    def __init__(
        self,
        line: CommandLine,
        run: Callable[[Mapping[str, Any], CommandLine], Any] | None = None,
        plan: type[RunPlan] = CommandPlan,
    ) -> None:
        self.line, self.plan = line, plan
        self.do = run
        self.result: Any = None
        kwargs: dict[str, Any] = {
            command: {
                "exit_on_error": False,
                "usage": f"lightning-al {command} [--config NAME] [--key value ...]",
            }
            for command in self.subcommands()
        }
        super().__init__(
            pytorch_lightning.LightningModule,
            pytorch_lightning.LightningDataModule,
            trainer_class=trainer_class(),
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={"prog": "lightning-al", "exit_on_error": False, **kwargs},
            args=list(line.parsed),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that was typed, for building a parser costs a tenth of a second."""
        every = {**LightningCLI.subcommands(), "run": {"model", "datamodule"}}
        return {self.line.command: every[self.line.command]}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Trainer, model and data; the last two of either name of Lightning."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        for kind, key in (("LightningModule", "model"), ("LightningDataModule", "data")):
            parser.add_subclass_arguments(kinds(kind), key, fail_untyped=False, required=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Quiet defaults."""
        parser.set_defaults({"trainer.enable_model_summary": False})

    def prepared(self, parser: LightningArgumentParser, subcommand: str) -> LightningArgumentParser:
        """With the options of ``run``; in the help its own first, the Trainer's many ones last."""
        if subcommand == "run":
            group = parser.add_argument_group(TITLES["strategy"])
            for name, kind, default, help in run_options(self.plan):
                group.add_argument(f"--{name}", type=kind, default=default, help=help)
        titled(parser, TITLES)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what ``main`` prepared (Lightning would warn of it)."""
        try:
            self.config = parser.parse_args(args)  # type: ignore[arg-type]
        except ArgumentError as error:
            options = self.options_of(self.line.command)
            raise ArgumentError(None, explain(str(error), options)) from None

    def seeds(self) -> bool:
        """A run seeds each of its steps itself."""
        return not self._drives_itself

    @property
    def _only_parse(self) -> bool:
        return self.do is None

    @property
    def _drives_itself(self) -> bool:
        return self._only_parse or self.subcommand == "run"

    def before_instantiate_classes(self) -> None:
        """Sizes that the configuration leaves null are read off the data."""
        if self._drives_itself:
            return
        config = self.config[self.subcommand]
        model = config.model.as_dict() if config.get("model") else {}
        if config.get("data") and _has_null(model):
            datamodule = Maker(kinds("LightningDataModule"), config.data.as_dict())()
            datamodule.prepare_data()
            datamodule.setup("fit")
            fill_sizes(model, datamodule)
            filled = {self.subcommand: {"model": model}}
            self.config = self.parser.parse_object(filled, self.config)

    def instantiate_classes(self) -> None:
        """Lightning's commands build everything once; ``run`` builds it anew each round."""
        if not self._drives_itself:
            try:
                super().instantiate_classes()
            except ValueError as error:  # a parser's, about what a class said
                if not str(error).startswith("Does not validate"):
                    raise
                raise ValueError(explain(str(error))) from error
            self.datamodule: Any = bridged(self.datamodule, family_of(self.model))

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The Trainer of the model's Lightning; a data module of ours shards by itself."""
        if hasattr(self.datamodule, "acquire"):
            kwargs.setdefault("use_distributed_sampler", False)
        family = family_of(self.model)
        if family is not pytorch_lightning:
            self.trainer_class = family.Trainer
        return super().instantiate_trainer(**kwargs)

    def carry_out(self, subcommand: str, usual: Callable[[], None]) -> None:
        """Lightning's own sub-commands quietly; ``run`` by what was given for it."""
        if self.do is None:
            return
        if subcommand != "run":
            if subcommand in TRAINED and not self.config[subcommand].get("ckpt_path"):
                print(
                    f"{subcommand} without --ckpt_path takes a model that was never trained; give "
                    "the .ckpt file of a fit or run",
                    file=sys.stderr,
                )
            with warnings.catch_warnings():
                for text in QUIET:
                    warnings.filterwarnings("ignore", text)
                usual()
            return
        self.result = self.do(self.plain(), self.line)

    def plain(self) -> dict[str, Any]:
        """The sub-command's configuration as plain values."""
        config: dict[str, Any] = yaml.safe_load(self.text_of(self.subcommand))
        return config


def _has_null(spec: Any) -> bool:
    if isinstance(spec, dict):
        return any(_has_null(v) for v in spec.values())
    return spec is None


def parse(words: list[str], plan: type[RunPlan] = CommandPlan) -> dict[str, Any]:
    """The resolved configuration of a command line, as plain values; nothing is built."""
    return ActiveCLI(CommandLine(words, plan), plan=plan).plain()
