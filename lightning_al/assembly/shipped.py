"""Shipped configurations by name: full ones, overlays that name a strategy, benchmarks."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

__all__ = [
    *("config_path", "is_bench", "is_overlay", "list_benches", "list_configs", "list_overlays"),
    *("is_policy", "list_policies", "shown"),
]

OVERLAYS = "strategies"
BENCHES = ("benchmarks", "pyrelational")
"""Folders of grids for ``bench``; they are no configurations of a run."""
POLICIES = "policy"
"""The folder of what ``fit`` pretrains; nor are these."""


def _folder() -> Path:
    return Path(str(files("lightning_al.configs")))


def _named(paths: list[Path]) -> list[str]:
    return sorted(p.relative_to(_folder()).with_suffix("").as_posix() for p in paths)


def list_configs() -> list[str]:
    """Names of all shipped configurations, as ``--config`` takes them: full ones, then overlays."""
    full = [
        p for p in _folder().rglob("*.yaml") if not (is_overlay(p) or is_bench(p) or is_policy(p))
    ]
    return [*_named(full), *list_overlays()]


def list_overlays() -> list[str]:
    """Names of the shipped overlays, ``strategies/NAME``: they stand behind a full one."""
    return _named(list((_folder() / OVERLAYS).glob("*.yaml")))


def list_benches() -> list[str]:
    """Names of the shipped benchmarks, for ``bench --config NAME``."""
    return _named([p for folder in BENCHES for p in (_folder() / folder).glob("*.yaml")])


def list_policies() -> list[str]:
    """Names of the shipped trainings of policies, for ``fit --config NAME``."""
    return _named(list((_folder() / POLICIES).glob("*.yaml")))


def is_policy(path: Path) -> bool:
    """Whether a file is a shipped training of a policy."""
    return path.resolve().parent == (_folder() / POLICIES).resolve()


def is_bench(path: Path) -> bool:
    """Whether a file is a shipped benchmark."""
    return path.resolve().parent in [(_folder() / folder).resolve() for folder in BENCHES]


def is_overlay(path: Path) -> bool:
    """Whether a file is a shipped overlay."""
    return path.resolve().parent == (_folder() / OVERLAYS).resolve()


def shown(path: Path) -> str:
    """A file as ``--config`` takes it: the name of a shipped one, else its path."""
    folder, resolved = _folder().resolve(), path.resolve()
    inside = folder in resolved.parents
    return resolved.relative_to(folder).with_suffix("").as_posix() if inside else str(path)


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
    names, overlays = list_configs(), list_overlays()
    words = {n.removeprefix(f"{OVERLAYS}/"): n for n in reversed(names)} | {n: n for n in names}
    near = difflib.get_close_matches(name, words, n=1)
    hint = f" (did you mean {words[near[0]]!r}?)" if near else ""
    full = [n for n in names if n not in overlays]
    raise LookupError(
        f"no configuration named {name!r}, and no file of that name{hint}; "
        f"choose one of {', '.join(full)}, and behind it {OVERLAYS}/NAME "
        "(`lightning-al configs` lists them); for bench "
        f"{', '.join(list_benches())}"
    )
