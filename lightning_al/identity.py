"""What makes a run this run: plain values, so that a folder never answers for another one.

A *portrait* is a JSON-able image of a value, equal in every process: no memory addresses, no order
of a set. What it cannot show is named, so that a run can say what it does not watch.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Portrayal", "differences", "digest", "module_portrait", "plain", "portray"]

DEPTH = 12  # of objects inside objects; what lies deeper is named as unknown
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
LIGHTNINGS = (
    *("training", "prepare_data_per_node", "allow_zero_length_dataloader_with_multiple_devices"),
)
"""Attributes that Lightning gives to every module."""
SETTINGS = (bool, int, float, str, type(None), FunctionType, BuiltinFunctionType, functools.partial)
"""Types of what a layer was built with; the rest of what it holds it may gather while it works."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # bytecode is of a version


@dataclass
class Portrayal:
    """Portraits, and what they could not show.

    Args:
        unknown: places of values that no portrait can be made of, such as ``oracle.lock``.
    """

    unknown: list[str] = field(default_factory=list)

    def of(self, value: Any, at: str = "", depth: int = 0) -> Any:
        """A JSON-able image of a value.

        Args:
            value: anything.
            at: its place, for what cannot be shown.
            depth: how many objects lie around it.
        """
        for kind in (bool, int, float, str):
            if isinstance(value, kind) and not isinstance(value, Enum):
                return kind(value)
        if value is None:
            return None
        if depth > DEPTH:
            return self._unknown(value, at)
        inside = functools.partial(self.of, depth=depth + 1)
        if isinstance(value, Mapping):
            return {str(k): inside(v, f"{at}.{k}") for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [inside(v, f"{at}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, (set, frozenset)):
            return sorted((inside(v, at) for v in value), key=str)
        if isinstance(value, (torch.Tensor, np.ndarray)):
            return array_digest(value)
        if isinstance(value, (Path, Enum, torch.dtype, torch.device, range, slice, complex, bytes)):
            return str(value)
        if isinstance(value, functools.partial):
            called = {"args": inside(value.args, at)} if value.args else {}
            return {"partial": inside(value.func, at), **called, **inside(value.keywords, at)}
        if isinstance(value, MethodType):
            return {"method": value.__name__, "of": inside(value.__self__, at)}
        if isinstance(value, FunctionType):
            return self._function(value, at, depth)
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, nn.Module):
            return module_portrait(value, self, at)
        return self._object(value, at, depth)

    def _function(self, value: FunctionType, at: str, depth: int) -> Any:
        """Its name; of one without a name that others can import, also its code and closure."""
        name = f"{value.__module__}.{value.__qualname__}"
        if "<" not in name and value.__module__ != "__main__":
            return name
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held: dict[str, Any] = {}
        for variable, cell in cells:
            try:
                held[variable] = cell.cell_contents
            except ValueError:  # not yet bound: a function that names itself
                continue
        parts = {
            "code": f"{code_digest(value.__code__)} (Python {PYTHON})",
            "closure": self.of(held, at, depth + 1) if held else None,
            "defaults": self.of(value.__defaults__, at, depth + 1),
        }
        return {"function": name, **{k: v for k, v in parts.items() if v}}

    def _object(self, value: Any, at: str, depth: int) -> Any:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if (own := getattr(value, "portrait", None)) is not None and callable(own):
            return {"class": name, **self.of(own(), at, depth + 1)}
        if held := arguments_of(value):
            shown = {k: self.of(v, f"{at}.{k}" if at else k, depth + 1) for k, v in held.items()}
            return {"class": name, **shown}
        text = repr(value)
        if ADDRESS.search(text) is None:
            return text
        return {"class": name} if hasattr(value, "__dict__") else self._unknown(value, at)

    def _unknown(self, value: Any, at: str) -> str:
        self.unknown.append(at or type(value).__qualname__)
        return f"{type(value).__module__}.{type(value).__qualname__}, unseen"


def arguments_of(value: Any) -> dict[str, Any]:
    """What an object was built with, as far as it holds it under its arguments' names.

    An argument may lie under its name or ``_name``. What an object gathers while it works is no
    part of it; its public attributes are, where it holds none of its arguments by name.
    """
    held = dict(vars(value)) if hasattr(value, "__dict__") else {}
    for slot in (s for c in type(value).__mro__ for s in getattr(c, "__slots__", ())):
        if isinstance(slot, str) and hasattr(value, slot):
            held[slot] = getattr(value, slot)
    if isinstance(value, SimpleNamespace):
        return held
    try:
        parameters = inspect.signature(type(value)).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    found = {n: held.get(n, held.get(f"_{n}")) for n in names if n in held or f"_{n}" in held}
    if found or not names:
        return found
    return {n: v for n, v in held.items() if not n.startswith("_")}


def code_digest(code: CodeType) -> str:
    """Twelve letters that name what a function does: its bytecode, constants and names."""

    def plainly(code: CodeType) -> Any:
        constants = [
            plainly(c) if isinstance(c, CodeType) else repr(c)
            for c in code.co_consts
            if not (isinstance(c, str) and c == code.co_consts[0] and "\n" in c)
        ]
        return [code.co_code.hex(), constants, code.co_names, code.co_varnames]

    return hashlib.sha256(json.dumps(plainly(code)).encode()).hexdigest()[:12]


def array_digest(value: torch.Tensor | np.ndarray) -> str:
    """Shape, type and twelve letters of the numbers of an array."""
    tensor = torch.as_tensor(value).detach().cpu().contiguous()
    raw = tensor.reshape(-1).view(torch.uint8).numpy()
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {list(tensor.shape)} #{hashlib.sha256(raw.tobytes()).hexdigest()[:12]}"


def module_portrait(
    module: nn.Module, portrayal: Portrayal | None = None, at: str = "", *, weights: bool = True
) -> dict[str, Any]:
    """A module: its class, what it was built with, its layers, its parameters, its weights.

    Args:
        module: any.
        portrayal: collects what cannot be shown.
        at: the module's place.
        weights: whether they are part of it (a module that is given, not built).
    """
    shown = Portrayal() if portrayal is None else portrayal
    state = {n: v for n, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    shapes = {
        n: f"{v.dtype} {list(v.shape)}{' trained' * (n in trained)}" for n, v in state.items()
    }
    numbers = sum(p.numel() for p in module.parameters())
    given = dict(getattr(module, "hparams", {})) or {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, (bool, int, float, str, type(None)))
        if name not in LIGHTNINGS
    }
    found = {
        "class": f"{type(module).__module__}.{type(module).__qualname__}",
        "arguments": shown.of(given, f"{at}.arguments" if at else "arguments"),
        "layers": f"{sum(1 for _ in module.modules())} #{digest(_layers(module, shown, at))}",
        "parameters": f"{len(shapes)} tensors, {numbers:,} numbers #{digest(shapes)}",
    }
    # what is drawn anew for each round is known by its seed, what is given or set by its numbers
    known = state if weights else {n: v for n, v in state.items() if n not in _parameters(module)}
    if known:
        name = "weights" if weights else "buffers"
        found[name] = digest({n: array_digest(v) for n, v in known.items()})
    return found


def _parameters(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters(remove_duplicate=False)}


def _layers(module: nn.Module, shown: Portrayal, at: str) -> list[Any]:
    """Each layer's class, what it says of itself, and the settings and functions that it holds."""
    found: list[Any] = []
    for name, layer in module.named_modules():
        held = {
            key: shown.of(value, f"{at}.{name}.{key}")
            for key, value in vars(layer).items()
            if isinstance(value, SETTINGS) and not key.startswith("_") and key not in LIGHTNINGS
        }
        kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
        found.append([name, kind, ADDRESS.sub("", layer.extra_repr()), held])
    return found


def portray(value: Any) -> Any:
    """A JSON-able image of a value; what cannot be shown is left to its class's name."""
    return Portrayal().of(value)


def plain(value: Any) -> Any:
    """Settings as JSON-able values."""
    return portray(value)


def digest(config: Any, letters: int = 8) -> str:
    """Some letters that name a configuration."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:letters]


def differences(
    old: Any, new: Any, at: str = "", *, usual: Mapping[str, Any] | None = None
) -> list[str]:
    """Where two configurations differ, as ``key: old -> new``.

    Args:
        old: an earlier one.
        new: a later one.
        at: the place of both in what holds them.
        usual: values at which a key that the old one lacks says nothing: of settings that came
            with a later version.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: list[str] = []
        for key in sorted({*old, *new}):
            place = f"{at}.{key}" if at else str(key)
            if usual is not None and key not in old and _same(new[key], usual.get(key)):
                continue
            found += differences(old.get(key), new.get(key), place)
        return found
    return [] if _same(old, new) else [f"{at}: {_short(old)} -> {_short(new)}"]


def _same(old: Any, new: Any) -> bool:
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)  # NaN equals itself


def _short(value: Any, length: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}…"


def named(values: Sequence[str], limit: int = 5) -> str:
    """Some places in words."""
    shown = ", ".join(dict.fromkeys(values[:limit]))
    return shown + (f" and {len(values) - limit} more" if len(values) > limit else "")
