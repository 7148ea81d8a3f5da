"""``lightning-al fit | validate | test | predict | run``: one LightningCLI."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from .build import Maker, fill_sizes
from .trainer import ActiveTrainer

__all__ = ["ActiveCLI", "parse"]


class ActiveCLI(LightningCLI):
    """LightningCLI with ``run`` beside Lightning's own sub-commands."""

    def __init__(self, args: ArgsType, *, run: bool = True, name: str = "run") -> None:
        self.config_name = name
        self.only_parse = not run
        self.result: Any = None
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=ActiveTrainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={"description": "Active learning on PyTorch Lightning."},
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's sub-commands and ``run``; what each takes from elsewhere."""
        return {**LightningCLI.subcommands(), "run": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Quiet defaults; what a run needs beyond a fit is in the signature of ``run``."""
        parser.set_defaults({"trainer.enable_model_summary": False})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse what ``main`` prepared (Lightning would warn of it)."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def _set_seed(self) -> None:
        if not self._drives_itself:
            super()._set_seed()

    @property
    def _drives_itself(self) -> bool:
        return self.only_parse or self.subcommand == "run"

    def before_instantiate_classes(self) -> None:
        """Sizes that the configuration leaves null are read off the data."""
        if self._drives_itself:
            return
        config = self.config[self.subcommand]
        model = config.model.as_dict() if config.get("model") else {}
        if config.get("data") and _has_null(model):
            datamodule = Maker(LightningDataModule, config.data.as_dict())()
            datamodule.prepare_data()
            datamodule.setup("fit")
            fill_sizes(model, datamodule)
            filled = {self.subcommand: {"model": model}}
            self.config = self.parser.parse_object(filled, self.config)

    def instantiate_classes(self) -> None:
        """Lightning's commands build everything once; ``run`` builds it anew each round."""
        if not self._drives_itself:
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        if self.only_parse:
            return
        if subcommand != "run":
            super()._run_subcommand(subcommand)
            return
        from .run import run_command

        self.result = run_command(self.plain(), self.config_name)

    def plain(self) -> dict[str, Any]:
        """The sub-command's configuration as plain values."""
        import yaml

        text = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        config: dict[str, Any] = yaml.safe_load(text)
        return config


def _has_null(spec: Any) -> bool:
    if isinstance(spec, dict):
        return any(_has_null(v) for v in spec.values())
    return spec is None


def parse(args: list[str]) -> dict[str, Any]:
    """The resolved configuration of a command line, as plain values; nothing is built."""
    return ActiveCLI(args, run=False).plain()


