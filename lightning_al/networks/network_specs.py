"""How a network was built, as plain values: what a checkpoint keeps so that it can be rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lightning_al.registry import Registry
from lightning_al.spec import read
from lightning_al.values import whole

__all__ = [
    "build",
    "embedding_layer",
    "gives_members",
    "member_count",
    "needed",
    "record",
    "spec_of",
]

NETWORKS: Registry[nn.Module] = Registry("network", contract=nn.Module)
"""Nothing has a short name here: checkpoints hold class paths."""


def record(network: nn.Module, cls: type[nn.Module], /, **init_args: Any) -> None:
    """Write ``network.spec``, unless ``network`` is of a subclass with arguments of its own."""
    if type(network) is cls:
        path = f"{cls.__module__.rpartition('.')[0]}.{cls.__qualname__}"
        network.spec = {"class_path": path, "init_args": init_args}  # type: ignore[assignment]


def spec_of(network: nn.Module) -> dict[str, Any] | None:
    """The plain values that :func:`build` rebuilds ``network`` from; None where it has none."""
    spec = getattr(network, "spec", None)
    return dict(spec) if isinstance(spec, Mapping) and "class_path" in spec else None


def needed(network: str, **sizes: Any) -> None:
    """Refuse sizes that were left out, or that are no whole numbers from 1.

    Raises:
        ValueError: a size that is None, or below 1.
        TypeError: one of another type.
    """
    if absent := [name for name, value in sizes.items() if value is None]:
        names = " and ".join(absent)
        raise ValueError(
            f"{network} needs {names}, got None; give a number (the command line fills it in from "
            "a datamodule that knows it)"
        )
    for name, value in sizes.items():
        whole(1)(f"{network}: {name}", value)


def build(spec: Mapping[str, Any] | nn.Module) -> nn.Module:
    """A new network, with fresh weights, from ``{"class_path": ..., "init_args": {...}}``.

    A module is returned as it is.

    Raises:
        LookupError: no such class.
        ValueError: a class that is no ``nn.Module``, or arguments that it does not take.

    >>> build({"class_path": "lightning_al.networks.MLP",
    ...        "init_args": {"in_features": 2, "hidden": [], "outputs": 3}})[-1]
    Linear(in_features=2, out_features=3, bias=True)
    """
    return read(spec, NETWORKS)


def embedding_layer(network: nn.Module) -> str | tuple[str, ...] | None:
    """Where the embedding of ``network`` lies: the input of its last ``nn.Linear``.

    Networks that keep it elsewhere say so in an attribute ``embedding_layer``. The name is
    relative to ``network``, ``"6:input"``; several names are put side by side; None where there
    is no linear layer. "Last" is the order of registration.
    """
    own = getattr(network, "embedding_layer", None)
    if isinstance(own, (str, tuple)):
        return own
    linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    return f"{linear[-1]}:input" if linear else None


def gives_members(network: Any) -> bool:
    """Whether a network declares that its outputs are those of several members, [n, S, ...]."""
    return bool(getattr(network, "gives_members", False))


def member_count(network: Any) -> int:
    """How many members a network says that it has, each with weights of its own; else 1."""
    return int(getattr(network, "member_count", 1))
