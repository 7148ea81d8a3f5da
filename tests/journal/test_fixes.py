"""Answers that were wrong: corrected or taken back, while what was stays as it was."""

import csv
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from helpers import small, tiny_data
from helpers.questions import fill_in

from lightning_al import fix_answers, replay
from lightning_al.cli import main
from lightning_al.journal.fixes import SET_ASIDE, Fix
from lightning_al.journal.journal import Journal, JournalError, read_journal
from lightning_al.journal.lock import FolderBusy, FolderLock
from lightning_al.labels import LabelState
from lightning_al.labels.overlay import Overlay
from lightning_al.oracles import DelayedOracle, FileOracle
from lightning_al.records import Answers, Status

TRUTH = small.blobs().targets


@dataclass
class Says:
    """The truth, but for some items; its portrait is always the same."""

    others: dict = field(default_factory=dict)

    def portrait(self):
        return {}

    def ask(self, index, datamodule, round):
        said = [self.others.get(i, int(TRUTH[i])) for i in index.tolist()]
        return Answers({"y": torch.tensor(said)})


def build(learner, others=(), **changes):
    plain = {"strategy": "random", "budget": 5, "oracle": Says(dict(others))}
    return learner(**{**plain, **changes})


def lines(run_dir, event="fixed"):
    return [r for r in read_journal(run_dir / "journal.jsonl")[0] if r["event"] == event]


def checkpoint(run_dir, r):
    return small.weights(run_dir / "checkpoints" / f"round-{r:03d}.ckpt")


# --- what holds when ------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [[0], [1, 3], [0, 1, 2, 3, 4]])
def test_later_rounds_fit_as_if_it_had_always_been_said(learner, tmp_path, places):
    """A random strategy chooses the same in both runs, so that fits differ by the labels alone."""
    history = build(learner).run()
    wrong = [history.acquired[k] for k in places]
    fixes = {i: (int(TRUTH[i]) + 1) % 3 for i in wrong}
    before = [checkpoint(history.run_dir, r) for r in (0, 1)]
    written = (history.run_dir / "journal.jsonl").read_bytes()
    fix_answers(history.run_dir, small.datamodule(), fixes, "seen twice")
    after = (history.run_dir / "journal.jsonl").read_bytes()
    assert after.startswith(written)
    assert [(x["item"], x["round"], x["why"]) for x in lines(history.run_dir)] == [
        (i, 2, "seen twice") for i in wrong
    ]
    history = build(learner, budget=10).run()
    other = build(learner, fixes, run_dir=tmp_path / "other").run().run_dir
    assert build(learner, fixes, run_dir=other, budget=10).run().acquired == history.acquired
    for r in (2, 3):
        assert small.same_weights(checkpoint(history.run_dir, r), checkpoint(other, r))
    for r in (0, 1):  # and those that were are as they were, in a replay too
        assert small.same_weights(checkpoint(history.run_dir, r), before[r])
        again = replay(history.run_dir, r, build(learner, budget=5))
        assert small.same_weights(again.state_dict(), before[r])
    assert not small.same_weights(before[1], checkpoint(other, 1))
    again = replay(history.run_dir, 2, build(learner, budget=10))
    assert small.same_weights(again.state_dict(), checkpoint(other, 2))
    assert history.rounds[2].amended == ("budget 5 → 10", f"{len(wrong)} answer(s) fixed")


def test_a_run_that_had_ended_fits_once_more(learner):
    history = build(learner).run()
    item = history.acquired[0]
    fix_answers(history.run_dir, small.datamodule(), {item: (int(TRUTH[item]) + 1) % 3})
    again = build(learner).run()
    assert [len(done.acquired) for done in again.rounds] == [5, 0, 0]
    assert again.stopped == history.stopped == "the budget is spent"
    assert build(learner).run().rounds == again.rounds


