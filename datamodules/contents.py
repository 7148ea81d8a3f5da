"""Whether two reads of one item hold the same, whatever an item is."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Set
from dataclasses import is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["same_content"]

BY_IDENTITY: Any = object.__eq__

PLAIN = (bool, int, float, complex, str, bytes, type(None))


def same_content(a: Any, b: Any) -> bool:
    """Compare two values by what they hold.

    Objects are the same whose attributes are; what holds nothing that can be looked at (a
    function, a lock) is never called different.

    >>> same_content({"x": [1, float("nan")]}, {"x": [1, float("nan")]}), same_content([1], [2])
    (True, False)
    """
    return _same(a, b, set())


def _same(a: Any, b: Any, met: set[tuple[int, int]]) -> bool:
    if a is b or (id(a), id(b)) in met:  # objects may point at each other
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, PLAIN):
        return bool(a == b or (a != a and b != b))
    met.add((id(a), id(b)))
    if isinstance(a, Tensor):
        return _same_tensors(a, b)
    if isinstance(a, np.ndarray):
        if a.dtype == object:
            return a.shape == b.shape and _same(a.tolist(), b.tolist(), met)
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k], met) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y, met) for x, y in zip(a, b, strict=True))
    if isinstance(a, Set):
        return bool(a == b)
    return _same_objects(a, b, met)


def _same_tensors(a: Tensor, b: Tensor) -> bool:
    if a.is_sparse or b.is_sparse:
        a, b = a.to_dense(), b.to_dense()
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _same_objects(a: Any, b: Any, met: set[tuple[int, int]]) -> bool:
    if isinstance(a, weakref.ReferenceType) or callable(a):
        return True
    if type(a).__eq__ is not BY_IDENTITY and not is_dataclass(a):
        try:
            return bool(a == b)
        except Exception:  # such as a comparison of tensors inside
            pass
    return _same(_held(a), _held(b), met)


def _held(value: Any) -> dict[str, Any]:
    """The attributes of an object, those in slots too."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
