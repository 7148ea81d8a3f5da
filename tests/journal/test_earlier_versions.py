"""Run folders of 0.1 are refused in a sentence that says so, and nothing in them changes."""

import pytest
from helpers import small

from lightning_al import replay
from lightning_al.journal import journal
from lightning_al.journal.journal import JournalError, read_journal


@pytest.fixture
def folder(tmp_path):
    """A finished run whose first line is as 0.1 wrote it: no format, no identity."""
    small.learner(tmp_path / "run").run()
    path = tmp_path / "run" / "journal.jsonl"
    lines, _ = read_journal(path)
    first = {k: v for k, v in lines[0].items() if k not in ("format", "identity")}
    rest = path.read_bytes().split(b"\n", 1)[1]
    path.write_bytes(journal._encode(first) + rest)
    assert read_journal(path)[0][1:] == lines[1:]
    return tmp_path / "run"


def test_a_run_of_0_1_is_not_gone_on_with(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with pytest.raises(JournalError, match=r"written by lightning-al 0\.1.*overwrite=True"):
        small.learner(folder).run()
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_nor_replayed(folder):
    with pytest.raises(JournalError, match=r"written by lightning-al 0\.1"):
        replay(folder, 1, small.learner(folder))


def test_it_may_be_overwritten(folder):
    assert len(small.learner(folder, overwrite=True).run()) == 3
