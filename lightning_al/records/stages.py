"""The stages of a round in order: one list for journal, progress bar, tests and documents."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AMENDMENTS", "EVENTS", "REFITTED", "REPEATED", "STAGES", "Stage", "stage", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """One stage of a round.

    Args:
        name: what is shown while it goes on.
        events: the journal lines that it writes; the last says that it is done.
        what: what happens in it, in words.
        option: of the plan, without which a run has no such stage; empty where every run has it.
    """

    name: str
    events: tuple[str, ...]
    what: str
    option: str = ""

    @property
    def done(self) -> str:
        """The line that says it is done."""
        return self.events[-1]


STAGES = (
    Stage("collect", ("collected",), "answers that earlier queries waited for are taken in"),
    Stage("tune", ("tried", "tuned"), "settings are tried, where the schedule says so", "tuning"),
    Stage("fit", ("fitted",), "a fresh module is fitted on the labelled set, and tested"),
    Stage("score", ("scored",), "the candidates are scored, in one pass"),
    Stage("choose", ("chosen",), "the strategy chooses"),
    Stage("ask", ("asked", "labelled"), "the oracle is asked"),
    Stage("commit", ("committed",), "the round is over; all ranks agree who is labelled"),
)

EVENTS = ("start", *(event for each in STAGES for event in each.events))
"""Journal lines in their order; "start" comes once, the others at most once a round."""

REPEATED = ("tried",)
"""Those of them that may come several times a round."""

REFITTED = "refitted"
"""A line that may stand anywhere behind the ``fitted`` of its round: the fit was done again, for
its checkpoint was gone or another file, and the new one is not the same to the last bit."""

AMENDMENTS = ("changed", "extended", "fixed")
"""Lines of a run that goes on otherwise than it began: they may stand anywhere, and hold for all
that comes after them."""


def stages_of(plan: object) -> tuple[Stage, ...]:
    """The stages that the rounds of a plan have."""
    return tuple(s for s in STAGES if not s.option or getattr(plan, s.option) is not None)


def stage(name: str) -> Stage:
    """The stage of a name."""
    return next(each for each in STAGES if each.name == name)
