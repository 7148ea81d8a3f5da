"""What makes a run this run: plain values, so that a folder is never continued by another one."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule
from torch import nn

if TYPE_CHECKING:
    from lightning_al.rounds.driver import ActiveLearner

__all__ = ["describe", "differences", "digest", "plain"]


def plain(value: Any) -> Any:
    """A JSON-able image of a setting, without memory addresses."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(_bytes(value)).hexdigest()[:12]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(v) for v in value), key=str)
    if isinstance(value, functools.partial):
        return {"partial": plain(value.func), "args": plain(value.args), **plain(value.keywords)}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, LightningModule):
        return _module(value)
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"class": type(value).__qualname__, **fields}
    text = repr(value)  # Python's own has the address in it
    return type(value).__qualname__ if " at 0x" in text else text


def _bytes(tensor: torch.Tensor) -> bytes:
    raw: bytes = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw


def _module(module: nn.Module) -> dict[str, Any]:
    """A module as it is given: its weights are part of what a run does."""
    weights = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        weights.update(f"{name} {plain(tensor)}".encode())
    return {
        "class": type(module).__qualname__,
        "hparams": plain(dict(getattr(module, "hparams", {}))),
        "weights": weights.hexdigest()[:12],
    }


def describe(learner: ActiveLearner, strategy: Any, datamodule: Any) -> dict[str, Any]:
    """The settings that decide what a run does."""
    if learner.config is not None:
        return dict(plain(learner.config))
    return (
        _cold(learner)
        | _rare(learner)
        | {
            "task": plain(learner.task),
            "data": {
                "class": type(datamodule).__qualname__,
                "items": len(datamodule.items),
                "batch_size": datamodule.batch_size,
                "state": datamodule.fingerprint(),
            },
            "strategy": plain(strategy),
            "query_size": learner.query_size,
            "budget": learner.budget,
            "trainer": plain(learner.trainer),
            "weights": learner.weights,
            "restore": learner.restore,
            "posterior": plain(learner.posterior),
            "adapter": plain(learner.adapter),
            "oracle": plain(learner.oracle),
            "stopping": plain(list(learner.stopping)),
            "seed": learner.seed,
        }
    )


def _rare(learner: ActiveLearner) -> dict[str, Any]:
    """Settings that most runs do without, where they are given."""
    given = {name: getattr(learner, name) for name in ("cost_budget", "hit_ratio_at")}
    return {name: value for name, value in given.items() if value is not None}


def _cold(learner: ActiveLearner) -> dict[str, Any]:
    """Features and the first strategy, where they are given: most runs have neither."""
    from lightning_al.strategies import resolve  # inside: the core never imports a sibling

    found: dict[str, Any] = {}
    if isinstance(learner.features, nn.Module):
        text = hashlib.sha256(repr(learner.features).encode()).hexdigest()[:12]
        found["features"] = {**_module(learner.features), "settings": text}
    elif learner.features is not None:
        found["features"] = plain(learner.features)
    if learner.first is not None:
        found["first"] = plain(resolve(learner.first))
    return found


def digest(config: Mapping[str, Any]) -> str:
    """Eight letters that name a configuration."""
    text = json.dumps(config, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Where two configurations differ, as ``key: old -> new``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: list[str] = []
        for key in sorted({*old, *new}):
            place = f"{at}.{key}" if at else str(key)
            found += differences(old.get(key), new.get(key), place)
        return found
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)  # NaN equals itself
    return [] if same else [f"{at}: {old!r} -> {new!r}"]
