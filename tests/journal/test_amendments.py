"""A run that goes on under other settings: what holds when, and what may not change."""

import csv
import json
from dataclasses import dataclass, replace

import pytest
from helpers import small

from lightning_al import ActiveLearner, replay, suggest
from lightning_al.cli import main
from lightning_al.journal.amendments import shown
from lightning_al.journal.journal import Journal, JournalError, read_journal
from lightning_al.posteriors import MCDropout
from lightning_al.records.plan import option, options_of
from lightning_al.rounds import MetricTarget
from lightning_al.tasks import Adapter
from lightning_al.testing import Bandit

PLAN = {"strategy": "entropy", "query_size": 5, "budget": 10, "posterior": None, "stopping": ()}


def lines(run_dir, event="changed"):
    return [r for r in read_journal(run_dir / "journal.jsonl")[0] if r["event"] == event]


def sizes(history):
    return [len(done.acquired) for done in history.rounds]


# --- what may change ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said", "bought"),
    [
        ({"strategy": "margin", "budget": 15}, "entropy → margin", [5, 5, 0, 5, 0]),
        ({"query_size": 2, "budget": 15}, "query_size 5 → 2", [5, 5, 0, 2, 2, 1, 0]),
        ({"budget": 13}, "budget 10 → 13", [5, 5, 0, 3, 0]),
        ({"budget": 7}, "budget 10 → 7", [5, 5, 0, 0]),
        ({"cost_budget": 12.0, "budget": 20}, "cost_budget none → 12.0", [5, 5, 0, 2, 0]),
        ({"stopping": [MetricTarget("test/nll", 99.0, "min")]}, "stopping none", [5, 5, 0, 0]),
        ({"first": "random"}, "first none → ", [5, 5, 0, 0]),
        ({"posterior": MCDropout(3)}, "posterior none → MCDropout", [5, 5, 0, 0]),
    ],
)
def test_a_run_goes_on_under_other_settings(learner, change, said, bought):
    run_dir = learner().run().run_dir
    before = (run_dir / "journal.jsonl").read_bytes()
    history = learner(**change, change=True).run()
    assert sizes(history) == bought
    assert (run_dir / "journal.jsonl").read_bytes().startswith(before)
    assert [line["option"] for line in lines(run_dir)] == [
        field.name for field, _ in options_of(ActiveLearner) if field.name in change
    ]
    assert {line["round"] for line in lines(run_dir)} == {3}
    assert any(text.startswith(said) for text in history.rounds[3].amended)
    assert not any(done.amended for done in history.rounds if done.round != 3)
    # the same command goes on, and writes nothing more
    assert learner(**change).run().rounds == history.rounds
    assert len(lines(run_dir)) == len(change)


def test_the_options_that_may_change_decide_what_is_asked_and_no_fit():
    may = {field.name for field, facts in options_of(ActiveLearner) if facts.change}
    asked = {"strategy", "first", "posterior", "query_size", "budget", "cost_budget", "stopping"}
    assert may == asked
    assert all(facts.identity for _, facts in options_of(ActiveLearner) if facts.change)


@dataclass(frozen=True)
class Learner(ActiveLearner):
    mood: str = option("of the annotators", "good", change=True)
    patience: int = option("of the annotators", 3, change=True, more=True)
    rooms: int = option("of the house", 3)


def test_metadata_alone_say_that_an_option_may_change(learner):
    plain = learner()
    given = {each: getattr(plain, each) for each in (*PLAN, "task", "trainer", "run_dir")}
    one = Learner(**given, datamodule=small.datamodule(), files=False)
    one.run()
    again = replace(one, datamodule=small.datamodule(), mood="bad")
    with pytest.raises(JournalError, match=r"mood: 'good' -> 'bad'.*other settings of mood: say"):
        again.run()
    replace(again, change=True).run()
    assert [(r["option"], r["old"], r["new"]) for r in lines(one.run_dir)] == [
        ("mood", "good", "bad")
    ]
    replace(again, datamodule=small.datamodule(), patience=4).run()  # more: no word is needed
    assert lines(one.run_dir)[-1]["option"] == "patience"
    with pytest.raises(JournalError, match=r"rooms: 3 -> 4.*Give another run_dir"):
        replace(again, datamodule=small.datamodule(), patience=4, rooms=4, change=True).run()


