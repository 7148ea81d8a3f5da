"""Shipped configurations by name."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

__all__ = ["config_path", "list_configs"]


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