@pytest.mark.parametrize(("to", "asked"), [("pool", 2), (SET_ASIDE, 1)])
def test_a_withdrawn_item_may_be_asked_for_again_one_set_aside_never(learner, to, asked):
    history = build(learner).run()
    item, n = history.acquired[2], history.rounds[1].n_labelled
    fix_answers(history.run_dir, small.datamodule(), [Fix(item, to=to)])
    data = small.datamodule()
    history = build(learner, budget=99, datamodule=data).run()
    assert history.rounds[2].n_labelled == n - 1
    assert history.stopped == "the pool is empty"
    assert history.acquired.count(item) == asked
    status = data.status[item]
    assert status == int(Status.LABELLED if to == "pool" else Status.REFUSED)
    bought = [p for done in history.rounds for p in done.ledger if p.index == item]
    assert [p.withdrawn for p in bought] == [True, False][:asked]


def test_fixed_twice_and_back(learner):
    history = build(learner).run()
    item = history.acquired[1]
    labels = [(int(TRUTH[item]) + k) % 3 for k in (1, 2, 0)]
    for label in labels:
        fix_answers(history.run_dir, small.datamodule(), {item: label})
        assert fix_answers(history.run_dir, small.datamodule(), {item: label}) == []  # so already
    found = [(x["old"]["y"]["data"], x["new"]["y"]["data"]) for x in lines(history.run_dir)]
    chain = [int(TRUTH[item]), *labels]
    assert found == [([a], [b]) for a, b in pairwise(chain)]
    data = small.datamodule()
    build(learner, datamodule=data).run()
    assert int(data.labels(torch.tensor([item]))) == labels[-1]


def test_late_answers_are_fixed_too(learner):
    plain = {"strategy": "random", "oracle": DelayedOracle(1)}
    history = learner(**plain).run()
    r = next(done.round for done in history.rounds if done.arrived)
    item = history.rounds[r].arrived[0].index
    fix_answers(history.run_dir, small.datamodule(), {item: (int(TRUTH[item]) + 1) % 3})
    again = learner(**plain).run()
    told = [p for done in again.rounds for p in done.arrived if p.fixed]
    assert [(p.index, p.answered) for p in told] == [(item, r)]
    assert told[0].fixed.startswith(f"{int(TRUTH[item])} → ")


def test_of_several_outcomes(learner):
    plain = {"task": small.safe_task, "strategy": "random"}
    history = learner(**plain, datamodule=small.safe_datamodule()).run()
    item = history.acquired[0]
    values = {"y": torch.tensor([0.5]), "z": torch.tensor([-1.0])}
    fix_answers(history.run_dir, small.safe_datamodule(), {item: values})
    data = small.safe_datamodule()
    learner(**plain, datamodule=data).run()
    assert data.labels(torch.tensor([item])).tolist() == [[0.5, -1.0]]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "label", "said"),
    [
        ("pool", 1, "in the pool; only what an oracle answered can be fixed"),
        ("start", 1, "labelled from the start"),
        ("held", 1, "held for validation or test"),
        (999, 1, "item 999 is outside the data set of 60 items"),
        (-1, None, "item -1 is outside"),
        ("bought", 3, r"label 3 of item \d+ is outside the 3 classes 0…2"),
        ("bought", 0.5, "now they are torch.float32"),
        ("bought", [0, 1], r"of shape \[2\]; answer in one form"),
    ],
)
def test_what_cannot_be_fixed(learner, item, label, said):
    history = build(learner, datamodule=small.datamodule(test=0.2)).run()
    data = small.datamodule(test=0.2)
    data.setup()
    places = {
        "pool": int(next(i for i in data.pool if int(i) not in history.acquired)),
        "start": int(data.labelled[0]),
        "held": int(data.held["test"][0]),
        "bought": history.acquired[0],
    }
    before = (history.run_dir / "journal.jsonl").read_bytes()
    fixes = {history.acquired[1]: None, places.get(item, item): label}
    with pytest.raises(ValueError, match=said):
        fix_answers(history.run_dir, small.datamodule(test=0.2), fixes)
    assert (history.run_dir / "journal.jsonl").read_bytes() == before  # none of them


def test_while_a_run_is_at_work_and_where_there_is_none(learner, tmp_path):
    history = build(learner).run()
    lock = FolderLock(history.run_dir)
    try:
        with pytest.raises(FolderBusy, match="another process is running"):
            fix_answers(history.run_dir, small.datamodule(), {history.acquired[0]: 1})
    finally:
        lock.release()
    with pytest.raises(LookupError, match="holds no journal"):
        fix_answers(tmp_path, small.datamodule(), {0: 1})
    item = history.acquired[0]
    with pytest.raises(ValueError, match="fixed twice"):
        fix_answers(history.run_dir, small.datamodule(), [Fix(item), Fix(item, to=SET_ASIDE)])