@pytest.mark.parametrize(
    "change", [{"strategy": "margin"}, {"query_size": 4}, {"budget": 9}, {"cost_budget": 9.0}]
)
def test_without_the_word_it_is_refused_with_the_way(learner, change):
    learner().run()
    before = (learner().run_dir / "journal.jsonl").read_bytes()
    with pytest.raises(JournalError, match=r"say --change \(change=True\)") as caught:
        learner(**change).run()
    assert next(iter(change)) in str(caught.value)
    assert (learner().run_dir / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"budget": 10}, {"budget": 11}),
        *[({"cost_budget": 7.0}, {"cost_budget": c}) for c in (9, None)],
    ],
)
def test_more_of_a_bound_needs_no_word(learner, old, new):
    learner(**old).run()
    history = learner(**new).run()
    assert len(lines(history.run_dir)) == 1
    assert sum(sizes(history)) == (new.get("budget") or (9 if new["cost_budget"] else 10))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"weights": "warm"},
        {"task": small.dropout_task},
        {"trainer": small.TRAINER | {"max_epochs": 3}},
        {"adapter": Adapter(embedding="network")},
        {"datamodule": small.datamodule(initial=7)},
    ],
    ids=lambda options: "-".join(options) if isinstance(options, dict) else str(options),
)
def test_what_decides_the_fits_may_not_change(learner, change):
    learner().run()
    before = (learner().run_dir / "journal.jsonl").read_bytes()
    with pytest.raises(JournalError, match="another configuration"):
        learner(**change, strategy="margin", change=True).run()
    assert (learner().run_dir / "journal.jsonl").read_bytes() == before


def test_the_folder_must_be_named(learner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="run_dir=FOLDER"):
        learner(run_dir=None, change=True).run()


def test_a_run_that_begins_and_one_begun_anew_change_nothing(learner):
    history = learner(change=True).run()
    assert sizes(history) == [5, 5, 0]
    again = learner(change=True, overwrite=True, strategy="margin", query_size=2, budget=4).run()
    assert sizes(again) == [2, 2, 0]
    assert lines(again.run_dir) == []


# --- what holds when ------------------------------------------------------------------------------


@pytest.mark.parametrize("new", ["margin", "least-confidence", "k-center"])
def test_the_next_query_is_that_of_the_new_strategy(learner, new):
    """Brute force: the strategy itself, shown the model and the pool of that round."""
    learner(budget=5).run()
    history = learner(budget=10, strategy=new, change=True).run()
    data = small.datamodule()
    data.setup()
    data.acquire(history.rounds[0].acquired)
    module = replay(history.run_dir, 2, learner(budget=10, strategy=new))
    expected = suggest(module, data, new, 5).index
    assert set(history.rounds[2].acquired) == set(expected.tolist())


def test_rounds_before_it_keep_their_settings_in_a_replay(learner):
    learner(budget=5).run()
    new = {"strategy": "margin", "query_size": 2, "budget": 9}
    run_dir = learner(**new, change=True).run().run_dir
    for r, then in ((0, {"budget": 5}), (1, {"budget": 5}), (2, new), (3, new)):
        module = replay(run_dir, r, learner(**then))
        kept = small.weights(run_dir / "checkpoints" / f"round-{r:03d}.ckpt")
        assert small.same_weights(module.state_dict(), kept)
    with pytest.raises(JournalError, match=r"another learner .*strategy"):
        replay(run_dir, 0, learner(**new))


def test_back_and_forth(learner):
    learner(budget=5).run()
    learner(budget=10, strategy="margin", change=True).run()
    with pytest.raises(JournalError, match="say --change"):
        learner(budget=10).run()
    history = learner(budget=15, change=True).run()
    assert [r["names"] for r in lines(history.run_dir) if r["option"] == "strategy"] == [
        ["entropy", "margin"],
        ["margin", "entropy"],
    ]
    assert [p.strategy for p in history.ledger[::5]] == ["entropy", "margin", "entropy"]


def test_a_change_inside_a_round_holds_for_what_is_left_of_it(learner):
    """Cut off between fit and choice: the choice is the new strategy's, of as many as were due."""
    learner().run()
    run_dir = learner().run_dir
    path = run_dir / "journal.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)
    records = read_journal(path)[0]
    at = [(r["event"], r.get("round")) for r in records].index(("scored", 1))
    path.write_bytes(b"".join(kept[: at + 1]))
    history = learner(strategy="margin", query_size=3, change=True).run()
    assert sizes(history) == [5, 5, 0]
    assert [p.strategy for p in history.ledger[::5]] == ["entropy", "margin"]
    assert history.rounds[1].amended == ("entropy → margin", "query_size 5 → 3")


def test_another_strategy_begins_with_no_memory(learner):
    def build(arms, **changes):
        return learner(strategy=Bandit(arms), query_size=2, **changes)

    build(("random", "entropy"), budget=4).run()
    history = build(("margin", "random"), budget=8, change=True).run()
    fresh = build(("margin", "random"), budget=4, run_dir=learner().run_dir / "fresh").run()
    tried = [[done.notes for done in h.rounds if done.acquired] for h in (history, fresh)]
    assert [sorted(note) for note in tried[0][2:]] == [sorted(note) for note in tried[1]]
    memory = [r["memory"] for r in lines(history.run_dir, "chosen")]
    assert len(memory) == 4


