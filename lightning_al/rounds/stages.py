"""A round as a list of stages; each asks for what it needs, and says what the journal keeps.

What happens in a stage is a generator here, under the name that the stage has in
:data:`lightning_al.records.stages.STAGES`. A stage whose last line is in the journal is done; one
that a round has no use for writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_al.fits.backend import Fitted
from lightning_al.history.records import Round
from lightning_al.history.trigger import QueryRule
from lightning_al.journal.standing import Standing
from lightning_al.records import Answers, Due, Later, Pool, RunPlan
from lightning_al.records.stages import stages_of

from .requests import (
    Ask,
    Choose,
    Chosen,
    Collect,
    Contents,
    Fit,
    Load,
    Request,
    Score,
    Scored,
    Try,
    Unpaid,
    Write,
)

__all__ = ["Now", "Work", "one_round"]

Work = Generator[Request, Any, Later | None]
PATIENCE = 100  # rounds in a row in which nothing is asked and nothing arrives
UNPAID = "the cost budget is spent: none of the chosen items can be paid with what is left"


@dataclass
class Now:
    """A round while it goes: what is known, and what its stages hand on.

    Args:
        number: of the round.
        plan: of the run.
        standing: what the journal says.
        data: who is labelled, for reading.
        stopping: rules that end the run.
        figures: metrics of the round that its fit does not log.
    """

    number: int
    plan: RunPlan
    standing: Standing
    data: Any
    stopping: tuple[Any, ...] = ()
    figures: Callable[[], Mapping[str, float]] = dict
    model: Any = None  # what was fitted
    pool: Pool | None = None
    scored: bool = False

    @property
    def due(self) -> Due:
        """What the fit declared."""
        return self.standing.due(self.number)


def one_round(now: Now) -> Work:
    """All stages of a round that are not done; ends early where an answer comes later."""
    for stage in stages_of(now.plan):
        if not now.standing.has(now.number, stage.done):
            later = yield from WORK[stage.name](now)
            if later is not None:
                return later
    return None


def collect(now: Now) -> Work:
    """Take in what earlier rounds asked for and has been answered since."""
    index, asked = now.standing.waiting(now.number)
    if not len(index):
        return None
    answers: Answers | Later = yield Collect(index, asked)
    if isinstance(answers, Later):
        return answers
    yield Write("collected", {"index": index.tolist(), **answers.to_json()})
    return None


def tune(now: Now) -> Work:
    """Try settings until the round settles on some; nothing in a round that is not due."""
    while (line := (yield Try())) is not None:
        yield Write(*line)
        if line[0] == "tuned":
            break
    return None


def fit(now: Now) -> Work:
    """Fit and test, where anything is labelled; what follows is declared either way."""
    standing, plan, r = now.standing, now.plan, now.number
    sizes = {"n_labelled": len(now.data.labelled), "n_pool": len(now.data.pool)}
    figures = dict(now.figures())
    unpaid: str = yield Unpaid()
    rule = QueryRule(plan.query_size, plan.budget, standing.bought, now.stopping, unpaid)
    done = tuple(standing.committed)
    if not sizes["n_labelled"]:
        here = Round(r, 0, sizes["n_pool"], figures, 0, None)
        yield _fitted(sizes, rule(here, done), metrics=figures)
        return None
    fitted: Fitted = yield Fit(rule, done, figures)
    now.model = fitted.task
    yield _fitted(
        sizes,
        fitted.due,
        metrics=dict(fitted.metrics),
        batches=fitted.batches,
        checkpoint=fitted.checkpoint,
        seconds_fit=fitted.seconds_fit,
        seconds_test=fitted.seconds_test,
        backend=fitted.backend,
        **({"reason": fitted.reason} if fitted.reason and not standing.reason else {}),
        **({"stack": list(fitted.stack)} if fitted.stack else {}),
    )
    return None


def _fitted(sizes: Mapping[str, int], due: Due, **fields: Any) -> Write:
    nothing: dict[str, Any] = {"batches": 0, "checkpoint": None}
    nothing |= {"seconds_fit": 0.0, "seconds_test": 0.0}
    return Write("fitted", {**sizes, **nothing, **fields, "due": vars(due)})


def score(now: Now) -> Work:
    """Score the candidates, where a query is due."""
    if not now.due.count:
        return None
    scored = yield from _scored(now)
    yield Write("scored", {"seconds": scored.seconds, "n": scored.n})
    return None


def _scored(now: Now) -> Generator[Request, Any, Scored]:
    checkpoint = now.standing.checkpoint(now.number)
    if now.model is None and checkpoint is not None:
        now.model = yield Load(checkpoint)
    scored: Scored = yield Score(now.model)
    now.pool, now.scored = scored.pool, True
    return scored


def choose(now: Now) -> Work:
    """Choose as many as are due."""
    if not now.due.count:
        return None
    if not now.scored:  # cut off between the two lines: the same again, from the checkpoint
        yield from _scored(now)
    chosen: Chosen = yield Choose(now.pool, now.due.count)
    memory = {"memory": chosen.memory} if chosen.memory else {}
    fields = {"strategy": chosen.strategy, **memory, **chosen.acquisition.to_json()}
    yield Write("chosen", fields)
    return None


def ask(now: Now) -> Work:
    """Ask the oracle for what was chosen."""
    acquisition = now.standing.acquisition(now.number)
    if acquisition is None or acquisition.index is None or not len(acquisition):
        return None
    index = acquisition.index
    before = now.standing.contents(now.number)
    if before is None:
        contents: list[str] = yield Contents(index)
        yield Write("asked", {"n": len(index), "content": contents})
    answers: Answers | Later = yield Ask(index, before)
    if isinstance(answers, Later):
        return answers
    yield Write("labelled", answers.to_json())
    return None


def commit(now: Now) -> Work:
    """End the round; a run that can ask no more goes on while answers come in."""
    chosen = now.standing.acquisition(now.number)
    stop = now.due.stop
    if now.due.count and not (chosen is not None and len(chosen)):
        stop = UNPAID
    if stop and (waiting := len(now.standing.waiting(now.number)[0])):
        if now.standing.idle < PATIENCE:
            stop = ""
        else:
            stop += f"; {waiting} item(s) still wait after {PATIENCE} rounds without an answer"
    yield Write("committed", {"stop": stop or None})
    return None


WORK: Mapping[str, Callable[[Now], Work]] = {
    "collect": collect,
    "tune": tune,
    "fit": fit,
    "score": score,
    "choose": choose,
    "ask": ask,
    "commit": commit,
}
"""What each stage does, by its name."""
