"""Overlays: shipped files that name a strategy, to stand behind a configuration with data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_al.strategies import resolve

from .shipped import is_overlay, shown

__all__ = ["check_order", "has_members"]


def check_order(
    configs: Sequence[Path], read: Sequence[Mapping[str, Any]], options: Collection[str]
) -> None:
    """Refuse an overlay with no data before it, or whose strategy a later file would replace.

    Args:
        configs: the files, in the order in which they were given.
        read: their settings.
        options: of the command line, without their dashes.

    Raises:
        ValueError: such an order; the message gives a right one.
    """
    before = {option.partition(".")[0] for option in options}
    for i, (path, config) in enumerate(zip(configs, read, strict=True)):
        if not is_overlay(path):
            before |= set(config)
            continue
        name = shown(path)
        for later, other in zip(configs[i:], read[i:], strict=True):
            if "data" in other:
                raise ValueError(
                    f"{name} stands before {shown(later)}, which would replace its strategy; "
                    f"put it behind: --config {shown(later)} --config {name}"
                )
        if not before & {"model", "data"}:
            base = _base(resolve(config["strategy"]))
            raise ValueError(
                f"{name} names a strategy alone, no model and no data; put it behind a "
                f"configuration with data, as in --config {base} --config {name}"
            )


def _base(strategy: Any) -> str:
    """A shipped configuration whose data serve a strategy."""
    if getattr(strategy, "kind", "") == "safe":
        return "townsend"
    if getattr(strategy, "most", None) == 1:  # a policy, which asks for one place at a time
        return "branin"
    return "diabetes" if "mean" in strategy.needs else "digits"


def has_members(model: Any) -> bool:
    """Whether a model's settings name a network with members of its own, an ensemble."""
    if not isinstance(model, Mapping):
        return False
    return "members" in model or any(has_members(value) for value in model.values())
