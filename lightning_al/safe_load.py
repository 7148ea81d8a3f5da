"""Checkpoints of others, read as tensors and plain values.

A checkpoint is a pickle, and a pickle can name any function and have it called. Here it may name
those that make tensors, arrays and plain values; whatever else it names becomes a mark that does
nothing, and is left out with a notice. So ordinary checkpoints of Lightning can be read whatever
objects their hyper-parameters are, and no code of theirs runs.
"""

from __future__ import annotations

import logging
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import torch

__all__ = ["TRUST", "load_plain"]

log = logging.getLogger(__name__)

TRUST = "where you know who made it, --trust (trust=True) reads those too, and runs their code"
ATTRIBUTES = ("lightning_fabric.utilities.data", "lightning.fabric.utilities.data")
PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    **{(home, "AttributeDict"): dict for home in ATTRIBUTES},
    **{
        ("builtins", kind.__name__): kind
        for kind in (
            *(bool, int, float, complex, str, bytes, bytearray),
            *(list, tuple, dict, set, frozenset, slice, range),
        )
    },
}
TENSORS = {
    "torch": ("Size", "device", "Tensor", "Generator"),
    "torch._utils": (
        *("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter"),
        *("_rebuild_parameter_with_state", "_rebuild_qtensor", "_rebuild_sparse_tensor"),
    ),
    "torch.nn.parameter": ("Parameter", "Buffer"),
    "torch.serialization": ("_get_layout",),
    "torch.storage": ("UntypedStorage", "TypedStorage"),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "pathlib": ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "_codecs": ("encode",),
}
"""What may be named, by module: it makes tensors, arrays and values, and does nothing else."""


class _LeftOut:
    """Stands for an object of a class that a file may not name; it takes all that is told to it."""

    name = ""

    def __new__(cls, *_: Any, **__: Any) -> _LeftOut:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _LeftOut:
        return self

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, _: Any, __: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Nothing."""

    def extend(self, _: Any) -> None:
        """Nothing."""

    add = append


class _Names(pickle.Unpickler):
    """Finds what makes tensors and plain values, and a mark in the place of all else."""

    def find_class(self, module: str, name: str) -> Any:
        if (found := PLAIN.get((module, name))) is not None:
            return found
        known = {(k.__module__, k.__qualname__): k for k in _declared()}
        if (found := known.get((module, name))) is not None:
            return found
        kind = getattr(torch, name, None) if module == "torch" and name.isidentifier() else None
        if isinstance(kind, torch.dtype) or (name.endswith("Storage") and isinstance(kind, type)):
            return kind
        if name in TENSORS.get(module, ()):
            return super().find_class(module, name)
        return type("LeftOut", (_LeftOut,), {"name": f"{module}.{name}"})


def _declared() -> list[Any]:
    """Classes that the user has told torch are safe (``torch.serialization.add_safe_globals``)."""
    return [k for k in torch.serialization.get_safe_globals() if hasattr(k, "__qualname__")]


class _Pickle:
    """A pickle module for ``torch.load`` that reads as :class:`_Names` does."""

    Unpickler = _Names
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """One pickle of a file."""
        return _Names(file, **options).load()


def load_plain(path: str | Path, *, trust: bool = False) -> dict[str, Any]:
    """The content of a checkpoint on the CPU; objects of other kinds are left out with a notice.

    Args:
        path: of the file.
        trust: read objects of any kind too; this can run code that the file brings along.

    Raises:
        ValueError: it cannot be read as a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=False) if trust else _load(path)
    except (
        *(pickle.UnpicklingError, EOFError, RuntimeError, ValueError, TypeError, KeyError),
        *(AttributeError, IndexError, UnicodeDecodeError),
    ) as error:
        if trust and isinstance(error, TypeError | AttributeError | KeyError | IndexError):
            raise  # of the code that was trusted
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint: {first}") from None
    if not isinstance(state, dict):
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it holds a {type(state).__name__}, not a dict"
        )
    return state


def _load(path: str | Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # more than torch's own reader takes, or damaged
        state = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Pickle)
    names: dict[str, None] = {}
    state = _pruned(state, names)
    if names:
        shown = ", ".join(list(names)[:3]) + (", …" if len(names) > 3 else "")
        log.warning(
            "%s holds more than tensors and plain values (%s): left out; %s", path, shown, TRUST
        )
    return state


def _pruned(value: Any, names: dict[str, None]) -> Any:
    """The value without marks: keys of a dict that hold one go, and lists that hold one whole."""
    if isinstance(value, type) and issubclass(value, _LeftOut):
        names[value.name] = None
        return _LeftOut()
    if isinstance(value, _LeftOut):
        if value.name:
            names[value.name] = None
        return value
    if isinstance(value, dict):
        inside = {k: _pruned(v, names) for k, v in value.items() if not isinstance(k, _LeftOut)}
        kept = {k: v for k, v in inside.items() if not isinstance(v, _LeftOut)}
        return value if kept == {} == value else type(value)(kept) if _is_plain(value) else kept
    if isinstance(value, list | tuple | set | frozenset):
        inner = [_pruned(v, names) for v in value]
        if any(isinstance(v, _LeftOut) for v in inner):
            return _LeftOut()
        return type(value)(inner) if type(value) in (list, tuple, set, frozenset) else value
    return value


def _is_plain(value: dict[Any, Any]) -> bool:
    return type(value) in (dict, OrderedDict)
