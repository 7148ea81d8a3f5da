"""The journal: what a run did, written and synced before it does the next thing.

One JSON object a line, each with a checksum. A torn last line is what a crash leaves: it is
dropped with a notice. Any other bad line is an error, for the record cannot be trusted then.
"""

from __future__ import annotations

import datetime
import json
import logging
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_al.files import disk_errors
from lightning_al.records.stages import EVENTS

__all__ = ["EVENTS", "Journal", "JournalError", "read_journal", "sync_folder", "utc"]

log = logging.getLogger(__name__)

Hook = Callable[[str, str], None]


class JournalError(ValueError):
    """The journal cannot be read or belongs to another run."""


def _no_hook(moment: str, event: str) -> None:
    """Nothing happens."""


fault_hook: Hook = _no_hook
"""Called as ``hook(moment, event)`` around every write and sync; tests kill the process here."""


def _to_json(value: Any) -> Any:
    """JSON has no NaN and no infinity: such a number becomes ``{"float": "nan"}``."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    if isinstance(value, dict):
        return {key: _to_json(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    return value


def _from_json(value: dict[str, Any]) -> Any:
    if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
        return float(value["float"])
    return value


_dumps = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _encode(record: dict[str, Any]) -> bytes:
    try:
        try:
            text = _dumps(record)
        except ValueError:  # a number that JSON does not have
            text = _dumps(_to_json(record))
        body = text.encode()
    except TypeError as error:
        raise TypeError(
            f"event {record['event']!r} cannot go into the journal: {error}; notes of a strategy "
            "and settings of a run are plain values (numbers, texts, lists, dicts)"
        ) from None
    return body[:-1] + f',"crc":"{zlib.crc32(body):08x}"}}\n'.encode()


def _decode(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None where the line is damaged."""
    head, mark, tail = line.rpartition(b',"crc":"')
    body = head + b"}"
    if not mark or tail != f'{zlib.crc32(body):08x}"}}'.encode():
        return None
    record: dict[str, Any] = json.loads(body, object_hook=_from_json)
    return record


def read_journal(path: Path) -> tuple[list[dict[str, Any]], int]:
    """All records of a journal, and how many bytes of the file are sound.

    Raises:
        JournalError: a damaged line that is not the last one.
    """
    if not path.exists():
        return [], 0
    data = path.read_bytes()
    records: list[dict[str, Any]] = []
    sound = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)  # what follows the last newline: torn, or empty
        if last and not line:
            break
        record = None if last else _decode(line)
        if record is None:
            if last:
                log.warning(
                    "%s: line %d is incomplete (the run was cut off while writing it); "
                    "dropped, its stage is done again",
                    path,
                    number,
                )
                break
            raise JournalError(
                f"{path}: line {number} is damaged (checksum does not match). Restore the file "
                f"from a copy, or cut it off before line {number} to go on from there: "
                f"head -n {number - 1} journal.jsonl > fixed && mv fixed journal.jsonl"
            )
        records.append(record)
        sound += len(line) + 1
    return records, sound


class Journal:
    """Append-only record of one run, for its one writer (rank 0)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records, self._sound = read_journal(path)

    def clear(self) -> None:
        """Begin anew: the next line is the first one; till it is written the old ones stand."""
        self.records, self._sound = [], 0

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one record and sync it; only then it counts. The record as a reader gets it.

        Raises:
            OSError: the disk would not take it; what was there before is intact.
            TypeError: a field that is no plain value.
        """
        line = _encode({"event": event, **fields})
        fault_hook("before-write", event)
        failed = f"cannot write {event!r} to the journal {self.path}"
        with disk_errors(failed, self.path.parent, len(line)):
            fresh = not self.path.exists()
            with open(self.path, "wb" if fresh else "r+b", buffering=0) as file:
                file.truncate(self._sound)  # what a crash or a full disk left half written
                file.seek(self._sound)
                written = 0
                while written < len(line):
                    written += file.write(line[written:])
                fault_hook("after-write", event)
                fault_hook("before-sync", event)
                os.fsync(file.fileno())
            if fresh:
                sync_folder(self.path.parent)
        fault_hook("after-sync", event)
        self._sound += len(line)
        record = _decode(line[:-1])
        assert record is not None
        self.records.append(record)
        return record


def utc() -> str:
    """The time as a table shows it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def sync_folder(folder: Path) -> None:
    """Make a new or renamed file's entry durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
