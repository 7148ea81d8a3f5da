"""Answers what a round asks for: with a fit backend, a scorer, the oracle, and the run folder."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import singledispatchmethod
from typing import Any

from lightning_al.fits.again import sound_checkpoint
from lightning_al.fits.backend import FitRequest, Fitted
from lightning_al.fits.lightning import LightningFits
from lightning_al.fits.thread_count import at
from lightning_al.fits.workbench import Workbench
from lightning_al.journal.journal import utc
from lightning_al.journal.run_folder import RunFolder
from lightning_al.journal.standing import Standing
from lightning_al.oracles.desk import Desk, located, same_items
from lightning_al.protocols import remembers
from lightning_al.randomness import generator, seeded
from lightning_al.ranks.ranks import Ranks
from lightning_al.records import Acquisition, Answers, Later, RunPlan
from lightning_al.scoring.cold import Banks
from lightning_al.scoring.scorer import Scorer
from lightning_al.tasks import Adapter
from lightning_al.tuning.tuner import Tuner

from . import requests as ask
from .checks import check_choice
from .parts import Parts

__all__ = ["Executor"]


class Executor:
    """The hands of a run; every rank has one, and answers the same requests in the same order.

    Args:
        plan: the run's options.
        parts: its live objects.
        ranks: the processes.
        folder: of the run, open.
        standing: what the journal says; what is written is added to it.
        fits: fits the models.
        desk: where the run asks.
        banks: the features.
        tuner: does the trials; None where the run tunes nothing.
    """

    def __init__(
        self,
        plan: RunPlan,
        parts: Parts,
        *,
        ranks: Ranks,
        folder: RunFolder,
        standing: Standing,
        fits: LightningFits,
        desk: Desk,
        banks: Banks,
        tuner: Tuner | None = None,
    ) -> None:
        self.plan, self.parts, self.data = plan, parts, parts.datamodule
        self.ranks, self.folder, self.standing = ranks, folder, standing
        self.fits, self.desk, self.banks, self.tuner = fits, desk, banks, tuner
        self.round = 0
        if standing.memory:
            self._remember(folder.memory(standing.memory, standing.memory_hash))

    def answer(self, request: ask.Request, round: int) -> Any:
        """Answer one request of a round; what draws from global random state is keyed."""
        self.round = round
        self.fits.adopt(self.standing.settings(round))
        if not request.stage:
            return self._answer(request)
        with seeded(self.plan.seed, round, f"stage-{request.stage}"):
            return self._answer(request)

    @singledispatchmethod
    def _answer(self, request: Any) -> Any:
        raise TypeError(f"nothing answers a {type(request).__name__}")

    # --- fits --------------------------------------------------------------------------------

    @_answer.register
    def _(self, request: ask.Try) -> tuple[str, dict[str, Any]] | None:
        assert self.tuner is not None  # a run that tunes nothing has no such stage
        return self.tuner.step(self.round, self.standing, self._previous)

    def _previous(self) -> Any:
        """The weights that the fits of this round go on from; None for none."""
        before = None if self.plan.weights == "reset" else self.standing.checkpoint(self.round - 1)
        return None if before is None else self._checkpoint(self.round - 1)["state_dict"]

    @_answer.register
    def _(self, request: ask.Fit) -> Fitted:
        return self.fits.fit(self.wanted(request, self.round))

    def wanted(self, request: ask.Fit, round: int) -> FitRequest:
        """The fit that a round asks for, with the weights that it goes on from."""
        self.round = round
        self.fits.adopt(self.standing.settings(round))
        return FitRequest(round, request.rule, self._previous(), request.done, request.figures)

    @_answer.register
    def _(self, request: ask.Load) -> Any:
        return self.fits.load(self._checkpoint(self.round), self.round)

    def _checkpoint(self, r: int) -> dict[str, Any]:
        return sound_checkpoint(r, self.folder, self.standing, self.fits)

    # --- scores and choices ------------------------------------------------------------------

    @property
    def _chooser(self) -> tuple[Any, str]:
        """The strategy of this round, and its name."""
        parts = self.parts
        if self.banks.cold:
            return parts.first, parts.first_name
        return parts.strategy, parts.name

    @_answer.register
    def _(self, request: ask.Score) -> ask.Scored:
        strategy, name = self._chooser
        given = self.plan.first is not None
        self.banks.tell(self.round, strategy, name, self.parts.name, given=given)
        clock = time.perf_counter()
        with at(self.fits.threads):
            pool = self._scorer(request.model).pool(strategy)
        return ask.Scored(pool, len(self.data.pool), time.perf_counter() - clock)

    def _scorer(self, model: Any) -> Scorer:
        task = self.fits.fresh(self.round) if model is None else model
        return Scorer(
            task=task,
            datamodule=self.data,
            adapter=self.parts.adapter or Adapter.for_task(task),
            posterior=self.parts.posterior,
            seed=self.plan.seed,
            round=self.round,
            ranks=self.ranks,
            trainer=self.fits.trainer(task),
            memory_budget=self.plan.memory_budget,
            folder=self.folder.path,
            bank=self.banks.now(self.folder.path),
            remaining=self.plan.budget - self.standing.bought,
            make_bench=lambda bound: Workbench(
                bound, self.fits.recipe, self.plan.privileged, self.fits.refits
            ),
        )

    @_answer.register
    def _(self, request: ask.Choose) -> ask.Chosen:
        strategy, name = self._chooser

        def choose() -> tuple[Acquisition, dict[str, Any], str]:
            clock = time.perf_counter()
            drawn = generator(self.plan.seed, self.round, "choose")
            chosen = strategy.choose(request.pool, request.count, drawn)
            check_choice(chosen, request.count, self.data.pool, name, self.data.domain)
            paid = self.desk.affordable(located(chosen, self.data), self.standing.spent)
            chosen = replace(paid, seconds=time.perf_counter() - clock)
            memory = self._memory()
            kept = self.folder.remember(memory, self.round) if memory else ""
            return chosen, memory, kept

        chosen, memory, kept = self.ranks.on_zero(choose)
        if self.ranks.rank:
            self._remember(memory)
        return ask.Chosen(chosen, name, kept)

    @property
    def _rememberers(self) -> dict[str, Any]:
        """The strategies that have a memory, by their role."""
        roles = {"strategy": self.parts.strategy, "first": self.parts.first}
        if roles["first"] is roles["strategy"]:
            del roles["first"]
        return {k: s for k, s in roles.items() if remembers(s)}

    def _memory(self) -> dict[str, Any]:
        """What the strategies remember, by role; nothing of those that remember nothing."""
        states = {role: s.state_dict() for role, s in self._rememberers.items()}
        return {role: state for role, state in states.items() if state}

    def _remember(self, memory: dict[str, Any]) -> None:
        for role, strategy in self._rememberers.items():
            if role in memory:
                strategy.load_state_dict(memory[role])

    # --- answers -----------------------------------------------------------------------------

    @_answer.register
    def _(self, request: ask.Unpaid) -> str:
        return self.ranks.on_zero(lambda: self.desk.unpaid(self.standing.spent))

    @_answer.register
    def _(self, request: ask.Collect) -> Answers | Later:
        def collect() -> Answers | Later:
            answers = self.desk.collect(request.index, request.asked, self.round)
            if isinstance(answers, Answers):
                before = self.standing.contents_of(request.index, request.asked)
                same_items(request.index, before, self.data)
            return answers

        return self.ranks.on_zero(collect)

    @_answer.register
    def _(self, request: ask.Contents) -> list[str]:
        return self.ranks.on_zero(lambda: self.data.contents(request.index))

    @_answer.register
    def _(self, request: ask.Ask) -> Answers | Later:
        def put() -> Answers | Later:
            answers = self.desk.ask(request.index, self.round)
            if request.contents is not None and isinstance(answers, Answers):
                same_items(request.index, request.contents, self.data)
            return answers

        return self.ranks.on_zero(put)

    # --- the journal -------------------------------------------------------------------------

    @_answer.register
    def _(self, request: ask.Write) -> dict[str, Any]:
        fields = dict(request.fields)
        if request.event in ("collected", "labelled"):
            fields["time"] = utc()
        if request.event == "committed":
            fields["state"] = self.data.fingerprint()
            self.ranks.agree(fields["state"], "who is labelled")
        record = self.ranks.on_zero(
            lambda: self.folder.append(request.event, round=self.round, **fields)
        )
        self.standing.add(record)
        self.data.apply(record)
        return record
