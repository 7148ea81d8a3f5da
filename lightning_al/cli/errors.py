"""Whose error it is: ours is shown as one line."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning.trainer import connectors

import lightning_al
from lightning_al import callbacks, datamodules, strategies

__all__ = ["at_least", "ours"]

CHECKING = (lightning_al, callbacks, datamodules, strategies, connectors)
FOLDERS = [Path(str(module.__file__)).parent for module in CHECKING]


def ours(error: BaseException) -> bool:
    """Whether this package, or the Trainer, raised the error itself, as a check of what it got."""
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return any(folder in last.parents for folder in FOLDERS)


def at_least(least: int) -> Callable[[str], int]:
    """A type of an argument: whole numbers from ``least``."""

    def read(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, got {text!r}")
        return found

    return read
