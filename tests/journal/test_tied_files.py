"""A checkpoint is the file that its journal line names, or its fit is done again."""

import os
import shutil

import pytest
import torch
from helpers import small

from lightning_al.files import file_hash
from lightning_al.journal.journal import Journal, JournalError, read_journal
from lightning_al.tasks import Classification
from lightning_al.testing import Bandit


def lines_of(run_dir, last):
    """The journal cut off behind its line (event, round)."""
    path = run_dir / "journal.jsonl"
    lines, (records, _) = path.read_bytes().splitlines(keepends=True), read_journal(path)
    at = next(i for i, r in enumerate(records) if (r["event"], r.get("round")) == last)
    path.write_bytes(b"".join(lines[: at + 1]))


def another(file):
    shutil.copy(file.with_name("round-000.ckpt"), file)


def flipped(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file):
    file.write_bytes(b"")


def gone(file):
    file.unlink()


DAMAGES = [another, flipped, cut_short, emptied, gone]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("weights", "last"),
    [
        ("reset", ("fitted", 1)),
        ("warm", ("fitted", 1)),
        ("warm", ("committed", 1)),
        ("shrink_perturb", ("scored", 1)),
    ],
)
def test_a_file_that_is_not_the_one_is_fitted_again(learner, caplog, damage, weights, last):
    expected = small.outcome(learner(weights=weights).run().run_dir)
    run_dir = learner().run_dir
    lines_of(run_dir, last)
    damage(run_dir / "checkpoints" / "round-001.ckpt")
    learner(weights=weights).run()
    assert caplog.text.count("the fit of round 1 is done again") == 1
    assert small.outcome(run_dir) == expected


def test_fits_of_earlier_rounds_are_done_again_where_a_warm_start_needs_them(learner, caplog):
    expected = small.outcome(learner(weights="warm").run().run_dir)
    run_dir = learner().run_dir
    lines_of(run_dir, ("committed", 1))
    for name in ("round-000.ckpt", "round-001.ckpt"):
        gone(run_dir / "checkpoints" / name)
    learner(weights="warm").run()
    assert caplog.text.count("is done again") == 2
    assert small.outcome(run_dir)["weights"] == expected["weights"]


def test_files_that_nobody_needs_any_more_are_not_looked_at(learner, caplog):
    learner().run()
    run_dir = learner().run_dir
    for file in (run_dir / "checkpoints").iterdir():
        flipped(file)
    assert len(learner().run()) == 3
    assert not caplog.text


class Unrepeatable(Classification):
    """Each fit leaves something else behind."""

    def on_fit_end(self):
        self.register_buffer("noise", torch.tensor(list(os.urandom(8))))


def unrepeatable():
    inner = small.task()
    return Unrepeatable(inner.network, small.CLASSES, lr=0.02, metrics=["accuracy", "nll"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_fit_that_ends_elsewhere_is_journalled_and_is_the_one_from_then_on(learner, count):
    learner(task=unrepeatable).run()
    run_dir = learner().run_dir
    file = run_dir / "checkpoints" / "round-001.ckpt"
    for _ in range(count):
        lines_of(run_dir, ("fitted", 1))
        flipped(file)
        again = learner(task=unrepeatable)
        with pytest.raises(RuntimeError, match="Unexpected key"):
            again.run()  # such a buffer cannot be loaded; the file was made again before
        records, _ = read_journal(run_dir / "journal.jsonl")
        assert records[-1]["event"] == "refitted"
        assert records[-1]["checkpoint_hash"] == file_hash(file)


def test_a_run_of_older_lines_without_hashes_goes_on(learner):
    expected = small.outcome(learner().run().run_dir)
    run_dir = learner().run_dir
    lines_of(run_dir, ("fitted", 1))
    records, _ = read_journal(run_dir / "journal.jsonl")
    (run_dir / "journal.jsonl").unlink()
    journal = Journal(run_dir / "journal.jsonl")
    for record in records:
        journal.append(**{k: v for k, v in record.items() if k != "checkpoint_hash"})
    learner().run()
    assert small.outcome(run_dir)["weights"] == expected["weights"]


@pytest.mark.parametrize("damage", [flipped, cut_short, emptied, gone])
def test_a_memory_that_is_not_the_one_is_refused(learner, damage):
    learner(strategy=Bandit(("entropy", "random"))).run()
    run_dir = learner().run_dir
    (file,) = sorted((run_dir / "checkpoints").glob("*1.memory"))
    lines_of(run_dir, ("committed", 1))
    damage(file)
    with pytest.raises(JournalError, match=r"memory of the strategy .*round-001\.memory is"):
        learner(strategy=Bandit(("entropy", "random"))).run()
