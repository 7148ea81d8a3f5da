import errno
import json
import math
import os
import random
import resource
import subprocess

import numpy as np
import pytest
import torch
from helpers import small

from lightning_al.benchmark.single import read_run
from lightning_al.history.curves import LearningCurve
from lightning_al.history.round_log import RoundLog
from lightning_al.journal.journal import (
    EVENTS,
    Journal,
    JournalError,
    _encode,
    _to_json,
    read_journal,
)
from lightning_al.records import Acquisition, Answers


def same(a, b):
    """Equality under which NaN equals itself, and an int is no float."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


def anything(drawn, depth=3):
    """A random plain value."""
    leaves = [
        lambda: drawn.choice([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308]),
        lambda: drawn.uniform(-1e3, 1e3),
        lambda: drawn.choice([0, -1, 2**63, -(2**200)]),
        lambda: drawn.choice([None, True, False]),
        lambda: "".join(chr(drawn.choice([10, 0, 34, 92, 0x2028, 0xE9, 0x1F600])) for _ in "abc"),
        lambda: drawn.choice(["", "crc", ',"crc":"00000000"}', "nan", "inf"]),
        lambda: {"float": drawn.choice(["one", 3, None])},
    ]
    if depth and drawn.random() < 0.5:
        inner = [anything(drawn, depth - 1) for _ in range(drawn.randrange(4))]
        return inner if drawn.random() < 0.5 else {f"{i}é\n": v for i, v in enumerate(inner)}
    return drawn.choice(leaves)()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def written(path):
    journal = Journal(path)
    for i, event in enumerate(EVENTS):
        journal.append(event, round=i, note="é\n" * i)
    return path


def test_what_is_read_is_what_was_written(path):
    drawn = random.Random(0)
    journal = Journal(path)
    fields = [{f"f{j}": anything(drawn) for j in range(4)} for _ in range(200)]
    given = [journal.append("scored", **f) for f in fields]
    read, sound = read_journal(path)
    assert sound == path.stat().st_size
    for f, returned, record in zip(fields, given, read, strict=True):
        assert same(json.loads(json.dumps({"event": "scored"})) | f, record)
        assert same(returned, record)
        assert same(journal.records[0], read[0])


def test_lines_are_plain_json(path):
    Journal(path).append("fitted", loss=math.nan, best=-math.inf)

    def refuse(constant):
        raise AssertionError(constant)

    (line,) = path.read_text().splitlines()
    record = json.loads(line, parse_constant=refuse)
    assert record["loss"] == {"float": "nan"}
    assert record["best"] == {"float": "-inf"}


def test_scores_without_end_come_back(path):
    scores = torch.tensor([math.inf, 0.1, -math.inf])
    chosen = Acquisition(index=torch.tensor([5, 3, 9]), scores=scores, notes={"deep": {"a": [1]}})
    answers = Answers({"y": torch.tensor([1.5, math.nan])}, refused=torch.tensor([False, True]))
    journal = Journal(path)
    journal.append("chosen", **chosen.to_json())
    journal.append("labelled", **answers.to_json())
    (first, second), _ = read_journal(path)
    assert torch.equal(Acquisition.from_json(first).scores, scores.double())
    torch.testing.assert_close(
        Answers.from_json(second).values["y"], answers.values["y"], equal_nan=True
    )


def test_values_that_are_not_plain_are_refused(path):
    journal = Journal(path)
    with pytest.raises(
        TypeError, match=r"'chosen' cannot go into the journal.*Tensor.*plain values"
    ):
        journal.append("chosen", notes={"a": torch.ones(1)})
    assert not path.exists()


def test_a_torn_last_line_is_dropped_at_every_byte(written, caplog):
    whole = written.read_bytes()
    lines = whole.splitlines(keepends=True)
    head = b"".join(lines[:-1])
    records, _ = read_journal(written)
    for kept in range(len(lines[-1])):
        written.write_bytes(head + lines[-1][:kept])
        caplog.clear()
        journal = Journal(written)
        assert journal.records == records[:-1]
        assert len(caplog.records) == (kept > 0)
        if kept:
            assert f"line {len(lines)} is incomplete" in caplog.text
        last = len(EVENTS) - 1
        journal.append(EVENTS[last], round=last, note="é\n" * last)
        assert written.read_bytes() == whole


def test_a_torn_line_that_was_longer_leaves_nothing_behind(path):
    journal = Journal(path)
    journal.append("start")
    with path.open("ab") as file:
        file.write(b"x" * 500)
    Journal(path).append("fitted", round=0)
    records, sound = read_journal(path)
    assert [r["event"] for r in records] == ["start", "fitted"]
    assert sound == path.stat().st_size


def test_any_flipped_bit_in_a_whole_line_is_an_error_that_names_it(written):
    whole = written.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == ord("\n")]
    drawn = random.Random(0)
    for place in range(len(whole) - 1):  # the very last newline makes a torn line of it
        flipped = bytearray(whole)
        flipped[place] ^= 1 << drawn.randrange(8)
        written.write_bytes(flipped)
        line = 1 + sum(end < place for end in ends)
        with pytest.raises(JournalError, match=rf"line {line} is damaged.*head -n {line - 1} "):
            read_journal(written)


def test_every_bit_of_one_byte_counts(written):
    whole = written.read_bytes()
    for bit in range(8):
        flipped = bytearray(whole)
        flipped[3] ^= 1 << bit
        written.write_bytes(flipped)
        with pytest.raises(JournalError, match="line 1 is damaged"):
            Journal(written)


def test_the_mend_that_the_error_names_works(written):
    lines = written.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"round", b"Round")
    written.write_bytes(b"".join(lines))
    with pytest.raises(JournalError) as caught:
        Journal(written)
    mend = str(caught.value).rpartition("from there: ")[2]
    subprocess.run(mend, shell=True, cwd=written.parent, check=True)
    assert [r["event"] for r in Journal(written).records] == list(EVENTS[:3])


def test_a_line_without_a_checksum_is_damaged(written):
    with written.open("ab") as file:
        file.write(b'{"event":"committed","round":1}\n')
    with pytest.raises(JournalError, match=f"line {len(EVENTS) + 1} is damaged"):
        Journal(written)


# --- a full disk ---------------------------------------------------------------------------------


def test_a_line_that_does_not_fit_leaves_the_earlier_ones(written):
    before = written.read_bytes()
    said = written.with_name("said")
    child = os.fork()  # the limit cannot be taken back in this process
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, len(before) + 100))
        try:
            Journal(written).append("fitted", note="x" * 300)
        except OSError as error:
            said.write_text(str(error))
        os._exit(0)
    os.waitpid(child, 0)
    assert "cannot write 'fitted' to the journal" in said.read_text()
    assert "make room and run the same command again" in said.read_text()
    assert written.read_bytes()[: len(before)] == before
    assert len(written.read_bytes()) == len(before) + 100  # the half line of a really full disk
    Journal(written).append("fitted", note="x" * 300)
    assert len(read_journal(written)[0]) == len(EVENTS) + 1


def test_the_number_of_the_error_is_kept(path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(path)
    journal.append("start")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device; nothing that was") as caught:
            journal.append("fitted", round=0)
    assert caught.value.errno == errno.ENOSPC
    journal.append("fitted", round=0)  # the same process may go on as well
    assert [r["event"] for r in read_journal(path)[0]] == ["start", "fitted"]


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 200 kB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small file system here: {error}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk, leave):
    """Fill the file system but for some bytes."""
    stat = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * max(0, stat.f_bavail * stat.f_frsize - leave))
    return ballast


@pytest.mark.parametrize("pages", range(5))
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(small_disk, learner, pages):
    ballast = fill(small_disk, pages * resource.getpagesize())
    run = learner(run_dir=small_disk / "run")
    with pytest.raises(OSError, match="No space left on device"):
        run.run()
    ballast.unlink()
    history = learner(run_dir=small_disk / "run").run()
    assert len(history) == 3
    left = small.outcome(small_disk / "run")
    learner().run()
    assert left == small.outcome(learner().run_dir)


@pytest.fixture
def closed_disk(small_disk):
    """Closes the small disk: nothing can be written there any more."""

    def close():
        subprocess.run(["mount", "-o", "remount,ro,size=5m", str(small_disk)], check=True)
        return small_disk

    subprocess.run(["mount", "-o", "remount,size=5m", str(small_disk)], check=True)
    return close


@pytest.mark.parametrize("observers", [[], [RoundLog()], [RoundLog(), LearningCurve()]])
@pytest.mark.parametrize("keep", ["all", "last"])
def test_a_finished_run_on_a_closed_disk_is_read_back(
    small_disk, closed_disk, learner, observers, keep
):
    run = {"run_dir": small_disk / "run", "observers": observers}
    first = learner(**run).run()
    closed_disk()
    again = learner(**run, keep_checkpoints=keep).run()
    assert [r.metrics for r in again.rounds] == [r.metrics for r in first.rounds]
    assert len(read_run(small_disk / "run").frame) == 3


def test_an_unfinished_one_says_what_cannot_be_written(small_disk, closed_disk, learner):
    learner(run_dir=small_disk / "run").run()
    path = small_disk / "run" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    closed_disk()
    with pytest.raises(OSError, match=r"cannot write .*Read-only file system; nothing that"):
        learner(run_dir=small_disk / "run").run()


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5, -0.0, 1e300],
        (True, None, "ü\n"),
        {"a": [math.nan, {"b": (math.inf, 3)}], "c": -math.inf},
        [np.float64(0.1), np.float64("nan")],
        [[], {}, [[]]],
    ],
)
def test_a_line_is_what_looking_at_each_number_gives(value):
    record = {"event": "chosen", "value": value}
    body, _, _ = _encode(record).decode().rpartition(',"crc"')
    looked = json.dumps(_to_json(record), separators=(",", ":"), allow_nan=False)
    assert body + "}" == looked
