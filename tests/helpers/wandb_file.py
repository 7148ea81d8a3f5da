"""Reads a W&B run file back (LevelDB log format behind a 7-byte header); torn tails are dropped."""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAGIC = b":W&B"
HEADER = 7  # of the file, and of every chunk: checksum (4), length (2), type (1)
BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class WandbRun:
    """What one run file holds."""

    history: list[dict[str, Any]] = field(default_factory=list)
    steps_of: dict[str, str] = field(default_factory=dict)  # metric or glob -> its x axis
    config: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    exit_code: int | None = None


def read_finished(folder: Path, patience: float = 30.0) -> WandbRun:
    """The run once its exit record is there: offline, ``finish`` returns before the last write."""
    end = time.monotonic() + patience
    while (run := read_run(folder)).exit_code is None:
        if time.monotonic() > end:
            raise TimeoutError(f"no exit record in {folder} after {patience} s")
        time.sleep(0.05)
    return run


def read_run(folder: Path) -> WandbRun:
    """The run in an ``offline-run-*`` folder."""
    from wandb.proto import wandb_internal_pb2 as pb

    (file,) = folder.glob("*.wandb")
    run = WandbRun()
    axes: list[str] = []
    for data in chunks(file.read_bytes()):
        record = pb.Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            run.history.append(
                {
                    item.key or ".".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }
            )
        elif kind == "metric":
            metric = record.metric
            name = metric.name or metric.glob_name
            axes.append(name)
            if metric.step_metric:
                run.steps_of[name] = metric.step_metric
            elif metric.step_metric_index:
                run.steps_of[name] = axes[metric.step_metric_index - 1]
        elif kind == "run":
            run.id = record.run.run_id
            run.config |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def chunks(buffer: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log; stops at a torn tail, raises at a wrong checksum."""
    if buffer[:4] != MAGIC:
        raise ValueError(f"a W&B file starts with {MAGIC!r}, got {buffer[:4]!r}")
    at, parts = HEADER, b""
    while at + HEADER <= len(buffer):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # a block's end too short for a header is padding
            at += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", buffer, at)
        data = buffer[at + HEADER : at + HEADER + length]
        if len(data) < length:
            return
        at += HEADER + length
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            raise ValueError(f"wrong checksum before byte {at}")
        parts = data if kind in (FULL, FIRST) else parts + data
        if kind in (FULL, LAST):
            yield parts
