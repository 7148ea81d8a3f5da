"""Fits and tests of a stack, and what comes of each member."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_al.fits.lean import lean_fit, lean_test
from lightning_al.fits.lean_trainer import LeanTrainer
from lightning_al.fits.recorder import NotPlain
from lightning_al.randomness import seeded

from .member import Member

__all__ = ["fit_stack", "test_stack"]


def fit_stack(members: Sequence[Member]) -> list[LeanTrainer | Exception]:
    """Fit all members; of each the trainer that its module then has, or its own error.

    Args:
        members: with as many labelled items each; replicas of one module.

    Returns:
        What :func:`lightning_al.fits.lean.lean_fit` gives of each alone, to rounding (1e-9 of
        float64), or the ``ValueError`` of one that diverged.

    Raises:
        NotPlain: they cannot be fitted together; the message says why.
    """
    found: list[LeanTrainer | Exception] = []
    for each in members:
        where = {"seed": each.seed, "round": each.round}
        try:
            found.append(
                lean_fit(each.module, each.recipe, each.datamodule, each.trainer, **where)
            )
        except NotPlain:
            raise
        except ValueError as error:
            found.append(error)
    return found


def test_stack(members: Sequence[Member], fits: Sequence[LeanTrainer]) -> list[dict[str, float]]:
    """Metrics of the test set by name, of each member that was fitted.

    Args:
        members: those whose fit gave a trainer.
        fits: their trainers.

    Raises:
        NotPlain: something that only Lightning does.
    """
    found = []
    for each, used in zip(members, fits, strict=True):
        with seeded(each.seed, each.round, "stage-test"):
            found.append(lean_test(each.module, each.datamodule, used))
    return found
