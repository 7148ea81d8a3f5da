import os
import signal
import time
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import yaml
from helpers import small
from pytorch_lightning.callbacks import EarlyStopping

from lightning_al.identity import differences, digest, plain
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.lock import FolderBusy
from lightning_al.journal.run_folder import RunFolder
from lightning_al.oracles import SimulatedOracle
from lightning_al.posteriors import MCDropout
from lightning_al.ranks.ranks import ALONE
from lightning_al.records import Answers, RunPlan
from lightning_al.rounds import MetricTarget

# --- the same run, or another one -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"query_size": 4}, "query_size: 5 -> 4"),
        ({"strategy": "margin"}, "strategy"),
        ({"weights": "warm"}, "weights: 'reset' -> 'warm'"),
        ({"trainer": small.TRAINER | {"max_epochs": 3}}, "trainer.max_epochs: 2 -> 3"),
        ({"trainer": small.TRAINER | {"callbacks": [EarlyStopping("val/nll")]}}, "callbacks"),
        (
            {"task": small.dropout_task},
            "task: 'helpers.small.task' -> 'helpers.small.dropout_task'",
        ),
        ({"task": partial(small.task, 0.5)}, "task"),
        ({"posterior": MCDropout(7)}, "posterior"),
        ({"oracle": SimulatedOracle(2.0)}, "oracle"),
        ({"stopping": [MetricTarget("test/nll", 0.0)]}, "stopping"),
        ({"datamodule": small.datamodule(initial=7)}, "data.state"),
        ({"datamodule": small.datamodule(batch_size=8)}, "data.batch_size: 4 -> 8"),
    ],
)
def test_a_folder_of_another_configuration_is_refused_with_the_difference(learner, change, said):
    learner(budget=5).run()
    journal = learner().run_dir / "journal.jsonl"
    before = journal.read_bytes()
    with pytest.raises(JournalError, match="another configuration") as caught:
        learner(**({"budget": 5} | change)).run()
    assert said in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert journal.read_bytes() == before


def test_only_the_first_differences_are_listed(learner):
    learner(config={str(i): i for i in range(9)}).run()
    with pytest.raises(JournalError, match=r"\(0: 0 -> 1; 1: 1 -> 2; .*… 9 in all\)"):
        learner(config={str(i): i + 1 for i in range(9)}).run()


def test_settings_that_change_no_result_may_differ(learner):
    learner(keep_checkpoints="all").run()
    again = learner(keep_checkpoints="last", memory_budget=0).run()
    assert len(again) == 3
    assert [p.name for p in (again.run_dir / "checkpoints").iterdir()] == ["round-002.ckpt"]
    assert [r.checkpoint is None for r in again.rounds] == [True, True, False]


def test_config_with_numbers_that_json_lacks_is_itself(learner):
    config = {"lr": float("nan"), "top": float("inf"), "pair": (1, 2), 3: None}
    learner(config=config).run()
    assert len(learner(config=config).run()) == 3
    assert yaml.safe_load((learner().run_dir / "config.yaml").read_text())["pair"] == [1, 2]


def test_another_number_of_processes_is_refused(learner, monkeypatch):
    from lightning_al.rounds import run

    learner().run()
    learner().run()

    class Two(type(run.join(learner().recipe().build_trainer()))):
        """A world of two whose other half agrees with everything."""

        def broadcast(self, value):
            return value

        def all_gather(self, value):
            return [value]

    with monkeypatch.context() as patched:
        patched.setattr(run, "join", lambda trainer: Two(rank=0, size=2))
        with pytest.raises(JournalError, match=r"started on 1 process\(es\), now there are 2"):
            learner().run()


def test_other_threads_or_versions_are_noticed(learner, caplog):
    learner().run()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 6)  # a number that torch does not take by itself here
    try:
        learner().run()
    finally:
        torch.set_num_threads(before)
    assert f"was started with threads {before}, now it is {before + 6}" in caplog.text


def test_overwrite_starts_anew_and_leaves_what_is_not_ours(learner):
    learner().run()
    run_dir = learner().run_dir
    (run_dir / "notes.txt").write_text("mine")
    history = learner(seed=3, overwrite=True).run()
    assert len(history) == 3
    assert (run_dir / "notes.txt").read_text() == "mine"
    assert read_journal(run_dir / "journal.jsonl")[0][0]["seed"] == 3


