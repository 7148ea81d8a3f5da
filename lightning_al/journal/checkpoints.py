"""Checkpoints of a run: what stands in them, and whether a file is the one that was written."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor

from lightning_al.compat import hyperparameters_name, overrides
from lightning_al.files import file_hash
from lightning_al.safe_load import load_plain

from .journal import JournalError

__all__ = ["checkpoint_of", "read_checkpoint", "size_of", "trouble_of", "with_all_keys"]

LIGHTNING = version("pytorch-lightning")  # reads a file: not once a round
ASIDE = ("optimizer_states", "lr_schedulers", "loops", "callbacks")
"""Keys of Lightning's checkpoints that ``on_save_checkpoint`` may look at, and no round needs."""


def checkpoint_of(trainer: Any, task: LightningModule, datamodule: Any) -> dict[str, Any]:
    """What plain Lightning writes: weights, hyper-parameters, the datamodule's state.

    The module's hook sees the states of optimisers and the like too; they are not kept, for each
    round has new ones.
    """
    state: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": LIGHTNING,
        "state_dict": task.state_dict(),
        type(datamodule).__qualname__: datamodule.state_dict(),
    }
    if task.hparams:
        state[task.CHECKPOINT_HYPER_PARAMS_KEY] = dict(task.hparams)
        if (name := hyperparameters_name(task)) is not None:
            state[task.CHECKPOINT_HYPER_PARAMS_NAME] = name
    if not overrides("on_save_checkpoint", task):
        return state
    state |= {
        "optimizer_states": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "lr_schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        "callbacks": {c.state_key: s for c in trainer.callbacks if (s := c.state_dict())},
    }
    task.on_save_checkpoint(state)
    return {key: value for key, value in state.items() if key not in ASIDE}


def with_all_keys(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint as ``on_load_checkpoint`` may expect it, with the keys that were left aside."""
    return {"optimizer_states": [], "lr_schedulers": [], "loops": {}, "callbacks": {}, **checkpoint}


def size_of(state: Any) -> int:
    """Bytes of the tensors in nested values."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(size_of, state.values()))
    return sum(map(size_of, state)) if isinstance(state, list | tuple) else 0


def trouble_of(path: Path, expected: str) -> str:
    """Why a file is not the one with this hash; empty where it is, or where no hash is known."""
    if not path.is_file():
        return "is gone"
    if expected and file_hash(path) != expected:
        return "is damaged, or another file (its hash is not the one in the journal)"
    return ""


def read_checkpoint(path: Path, name: str, *, trust: bool = False) -> dict[str, Any]:
    """The checkpoint ``name`` of the run folder ``path``, on the CPU.

    Args:
        path: of the folder.
        name: relative to it.
        trust: read objects of any kind; else tensors and plain values alone.

    Raises:
        JournalError: it is gone.
        ValueError: it cannot be read.
    """
    if not (path / name).exists():
        raise JournalError(
            f"{path}: the checkpoint {name} is gone, and the run needs it to go on; bring it "
            "back, or start anew with --overwrite"
        )
    return load_plain(path / name, trust=trust)
