"""What is typed becomes what the parser reads: names of configurations, dotted keys, short names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lightning_al import networks

from .names import config_path

__all__ = ["CommandLine"]

FOLDED = ("strategy", "baseline", "posterior", "oracle")
"""Options whose value is a name or a mapping; ``--strategy.beta 2`` adds to the mapping."""

LIGHTNING = ("model", "data", "trainer", "optimizer", "lr_scheduler", "seed_everything")
"""What a configuration of ``run`` says to Lightning's own commands too."""


@dataclass(frozen=True)
class CommandLine:
    """One command as it was typed, and as the parser reads it.

    Args:
        words: as typed, the command first.
    """

    words: Sequence[str]
    configs: Sequence[Path] = field(init=False)
    parsed: Sequence[str] = field(init=False)  # configurations first, so that the rest overrides

    def __post_init__(self) -> None:
        configs: list[Path] = []
        plain: list[str] = []
        folded: list[tuple[str, str]] = []
        for option, value in _pairs(self.words[1:]):
            key = option.removeprefix("--")
            if option in ("--config", "-c") and value is not None:
                configs.append(config_path(value))
            elif key.partition(".")[0] in FOLDED and option != key and value is not None:
                folded.append((key, value))
            else:
                plain += [option] if value is None else [option, _full_path(key, value)]
        object.__setattr__(self, "configs", configs)
        object.__setattr__(
            self,
            "parsed",
            [*self.words[:1], *self._config_arguments(), *plain, *_fold(folded, configs)],
        )

    def _config_arguments(self) -> Iterable[str]:
        for path in self.configs:
            yield "--config"
            yield str(path) if self.command == "run" else _for_lightning(path)

    @property
    def command(self) -> str:
        """``run``, ``fit``, …"""
        return self.words[0] if self.words else ""

    @property
    def name(self) -> str:
        """What the run folder is called after: the last configuration, else "run"."""
        if not self.configs:
            return "run"
        path = self.configs[-1]
        return path.resolve().parent.name if self.home is not None else path.stem

    @property
    def home(self) -> Path | None:
        """The run folder that the configuration was taken from, where it is that of a run."""
        parent = self.configs[-1].parent if self.configs else None
        is_run = parent is not None and (parent / "journal.jsonl").exists()
        return parent if is_run else None

    def without(self, *options: str) -> list[str]:
        """The words less some options (and their dotted keys), for a command like this one."""
        kept = list(self.words[:1])
        for option, value in _pairs(self.words[1:]):
            if option.removeprefix("--").partition(".")[0] not in options:
                kept += [option] if value is None else [option, value]
        return kept


def _pairs(words: Sequence[str]) -> Iterable[tuple[str, str | None]]:
    """(option, value) of each; the value is None for a flag or a lone word."""
    rest = list(words)
    while rest:
        option = rest.pop(0)
        if option.startswith("--") and "=" in option:
            option, _, value = option.partition("=")
            yield option, value
        elif option.startswith("-") and rest and not rest[0].startswith("--"):
            yield option, rest.pop(0)
        else:
            yield option, None


def _full_path(key: str, value: str) -> str:
    """Our own network's class path where its short name is given; torchvision has an MLP too."""
    last = key.removesuffix(".class_path").rpartition(".")[2]
    ours = last == "network" and value in networks.__all__ and value[:1].isupper()
    return f"lightning_al.networks.{value}" if ours else value


def _fold(given: Sequence[tuple[str, str]], configs: Sequence[Path]) -> list[str]:
    """``--strategy power --strategy.beta 2`` as ``--strategy {"name": "power", "beta": 2}``."""
    specs: dict[str, Any] = {}
    for key, text in given:
        option, _, inner = key.partition(".")
        value = yaml.safe_load(text)
        if not inner:
            specs[option] = value
            continue
        spec = specs[option] if option in specs else _configured(option, configs)
        if not spec:
            raise ValueError(f"--{key} needs a {option}: give --{option} NAME before it")
        specs[option] = _with(spec, inner.removeprefix("init_args."), value)
    out: list[str] = []
    for option, spec in specs.items():
        out += [f"--{option}", spec if isinstance(spec, str) else json.dumps(spec)]
    return out


def _configured(option: str, configs: Sequence[Path]) -> Any:
    found = [yaml.safe_load(path.read_text()) or {} for path in configs]
    return next((c[option] for c in reversed(found) if option in c), None)


def _with(spec: Any, key: str, value: Any) -> dict[str, Any]:
    if isinstance(spec, str):
        spec = {"class_path": spec} if "." in spec else {"name": spec}
    if "class_path" in spec:
        return {**spec, "init_args": {**spec.get("init_args", {}), key: value}}
    return {**spec, key: value}


def _for_lightning(path: Path) -> str:
    config: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return yaml.safe_dump({k: v for k, v in config.items() if k in LIGHTNING})