def test_default_folder_is_named_after_strategy_and_settings(learner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = (learner(run_dir=None, seed=s).run().run_dir for s in (0, 1))
    assert one != other
    assert one.parent.name == "runs"
    assert one.name.startswith("entropy-")
    assert learner(run_dir=None).run().run_dir == one


# --- the lock -------------------------------------------------------------------------------------


def test_another_process_in_the_folder_is_refused(learner):
    run_dir = learner().run_dir
    ready, tell = os.pipe()
    other = os.fork()
    if other == 0:
        start = {"world": 1, "threads": 1, "versions": {}, "identity": {}}
        folder = RunFolder(run_dir, ALONE)
        folder.open({}, start, plan=RunPlan("random", 1, 1))
        os.write(tell, b"held")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(ready, 4) == b"held"
        with pytest.raises(FolderBusy, match="another process is running"):
            learner(overwrite=True).run()
        assert len(read_journal(run_dir / "journal.jsonl")[0]) == 1  # nothing was overwritten
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    assert len(learner(overwrite=True).run()) == 3


def test_a_second_run_inside_this_process_is_refused(learner):
    class Nested:
        def ask(self, index, datamodule, round):
            learner(oracle=Nested(), datamodule=small.datamodule()).run()

    with pytest.raises(FolderBusy, match="another process is running"):
        learner(oracle=Nested()).run()


def test_a_refused_folder_is_given_free(learner):
    learner().run()
    with pytest.raises(JournalError) as kept:  # the traceback keeps the failed run alive
        learner(seed=1).run()
    assert kept.value.__traceback__
    assert len(learner().run()) == 3


# --- what the journal needs is gone ---------------------------------------------------------------


def cut(run_dir, event, round):
    """Cut the journal off after an event."""
    path = run_dir / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    records, _ = read_journal(path)
    at = next(i for i, r in enumerate(records) if (r["event"], r.get("round")) == (event, round))
    path.write_bytes(b"".join(lines[: at + 1]))


def test_other_data_of_the_same_size_are_refused(learner):
    config = {"mine": 1}
    train = small.blobs()
    learner(config=config, datamodule=small.datamodule(train, test=list(range(10)))).run()
    cut(learner().run_dir, "committed", 1)
    with pytest.raises(JournalError, match=r"another configuration \(data\..*overwrite"):
        learner(config=config, datamodule=small.datamodule(train, test=list(range(9)))).run()


def test_a_fit_done_again_needs_no_older_checkpoint_under_reset(learner):
    expected = small.outcome(learner().run().run_dir)
    run_dir = learner().run_dir
    cut(run_dir, "committed", 1)
    for name in ("round-000.ckpt", "round-001.ckpt"):
        (run_dir / "checkpoints" / name).unlink()
    learner().run()
    assert small.outcome(run_dir)["weights"] == expected["weights"]


@dataclass
class FromFile:
    """Labels from a list that someone may mend between two runs."""

    labels: list
    asked: list

    def __repr__(self):
        return "FromFile()"

    def ask(self, index, datamodule, round):
        self.asked.append(index.tolist())
        return Answers({"y": torch.tensor([self.labels[i] for i in index])})


def test_a_label_outside_the_classes_costs_nothing(learner):
    truth = small.blobs().targets.tolist()
    oracle = FromFile([99] * len(truth), [])
    config = {"mine": 1}
    with pytest.raises(ValueError, match=r"label 99 of item \d+ is outside the 3 classes 0…2"):
        learner(oracle=oracle, config=config).run()
    events = [r["event"] for r in read_journal(learner().run_dir / "journal.jsonl")[0]]
    assert events == ["start", "fitted", "scored", "chosen", "asked"]
    oracle.labels = truth
    history = learner(oracle=oracle, config=config).run()
    assert oracle.asked[0] == oracle.asked[1] == list(history.rounds[0].acquired)
    assert history.acquired == learner(run_dir=learner().run_dir / "plain").run().acquired


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda k: Answers({"y": torch.zeros(k - 1, dtype=torch.long)}), "has 4 entries"),
        (lambda k: Answers({"z": torch.zeros(k)}), "answers must hold 'y', got \\['z'\\]"),
        (lambda k: Answers({"y": torch.full((k,), torch.nan)}), "are not finite"),
        (lambda k: Answers({"y": torch.zeros(k)}), "must be whole numbers like the labels"),
        (lambda k: Answers({"y": torch.zeros(k, 1).long()}), r"shape \[1\] an item, the data"),
        (lambda k: Answers({"y": torch.zeros(k).long()}, cost=torch.ones(2)), "'cost' has 2"),
        (lambda k: torch.zeros(k), "an oracle gives Answers.*got Tensor"),
    ],
)
def test_bad_answers_never_reach_the_journal(learner, answers, said):
    class Bad:
        def ask(self, index, datamodule, round):
            return answers(len(index))

    with pytest.raises((ValueError, TypeError), match=said):
        learner(oracle=Bad()).run()
    records, _ = read_journal(learner().run_dir / "journal.jsonl")
    assert records[-1]["event"] == "asked"


def test_answers_that_change_their_form_never_reach_the_journal(learner):
    class Fickle:
        def ask(self, index, datamodule, round):
            y = datamodule.labels(index)
            return Answers({"y": y} if round == 0 else {"y": y, "z": y})

    with pytest.raises(ValueError, match=r"answers must name \['y'\], got \['y', 'z'\]"):
        learner(oracle=Fickle()).run()
    records, _ = read_journal(learner().run_dir / "journal.jsonl")
    assert (records[-1]["event"], records[-1]["round"]) == ("asked", 1)


# --- identity -------------------------------------------------------------------------------------


def test_plain_values_name_no_address():
    class Anonymous:
        pass

    values = [Anonymous(), lambda: 0, small.task, torch.ones(3), {1, 2}, partial(small.task, 0.1)]
    assert "0x" not in str(plain(values))
    assert plain(torch.ones(3)) == plain(torch.ones(3)) != plain(torch.zeros(3))
    assert plain({2, 1}) == [1, 2]
    assert plain(torch.float32) == "torch.float32"
    assert plain(torch.ones((), dtype=torch.bfloat16)) == plain(
        torch.ones((), dtype=torch.bfloat16)
    )


def test_a_task_instance_is_known_by_its_weights():
    torch.manual_seed(0)
    one, other = small.task(), small.task()
    assert plain(one) == plain(one)
    assert list(differences(plain(one), plain(other))) == [
        f"weights: {plain(one)['weights']!r} -> {plain(other)['weights']!r}"
    ]


def test_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_differences_name_the_place():
    old = {"a": {"b": 1, "c": float("nan")}, "d": [1, 2]}
    new = {"a": {"b": 2, "c": float("nan")}, "d": [1, 2], "e": 0}
    assert differences(old, new) == ["a.b: 1 -> 2", "e: None -> 0"]
