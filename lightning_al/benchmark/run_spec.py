"""One run of a grid: its place on each axis, what part it plays, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_al.identity import digest

__all__ = ["AXES", "Role", "RunSpec", "override"]

AXES = ("data", "model", "strategy", "start", "query_size", "fold", "seed")
"""What the runs of a grid differ in; each is a column of the results."""

Role = Literal["strategy", "ceiling"]


@dataclass(frozen=True)
class RunSpec:
    """One run of a grid: where it stands on each axis, and its settings for ``run``."""

    place: Mapping[str, Any]  # a value for each of AXES
    config: Mapping[str, Any]  # as in a YAML file of ``lightning-al run``
    metric: str = "test/accuracy"  # the column that counts
    higher_is_better: bool = True
    role: Role = "strategy"  # a ceiling shows what is possible; nothing is claimed of it
    takes_all: bool = False  # labels the whole pool in its first query
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_id", digest({"place": self.place, "config": self.config}))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.place.items() if value != "")


def override(config: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under a dotted key; ``data.start`` reaches into ``init_args`` by itself.

    >>> config = {"data": {"class_path": "a.B"}}
    >>> override(config, "data.start", "cold")
    >>> config
    {'data': {'class_path': 'a.B', 'init_args': {'start': 'cold'}}}
    """
    head, _, rest = key.partition(".")
    if not rest:
        config[head] = value
        return
    inner = config.setdefault(head, {})
    if not isinstance(inner, dict):
        raise ValueError(f"cannot set {key}: {head} is {inner!r}, not a mapping")
    if "class_path" in inner and not rest.startswith("init_args"):
        inner = inner.setdefault("init_args", {})
    override(inner, rest, value)
