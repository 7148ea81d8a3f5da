"""Lines that are whole and stand where no run writes them."""

import random

import pytest

from lightning_al.assembly.replay import replay
from lightning_al.benchmark.single import read_run
from lightning_al.journal.journal import Journal, JournalError, read_journal
from lightning_al.journal.order import check_order


@pytest.fixture
def finished(learner):
    learner().run()
    return learner().run_dir


def twice(event, r):
    def edit(records):
        at = place(records, event, r)
        return [*records[: at + 1], *records[at:]]

    return edit


def without(event, r):
    def edit(records):
        at = place(records, event, r)
        return records[:at] + records[at + 1 :]

    return edit


def swapped(event, r):
    def edit(records):
        at = place(records, event, r)
        return [*records[: at - 1], records[at], records[at - 1], *records[at + 1 :]]

    return edit


def place(records, event, r):
    return next(i for i, x in enumerate(records) if (x["event"], x.get("round")) == (event, r))


def rewritten(path, records):
    path.unlink()
    journal = Journal(path)
    for record in records:
        journal.append(**record)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (twice("committed", 0), "round 1 is next"),
        (twice("committed", 2), "round 3 is next"),
        (twice("fitted", 1), "it is there already"),
        (twice("start", None), "the only 'start'"),
        (without("start", None), "no line 'start'.*begins with 'fitted'"),
        (without("fitted", 0), "'fitted' comes before it"),
        (without("scored", 1), "'scored' comes before it"),
        (without("chosen", 1), "'chosen' comes before it"),
        (without("asked", 0), "'asked' comes before it"),
        (without("labelled", 1), "'labelled' comes before it"),
        (without("committed", 0), "it is there already|round 0 is next"),
        (swapped("labelled", 1), "comes before it"),
        (lambda records: records[:1] + records[place(records, "fitted", 1) :], "round 0 is next"),
        (lambda records: [*records[:1], {"event": "thought", "round": 0}], "no such line"),
    ],
)
def test_what_no_run_writes_is_refused_by_all_that_read(learner, finished, edit, said):
    path = finished / "journal.jsonl"
    records, _ = read_journal(path)
    rewritten(path, edit(records))
    before = path.read_bytes()
    for read in (
        lambda: learner().run(),
        lambda: replay(finished, 0, learner()),
        lambda: read_run(finished),
    ):
        with pytest.raises(JournalError, match=said) as caught:
            read()
        assert "from a copy" in str(caught.value)
    assert path.read_bytes() == before


def test_the_mend_that_the_error_names_works(learner, finished):
    path = finished / "journal.jsonl"
    whole = path.read_bytes()
    records, _ = read_journal(path)
    rewritten(path, twice("committed", 1)(records))
    with pytest.raises(JournalError, match=r"head -n (\d+) ") as caught:
        learner().run()
    number = int(str(caught.value).partition("head -n ")[2].split()[0])
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:number]))
    learner().run()
    assert [r["event"] for r in read_journal(path)[0]] == [r["event"] for r in records]
    assert whole.startswith(path.read_bytes()[:200])


def test_every_beginning_of_a_journal_is_in_order(finished):
    records, _ = read_journal(finished / "journal.jsonl")
    for count in range(len(records) + 1):
        check_order(records[:count], finished)


def test_any_line_lost_or_moved_is_noticed(finished):
    """Any one line taken out of a run, the last ones apart, or any two lines exchanged."""
    records, _ = read_journal(finished / "journal.jsonl")
    for gone in range(len(records) - 1):
        with pytest.raises(JournalError):
            check_order(records[:gone] + records[gone + 1 :], finished)
    drawn = random.Random(0)
    for _ in range(50):
        a, b = drawn.sample(range(len(records)), 2)
        moved = list(records)
        moved[a], moved[b] = moved[b], moved[a]
        with pytest.raises(JournalError):
            check_order(moved, finished)
