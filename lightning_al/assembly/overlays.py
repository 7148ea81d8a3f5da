"""Where overlays may stand: behind a configuration with data, the last of what names a strategy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .shipped import Config

__all__ = ["check_order", "has_members"]


def check_order(
    configs: Sequence[Config], read: Sequence[Mapping[str, Any]], options: Collection[str]
) -> None:
    """Refuse an overlay with no data before it, or whose strategy a later file would replace.

    Args:
        configs: in the order in which they were given.
        read: their settings.
        options: of the command line, without their dashes.

    Raises:
        ValueError: such an order; the message gives a right one.
    """
    before = {option.partition(".")[0] for option in options}
    for i, (config, settings) in enumerate(zip(configs, read, strict=True)):
        if config.strategy is None:
            before |= set(settings)
            continue
        name = config.name
        for later, other in zip(configs[i:], read[i:], strict=True):
            if "data" in other:
                raise ValueError(
                    f"{name} stands before {later.name}, which would replace its strategy; "
                    f"put it behind: --config {later.name} --config {name}"
                )
        if not before & {"model", "data"}:
            raise ValueError(
                f"{name} names a strategy alone, no model and no data; put it behind a "
                f"configuration with data, as in --config {_base(config.strategy)} --config {name}"
            )


def _base(strategy: str) -> str:
    """A shipped configuration whose data serve a strategy."""
    from lightning_al.strategies import STRATEGIES

    from .derived import BASES

    declared = STRATEGIES.declared(strategy)
    return declared.behind or BASES[declared.kind]


def has_members(model: Any) -> bool:
    """Whether a model's settings name a network with members of its own, an ensemble."""
    if not isinstance(model, Mapping):
        return False
    return "members" in model or any(has_members(value) for value in model.values())
