"""One fit among those that are done as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_al.fits.recipe import Recipe

__all__ = ["Member"]


@dataclass(frozen=True)
class Member:
    """One fit of a stack; its parts are those of :func:`lightning_al.fits.lean.lean_fit`.

    Args:
        module: fresh, with its start weights.
        recipe: of its run.
        datamodule: at its round.
        trainer: that Lightning built, for settings and callbacks; it fits nothing.
        seed: of its run.
        round: keys all draws.
    """

    module: Any
    recipe: Recipe
    datamodule: Any
    trainer: Any
    seed: int
    round: int
