"""What is typed becomes what the parser reads: named configurations, dotted keys, short names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_al import networks
from lightning_al.records import RunPlan
from lightning_al.records.plan import options_of

from .command_plan import CommandPlan, part_options
from .overlays import check_order, has_members
from .settings_files import plain_yaml, settings_of
from .shipped import Config, find_config, is_bench, is_overlay
from .words import pairs

__all__ = ["CommandLine"]


@dataclass(frozen=True)
class CommandLine:
    """One command as it was typed, and as the parser reads it.

    Args:
        words: as typed, the command first.
        plan: whose options the command ``run`` takes.
    """

    words: Sequence[str]
    plan: type[RunPlan] = CommandPlan
    configs: Sequence[Config] = field(init=False)
    parsed: Sequence[str] = field(init=False)  # configurations first, so that the rest overrides

    def __post_init__(self) -> None:
        options = {each.name: each for each, _ in options_of(self.plan)}
        folds = part_options(self.plan)
        configs: list[Config] = []
        plain: list[str] = []
        folded: list[tuple[str, str]] = []
        for option, value in pairs(self.words[1:]):
            key = option.removeprefix("--")
            flag = key in options and options[key].default is False
            value = "true" if value is None and flag else value
            if option in ("--config", "-c") and value is not None:
                configs.append(find_config(value))
            elif key.partition(".")[0] in folds and option != key and value is not None:
                folded.append((key, value))
            else:
                plain += [option] if value is None else [option, _full_path(key, value)]
        if benches := [c.name for c in configs if c.path is not None and is_bench(c.path)]:
            raise ValueError(
                f"{benches[0]} is a benchmark, a grid of runs: lightning-al bench --config "
                f"{benches[0]}"
            )
        read = [_read(config) for config in configs]
        check_order(configs, read, [w.removeprefix("--") for w in plain if w[:2] == "--"])
        specs: dict[str, Any] = {}
        several = any(word.rpartition(".")[2] == "Ensemble" for word in plain)
        for found, config in zip(configs, read, strict=True):
            several = several or has_members(config.get("model"))
            if found.strategy is not None and (several or specs.get("posterior")):
                config.pop("posterior", None)  # an overlay's is for networks of one member
            specs |= {name: config.pop(name) for name in folds if name in config}
        _fold(specs, folded)
        if self.command == "run":
            read.append(specs)
        else:
            read = [{k: v for k, v in config.items() if k not in options} for config in read]
        texts = [yaml.safe_dump(config, sort_keys=False) for config in read if config]
        first = [word for text in texts for word in ("--config", text)]
        object.__setattr__(self, "configs", configs)
        object.__setattr__(self, "parsed", [*self.words[:1], *first, *plain])

    @property
    def command(self) -> str:
        """The first word, such as ``run``."""
        return self.words[0] if self.words else ""

    @property
    def name(self) -> str:
        """What the run folder is called after: the last configuration and overlay, else "run"."""
        path, overlays = self._last_file, [c.strategy for c in self.configs if c.strategy]
        if path is None:
            first = "run"
        else:
            first = path.stem if self.home is None else path.resolve().parent.name
        return f"{first}-{overlays[-1]}" if overlays else first

    @property
    def home(self) -> Path | None:
        """The run folder that the configuration was taken from, where it is that of a run."""
        path = self._last_file
        is_run = path is not None and (path.parent / "journal.jsonl").exists()
        return path.parent if path is not None and is_run else None

    @property
    def _last_file(self) -> Path | None:
        return next((c.path for c in reversed(self.configs) if c.path is not None), None)

    def without(self, *options: str) -> list[str]:
        """The words less some options (and their dotted keys), for a command like this one.

        Without ``strategy`` there is no overlay that names one either.
        """
        kept = list(self.words[:1])
        for option, value in pairs(self.words[1:]):
            key = option.removeprefix("--").partition(".")[0]
            config = option in ("--config", "-c") and value is not None
            overlay = config and is_overlay(str(value))
            if key not in options and not (overlay and "strategy" in options):
                kept += [option] if value is None else [option, value]
        return kept


def _full_path(key: str, value: str) -> str:
    """Our own network's class path where its short name is given; torchvision has an MLP too."""
    last = key.removesuffix(".class_path").rpartition(".")[2]
    ours = last == "network" and value in networks.__all__ and value[:1].isupper()
    return f"lightning_al.networks.{value}" if ours else value


def _read(found: Config) -> dict[str, Any]:
    config: dict[str, Any] = _numbers(settings_of(found.text(), found.path or found.name))
    return config


def _numbers(value: Any) -> Any:
    """Numbers such as 1e-3, which YAML 1.1 takes for text."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _fold(specs: dict[str, Any], given: Sequence[tuple[str, str]]) -> None:
    """Take up ``--strategy power --strategy.beta 2`` as ``{"name": "power", "beta": 2}``."""
    for key, text in given:
        option, _, inner = key.partition(".")
        value = _numbers(plain_yaml(text, f"--{key} {text}"))
        if not inner:
            is_path = isinstance(value, str) and "." in value
            specs[option] = {"class_path": value} if is_path else value
        elif not specs.get(option):
            what = option if option == "features" else f"a {option}"
            raise ValueError(f"--{key} needs {what}: give --{option} NAME before it")
        elif (option, inner) == ("features", "name"):  # an argument of Backbone, not which one
            specs[option] = _with(_as_path(specs[option]), inner, value)
        else:
            specs[option] = _with(specs[option], inner.removeprefix("init_args."), value)


def _as_path(spec: Any) -> dict[str, Any]:
    """``{"class_path": …, "init_args": …}`` of any form."""
    if isinstance(spec, str):
        return {"class_path": spec}
    if "name" not in spec:
        return dict(spec)
    rest = {k: v for k, v in spec.items() if k != "name"}
    return {"class_path": spec["name"], "init_args": rest}


def _with(spec: Any, key: str, value: Any) -> dict[str, Any]:
    if isinstance(spec, str):
        spec = {"class_path": spec} if "." in spec else {"name": spec}
    if "class_path" in spec:
        return {**spec, "init_args": {**spec.get("init_args", {}), key: value}}
    return {**spec, key: value}
