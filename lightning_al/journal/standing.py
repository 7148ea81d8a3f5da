"""How a run stands: what the journal says was done, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.history.records import Purchase, Round
from lightning_al.records import Acquisition, Answers, Due
from lightning_al.records.stages import AMENDMENTS, REFITTED, REPEATED

from .amendments import in_force, shown, until
from .journal import JournalError
from .order import check_order

__all__ = ["Standing", "history_rounds"]


HASH = "checkpoint_hash"
"""Field of the lines that name a checkpoint: what the file holds."""


class Standing:
    """The journal's records by round; the same on every rank."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start: Mapping[str, Any] = {}
        self._records: list[Mapping[str, Any]] = []
        self._rounds: dict[int, dict[str, Mapping[str, Any]]] = {}
        self._tried: dict[int, list[Mapping[str, Any]]] = {}  # round -> its trials
        self._amended: dict[int, list[str]] = {}  # round -> what was changed ahead of it
        self._fixed: dict[int, int] = {}  # round -> answers that were fixed ahead of its fit
        self._fixes: dict[
            tuple[int, int], Mapping[str, Any]
        ] = {}  # (round of asking, item) -> line
        self._forgotten = 0  # rounds before it chose by another strategy
        self.committed: list[Round] = []
        self.stopped = ""

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]], path: Path) -> Standing:
        """Standing after these records.

        Raises:
            JournalError: they stand in an order that no run writes.
        """
        check_order(records, path)
        standing = cls(path)
        for record in records:
            standing.add(record)
        return standing

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one record in."""
        self._records.append(record)
        if record["event"] == "start":
            self.start = record
            return
        r = record["round"]
        if record["event"] in AMENDMENTS:
            self._amend(record, r)
            return
        if record["event"] == REFITTED:
            before = self._rounds[r]["fitted"]
            self._rounds[r]["fitted"] = {**before, HASH: record[HASH]}
            return
        if record["event"] in REPEATED:
            self._tried.setdefault(r, []).append(record)
            return
        self._rounds.setdefault(r, {})[record["event"]] = record
        if record["event"] == "committed":
            self.committed.append(self._round(r))
            self.stopped = record["stop"] or ""

    def _amend(self, record: Mapping[str, Any], r: int) -> None:
        """Take in what changed the run: one that had ended goes on."""
        self.stopped = ""
        if record["event"] == "fixed":
            self._fix(record, r)
            return
        if record.get("option") in ("strategy", "first"):
            self._forgotten = r + self.has(r, "chosen")
        late = self.has(r, "chosen")
        self._amended.setdefault(r + late, []).append(shown(record))

    def _fix(self, record: Mapping[str, Any], r: int) -> None:
        """Take in a fixed answer; rounds that were keep all else that they were."""
        at, item = r + self.has(r, "fitted"), record["item"]
        self._fixed[at] = self._fixed.get(at, 0) + 1
        asked = [
            b
            for b, stages in self._rounds.items()
            if item in (stages.get("chosen", {}).get("index") or ())
        ]
        if not asked:
            raise JournalError(f"{self.path}: item {item} was fixed and never asked for")
        self._fixes[max(asked), item] = record
        for b in range(max(asked), len(self.committed)):
            self.committed[b] = self._round(b)

    @property
    def running(self) -> list[Round]:
        """The round that goes on, as far as it was fitted; nothing between two rounds."""
        r = len(self.committed)
        return [self._round(r)] if self.has(r, "fitted") else []

    def config(self, round: int | None = None) -> dict[str, Any]:
        """The configuration of the run as it stood at the fit of a round, or stands now."""
        return in_force(self._records, round)

    def has(self, r: int, event: str) -> bool:
        """Whether round ``r`` got past this stage."""
        return event in self._rounds.get(r, {})

    def acquisition(self, r: int) -> Acquisition | None:
        """What round ``r`` chose; None where it chose nothing yet."""
        chosen = self._rounds.get(r, {}).get("chosen")
        return None if chosen is None else Acquisition.from_json(chosen)

    def answers(self, r: int) -> Answers:
        """What the oracle said in round ``r``."""
        return Answers.from_json(self._rounds[r]["labelled"])

    def due(self, r: int) -> Due:
        """What follows round ``r``'s fit, as its callback declared it."""
        return Due(**self._rounds[r]["fitted"]["due"])

    @property
    def reason(self) -> str:
        """Why the fits are Lightning's where another backend was asked for; empty while unsaid."""
        fitted = (lines.get("fitted", {}) for lines in self._rounds.values())
        return next((str(line["reason"]) for line in fitted if line.get("reason")), "")

    def stack(self, r: int) -> list[str]:
        """The runs whose fits of round ``r`` were done as one, in order; none of a fit alone."""
        return list(self._rounds.get(r, {}).get("fitted", {}).get("stack") or ())

    def tried(self, r: int) -> Sequence[Mapping[str, Any]]:
        """The lines of round ``r``'s trials."""
        return self._tried.get(r, ())

    def tuned_at(self, r: int) -> dict[int, int]:
        """The rounds before ``r`` that have tuned, with how many labels there were then."""
        found = {b: s["tuned"] for b, s in self._rounds.items() if "tuned" in s and b < r}
        return {b: int(line["n_labelled"]) for b, line in sorted(found.items())}

    def settings(self, r: int) -> dict[str, Any]:
        """What round ``r`` is fitted with, of what was tuned, by dotted name; else nothing."""
        tuned = [b for b, stages in self._rounds.items() if "tuned" in stages and b <= r]
        return dict(self._rounds[max(tuned)]["tuned"]["settings"]) if tuned else {}

    def contents(self, r: int) -> list[str] | None:
        """What the items of round ``r``'s query were when they were asked for; None before."""
        asked = self._rounds.get(r, {}).get("asked")
        return None if asked is None else list(asked.get("content") or ())

    def contents_of(self, index: Tensor, asked: Tensor) -> list[str]:
        """What items [W] were when they were asked for, in the rounds ``asked`` [W]."""
        known: dict[int, str] = {}
        for r in set(asked.tolist()):
            items = self._rounds[r]["chosen"]["index"]
            known |= dict(zip(items, self.contents(r) or [""] * len(items), strict=True))
        return [known.get(item, "") for item in index.tolist()]

    @property
    def memory(self) -> str:
        """Where the strategies' memory lies since the last choice; empty where there is none."""
        rounds = sorted((r for r in self._rounds if r >= self._forgotten), reverse=True)
        names = (self._rounds[r]["chosen"].get("memory") for r in rounds if self.has(r, "chosen"))
        return next((name for name in names if name), "")

    def replay(self, datamodule: Any, before: int | None = None) -> None:
        """Take all lines into a fresh datamodule, and check where they lead after each round.

        Args:
            datamodule: at the start of the run.
            before: stop ahead of this round's fit; at the last line by default.

        Raises:
            JournalError: the data, or the code that splits them, have changed.
        """
        self._check(datamodule, self.start["state"], "at the start")
        for record in until(self._records[1:], before):
            datamodule.round = r = record["round"]
            datamodule.apply(record)
            if record["event"] == "committed":
                self._check(datamodule, record["state"], f"after round {r}")

    def _check(self, datamodule: Any, expected: str, when: str) -> None:
        found = datamodule.fingerprint()
        if expected != found:
            raise JournalError(
                f"{self.path}: the journal says {expected} of who is labelled {when}, the data "
                f"give {found}: the data set has changed since. Bring the old data back, or start "
                "anew with --overwrite"
            )

    def waiting(self, r: int) -> tuple[Tensor, Tensor]:
        """Items [W] asked in rounds before ``r`` that still wait, and the rounds [W] of asking."""
        since: dict[int, int] = {}
        for before, stages in sorted(self._rounds.items()):
            if (late := stages.get("collected")) is not None:
                still = late.get("pending") or [False] * len(late["index"])
                for item, waits in zip(late["index"], still, strict=True):
                    if not waits:
                        del since[item]
            if (
                before < r
                and "labelled" in stages
                and (pending := stages["labelled"].get("pending"))
            ):
                found = zip(stages["chosen"]["index"], pending, strict=True)
                since |= {item: before for item, waits in found if waits}
        return torch.tensor(list(since), dtype=torch.int64), torch.tensor(
            list(since.values()), dtype=torch.int64
        )

    @property
    def idle(self) -> int:
        """Rounds at the end that neither asked for anything nor received anything."""
        count = 0
        for done in reversed(self.committed):
            if done.ledger or done.arrived:
                break
            count += 1
        return count

    @property
    def bought(self) -> int:
        """Items asked for in the committed rounds, refused and pending ones included."""
        return sum(len(r.ledger) for r in self.committed)

    @property
    def spent(self) -> float:
        """What all answers cost until now, those to the query of a running round left out."""
        running = [self._late_cost(r) for r in self._rounds if r >= len(self.committed)]
        return sum([r.cost for r in self.committed] + running)

    def checkpoint(self, r: int) -> str | None:
        """Name of round ``r``'s checkpoint; None before round 0 and where nothing was fitted."""
        return self._rounds[r]["fitted"]["checkpoint"] if r >= 0 else None

    def hash_of(self, r: int) -> str:
        """What round ``r``'s checkpoint holds, as a hash; empty where an older run kept none."""
        return str(self._rounds[r]["fitted"].get(HASH) or "")

    def hash_of_file(self, name: str) -> str:
        """What the checkpoint of this name holds, as a hash; empty where no line names it."""
        fits = [stages["fitted"] for stages in self._rounds.values() if "fitted" in stages]
        return next((str(f.get(HASH) or "") for f in fits if f["checkpoint"] == name), "")

    @property
    def memory_hash(self) -> str:
        """What the file of :attr:`memory` holds, as a hash; empty where an older run kept none."""
        for r in sorted(self._rounds, reverse=True):
            chosen = self._rounds[r].get("chosen", {})
            if chosen.get("memory"):
                return str(chosen.get("memory_hash") or "")
        return ""

    def fitted(self, r: int) -> Round:
        """The round as far as it was fitted."""
        return self._round(r)

    def _round(self, r: int) -> Round:
        stages = self._rounds[r]
        fitted, chosen = stages["fitted"], stages.get("chosen")
        bought, arrived = self._bought(r), self._arrived(r)
        got = [p for p in bought if p.answered is not None and not p.refused]
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
            acquired=tuple(p.index for p in got),
            scores=tuple(p.score for p in got if p.score is not None),
            refused=tuple(p.index for p in bought if p.refused),
            cost=sum(p.cost for p in bought) + self._late_cost(r),
            notes={} if chosen is None else chosen["notes"],
            pending=tuple(p.index for p in bought if p.answered is None),
            arrived=arrived,
            ledger=bought,
            amended=self._amendments(r),
            settings=self.settings(r),
            trials=len(self.tried(r)),
            tuned=stages.get("tuned", {}).get("value"),
            seconds_tune=stages.get("tuned", {}).get("seconds", 0.0),
        )

    def _amendments(self, r: int) -> tuple[str, ...]:
        """What was changed in the run ahead of a round."""
        n = self._fixed.get(r, 0)
        return (*self._amended.get(r, ()), *([f"{n} answer(s) fixed"] if n else []))

    def _bought(self, r: int) -> tuple[Purchase, ...]:
        """What round ``r`` asked for, as it stood at the end of the round."""
        stages = self._rounds[r]
        if "labelled" not in stages or "chosen" not in stages:
            return ()
        chosen, record = stages["chosen"], stages["labelled"]
        answers = Answers.from_json(record)
        n = len(chosen["index"])
        refused, late = answers.mask("refused", n).tolist(), answers.mask("pending", n).tolist()
        costs = [1.0] * n if answers.cost is None else answers.cost.tolist()
        return tuple(
            Purchase(
                index=item,
                round=r,
                strategy=chosen.get("strategy", ""),
                score=None if chosen["scores"] is None else chosen["scores"][k],
                cost=costs[k],
                answered=None if late[k] else r,
                refused=refused[k],
                annotators="" if late[k] or answers.by is None else answers.by[k],
                time="" if late[k] else record.get("time", ""),
                **self._later(r, item),
            )
            for k, item in enumerate(chosen["index"])
        )

    def _later(self, r: int, item: int) -> dict[str, Any]:
        """What became of the answer to an item that round ``r`` asked for."""
        line = self._fixes.get((r, item))
        if line is None:
            return {}
        text = f"{shown(line)} in round {line['round']}"
        return {"fixed": text, "withdrawn": line["to"] != "labelled"}

    def _arrived(self, r: int) -> tuple[Purchase, ...]:
        """What earlier rounds asked for and was answered before round ``r``'s fit."""
        record = self._rounds[r].get("collected")
        if record is None:
            return ()
        answers, n = Answers.from_json(record), len(record["index"])
        refused, late = answers.mask("refused", n).tolist(), answers.mask("pending", n).tolist()
        wanted = set(record["index"])
        asked = {
            p.index: p for done in self.committed[:r] for p in done.ledger if p.index in wanted
        }
        return tuple(
            replace(
                asked[item],
                cost=asked[item].cost + (0.0 if answers.cost is None else float(answers.cost[k])),
                answered=r,
                refused=refused[k],
                annotators="" if answers.by is None else answers.by[k],
                time=record.get("time", ""),
            )
            for k, item in enumerate(record["index"])
            if not late[k]
        )

    def _late_cost(self, r: int) -> float:
        costs = self._rounds[r].get("collected", {}).get("cost")
        return float(sum(costs or ()))


def history_rounds(
    records: Sequence[Mapping[str, Any]], path: Path | None = None
) -> tuple[list[Round], str]:
    """The committed rounds of a journal and why the run stopped; ``path`` is for messages."""
    standing = Standing.of(records, path or Path())
    return standing.committed, standing.stopped
