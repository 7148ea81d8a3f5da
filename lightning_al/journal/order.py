"""The order in which a run writes its lines, and what is wrong with a journal in another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_al.records.stages import AMENDMENTS, EVENTS, REFITTED, REPEATED

from .journal import JournalError

__all__ = ["check_order", "first_line"]

PLACE = {event: place for place, event in enumerate(EVENTS)}
AFTER = {
    "tuned": "tried",
    "scored": "fitted",
    "chosen": "scored",
    "asked": "chosen",
    "labelled": "asked",
    "committed": "fitted",
}
"""A line -> the one of its round without which it cannot be."""


def first_line(records: Sequence[Mapping[str, Any]], path: Path) -> Mapping[str, Any]:
    """The line ``start`` of a journal.

    Raises:
        JournalError: the journal begins with another line, or is empty.
    """
    if not records or records[0]["event"] != "start":
        found = f"it begins with {records[0]['event']!r}" if records else "it is empty"
        raise JournalError(
            f"{path}: the journal has no line 'start', which says what run it is: {found}; restore "
            "the file from a copy, or start anew with --overwrite"
        )
    return records[0]


def check_order(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse a journal whose lines are whole, but lost, doubled or moved.

    Args:
        records: all of it; those of version 0.1 are refused elsewhere, by name.
        path: the run folder, for the message.

    Raises:
        JournalError: no run writes such lines; the message names the first.
    """
    if not records or first_line(records, path).get("format") is None:
        return
    committed = 0
    seen: dict[str, Mapping[str, Any]] = {}
    for number, record in enumerate(records[1:], start=2):
        event, r = record["event"], record.get("round")
        if why := _misplaced(event, r, committed, seen) or _out_of_turn(record, seen):
            raise JournalError(
                f"{path}: line {number} of the journal ({event!r} of round {r}) cannot stand "
                f"there: {why}; a line was lost, doubled or moved. Restore the file from a copy, "
                f"or cut it off before line {number} to go on from there: "
                f"head -n {number - 1} journal.jsonl > fixed && mv fixed journal.jsonl"
            )
        if event == "committed":
            committed, seen = committed + 1, {}
        elif event not in (REFITTED, *AMENDMENTS):
            seen[event] = record


def _out_of_turn(record: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> str:
    """Why trials are not those that are next; empty where they are."""
    if record["event"] == "fitted" and "tried" in seen and "tuned" not in seen:
        return "'tuned' comes before it"
    if record["event"] != "tried":
        return ""
    due = seen["tried"]["trial"] + 1 if "tried" in seen else 0
    return "" if record["trial"] == due else f"trial {due} is next"


def _misplaced(event: str, r: Any, committed: int, seen: Mapping[str, Mapping[str, Any]]) -> str:
    """Why a line cannot follow those that were ``seen`` in its round; empty where it can."""
    if event == REFITTED:
        return "" if r < committed or "fitted" in seen else f"round {r} was not fitted before"
    if event in AMENDMENTS:
        return "" if r == committed else f"round {committed} is next"
    if event not in PLACE:
        return "this version knows no such line"
    if event == "start":
        return "the first line is the only 'start'"
    if r != committed:
        return f"round {committed} is next"
    if event in seen and event not in REPEATED:
        return "it is there already"
    if late := [other for other in seen if PLACE[other] > PLACE[event]]:
        return f"{late[0]!r} comes after it"
    if (before := AFTER.get(event)) is not None and before not in seen:
        return f"{before!r} comes before it"
    if event != "committed":
        return ""
    chosen = seen.get("chosen")
    missing = "chosen" if "scored" in seen and chosen is None else ""
    if chosen is not None and chosen.get("index") and "labelled" not in seen:
        missing = "labelled"
    return f"{missing!r} comes before it" if missing else ""
