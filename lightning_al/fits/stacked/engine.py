"""Fits and tests of a stack, and what comes of each member."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from lightning_al.fits.lean import falling_back, lean_test
from lightning_al.fits.lean_trainer import LeanTrainer
from lightning_al.fits.recipe import quietly
from lightning_al.fits.recorder import NotPlain
from lightning_al.protocols import DoesApart
from lightning_al.randomness import seeded

from .facts import LEAST, why_not_stacked
from .judging import Verdict
from .loop import Loop
from .member import Member
from .replica import Replica

__all__ = ["fit_stack", "fit_together", "test_stack"]


def fit_stack(
    members: Sequence[Member], verdict: Verdict | None = None
) -> list[LeanTrainer | Exception]:
    """Fit all members; of each the trainer that its module then has, or its own error.

    Args:
        members: with as many labelled items each; replicas of one module.
        verdict: of the stacks of this cell, so that their modules are tried once; a new one by
            default.

    Returns:
        What :func:`lightning_al.fits.lean.lean_fit` gives of each alone, to rounding (1e-9 of
        float64), or the ``ValueError`` of one that diverged.

    Raises:
        NotPlain: they cannot be fitted together, or it would gain nothing; the message says why.
            Modules and callbacks may have been trained by then: what is fitted instead is built
            anew.
    """
    if len(members) < LEAST:
        raise NotPlain(f"{len(members)} at a time, and stacking pays from {LEAST} on")
    verdict = Verdict() if verdict is None else verdict
    if why := why_not_stacked(members) or verdict.of(members, fit_together):
        raise NotPlain(why)
    return fit_together(members)


def fit_together(members: Sequence[Member]) -> list[LeanTrainer | Exception]:
    """:func:`fit_stack` without a look at whether it can be done."""
    replicas = [Replica(member) for member in members]
    first = members[0].module
    loop = Loop(replicas, first.done_apart if isinstance(first, DoesApart) else ())
    with falling_back(), seeded(members[0].seed, members[0].round, "fit"), quietly(), _undrawn():
        loop.fit()
    return [replica.error or replica.trainer for replica in replicas]


@contextmanager
def _undrawn() -> Iterator[None]:
    """Nobody draws from the global state inside: it would stand elsewhere in a fit alone.

    Raises:
        NotPlain: somebody did.
    """

    def states() -> str:
        return str([torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()])

    before = states()
    yield
    if states() != before:
        raise NotPlain("a hook draws random numbers")


def test_stack(members: Sequence[Member], fits: Sequence[LeanTrainer]) -> list[dict[str, float]]:
    """Metrics of the test set by name, of each member that was fitted.

    One after the other: in one pass over a test set nine tenths of the time are metrics, which no
    stack computes faster.

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
