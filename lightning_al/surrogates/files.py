"""Trained surrogates as files: weights and, beside them in one file, what network they belong to.

A surrogate is one file, ``NAME.safetensors``, whose metadata hold the class, its arguments and how
it was trained. Loading it runs no code; of a checkpoint of ``fit``, tensors and plain values are
read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lightning_al.safe_load import load_plain

from .kinds import KINDS

__all__ = ["Trained", "load", "save", "shipped"]

FOLDER = "pretrained"
"""Of this package, with the surrogates that can be loaded by name."""


@dataclass(frozen=True)
class Trained:
    """A trained surrogate."""

    network: Any  # in evaluation mode, without gradients
    prior: Mapping[str, Any]  # of the functions that it was trained on, plain values
    steps: int  # of the training


def shipped() -> list[str]:
    """Names of the surrogates of this package."""
    folder = Path(str(files("lightning_al.surrogates"))) / FOLDER
    return sorted(path.stem for path in folder.glob("*.safetensors"))


@functools.lru_cache(maxsize=8)
def load(name: str | Path, kind: str | None = None) -> Trained:
    """A surrogate of this package by name, or one's own by path.

    Args:
        name: or the path of a ``.safetensors`` file of :func:`save`, or of a ``.ckpt`` of ``fit``.
        kind: class that is wanted, by name.

    Raises:
        LookupError: no such surrogate; the message lists those there are.
        ValueError: a file that is damaged, or holds another kind of network.
    """
    path = _locate(name)
    spec, prior, steps, weights = _checkpoint(path) if path.suffix == ".ckpt" else _file(path)
    found = str(spec["class_path"]).rpartition(".")[2]
    if found not in KINDS.names() or (kind is not None and found != kind):
        wanted = kind or " or ".join(KINDS.names())
        raise ValueError(f"{path.name} holds a {found}, and a {wanted} is wanted; name another")
    try:
        network = KINDS.build(found, **(spec.get("init_args") or {}))
        network.load_state_dict(weights)
    except (TypeError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} holds no weights of its network: {said}") from None
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise ValueError(f"{path} holds weights that are NaN or infinite; take an earlier one")
    return Trained(network.float().eval().requires_grad_(False), prior, steps)


def save(checkpoint: str | Path, path: str | Path) -> Path:
    """Write the surrogate of a checkpoint as one file; returns its path.

    Args:
        checkpoint: a ``.ckpt`` file of ``fit``.
        path: of the file to write, ``.safetensors``.

    Raises:
        ValueError: no checkpoint of a :class:`~lightning_al.surrogates.SurrogateModule`.
    """
    spec, prior, steps, weights = _checkpoint(Path(checkpoint))
    path = Path(path).with_suffix(".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"network": spec, "prior": prior, "steps": steps}
    kept = {name: value.float().contiguous().cpu() for name, value in weights.items()}
    save_file(kept, path, {name: json.dumps(value) for name, value in told.items()})
    return path


def _locate(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix in (".safetensors", ".ckpt"):
        if not path.is_file():
            raise LookupError(f"no file {path}; give a .safetensors or .ckpt file, or a name")
        return path
    own = Path(str(files("lightning_al.surrogates"))) / FOLDER / f"{name}.safetensors"
    if not own.is_file():
        raise LookupError(
            f"no surrogate named {str(name)!r}; there are {', '.join(shipped())}; train another "
            "with `lightning-al fit --config surrogate/NAME` and give the path of its checkpoint"
        )
    return own


def _file(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], int, dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            told = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
        return told["network"], told["prior"], int(told["steps"]), load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no surrogate's file, or is damaged: {error}") from None


def _checkpoint(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], int, dict[str, Any]]:
    state = load_plain(path)
    kept = state.get("hyper_parameters") or {}
    prior = (state.get("datamodule_hyper_parameters") or {}).get("prior")
    if "network" not in kept or not isinstance(prior, Mapping):
        raise ValueError(
            f"{path} is no checkpoint of a SurrogateModule with a network of this package"
        )
    start = "network."
    weights = {
        name.removeprefix(start): value
        for name, value in state["state_dict"].items()
        if name.startswith(start)
    }
    return kept["network"], prior, int(state["global_step"]), weights
