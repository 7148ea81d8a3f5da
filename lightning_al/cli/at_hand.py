"""The labels at hand: those of the start, or those that a run has bought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_al.journal.extension import known_items, stand_as_known
from lightning_al.journal.journal import read_journal
from lightning_al.journal.standing import Standing

__all__ = ["at_hand"]


def at_hand(data: Any, home: Path | None, seed: int) -> list[int]:
    """Bring the data to the labels of a run, where one is named; the positions it has bought."""
    if home is not None:
        stand_as_known(data, known_items(home))
    data.start(seed)
    if home is None:
        return []
    records, _ = read_journal(home / "journal.jsonl")
    standing = Standing.of(records, home)
    standing.replay(data)
    data.round = len(standing.committed)
    return [p.index for done in standing.committed for p in done.ledger]