@pytest.mark.parametrize("other", [{"initial": 7}, {"train": small.blobs(seed=3)}, {"test": 0.2}])
def test_other_data_are_refused(learner, other):
    history = build(learner).run()
    with pytest.raises(JournalError, match="the data are others"):
        fix_answers(history.run_dir, small.datamodule(**other), {history.acquired[0]: 1})
    assert lines(history.run_dir) == []


@pytest.mark.parametrize("item", ["never", "twice"])
def test_a_line_that_no_command_writes_is_refused(learner, item):
    history = build(learner).run()
    line = {"item": 59 if item == "never" else history.acquired[0], "old": {}, "new": None}
    line |= {"event": "fixed", "round": 2, "to": "pool", "shown": ["0", "withdrawn"], "why": ""}
    if line["item"] in history.acquired and item == "never":
        line["item"] = next(i for i in range(60) if i not in history.acquired)
    journal = Journal(history.run_dir / "journal.jsonl")
    for _ in range(2):
        journal.append(**line)
    with pytest.raises(ValueError, match=r"never asked for|fix: item \d+ has no answer"):
        build(learner).run()


# --- the state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_an_overlay_forgets_what_a_dictionary_would(seed):
    drawn = torch.Generator().manual_seed(seed)
    overlay, known = Overlay(20), {}
    for step in range(30):
        some = torch.randperm(20, generator=drawn)[: int(torch.randint(1, 6, (), generator=drawn))]
        if step % 3:
            overlay.drop(some)
            known = {i: v for i, v in known.items() if i not in some.tolist()}
            values = torch.randn(len(some), 2, generator=drawn)
            overlay.put(some, {"y": values})
            known |= dict(zip(some.tolist(), values.tolist(), strict=True))
        else:
            overlay.drop(some)
            known = {i: v for i, v in known.items() if i not in some.tolist()}
        found = overlay.get(torch.arange(20))
        told = [False] * 20 if found is None else found[1].tolist()
        assert told == [i in known for i in range(20)]
        for i in known:
            assert found[0][i].tolist() == known[i]
        again = Overlay(20)
        again.load_state_dict(overlay.state_dict())
        assert len(again) == len(overlay) == len(known)


@pytest.mark.parametrize("status", [Status.POOL, Status.ASKED, Status.REFUSED, Status.HELD])
def test_only_labelled_items_have_an_answer_to_fix(status):
    state = LabelState(3)
    state.put(torch.tensor([1]), status)
    with pytest.raises(ValueError, match="fix: item 1 has no answer"):
        state.fix(torch.tensor([1]), None, Status.POOL)
    assert state.status.tolist() == [0, int(status), 0]


# --- what people see ------------------------------------------------------------------------------


def test_the_table_of_what_was_acquired_says_what_was_corrected(learner):
    history = build(learner, files=True).run()
    one, other, *_ = history.acquired
    plain = list(csv.DictReader((history.run_dir / "acquired.csv").open()))
    assert "fixed" not in plain[0]
    label = (int(TRUTH[one]) + 1) % 3
    fixes = [Fix(one, {"y": torch.tensor([label])}, why="blurred"), Fix(other)]
    fix_answers(history.run_dir, small.datamodule(), fixes)
    build(learner, files=True).run()
    rows = list(csv.DictReader((history.run_dir / "acquired.csv").open()))
    shown = {int(row["index"]): (row["label"], row["fixed"]) for row in rows}
    assert shown[one] == (str(label), f"{int(TRUTH[one])} → {label} (blurred) in round 2")
    assert shown[other] == ("", f"{int(TRUTH[other])} → withdrawn in round 2")
    assert [fixed for _, fixed in list(shown.values())[2:]] == ["", "", ""]
    metrics = list(csv.DictReader((history.run_dir / "metrics.csv").open()))
    assert [row["amended"] for row in metrics] == ["", "", "2 answer(s) fixed"]


