"""What the journal says was done, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_al.records import Acquisition, Answers

from .journal import JournalError
from .records import Round

__all__ = ["Progress", "history_rounds"]


class Progress:
    """The journal's records by round; the same on every rank."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start: Mapping[str, Any] = {}
        self._rounds: dict[int, dict[str, Mapping[str, Any]]] = {}
        self.committed: list[Round] = []
        self.stopped = ""

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]], path: Path) -> Progress:
        """Progress after these records."""
        progress = cls(path)
        for record in records:
            progress.add(record)
        return progress

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one record in."""
        if record["event"] == "start":
            self.start = record
            return
        r = record["round"]
        self._rounds.setdefault(r, {})[record["event"]] = record
        if record["event"] == "committed":
            self.committed.append(self._round(r))
            self.stopped = record["stop"] or ""

    def has(self, r: int, event: str) -> bool:
        """Whether round ``r`` got past this stage."""
        return event in self._rounds.get(r, {})

    def acquisition(self, r: int) -> Acquisition:
        """What round ``r`` chose."""
        return Acquisition.from_json(self._rounds[r]["chosen"])

    def answers(self, r: int) -> Answers:
        """What the oracle said in round ``r``."""
        return Answers.from_json(self._rounds[r]["labelled"])

    def apply(self, r: int, datamodule: Any) -> None:
        """Put round ``r``'s answers into the datamodule."""
        if self.has(r, "labelled"):
            datamodule.acquire(self.acquisition(r).index, self.answers(r))

    def check_state(self, fingerprint: str, r: int | None = None) -> None:
        """Refuse to go on when the data do not lead where the journal says they did.

        Args:
            fingerprint: of the datamodule now.
            r: the round whose answers were the last to be applied; by default the last committed.

        Raises:
            JournalError: the data, or the code that splits them, have changed.
        """
        r = len(self.committed) - 1 if r is None else r
        expected = self.start["state"] if r < 0 else self._rounds[r]["committed"]["state"]
        if expected != fingerprint:
            when = "at the start" if r < 0 else f"after round {r}"
            raise JournalError(
                f"{self.path}: the journal says {expected} of who is labelled {when}, the data "
                f"give {fingerprint}: the data set has changed since. Bring the old data back, or "
                "start anew with --overwrite"
            )

    @property
    def bought(self) -> int:
        """Items asked for in the committed rounds, refused ones included."""
        return sum(len(r.acquired) + len(r.refused) for r in self.committed)

    def checkpoint(self, r: int) -> str | None:
        """Name of round ``r``'s checkpoint; None before round 0 and where nothing was fitted."""
        return self._rounds[r]["fitted"]["checkpoint"] if r >= 0 else None

    def fitted(self, r: int) -> Round:
        """The round as far as it was fitted."""
        return self._round(r)

    def _round(self, r: int) -> Round:
        stages = self._rounds[r]
        fitted, chosen = stages["fitted"], stages.get("chosen")
        acquired: list[int] = []
        refused: list[int] = []
        scores: list[float] = []
        cost = 0.0
        if chosen is not None and "labelled" in stages:
            answers = self.answers(r)
            no = [False] * len(chosen["index"])
            if answers.refused is not None:
                no = answers.refused.tolist()
            acquired = [i for i, n in zip(chosen["index"], no, strict=True) if not n]
            refused = [i for i, n in zip(chosen["index"], no, strict=True) if n]
            given = chosen["scores"]
            scores = [] if given is None else [s for s, n in zip(given, no, strict=True) if not n]
            cost = float(len(no)) if answers.cost is None else float(answers.cost.sum())
        return Round(
            round=r,
            n_labelled=fitted["n_labelled"],
            n_pool=fitted["n_pool"],
            metrics=fitted["metrics"],
            batches=fitted["batches"],
            checkpoint=fitted["checkpoint"],
            seconds_fit=fitted["seconds_fit"],
            seconds_test=fitted["seconds_test"],
            seconds_score=stages.get("scored", {}).get("seconds", 0.0),
            seconds_choose=0.0 if chosen is None else chosen["seconds"],
            acquired=tuple(acquired),
            scores=tuple(scores),
            refused=tuple(refused),
            cost=cost,
            notes={} if chosen is None else chosen["notes"],
        )


def history_rounds(records: Sequence[Mapping[str, Any]]) -> tuple[list[Round], str]:
    """The committed rounds of a journal and why the run stopped."""
    progress = Progress.of(records, Path())
    return progress.committed, progress.stopped
