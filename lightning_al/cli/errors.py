"""Whose error it is: ours is shown as one line."""

from __future__ import annotations

import traceback
from pathlib import Path

from pytorch_lightning.trainer import connectors

import lightning_al
from lightning_al import callbacks, datamodules, strategies

__all__ = ["ours"]

CHECKING = (lightning_al, callbacks, datamodules, strategies, connectors)
FOLDERS = [Path(str(module.__file__)).parent for module in CHECKING]


def ours(error: BaseException) -> bool:
    """Whether this package, or the Trainer, raised the error itself, as a check of what it got."""
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return any(folder in last.parents for folder in FOLDERS)
