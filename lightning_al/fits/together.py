"""The fits that several runs ask for at the same time, done as one stack."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_al.randomness import seeded

from .backend import FitRequest, Fitted
from .lean import LEAN
from .lightning import Begun, Engine, LightningFits
from .recorder import NotPlain
from .stacked import Member, Verdict, fit_stack, test_stack
from .thread_count import at

__all__ = ["STACKED", "Asked", "fit_asked"]

log = logging.getLogger(__name__)

STACKED = Engine("stacked", LEAN.fit, LEAN.test, LEAN.validate)
"""What a fit of a stack is called, and how its members are fitted and tested one by one."""


@dataclass(frozen=True)
class Asked:
    """A fit that a run asks for.

    Args:
        run: its name, for the journal.
        fits: its backend; it makes module and Trainer ready, keeps and tests.
        request: the round's.
        known: it was fitted before, and takes part so that the stack is what it was then.
    """

    run: str
    fits: LightningFits
    request: FitRequest
    known: bool = False

    def begin(self) -> Begun | Exception:
        """Make it ready, or say why that cannot be."""
        try:
            with seeded(self.fits.seed, self.request.round, "stage-fit"):
                return self.fits.begin(LEAN, self.request)
        except Exception as error:  # this run's own: the others go on
            return error

    def member(self, begun: Begun) -> Member:
        """What the stack is given of it."""
        fits = self.fits
        where = (fits.seed, self.request.round)
        return Member(begun.task, fits.recipe, fits.datamodule, begun.trainer, *where)

    def end(
        self, begun: Begun, used: Any, metrics: dict[str, float] | None, seconds: float
    ) -> Fitted | Exception:
        """Keep it, and test it where the stack did not.

        Args:
            begun: what was made ready.
            used: the trainer that its module has now.
            metrics: of its test; None where it is tested here.
            seconds: its part of the time that the stack took.
        """
        engine = STACKED if metrics is None else replace(STACKED, test=lambda *_: metrics)
        try:
            with seeded(self.fits.seed, self.request.round, "stage-fit"):
                return self.fits.end(engine, begun, used, seconds)
        except NotPlain as reason:  # its test: then neither is its fit
            return self.alone(str(reason))
        except Exception as error:
            return error

    def alone(self, why: str) -> Fitted | Exception:
        """Fit it by itself; the journal says why."""
        try:
            with seeded(self.fits.seed, self.request.round, "stage-fit"):
                fitted = self.fits.fit(self.request)
        except Exception as error:
            return error
        return replace(fitted, reason=why if fitted.backend == LEAN.name else fitted.reason or why)


def fit_asked(
    asked: Sequence[Asked], verdict: Verdict | None = None
) -> list[Fitted | Exception | None]:
    """Fit and test what several runs ask for, as one stack where that can be.

    Args:
        asked: with as many labelled items each.
        verdict: of the stacks of these runs, which is found at the first.

    Returns:
        What came of each, its own error where it has one; None of those that were known.
    """
    clock = time.perf_counter()
    ready = [each.begin() for each in asked]
    pairs = [(a, b) for a, b in zip(asked, ready, strict=True) if isinstance(b, Begun)]
    found = _stacked(pairs, clock, verdict) if pairs else []
    came = iter(found)
    return [next(came) if isinstance(b, Begun) else b for b in ready]


def _stacked(
    pairs: Sequence[tuple[Asked, Begun]], clock: float, verdict: Verdict | None
) -> list[Fitted | Exception | None]:
    """What came of each that is ready; None of those that were known."""
    members = [asked.member(begun) for asked, begun in pairs]
    threads = pairs[0][0].fits.threads
    try:
        with at(threads):
            used = fit_stack(members, verdict)
    except Exception as reason:  # what goes wrong in a stack, a fit alone says better
        why = _told(reason)
        return [None if asked.known else asked.alone(why) for asked, _ in pairs]
    seconds = (time.perf_counter() - clock) / len(pairs)
    fits: Mapping[int, Any] = {
        i: each for i, each in enumerate(used) if not isinstance(each, Exception)
    }
    tested: dict[int, dict[str, float]] = {}
    try:
        with at(threads):
            found = test_stack([members[i] for i in fits], list(fits.values()))
        tested = dict(zip(fits, found, strict=True))
    except Exception as reason:  # each is tested by itself
        log.info("the stack is tested one by one: %s", _told(reason))
    names = [asked.run for asked, _ in pairs]

    def came(i: int, asked: Asked, begun: Begun) -> Fitted | Exception:
        each = used[i]
        if isinstance(each, Exception):
            return each
        made = asked.end(begun, each, tested.get(i), seconds)
        if isinstance(made, Fitted) and made.backend == STACKED.name:
            return replace(made, stack=names)
        return made

    return [None if a.known else came(i, a, b) for i, (a, b) in enumerate(pairs)]


def _told(error: Exception) -> str:
    """Why it is no stack, in one line."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return first if isinstance(error, NotPlain) else f"{type(error).__name__}: {first}"
