"""Shipped configurations by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

__all__ = ["config_path", "list_configs", "resolve_configs"]

RUN_ONLY = ("model", "data", "trainer", "optimizer", "lr_scheduler", "seed_everything")


def _folder() -> Path:
    return Path(str(files("lightning_al.configs")))


def list_configs() -> list[str]:
    """Names of all shipped configurations, as ``--config`` takes them."""
    folder = _folder()
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def config_path(name: str) -> Path:
    """The file of a shipped configuration, or of a path.

    Raises:
        LookupError: neither; the message lists the shipped names.
    """
    if Path(name).is_file():
        return Path(name)
    shipped = _folder() / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    names = list_configs()
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise LookupError(
        f"no configuration named {name!r}, and no file of that name{hint}; "
        f"choose one of {', '.join(names)}"
    )


def resolve_configs(arguments: Sequence[str], command: str = "run") -> tuple[list[str], str]:
    """Arguments with each ``--config NAME`` turned into what the parser reads, and the last name.

    A configuration of ``run`` serves ``fit``, ``validate``, ``test`` and ``predict`` too: what
    only ``run`` knows is left out for them.
    """
    out: list[str] = []
    name = "run"
    rest = iter(arguments)
    for argument in rest:
        value: str | None = None
        if argument == "--config":
            value = next(rest, None)
        elif argument.startswith("--config="):
            value = argument.partition("=")[2]
        if value is None:
            out.append(argument)
            continue
        path = config_path(value)
        name = path.stem
        out += ["--config", str(path) if command == "run" else _without_run(path)]
    return out, name


def _without_run(path: Path) -> str:
    config: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return yaml.safe_dump({k: v for k, v in config.items() if k in RUN_ONLY})
