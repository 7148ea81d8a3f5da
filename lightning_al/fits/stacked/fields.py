"""What a module keeps beside its parameters and buffers, and how it lies in a stack.

A task adds up losses in an attribute, counts in another. What such attributes hold is looked at
in lists, tuples and dictionaries of whatever depth: tensors in them become tensors with a first
axis for the replicas, plain values must be those of all replicas, other objects are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from lightning_al.fits.recorder import NotPlain

__all__ = [
    "METRICS",
    "Fields",
    "Parts",
    "changed",
    "fields_in",
    "fields_of",
    "leaves",
    "parts_of",
    "rebuilt",
]
__all__ += ["set_field", "together"]

METRICS = (Metric, MetricCollection)
PLAIN = (bool, int, float, str, type(None))
CONTAINERS = (list, tuple, dict)
LOOKED_AT = frozenset((*PLAIN, *CONTAINERS))
KNOWN = frozenset(vars(LightningModule()))  # what every module has

Fields = dict[tuple[str, str], Any]
"""By the name of a part of a module, and of its attribute."""

Parts = list[tuple[str, nn.Module]]
"""Parts of a module, each with its name."""


def fields_of(module: nn.Module) -> Fields:
    """Attributes of a module and its parts that are tensors, plain values or containers of them.

    Metrics keep their own states, and are left out with all that is in them.
    """
    return fields_in(parts_of(module))


def parts_of(module: nn.Module, moving: bool = False) -> Parts:
    """The module and its parts by name, without metrics.

    Args:
        module: as a whole.
        moving: leave out layers of torch's own, which change none of their attributes.
    """
    return [
        (prefix, part)
        for prefix, part in _parts(module, "")
        if not (moving and type(part).__module__.startswith("torch.nn.modules."))
    ]


def fields_in(parts: Parts) -> Fields:
    """:func:`fields_of` some parts."""
    found: Fields = {}
    for prefix, part in parts:
        own = part.__dict__
        for name in own.keys() - KNOWN:
            value = own[name]
            if type(value) in LOOKED_AT or isinstance(value, Tensor):
                found[prefix, name] = value
    return found


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, METRICS):
        return
    yield prefix, module
    for name, child in module.named_children():
        yield from _parts(child, f"{prefix}.{name}" if prefix else name)


def set_field(part: nn.Module, name: str, value: Any) -> None:
    """Set an attribute that is no parameter, no buffer and no part, and not look at what it is."""
    part.__dict__[name] = value


def leaves(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in order.

    >>> [t.item() for t in leaves([torch.tensor(1), {"a": (2, torch.tensor(3))}])]
    [1, 3]
    """
    if isinstance(value, Tensor):
        yield value
    elif type(value) in CONTAINERS:
        for inner in value.values() if type(value) is dict else value:
            yield from leaves(inner)


def rebuilt(value: Any, put: Callable[[Tensor], Any]) -> Any:
    """A value whose containers are new, and whose tensors are what ``put`` makes of each in turn.

    >>> rebuilt([1, (torch.tensor(2),)], lambda t: t.item() + 1)
    [1, (3,)]
    """
    if isinstance(value, Tensor):
        return put(value)
    if type(value) is dict:
        return {key: rebuilt(inner, put) for key, inner in value.items()}
    if type(value) in CONTAINERS:
        return type(value)(rebuilt(inner, put) for inner in value)
    return value


def together(name: str, values: Sequence[Any], join: Callable[[list[Tensor]], Tensor]) -> Any:
    """One value for all replicas: tensors joined, the rest as it is in all of them.

    Args:
        name: of it, for errors.
        values: of the replicas.
        join: [R] tensors of one shape -> one.

    Raises:
        NotPlain: the values differ in more than the numbers in their tensors.
    """
    first = values[0]
    if any(type(v) is not type(first) for v in values):
        raise NotPlain(f"replicas differ in {name}")
    if isinstance(first, Tensor):
        return _joined(name, values, join)
    if type(first) in CONTAINERS:
        keys = list(first) if type(first) is dict else list(range(len(first)))
        if any((list(v) if type(v) is dict else list(range(len(v)))) != keys for v in values):
            raise NotPlain(f"replicas differ in {name}")
        inner = [together(name, [v[key] for v in values], join) for key in keys]
        return dict(zip(keys, inner, strict=True)) if type(first) is dict else type(first)(inner)
    if type(first) in PLAIN and any(v != first and v == v for v in values):
        raise NotPlain(f"replicas differ in {name}")
    return first


def _joined(name: str, values: Sequence[Tensor], join: Callable[[list[Tensor]], Tensor]) -> Tensor:
    first = values[0]
    if any(v.requires_grad for v in values):
        raise NotPlain(f"{name} holds a tensor that asks for gradients and is no parameter")
    if any(v.shape != first.shape or v.dtype != first.dtype for v in values):
        raise NotPlain(f"replicas differ in the shape of {name}")
    return join(list(values))


def changed(old: Any, new: Any) -> bool:
    """Whether a plain value, or the structure around tensors, is another one now."""
    if isinstance(old, Tensor) or isinstance(new, Tensor):
        return True
    if type(old) is not type(new):
        return True
    if type(new) in CONTAINERS:
        if len(old) != len(new):
            return True
        pairs = (
            [(old.get(k), v) for k, v in new.items()]
            if type(new) is dict
            else list(zip(old, new, strict=True))
        )
        return any(changed(a, b) for a, b in pairs)
    return bool(old is not new and old != new)