def test_while_a_person_is_asked(learner):
    plain = {"strategy": "random", "oracle": FileOracle()}
    learner(**plain).run()
    run_dir = learner().run_dir

    def answered(r, **more):
        fill_in(run_dir, r, TRUTH)
        return learner(**plain, **more).run()

    history = answered(0)
    item = history.rounds[0].acquired[0]
    asked = read_journal(run_dir / "journal.jsonl")[0][-2]["index"]
    with pytest.raises(ValueError, match=r"asked for already|in the pool"):
        fix_answers(run_dir, small.datamodule(), {asked[0]: 1})
    fix_answers(run_dir, small.datamodule(), {item: (int(TRUTH[item]) + 1) % 3})
    data = small.datamodule()
    history = answered(1, datamodule=data)
    assert history.stopped == "the budget is spent"
    assert int(data.labels(torch.tensor([item]))) == (int(TRUTH[item]) + 1) % 3
    assert history.rounds[2].amended == ("1 answer(s) fixed",)


def test_on_the_command_line(tmp_path, capsys):
    lines_of = tiny_data.write_table(tmp_path / "t.csv").read_text().splitlines()
    rows = [f"P{i}," + line for i, line in enumerate(lines_of[1:])]
    (tmp_path / "t.csv").write_text("\n".join(["id," + lines_of[0], *rows]) + "\n")
    run_dir = tmp_path / "run"
    words = ["--config=csv", f"--data.path={tmp_path / 't.csv'}", "--data.target=kind"]
    words += ["--data.drop=[size, id]", "--data.initial=6", "--strategy=random", "--query_size=4"]
    words += ["--trainer.max_epochs=1", "--progress=false", f"--run_dir={run_dir}", "--budget=4"]
    (history,) = main(["run", *words])
    a, b, c, d = history.acquired
    capsys.readouterr()
    found = main(["answers", str(run_dir), "--id", "id"])
    assert [p.index for p in found] == [a, b, c, d]
    shown = capsys.readouterr().out
    assert all(f"{i} P{i}" in shown for i in (a, b, c, d))

    def kind(i):
        return rows[i].split(",")[3]

    def other(i):
        return "no" if kind(i) == "yes" else "yes"

    main(["answers", str(run_dir), "--fix", f"{a}={other(a)}", f"{b}={kind(b)}", "--why=seen"])
    assert f"item {a}: {kind(a)} → {other(a)}" in (out := capsys.readouterr().out)
    assert "1 answer(s) are so already" in out
    table = tmp_path / "fixes.csv"
    table.write_text(f"id,answer,why\nP{b},{other(b)},blurred\nP{c},withdraw,\nP{d},skip,bad\n")
    written = main(["answers", str(run_dir), "--id", "id", "--fix", str(table)])
    assert [(w["item"], w["to"], w["why"]) for w in written] == [
        (b, "labelled", "blurred"),
        (c, "pool", ""),
        (d, "refused", "bad"),
    ]
    for fix, said in (
        ("P999=yes", "no item has the id 'P999'"),
        (f"P{a}=perhaps", "expected one of no, yes, or skip; got 'perhaps'; or withdraw"),
        (f"P{c}=yes", "in the pool; only what an oracle answered"),
        ("nowhere.csv", "takes ITEM=ANSWER or a CSV file"),
    ):
        with pytest.raises(ValueError, match=said):
            main(["answers", str(run_dir), "--id", "id", "--fix", fix])
    with pytest.raises(ValueError, match=r"no position of an item; say with --id"):
        main(["answers", str(run_dir), "--fix", f"P{a}=yes"])
    with pytest.raises(ValueError, match=r"no column 'name' to go by; they have id"):
        main(["answers", str(run_dir), "--id", "name", "--fix", "x=yes"])
    (history,) = main(["run", *words])
    assert history.rounds[2].n_labelled == 6 + 4 - 2
    assert history.rounds[2].amended == ("4 answer(s) fixed",)
    for r in (0, 1, 2):
        kept = checkpoint(run_dir, r)
        assert small.same_weights(replay(run_dir, r).state_dict(), kept)
    acquired = list(csv.DictReader((run_dir / "acquired.csv").open()))
    assert [row["label"] for row in acquired] == [other(a), other(b), "", ""]
    assert "(seen) in round 2" in acquired[0]["fixed"]
