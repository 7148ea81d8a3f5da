"""One run from its first line to its last: every rank drives the same rounds."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from lightning_al.fits.backends import backend_of
from lightning_al.fits.thread_count import chosen, continued
from lightning_al.history.history import History
from lightning_al.history.hits import hits_of
from lightning_al.history.records import Round
from lightning_al.history.safety import safety_of
from lightning_al.identity import digest
from lightning_al.journal.extension import known_items, stand_as_known, stock_of
from lightning_al.journal.run_folder import RunFolder
from lightning_al.journal.standing import Standing
from lightning_al.oracles import placed
from lightning_al.oracles.desk import Desk
from lightning_al.ranks.ranks import join
from lightning_al.records import Later, RunPlan
from lightning_al.records.plan import options_of
from lightning_al.rehearsal import Rehearsal, rehearse
from lightning_al.scoring.cold import Banks
from lightning_al.tuning.checks import check_tuning
from lightning_al.tuning.tuner import tuner_of

from .checks import check_data, check_settings
from .executor import Executor
from .parts import Parts, describe
from .requests import Request
from .stages import Now, Work, one_round

__all__ = ["Run"]

log = logging.getLogger(__name__)


class Run:
    """The state of one run while it goes.

    Args:
        plan: its options.
        parts: its live objects.

    Raises:
        ValueError, LookupError: a setting that cannot work.
        JournalError: a damaged journal, or a run folder of another configuration.
        FolderBusy: another process is at work in the folder.
    """

    def __init__(self, plan: RunPlan, parts: Parts) -> None:
        self.plan, self.parts, data = plan, parts, parts.datamodule
        check_settings(plan, parts)
        recipe = parts.recipe(plan)
        self.ranks = join(recipe.build_trainer())
        together = self.ranks.together
        together(lambda: data.prepare_data() if self.ranks.rank == 0 else None)
        known = self.ranks.on_zero(lambda: None if plan.overwrite else known_items(plan.run_dir))
        together(lambda: stand_as_known(data, known))
        together(lambda: data.start(plan.seed))
        stock = stock_of(data, known, plan, self.ranks)
        together(lambda: check_data(plan, data))
        self.ranks.agree(data.fingerprint(), "who is labelled")
        hits = together(lambda: hits_of(data, plan.hit_ratio_at))
        safety = together(lambda: safety_of(data))
        self._figures = [figure for figure in (hits, safety) if figure is not None]
        banks = Banks(parts.features, data, plan.memory_budget, self.ranks)
        together(lambda: banks.check(parts.first))
        module = together(lambda: recipe.build_task(plan.seed, 0, None))
        check_tuning(parts.tuning, recipe, data, plan, self.ranks)
        self.config, identity, unknown = describe(plan, parts, module)
        self.folder = RunFolder(self._path(), self.ranks, trust=plan.trust)
        begins, threads = self.folder.begins(overwrite=plan.overwrite), chosen(plan.threads)
        timed = None
        if plan.rehearse and (begins or plan.change):
            timed = self._rehearse(module, recipe, timing=begins and threads is None)
        if unknown and self.ranks.rank == 0:
            log.warning("the identity of this run does not watch %s: no values to see", unknown)
        start = {
            "identity": identity,
            "seed": plan.seed,
            "strategy": parts.name,
            "world": self.ranks.size,
            "threads": threads or timed or (torch.get_num_threads() if begins else None),
            "state": data.fingerprint(),
            "versions": {"torch": str(torch.__version__)},
        }
        usual = {each.name: each.default for each, _ in options_of(plan)}
        self.folder.open(self.config, start, plan=plan, usual=usual, stock=stock)
        self.standing = Standing.of(self.folder.records, self.folder.path)
        settled = start["threads"] if begins else threads
        fits = backend_of(
            plan.fits,
            recipe,
            data,
            seed=plan.seed,
            ranks=self.ranks,
            folder=self.folder.path,
            keep=lambda trainer, task, r: self.folder.save(trainer, task, data, r),
            strategy=parts.name,
            threads=continued(settled, self.standing.start["threads"]),
        )
        self.executor = Executor(
            plan,
            parts,
            ranks=self.ranks,
            folder=self.folder,
            standing=self.standing,
            fits=fits,
            desk=Desk(placed(parts.oracle, self.folder.path), data, plan.cost_budget),
            banks=banks,
            tuner=tuner_of(parts.tuning, fits, plan, {"config": self.config, **identity}),
        )

    def _path(self) -> Path:
        if (self.plan.change or self.plan.extend) and self.plan.run_dir is None:
            word = "change" if self.plan.change else "extend"
            raise ValueError(f"{word}=True goes on with a run: say which, with run_dir=FOLDER")
        name = f"{self.parts.name}-{digest(self.config)}"
        return Path(self.plan.run_dir or Path("runs") / name)

    def _rehearse(self, module: Any, recipe: Any, *, timing: bool) -> int | None:
        """Let every part meet a few items, on a copy, before the folder is opened.

        Returns:
            The threads that a step was faster with; None where none was timed.
        """
        plan, parts = self.plan, self.parts
        live = {f.name for f in fields(Rehearsal)} & {f.name for f in fields(parts)}
        given = {name: getattr(parts, name) for name in live - {"task"}}
        looks = () if parts.tuning is None else (parts.tuning.when.look,)
        rehearsal = Rehearsal(
            task=module,
            recipe=recipe,
            **{**given, "stopping": (*parts.stopping, *looks)},
            query_size=plan.query_size,
            remaining=plan.budget,
            priced=plan.cost_budget is not None,
            privileged=plan.privileged,
            seed=plan.seed,
            ranks=self.ranks,
            budget=plan.memory_budget,
            figures=self._figures_now,
            timing=timing,
        )
        return rehearse(rehearsal)

    def rounds(self) -> History:
        """Do all rounds that are left; the history of all."""
        work, answer = self.steps(), None
        while True:
            try:
                request = work.send(answer)
            except StopIteration as end:
                history: History = end.value
                return history
            try:
                answer = self.answer(request)
            except BaseException as error:
                work.throw(error)

    def steps(self) -> Generator[Request, Any, History]:
        """All rounds that are left: what they ask for, one after the other; the history of all."""
        data, standing = self.parts.datamodule, self.standing
        try:
            self.ranks.together(lambda: standing.replay(data))
            self.ranks.agree(data.fingerprint(), "who is labelled")
            self.folder.tidy(standing.committed, self.plan.keep_checkpoints)
            self._tell("run_started", self._facts(), standing.committed)
            later: Later | None = None
            while not standing.stopped and later is None:
                later = yield from self._one_round(len(standing.committed))
        except BaseException as error:
            self._tell("run_ended", self._history(f"error: {error}", failed=True))
            raise
        finally:
            self.folder.close()
        if later is not None:
            history = self._history(later.what, waiting=True)
        else:
            history = self._history(standing.stopped)
        self._tell("run_ended", history)
        return history

    def _one_round(self, r: int) -> Work:
        """One round; what must happen first where an answer comes later."""
        data = self.parts.datamodule
        data.round, self._stage = r, ""
        now = Now(r, self.plan, self.standing, data, tuple(self.parts.stopping), self._figures_now)
        later = yield from one_round(now)
        if later is None:
            self.folder.tidy(self.standing.committed, self.plan.keep_checkpoints)
            self._tell("round_ended", self.standing.committed[-1], data)
        return later

    def answer(self, request: Request) -> Any:
        """Answer what the running round asks for."""
        return self.executor.answer(request, self.told(request))

    def told(self, request: Request) -> int:
        """Tell those who watch of the stage that begins by a request; the round."""
        r: int = self.parts.datamodule.round
        if request.stage and request.stage != self._stage:
            self._stage = request.stage
            self._tell("stage_started", r, request.stage)
        return r

    def _figures_now(self) -> dict[str, float]:
        """Metrics of the round that no fit logs."""
        found: dict[str, float] = {}
        for figure in self._figures:
            found |= figure.figures(self.parts.datamodule)
        return found

    # --- for those who watch -----------------------------------------------------------------

    def _facts(self) -> Mapping[str, Any]:
        """What observers are told at the start."""
        data = self.parts.datamodule
        spendable = min(self.plan.budget, len(data.pool) + self.standing.bought)
        return {
            "run_dir": self.folder.path,
            "strategy": self.parts.name,
            "n_labelled": len(data.labelled),
            "n_pool": len(data.pool),
            "query_size": self.plan.query_size,
            "budget": self.plan.budget,
            "rounds": 1 + -(-spendable // self.plan.query_size),
            "seed": self.plan.seed,
            "config": self.config,
            "datamodule": data,
        }

    def _history(self, stopped: str, *, waiting: bool = False, failed: bool = False) -> History:
        done: list[Round] = list(self.standing.committed)
        if self.plan.keep_checkpoints == "last":
            done[:-1] = [replace(earlier, checkpoint=None) for earlier in done[:-1]]
        return History(
            self.folder.path, tuple(done), stopped, self.parts.name, waiting=waiting, failed=failed
        )

    def _tell(self, moment: str, *arguments: Any) -> None:
        if self.ranks.rank == 0:
            for observer in self.parts.observers:
                getattr(observer, moment)(*arguments)
