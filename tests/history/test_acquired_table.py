"""``acquired.csv`` grows by the rows of each round, and is always what a rebuild would give."""

from dataclasses import replace

import pytest
import torch

from lightning_al.history.records import Purchase, Round
from lightning_al.history.round_log import RoundLog
from lightning_al.history.round_tables import AcquiredTable, acquired_items, write_acquired_csv

FILE = "acquired.csv"


class Plain:
    """A data module that knows classes."""

    def answers_to(self, index):
        return [int(i) % 3 for i in index]


class Words:
    """One whose answers and files a spreadsheet would misread."""

    def item_path(self, index):
        return f'=a "{index}",\n.png'

    def answer(self, index):
        return "-1" if index % 2 else "@b"


class Places(Plain):
    """One on a box."""

    def coordinates(self, index):
        return torch.stack([index / 7, -index.double()], 1)


def bought(index, r, **more):
    return Purchase(index, r, "bald", 0.1 * index, 1.5, r, time="2026-01-01T00:00:00+00:00", **more)


def a_round(r, acquired=(), refused=(), pending=(), arrived=()):
    ledger = [bought(i, r) for i in acquired]
    ledger += [replace(bought(i, r), refused=True) for i in refused]
    ledger += [replace(bought(i, r), answered=None, time="") for i in pending]
    return Round(
        r, 5, 9, {}, 1, None, acquired=acquired, refused=refused, pending=pending,
        scores=[0.1 * i for i in acquired], ledger=ledger, arrived=arrived,
    )  # fmt: skip


HISTORIES = {
    "every round": [a_round(r, (10 * r, 10 * r + 3)) for r in range(4)],
    "rounds without a query": [a_round(0), a_round(1, (4, 2)), a_round(2), a_round(3, (9,))],
    "refused and late": [
        a_round(0, (1,), refused=(2,), pending=(3, 4)),
        a_round(1, refused=(5,), arrived=[bought(3, 0), replace(bought(4, 0), refused=True)]),
        a_round(2, (6, 7), arrived=()),
    ],
    "nothing at all": [a_round(0), a_round(1)],
}


def rebuilt(folder, rounds, data):
    folder.mkdir(exist_ok=True)
    items = [item for r in rounds for item in acquired_items(r, data)]
    return write_acquired_csv(folder, items).read_bytes()


@pytest.mark.parametrize(
    "data", [Plain(), Words(), Places(), object()], ids=lambda d: type(d).__name__
)
@pytest.mark.parametrize("name", HISTORIES)
def test_after_each_round_it_is_what_a_rebuild_gives(tmp_path, name, data):
    log = RoundLog()
    log.run_started({"run_dir": tmp_path, "datamodule": data}, [])
    for n, done in enumerate(HISTORIES[name], start=1):
        log.round_ended(done, data)
        expected = rebuilt(tmp_path / "anew", HISTORIES[name][:n], data)
        assert (tmp_path / FILE).read_bytes() == expected


def test_what_stands_there_is_not_written_again(tmp_path):
    log = RoundLog()
    log.run_started({"run_dir": tmp_path}, [])
    log.round_ended(a_round(0, (1, 2)), Plain())
    first = (tmp_path / FILE).stat().st_ino
    with (tmp_path / FILE).open() as reader:  # keeps the number of the file from being used again
        for r in (1, 2, 3):
            log.round_ended(a_round(r, (10 * r,)), Plain())
        assert (tmp_path / FILE).stat().st_ino == first
        assert len(reader.read().splitlines()) == 1 + 5


@pytest.mark.parametrize("kept", [0, 1, 40, 120, 200, -1])
@pytest.mark.parametrize("name", ["every round", "refused and late"])
def test_killed_while_it_writes_it_is_right_again_after_the_next_start(tmp_path, name, kept):
    rounds = HISTORIES[name]
    log = RoundLog()
    log.run_started({"run_dir": tmp_path, "datamodule": Plain()}, [])
    for done in rounds[:2]:
        log.round_ended(done, Plain())
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:kept])
    again = RoundLog()
    again.run_started({"run_dir": tmp_path, "datamodule": Plain()}, rounds[:2])
    assert (tmp_path / FILE).read_bytes() == rebuilt(tmp_path / "anew", rounds[:2], Plain())
    for done in rounds[2:]:
        again.round_ended(done, Plain())
    assert (tmp_path / FILE).read_bytes() == rebuilt(tmp_path / "anew", rounds, Plain())


@pytest.mark.parametrize("meddle", [
    lambda file: file.unlink(),
    lambda file: file.write_text("a spreadsheet saved this"),
    lambda file: file.write_bytes(file.read_bytes() + b"a note\n"),
], ids=["removed", "replaced", "longer"])  # fmt: skip
def test_a_file_that_somebody_changed_is_written_anew(tmp_path, meddle):
    rounds, log = HISTORIES["every round"], RoundLog()
    log.run_started({"run_dir": tmp_path}, [])
    for n, done in enumerate(rounds):
        log.round_ended(done, Plain())
        if n == 1:
            meddle(tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == rebuilt(tmp_path / "anew", rounds, Plain())


def test_rows_are_added_only_under_the_columns_that_are_there(tmp_path):
    table = AcquiredTable(tmp_path)
    plain, placed = (acquired_items(a_round(0, (1, 2)), d) for d in (Plain(), Places()))
    assert not table.add(plain)  # there is no file yet
    table.rewrite(plain)
    assert table.add(plain)
    before = table.path.read_bytes()
    assert not table.add(placed)
    assert table.path.read_bytes() == before
    table.rewrite(placed)
    assert table.add(plain)
    assert table.add([])
