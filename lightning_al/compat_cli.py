"""Reaches into what the libraries of command lines keep private, each with its reason.

``compat.py`` holds the others.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["open_cli", "option_strings", "parse_as_declared", "titled"]


@functools.cache
def open_cli() -> type[Any]:
    """LightningCLI with a public method for each private step that a command of ours changes."""
    from pytorch_lightning.cli import LightningCLI

    class OpenCLI(LightningCLI):
        """Lightning's command line, open to a subclass."""

        def prepared(self, parser: Any, subcommand: str) -> Any:
            """The parser of a sub-command, as it shall be."""
            return parser

        def seeds(self) -> bool:
            """Whether Lightning seeds this process."""
            return True

        def carry_out(self, subcommand: str, usual: Callable[[], None]) -> None:
            """Do a sub-command; ``usual`` is what Lightning does."""
            usual()

        def options_of(self, subcommand: str) -> list[str]:
            """All options of a sub-command."""
            return option_strings(self._subcommand_parsers[subcommand])

        def text_of(self, subcommand: str) -> str:
            """The configuration of a sub-command as YAML."""
            text: str = self._parser(subcommand).dump(self.config[subcommand], skip_unset=False)
            return text

        def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> Any:
            parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
            return self.prepared(parser, subcommand)

        def _parse_ckpt_path(self) -> None:
            """The configuration says which model it is, not a checkpoint's hyper-parameters."""

        def _set_seed(self) -> None:
            if self.seeds():
                super()._set_seed()

        def _run_subcommand(self, subcommand: str) -> None:
            self.carry_out(subcommand, functools.partial(super()._run_subcommand, subcommand))

    return OpenCLI


@functools.cache
def parse_as_declared() -> None:
    """Let jsonargparse build what a parameter declares, and read whole numbers as such.

    A class path for a parameter without a type (or of type Any) would build any class there is; it
    stays a specification, which its reader holds against what the parameter is for. A parameter
    that takes a function is given one by its path alone: with arguments it would be called. And
    ``1`` for ``int | float`` is a count, where a union that another library wrote as ``float |
    int`` would make it 1.0: typing takes the two for one. The last two steps are private.
    """
    import jsonargparse

    typehints: Any = importlib.import_module("jsonargparse._typehints")
    jsonargparse.set_parsing_settings(instantiate_subclass_spec_in_any=False)
    sort, adapt = typehints.sort_subtypes_for_union, typehints.adapt_partial_callable_class

    def classes_alone(typehint: Any, spec: Any) -> Any:
        path = spec["class_path"]
        if not isinstance(typehints.import_object(path), type):
            raise ImportError(f"{path!r} with arguments is no class; name a function by its path")
        return adapt(typehint, spec)

    def counts_first(*args: Any, **more: Any) -> list[Any]:
        found = list(sort(*args, **more))
        if int in found and float in found and found.index(float) < found.index(int):
            found.remove(int)
            found.insert(found.index(float), int)
        return found

    typehints.sort_subtypes_for_union = counts_first
    typehints.adapt_partial_callable_class = classes_alone


def option_strings(parser: Any) -> list[str]:
    """All options of an argparse parser, as they are typed."""
    return list(parser._option_string_actions)


def titled(parser: Any, titles: Mapping[str, str], first: str = "options") -> None:
    """Name the groups of an argparse parser's help, and bring them into the order of the names.

    Args:
        parser: any; groups can be added to it by its public methods, and neither moved nor read.
        titles: by one of a group's options, without dashes.
        first: the group that stays in front.
    """
    for group in parser._action_groups:
        options = [option for a in group._group_actions for option in a.option_strings]
        names = [name for name in titles if f"--{name}" in options]
        group.title = titles[names[0]] if names else group.title
    order = [first, *titles.values()]
    parser._action_groups = sorted(
        parser._action_groups, key=lambda g: order.index(g.title) if g.title in order else 0
    )
