"""A data set that has grown: its new items get the next positions, the old ones keep theirs.

What a run began with decides its splits, classes and scales for good; a line ``extended`` says how
many items joined, and what they are. The file ``items.npz`` has a digest of each item, so that one
that is another now is named.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_al.files import if_writable, replacing
from lightning_al.ranks.ranks import Ranks
from lightning_al.records import Inventory, RunPlan

from .journal import JournalError, read_journal
from .ownership import holds_journal

__all__ = ["ITEMS", "Known", "Stock", "known_items", "stand_as_known", "stock_of"]

log = logging.getLogger(__name__)

ITEMS = "items.npz"
"""File of a run folder that lists the items."""


@dataclass(frozen=True)
class Known:
    """The items that a run knows.

    Args:
        begun: how many it began with.
        total: how many it has, those that joined later included.
        contents: of each extension: first position, the one behind the last, twelve letters.
        names: of the files, in the order of their positions; empty where items are no files.
        listed: what each item was; None where no list is there.
    """

    begun: int
    total: int
    contents: Sequence[tuple[int, int, str]] = ()
    listed: Inventory | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the files, by position; none where items are no files."""
        return () if self.listed is None else tuple(self.listed.names)


def known_items(run_dir: str | Path | None) -> Known | None:
    """The items of the run in a folder; None where there is none, or of a box.

    Raises:
        JournalError: a damaged journal.
    """
    if run_dir is None or not holds_journal(Path(run_dir)):
        return None
    path = Path(run_dir)
    records, _ = read_journal(path / "journal.jsonl")
    found: Any = records[0] if records else {}
    for key in ("identity", "data", "items"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, int):
        return None
    joined = [r for r in records if r["event"] == "extended"]
    total = joined[-1]["new"] if joined else found
    contents = [(r["old"], r["new"], r["content"]) for r in joined]
    try:
        listed = Inventory.load(path / ITEMS) if (path / ITEMS).is_file() else None
    except ValueError as error:
        log.warning("%s; a change of single items cannot be named", error)
        listed = None
    if listed is not None:  # a crash may have come ahead of the line
        listed = replace(listed, digest=listed.digest[:total], names=listed.names[:total])
    return Known(found, total, contents, listed)


def stand_as_known(data: Any, known: Known | None) -> None:
    """Let a data module begin as its run began, and keep the order of the items that it knows.

    Args:
        data: a data module.
        known: what its run knows; None for a run that begins.
    """
    growth = getattr(data, "growth", None)
    if growth is None:
        return
    if known is None:
        growth.begin_with(None)
        return
    data.setup()
    n = len(data.items)
    if n >= known.begun and (n > known.begun or known.total > known.begun):
        growth.begin_with(known.begun, known.names)
    else:
        growth.begin_with(None)


@dataclass(frozen=True)
class Stock:
    """The items as they are now, beside those that the run knows; on rank 0 with the list.

    Args:
        items: as they are.
        known: to the run; None where it begins.
        joining: what is done with the new ones: fields of the line.
    """

    items: Inventory | None = None
    known: Known | None = None
    joining: Mapping[str, Any] | None = None

    def check(self, records: Sequence[Mapping[str, Any]], folder: Path) -> None:
        """Refuse a journal that another process has extended since its items were looked at.

        Raises:
            JournalError: it has.
        """
        joined = sum(record["event"] == "extended" for record in records)
        if joined != (0 if self.known is None else len(self.known.contents)):
            raise JournalError(
                f"{folder}: items have joined the run while this process read the data; give the "
                "same command again"
            )

    def keep(self, folder: Path) -> None:
        """Write the list of the items, where it is not there yet or has grown."""
        known = self.known
        have = 0 if known is None or known.listed is None else len(known.listed)
        if self.items is None or (have == len(self.items) and (folder / ITEMS).is_file()):
            return
        with if_writable(folder / ITEMS), replacing(folder / ITEMS) as place:
            self.items.save(place)


def stock_of(data: Any, known: Known | None, plan: RunPlan, ranks: Ranks) -> Stock:
    """Compare the items with those that the run knows; what is new joins where ``extend`` says so.

    Collective; the data module stands at its start.

    Raises:
        ValueError: ``extend`` of data that cannot grow.
        JournalError: items that are gone or changed, or new ones without ``extend``.
    """
    growth = getattr(data, "growth", None)
    if growth is None:
        if plan.extend:
            raise ValueError(
                f"{type(data).__name__} has all its items from the start, so nothing can join; "
                "leave extend out"
            )
        return Stock()
    return ranks.on_zero(lambda: _stock(data, growth, known, plan))


def _stock(data: Any, growth: Any, known: Known | None, plan: RunPlan) -> Stock:
    if known is None:
        return Stock(growth.inventory())
    where, n = plan.run_dir, len(data.items)
    grown = n != known.total or known.total != known.begun or plan.extend
    if not grown and known.listed is not None:
        return Stock(None, known)  # the identity of the run watches them
    items: Inventory = growth.inventory((known.begun, *(last for _, last, _ in known.contents)))
    if grown and known.listed is not None and (why := known.listed.trouble(items)):
        raise JournalError(
            f"{where}: {why} since the run knew them; items may only join behind those that are "
            "there: bring them back, or start anew with --overwrite"
        )
    if n < known.total:
        raise JournalError(
            f"{where} knows {known.total} items, the data set has {n} now; bring the others back, "
            "or start anew with --overwrite"
        )
    for first, last, content in known.contents:
        if items.content(first, last) != content:
            raise JournalError(
                f"{where}: items {first} to {last - 1}, which joined the run, are others now; "
                "bring them back, or start anew with --overwrite"
            )
    if n == known.total:
        return Stock(items, known)
    if not plan.extend:
        raise JournalError(
            f"{where} knows {known.total} items, the data set has {n} now: say --extend "
            f"(extend=True) to let the {n - known.total} new ones join at the next positions, "
            "bring the old data back, or start anew with --overwrite"
        )
    if items.names and known.listed is None:
        raise JournalError(
            f"{where} has no {ITEMS}, so which of the {n} files are new cannot be known; give the "
            "same command once with the old files alone, which writes it"
        )
    joining: dict[str, Any] = {"old": known.total, "new": n, "n": n - known.total}
    joining |= {"content": items.content(known.total, n), **growth.joining(known.total, n)}
    return Stock(items, known, joining)
