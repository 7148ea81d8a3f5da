"""The runs of a group, driven round by round in one process: their fits are done as one.

Each run is an ordinary one with a folder and a journal of its own. It goes on until it asks for a
fit, waits there for the others, and is given what came of it. The line ``fitted`` of all members
lies in their journals before any of them goes on. So where a process was killed in between, those
that have the line stand where it left them, and the stack is fitted again with the same members for
those that have not.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_al.fits.backend import Fitted
from lightning_al.fits.stacked import Verdict
from lightning_al.fits.together import Asked, fit_asked
from lightning_al.history.trigger import QueryRule
from lightning_al.journal.lock import FolderBusy
from lightning_al.rounds.requests import Fit, Write
from lightning_al.rounds.run import Run

from .execute import PATIENCE, done, failed, opened
from .run_spec import RunSpec

if TYPE_CHECKING:
    from lightning_al.history.history import History

__all__ = ["in_lockstep"]


def in_lockstep(
    specs: Sequence[RunSpec], root: Path, *, keep: bool = False, patience: float = PATIENCE
) -> Iterator[dict[str, Any]]:
    """Do the runs of a group, or go on with them; their outcomes as they end.

    A run that fails leaves the others, which go on without it.

    Args:
        specs: of one group, in the order of the grid.
        root: folder of the benchmark.
        keep: leave checkpoints.
        patience: seconds to wait for other processes that are at work on the runs.
    """
    group = _Group(root, keep)
    try:
        yield from group.open(specs, patience)
        while group.going:
            yield from group.step()
    finally:
        group.close()


@dataclass
class _Going:
    """One run of a group while it goes."""

    spec: RunSpec
    run: Run
    work: Any  # its steps
    request: Any = None  # what it asks for now
    seconds: float = 0.0

    @property
    def round(self) -> int:
        """Which it is in."""
        return len(self.run.standing.committed)

    @property
    def wants(self) -> bool:
        """Whether it waits for a fit."""
        return isinstance(self.request, Fit)

    @property
    def lags(self) -> bool:
        """Whether the fit of its round is still to be done."""
        return not self.run.standing.has(self.round, "fitted")

    @property
    def stack(self) -> list[str]:
        """With whom its round was fitted, while it stands there; else nobody."""
        standing, r = self.run.standing, self.round
        return [] if standing.has(r, "labelled") else standing.stack(r)

    def asked(self) -> Asked:
        """Its fit: that which it waits for, or the one that it had, for others that were in it."""
        executor, r = self.run.executor, self.round
        if self.wants:
            self.run.told(self.request)
        request = self.request if self.wants else self._once_more()
        wanted = executor.wanted(request, r)
        return Asked(self.spec.run_id, executor.fits, wanted, known=not self.wants)

    def _once_more(self) -> Fit:
        """What it asked for when its round was fitted; what followed is known."""
        plan, standing = self.run.plan, self.run.standing
        rule = QueryRule(plan.query_size, plan.budget, standing.bought)
        return Fit(rule, tuple(standing.committed))


@dataclass
class _Group:
    """Those that are still going."""

    root: Path
    keep: bool
    going: list[_Going] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)  # whether the fits can be one

    def open(self, specs: Sequence[RunSpec], patience: float) -> list[dict[str, Any]]:
        """Open all folders; the outcomes of runs that cannot be opened.

        One seed of each strategy is rehearsed: the others differ from it in numbers alone.
        """
        until, ended = time.monotonic() + patience, []
        rehearsed: dict[str, int] = {}  # strategies, and the threads that were found for the group
        with _quiet():
            for spec in specs:
                clock = time.perf_counter()
                name = str(spec.place["strategy"])
                changes = {"threads": next(iter(rehearsed.values()))} if rehearsed else {}
                if name in rehearsed:
                    changes["rehearse"] = False
                try:
                    run = opened(spec, self.root, until, **changes)
                    rehearsed[name] = run.standing.start["threads"]
                    going = _Going(spec, run, run.steps())
                    self.going.append(going)
                    going.seconds = time.perf_counter() - clock
                    ended += self._on(going, None)
                except FolderBusy as error:  # then all of them are another process's
                    self.close()
                    return [failed(each, self.root, error, 0.0) for each in specs]
                except Exception as error:
                    ended.append(failed(spec, self.root, error, time.perf_counter() - clock))
        return ended

    def step(self) -> list[dict[str, Any]]:
        """All go on to their next fit, which is done; the outcomes of those that ended."""
        ended: list[dict[str, Any]] = []
        with _quiet():
            held = self._held()
            for going in [g for g in self.going if g not in held]:
                while going in self.going and not going.wants:
                    ended += self._answer(going)
            for together in self._stacks():
                ended += self._fit(together)
        return ended

    def _held(self) -> list[_Going]:
        """Those that wait where they were, for members of their stack which lack its line."""
        lagging = {(g.round, g.spec.run_id) for g in self.going if g.lags}
        return [g for g in self.going if any((g.round, name) in lagging for name in g.stack)]

    def _stacks(self) -> list[list[_Going]]:
        """What is fitted as one: the fits of the earliest round, by their number of labels.

        A stack that was fitted before for some of its members is made of all that it had.
        """
        waiting = [g for g in self.going if g.wants]
        first = min((g.round for g in waiting), default=0)
        found: dict[Any, list[_Going]] = {}
        named = {g.spec.run_id: g for g in self.going if g.round == first}
        for going in self._held():
            if going.round == first:
                found[tuple(going.stack)] = [named[n] for n in going.stack if n in named]
        known = {id(g) for together in found.values() for g in together}
        for going in waiting:
            if going.round == first and id(going) not in known:
                n = len(going.run.parts.datamodule.labelled)
                found.setdefault(n, []).append(going)
        return list(found.values())

    def _fit(self, together: Sequence[_Going]) -> list[dict[str, Any]]:
        """Fit some as one, and write down what came of each."""
        ended: list[dict[str, Any]] = []
        asked: list[tuple[_Going, Asked]] = []
        for going in together:
            try:
                asked.append((going, going.asked()))
            except Exception as error:
                ended += self._thrown(going, error)
        came = fit_asked([each for _, each in asked], self.verdict)
        for (going, _), each in zip(asked, came, strict=True):
            if isinstance(each, Exception) and going.wants:
                ended += self._thrown(going, each)
            elif isinstance(each, Fitted):
                going.seconds += each.seconds_fit + each.seconds_test
                ended += self._on(going, each)
        for going, _ in asked:
            while going in self.going and isinstance(going.request, Write) and going.lags:
                ended += self._answer(going)
        return ended

    # --- one run -----------------------------------------------------------------------------

    def _answer(self, going: _Going) -> list[dict[str, Any]]:
        """Answer what a run asks for; its outcome where it ended."""
        clock = time.perf_counter()
        try:
            answer = going.run.answer(going.request)
        except Exception as error:
            return self._thrown(going, error)
        finally:
            going.seconds += time.perf_counter() - clock
        return self._on(going, answer)

    def _on(self, going: _Going, answer: Any) -> list[dict[str, Any]]:
        """Let a run go on to what it asks for next."""
        try:
            going.request = going.work.send(answer)
        except StopIteration as end:
            return self._done(going, end.value)
        except Exception as error:
            return self._failed(going, error)
        return []

    def _done(self, going: _Going, history: History) -> list[dict[str, Any]]:
        where = (going.spec, self.root, going.run, history, going.seconds)
        try:
            outcome = done(*where, keep=self.keep)
        except Exception as error:
            return self._failed(going, error)
        self.going.remove(going)
        return [outcome]

    def _thrown(self, going: _Going, error: Exception) -> list[dict[str, Any]]:
        """End a run by an error of what it asked for."""
        try:
            going.work.throw(error)
        except Exception as thrown:
            return self._failed(going, thrown)
        raise AssertionError("a run went on after an error")

    def _failed(self, going: _Going, error: Exception) -> list[dict[str, Any]]:
        self.going.remove(going)
        return [failed(going.spec, self.root, error, going.seconds)]

    def close(self) -> None:
        """Leave all runs where they are."""
        while self.going:
            self.going.pop().work.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """As a run alone is done: warnings are for people who watch it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
