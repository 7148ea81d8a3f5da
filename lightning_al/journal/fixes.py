"""Answers of a run, and how one that was wrong is corrected or withdrawn.

A line ``fixed`` says what was answered and what holds from there on. Fits that were keep the
answers that they had; those that come have the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.history.records import Purchase
from lightning_al.identity import Portrayal, differences
from lightning_al.labels.state import SAID
from lightning_al.records import Answers, Box, Status

from .extension import known_items, stand_as_known
from .journal import Journal, JournalError, utc
from .lock import FolderLock
from .order import check_order
from .ownership import holds_journal
from .standing import Standing

__all__ = ["SET_ASIDE", "WITHDRAWN", "Fix", "answers_of", "fix_answers", "standing_in"]

WITHDRAWN, SET_ASIDE = "pool", "refused"
"""What becomes of an item without an answer: it may be asked for again, or never. A place of a box
is set aside in either case, for any place may be asked for."""
TO = {"labelled": Status.LABELLED, WITHDRAWN: Status.POOL, SET_ASIDE: Status.REFUSED}


@dataclass(frozen=True)
class Fix:
    """What an item's answer shall be.

    Args:
        item: position in the data set.
        values: the answer by name, each [1, ...]; None to take it back.
        to: where an item without an answer goes: :data:`WITHDRAWN` or :data:`SET_ASIDE`.
        why: in words, for those who read the journal.
    """

    item: int
    values: Mapping[str, Tensor] | None = None
    to: str = WITHDRAWN
    why: str = ""

    @property
    def status(self) -> str:
        """What the item is then."""
        return "labelled" if self.values is not None else self.to


def standing_in(run_dir: Path, data: Any, records: Sequence[Mapping[str, Any]]) -> Standing:
    """How a run stands, and its data module with it.

    Args:
        run_dir: the folder.
        data: of the run, fresh.
        records: of the journal.

    Raises:
        JournalError: a damaged journal, or data that are others.
    """
    check_order(records, run_dir)
    standing = Standing.of(records, run_dir)
    data.prepare_data()
    stand_as_known(data, known_items(run_dir))
    data.start(standing.start["seed"])
    now = Portrayal().of(data.portrait(), "data")
    if found := differences(standing.start["identity"]["data"], now, "data"):
        raise JournalError(
            f"{run_dir}: the data are others than those of the run ({'; '.join(found[:5])}); give "
            "the data of the run"
        )
    standing.replay(data)
    return standing


def answers_of(standing: Standing) -> list[Purchase]:
    """Every item that was answered, in the order of asking; those of a running round too."""
    found: dict[tuple[int, int], Purchase] = {}
    for done in (*standing.committed, *standing.running):
        found |= {(p.round, p.index): p for p in (*done.arrived, *done.ledger)}
    return [p for p in found.values() if p.answered is not None and not p.refused]


def fix_answers(
    run_dir: str | Path, datamodule: Any, fixes: Iterable[Fix] | Mapping[int, Any], why: str = ""
) -> list[dict[str, Any]]:
    """Correct or withdraw answers of a run; the command of the run then goes on with them.

    Args:
        run_dir: its folder.
        datamodule: its data, as the run was given them.
        fixes: one an item; or labels by item, None to put the item back into the pool.
        why: in words, where a fix does not say it.

    Returns:
        The lines that were written; none for answers that are so already.

    Raises:
        LookupError: no run in the folder.
        FolderBusy: a run is at work in it.
        ValueError: an item that was never answered, or an answer that is none; nothing is written
            then.
    """
    path = Path(run_dir)
    if not holds_journal(path):
        raise LookupError(f"{path} holds no journal; give the folder of a run")
    if isinstance(fixes, Mapping):
        fixes = [Fix(item, _values(label)) for item, label in fixes.items()]
    lock = FolderLock(path)
    try:
        journal = Journal(path / "journal.jsonl")
        standing = standing_in(path, datamodule, journal.records)
        bought = {p.index: p for p in answers_of(standing)}
        found = [_line(fix, datamodule, bought) for fix in fixes]
        if twice := [f["item"] for f in found if [g["item"] for g in found].count(f["item"]) > 1]:
            raise ValueError(f"item {twice[0]} is fixed twice; say once what holds")
        changed = [line for line in found if (line["old"], "labelled") != (line["new"], line["to"])]
        r = len(standing.committed)
        return [
            journal.append("fixed", round=r, **{"why": why, **line}, time=utc()) for line in changed
        ]
    finally:
        lock.release()


def _values(label: Any) -> Mapping[str, Tensor] | None:
    if label is None or isinstance(label, Mapping):
        return label
    return {"y": torch.as_tensor(label)[None]}


def _line(fix: Fix, data: Any, bought: Mapping[int, Purchase]) -> dict[str, Any]:
    """The fields of a line, checked."""
    n, item = len(data.state), fix.item
    if not 0 <= item < n:
        raise ValueError(f"item {item} is outside the data set of {n} items")
    status = Status(int(data.status[item]))
    if status != Status.LABELLED or item not in bought:
        said = "labelled from the start" if status == Status.LABELLED else SAID[status]
        never = "" if status == Status.ASKED else "; only what an oracle answered can be fixed"
        wait = " and waits for its answer" if status == Status.ASKED else ""
        raise ValueError(f"item {item} has no answer of an oracle: it is {said}{wait}{never}")
    index = torch.tensor([item])
    old = {name: data.state.answers.get(index, name) for name in data.outcomes.names}
    before = {name: pair[0] for name, pair in old.items() if pair is not None}
    shown, after = [str(data.answer(item))], fix.values
    if after is not None:
        after = {
            k: v.to(before[k].dtype) if _fits(v, before.get(k)) else v for k, v in after.items()
        }
        data.check_answers(index, Answers(after))
        shown.append(_shown(after, data))
    else:
        shown.append("withdrawn" if fix.to == WITHDRAWN else "set aside")
    return {
        "item": item,
        "old": Answers(before).to_json()["values"],
        "new": None if after is None else Answers(after).to_json()["values"],
        "to": SET_ASIDE if after is None and isinstance(data.domain, Box) else fix.status,
        "shown": shown,
        **({"why": fix.why} if fix.why else {}),
    }


def _fits(value: Tensor, before: Tensor | None) -> bool:
    """Whether a value loses nothing in the type of the answers that were."""
    return before is not None and torch.equal(value.to(before.dtype).to(value.dtype), value)


def _shown(values: Mapping[str, Tensor], data: Any) -> str:
    """An answer in words."""
    first = next(iter(values.values()))[0]
    if data.class_names is not None and first.ndim == 0 and not first.is_floating_point():
        return str(data.class_names[int(first)])
    parts = [value[0].tolist() for value in values.values()]
    return str(parts[0] if len(parts) == 1 else parts)
