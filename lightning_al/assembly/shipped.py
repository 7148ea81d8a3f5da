"""Configurations by name: shipped files, and the overlays that strategies declare."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .settings_files import text_of

__all__ = [
    *("Config", "config_path", "find_config", "is_bench", "is_overlay", "is_policy"),
    *("list_benches", "list_configs", "list_overlays", "list_policies", "list_trainings", "shown"),
]

OVERLAYS = "strategies"
"""What stands before the name of a strategy whose overlay is meant."""
BENCHES = ("autoal", "balsa", "benchmarks", "pyrelational")
"""Folders of grids for ``bench``; they are no configurations of a run."""
POLICIES = "policy"
"""The folder of policies that ``fit`` pretrains; nor are these."""
TRAININGS = ("surrogate", "design")
"""Folders of what else ``fit`` trains beforehand."""


@dataclass(frozen=True)
class Config:
    """A configuration as ``--config`` names it: a file, or the overlay of a strategy."""

    name: str  # as --config takes it
    path: Path | None = None  # None: an overlay, which is no file

    @property
    def strategy(self) -> str | None:
        """The strategy whose overlay it is."""
        return self.name.partition("/")[2] if self.path is None else None

    def text(self) -> str:
        """The YAML."""
        if self.path is not None:
            return text_of(self.path)
        from .derived import overlay_text  # inside: it loads the strategies

        return overlay_text(self.name.partition("/")[2])


def _folder() -> Path:
    return Path(str(files("lightning_al.configs")))


def _named(paths: list[Path]) -> list[str]:
    return sorted(p.relative_to(_folder()).with_suffix("").as_posix() for p in paths)


def list_configs() -> list[str]:
    """Names of all configurations, as ``--config`` takes them: full ones, then overlays."""
    full = [p for p in _folder().rglob("*.yaml") if not (is_bench(p) or is_policy(p))]
    return [*_named(full), *list_overlays()]


def list_overlays() -> list[str]:
    """Names of the overlays, ``strategies/NAME``, one a strategy: they stand behind a full one."""
    from lightning_al.strategies import names  # inside: a full configuration needs no strategy

    return [f"{OVERLAYS}/{name}" for name in names()]


def list_benches() -> list[str]:
    """Names of the shipped benchmarks, for ``bench --config NAME``."""
    return _named([p for folder in BENCHES for p in (_folder() / folder).glob("*.yaml")])


def list_policies() -> list[str]:
    """Names of the shipped trainings of policies, for ``fit --config NAME``."""
    return _named(list((_folder() / POLICIES).glob("*.yaml")))


def list_trainings() -> list[str]:
    """Names of the other trainings that are shipped, for ``fit --config NAME``."""
    return _named([p for folder in TRAININGS for p in (_folder() / folder).glob("*.yaml")])


def is_policy(path: Path) -> bool:
    """Whether a file is a shipped training of a policy, or of what else is trained beforehand."""
    return path.resolve().parent in [(_folder() / f).resolve() for f in (POLICIES, *TRAININGS)]


def is_bench(path: Path) -> bool:
    """Whether a file is a shipped benchmark."""
    return path.resolve().parent in [(_folder() / folder).resolve() for folder in BENCHES]


def is_overlay(name: str) -> bool:
    """Whether ``--config NAME`` means the overlay of a strategy (a file of that name counts more).

    >>> is_overlay("strategies/bald"), is_overlay("digits")
    (True, False)
    """
    head, slash, strategy = name.partition("/")
    if head != OVERLAYS or not slash or Path(name).is_file():
        return False
    from lightning_al.strategies import STRATEGIES

    return strategy in STRATEGIES


def shown(path: Path) -> str:
    """A file as ``--config`` takes it: the name of a shipped one, else its path."""
    folder, resolved = _folder().resolve(), path.resolve()
    inside = folder in resolved.parents
    return resolved.relative_to(folder).with_suffix("").as_posix() if inside else str(path)


def find_config(name: str) -> Config:
    """The configuration of a name, or of a path.

    Raises:
        LookupError: neither; the message lists the names.
    """
    for path in (Path(name), _folder() / f"{name}.yaml"):
        if path.is_file():
            return Config(shown(path), path)
    if is_overlay(name):
        return Config(name)
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


def config_path(name: str) -> Path:
    """The file of a shipped configuration, or of a path.

    Raises:
        LookupError: neither; the message lists the names.
        ValueError: an overlay, which is no file.
    """
    found = find_config(name)
    if found.path is None:
        raise ValueError(
            f"{name} names a strategy alone; it stands behind a configuration of a run: "
            f"lightning-al run --config NAME --config {name}"
        )
    return found.path
