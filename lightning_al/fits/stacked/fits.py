"""The backend ``stacked`` of one run: single fits are lean, refits of a strategy are stacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lightning_al.compat import family_of
from lightning_al.fits.backend import FitRequest, Fitted
from lightning_al.fits.lean import LeanFits
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.recorder import NotPlain
from lightning_al.fits.thread_count import at

from .engine import fit_stack
from .facts import LEAST
from .judging import Verdict
from .member import Member

__all__ = ["MOST", "StackedFits"]

MOST = 64  # members of a stack: more gain nothing on a CPU
ONE = "one fit at a time: nothing to stack"


class StackedFits(LeanFits):
    """Fits many models as one where many are asked for at a time, else by the bare loop.

    The rounds of a single run are single fits, and lean. What is stacked are a strategy's refits,
    and the rounds that ``bench`` drives in lock-step. The arguments are those of
    :class:`~lightning_al.fits.lightning.LightningFits`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verdict = Verdict()

    def fit(self, request: FitRequest) -> Fitted:
        """Build, fit, keep and test the module of a round; why it was no stack."""
        done = super().fit(request)
        return done if done.reason else replace(done, reason=ONE)

    def refits(
        self, recipe: Recipe, datamodules: Sequence[Any], *, seed: int, round: int
    ) -> list[Any]:
        """Modules fitted on other data than the run's, those of as many items as one."""
        found: dict[int, Any] = {}
        if self._lean(round, None):
            for places in _alike(datamodules):
                modules = self._stacked(recipe, [datamodules[i] for i in places], seed, round)
                found.update(zip(places, modules, strict=False))
        for place, datamodule in enumerate(datamodules):
            if place not in found:
                found[place] = self.refit(recipe, datamodule, seed=seed, round=round)
        return [found[place] for place in range(len(datamodules))]

    def _stacked(self, recipe: Recipe, data: Sequence[Any], seed: int, round: int) -> list[Any]:
        """The fitted modules; none where they cannot be fitted as one.

        Raises:
            ValueError: one that diverged.
        """
        members = []
        for each in data:
            module = recipe.build_task(seed, round, None)
            trainer = recipe.alone(family_of(module))
            members.append(Member(module, recipe, each, trainer, seed, round))
        try:
            with at(self.threads):
                fits = fit_stack(members, self._verdict)
        except NotPlain:
            return []
        for fit in fits:
            if isinstance(fit, Exception):
                raise fit
        for member in members:
            member.module.trainer = None
        return [member.module for member in members]


def _alike(datamodules: Sequence[Any]) -> Iterator[list[int]]:
    """Places of data that come in batches of the same sizes, several at a time."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, data in enumerate(datamodules):
        loader = data.train_dataloader()
        if getattr(loader, "in_process", False):
            groups.setdefault(tuple(map(len, loader.sampler)), []).append(place)
    for places in groups.values():
        for start in range(0, len(places), MOST):
            some = places[start : start + MOST]
            if len(some) >= LEAST:
                yield some