def test_a_new_strategy_is_rehearsed_before_it_is_written_down(learner):
    learner().run()
    with pytest.raises(ValueError, match="posterior"):
        learner(strategy="bald", budget=15, change=True).run()
    assert lines(learner().run_dir) == []


# --- what people see ------------------------------------------------------------------------------


def test_table_and_curve_show_it(learner):
    learner(budget=5, files=True).run()
    history = learner(budget=10, strategy="margin", files=True, change=True).run()
    rows = list(csv.DictReader((history.run_dir / "metrics.csv").open()))
    assert [row["amended"] for row in rows] == ["", "", "entropy → margin; budget 5 → 10", ""]
    axes = history.plot().axes[0]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [history.rounds[2].n_labelled]
    assert "entropy → margin\nbudget 5 → 10" in [text.get_text() for text in axes.texts]
    plain = learner(run_dir=learner().run_dir / "plain", files=True).run()
    assert not [line for line in plain.plot().axes[0].lines if line.get_linestyle() == "--"]
    assert "amended" not in (plain.run_dir / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (None, {"class": "lightning_al.posteriors.dropout.MCDropout"}, "it none → MCDropout"),
        ([], [{"name": "MetricTarget"}, {"name": "Mine"}], "it none → MetricTarget, Mine"),
        (1.5, "x" * 60, "it 1.5 → " + "x" * 40 + "…"),
        ({"class_path": "a.b.C"}, {"name": "power", "beta": 2}, "it C → power"),
    ],
)
def test_a_change_in_words(old, new, text):
    assert shown({"event": "changed", "option": "it", "old": old, "new": new}) == text


def test_on_the_command_line(tmp_path, capsys):
    run_dir = tmp_path / "run"
    words = ["--config=quickstart", "--query_size=10", "--trainer.max_epochs=1"]
    words += ["--progress=false", f"--run_dir={run_dir}"]
    main(["run", *words, "--budget=10"])
    with pytest.raises(JournalError, match="say --change"):
        main(["run", *words, "--budget=20", "--strategy=entropy"])
    (history,) = main(["run", *words, "--budget=20", "--strategy=entropy", "--change"])
    assert history.rounds[2].amended == ("margin → entropy", "budget 10 → 20")
    assert "--change" not in capsys.readouterr().out
    # the folder's own settings are those of now
    (again,) = main(["run", "--config", str(run_dir / "config.yaml"), "--progress=false"])
    assert again.rounds == history.rounds
    (more,) = main(
        [
            "run",
            "--config",
            str(run_dir / "config.yaml"),
            "--budget=25",
            "--change",
            "--progress=false",
        ]
    )
    assert sizes(more) == [10, 0, 10, 0, 5, 0]
    for r in (0, 2, 4):  # each under the settings of its time
        kept = small.weights(run_dir / "checkpoints" / f"round-{r:03d}.ckpt")
        assert small.same_weights(replay(run_dir, r).state_dict(), kept)
    found = main(
        [
            "suggest",
            "--ckpt",
            str(run_dir / "checkpoints" / "round-004.ckpt"),
            "--k=3",
            "--out",
            str(tmp_path / "s.csv"),
        ]
    )
    assert len(found) == 3
    report = main(["report", str(run_dir)])
    assert "margin → entropy; budget 10 → 20" in report.page.read_text()
    with pytest.raises(ValueError, match="say which, with --run_dir"):
        main(["run", *words[:-1], "--budget=20", "--change"])


# --- the journal ----------------------------------------------------------------------------------


@pytest.mark.parametrize("round", [0, 1, 4])
def test_a_line_in_another_round_is_refused(learner, round):
    learner().run()
    run_dir = learner(budget=15).run().run_dir
    path = run_dir / "journal.jsonl"
    records, _ = read_journal(path)
    path.unlink()
    journal = Journal(path)
    for record in records:
        journal.append(**(record | {"round": round} if record["event"] == "changed" else record))
    with pytest.raises(JournalError, match=f"'changed' of round {round}.*round 3 is next"):
        learner(budget=15).run()


def test_the_line_holds_what_was_and_what_is(learner):
    learner().run()
    run_dir = learner(budget=15).run().run_dir
    (line,) = lines(run_dir)
    assert json.loads(json.dumps({k: line[k] for k in ("round", "option", "old", "new")})) == {
        **{"round": 3, "option": "budget"},
        **{"old": 10, "new": 15},
    }
