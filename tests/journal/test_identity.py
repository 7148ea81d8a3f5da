"""A run folder answers for the run it holds, and for no other."""

import json
import subprocess
import sys

import pytest
import torch
from helpers import HERE, identities, small, with_helpers
from helpers.identities import PAIRS, SAME, identity

from lightning_al.datamodules import ActiveDataModule
from lightning_al.identity import differences
from lightning_al.journal.journal import JournalError
from lightning_al.oracles import DelayedOracle


def plainly(value):
    """As the journal reads it back."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("what", PAIRS)
def test_another_run_is_another_one(what):
    one, other = (identity(make()) for make in PAIRS[what])
    found = differences(plainly(one["config"]), other["config"])
    assert found, f"{what} makes another run, and nothing tells it"
    assert all(len(line) < 600 for line in found)


@pytest.mark.parametrize("what", list(PAIRS)[: list(PAIRS).index("an argument of a callback")])
def test_another_module_is_another_one_by_itself_too(what):
    """A function of the same name may build it, and a configuration may not show it."""
    one, other = (identity(make())["identity"]["model"] for make in PAIRS[what])
    assert differences(plainly(one), other)


@pytest.mark.parametrize("what", PAIRS)
def test_a_run_that_is_built_again_is_itself(what):
    for make in PAIRS[what]:
        one, again = plainly(identity(make())), identity(make())
        assert differences(one, again) == []


@pytest.mark.parametrize("what", SAME)
def test_the_same_run_in_another_form_is_itself(what):
    one, other = (identity(make()) for make in SAME[what])
    assert differences(plainly(one["config"]), other["config"]) == []


@pytest.mark.parametrize("hashed", ["1", "2"])
def test_another_process_sees_the_same(hashed):
    """No address, no order of a set, no hash of Python's is a part of it."""
    command = [sys.executable, "-W", "ignore", str(HERE / "identities.py")]
    environment = with_helpers(PYTHONHASHSEED=hashed)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    here = plainly(identities.everything())
    wrong = {
        what: differences(there[what], here[what]) for what in here if there[what] != here[what]
    }
    assert wrong == {}


def test_the_module_and_the_data_count_where_the_settings_are_given_too(learner):
    learner(config={"mine": 1}, budget=5).run()
    for change in ({"task": small.dropout_task}, identities.data(initial=7)):
        with pytest.raises(JournalError, match="another configuration"):
            learner(config={"mine": 1}, budget=5, **change).run()
    assert len(learner(config={"mine": 1}, budget=5).run()) == 2


# a kind of each, from end to end: refused before anything changes in the folder
@pytest.mark.parametrize(
    "what",
    ["an argument of a callback", "a label of one row", "a frozen layer", "size of a file"],
)
def test_a_folder_of_another_run_is_refused_and_left_alone(learner, what):
    one, other = PAIRS[what]
    learner(budget=5, **one()).run()
    folder = learner().run_dir
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(JournalError, match=r"another configuration .*another run_dir.*overwrite"):
        learner(budget=5, **other()).run()
    assert len(learner(budget=5, **one()).run()) == 2
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


# --- what cannot be seen -------------------------------------------------------------------------


class Locked:
    """A value that says nothing of itself."""

    __slots__ = ()

    def __call__(self, rounds):
        return None


def test_what_cannot_be_described_is_named_once(learner, caplog):
    rules = [Locked(), Locked()]
    learner(budget=5, stopping=rules).run()
    (said,) = [r.getMessage() for r in caplog.records if "does not watch" in r.getMessage()]
    assert "stopping[0]" in said
    assert "stopping[1]" in said


def test_what_can_be_described_is_not_warned_of(learner, caplog):
    learner(budget=5).run()
    assert not [r for r in caplog.records if "does not watch" in r.getMessage()]


# --- items that people are asked for -------------------------------------------------------------


class Rows(torch.utils.data.Dataset):
    """A large data set that is read item by item: a sample stands for it."""

    def __init__(self, changed=()):
        self.items, self.changed = small.blobs(4000), set(changed)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        x, y = self.items[i]
        return (x + 1 if i in self.changed else x), y


def late(learner, changed=()):
    data = ActiveDataModule(Rows(changed), small.blobs(30, seed=1), initial=6, batch_size=4)
    data.classes = 3
    return learner(budget=5, datamodule=data, strategy="random", oracle=DelayedOracle(1))


def test_an_answer_goes_to_the_item_that_was_asked_for_and_to_no_other(learner, monkeypatch):
    whole = late(learner).run()
    asked = [p.index for done in whole.rounds for p in done.ledger]
    assert len(asked) == 5
    folder = learner().run_dir
    journal = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    events = [json.loads(line).get("event") for line in journal]
    begun = events.index("collected")  # the answers have not come yet
    (folder / "journal.jsonl").write_bytes(b"".join(journal[:begun]))
    with pytest.raises((JournalError, ValueError)) as refused:
        late(learner, asked[:1]).run()
    assert str(asked[0]) in str(refused.value)
    others = [i for i in range(4000) if i not in asked and i % 129 == 50][:3]
    assert late(learner, others).run().stopped == whole.stopped  # no other item matters


def test_content_names_an_item_by_what_it_is():
    one, other = (ActiveDataModule(Rows(c), 0.2, initial=6) for c in ((), (5,)))
    for data in (one, other):
        data.start(0)
    index = torch.tensor([3, 5, 3, 9])
    before, after = one.contents(index), other.contents(index)
    assert before[0] == before[2] != before[1]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]
