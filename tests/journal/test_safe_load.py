"""Checkpoints of others: tensors and plain values, and no code unless it is trusted."""

import enum
import os
import pickle
import zipfile
from collections import OrderedDict
from datetime import date
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from helpers import small
from torch import nn

from lightning_al.assembly.replay import replay
from lightning_al.cli import main
from lightning_al.safe_load import load_plain


class Calls:
    """Has a function called when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Colour(enum.Enum):
    RED = 1


class Mine:
    def __init__(self):
        self.deep = {"a": [1, 2]}


def touch(folder):
    return os.open, (str(folder / "ran"), os.O_CREAT | os.O_WRONLY)


@pytest.mark.parametrize(
    "make",
    [
        lambda at: Calls(os.mkdir, str(at / "ran")),
        lambda at: Calls(os.system, f"touch {at / 'ran'}"),
        lambda at: Calls(eval, f"open({str(at / 'ran')!r}, 'w')"),
        lambda at: Calls(Path.touch, at / "ran"),
        lambda at: Calls(*touch(at)[:1], *touch(at)[1]),
        lambda at: Calls(getattr, "text", "upper"),
        lambda at: {"deep": [1, {"x": (Calls(os.mkdir, str(at / "ran")),)}]},
        lambda at: OrderedDict(a=Calls(os.mkdir, str(at / "ran"))),
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_nothing_of_a_file_runs(tmp_path, caplog, make, form):
    file = tmp_path / "evil.ckpt"
    state = {"state_dict": {"w": torch.ones(2)}, "hyper_parameters": {"lr": 0.1}}
    whole = {**state, "evil": make(tmp_path)}
    torch.save(whole, file, _use_new_zipfile_serialization=form == "zip")
    found = load_plain(file)
    assert not (tmp_path / "ran").exists()
    assert found["hyper_parameters"] == {"lr": 0.1}
    assert torch.equal(found["state_dict"]["w"], torch.ones(2))
    assert "evil" not in found or "x" not in str(found["evil"])
    assert "left out; where you know who made it, --trust" in caplog.text


@pytest.mark.parametrize(
    "name", ["os.mkdir", "builtins.exec", "torch.hub.load", "torch._utils.sys"]
)
def test_a_pickle_written_by_hand_names_nothing_else(tmp_path, name):
    module, _, function = name.rpartition(".")
    opcodes = f"c{module}\n{function}\n(V{tmp_path / 'ran'}\ntR.".encode()
    file = tmp_path / "evil.ckpt"
    torch.save({"a": 1}, file)
    with zipfile.ZipFile(file) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, opcodes if member.endswith("data.pkl") else data)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint: it holds a LeftOut"):
        load_plain(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (nn.ReLU(), False),
        (Mine(), False),
        (Colour.RED, False),
        (small.task, False),
        ([1, Mine()], False),
        ({"inner": {"network": nn.Linear(2, 2), "lr": 0.1}}, {"inner": {"lr": 0.1}}),
        (np.float64(0.5), True),
        (np.arange(3), True),
        (PurePosixPath("a/b"), True),
        (date(2024, 1, 2), True),
        (torch.float16, True),
        (torch.device("cpu"), True),
        ({1, 2}, True),
        (1 + 2j, True),
        (OrderedDict(a=1), True),
    ],
)
def test_hyper_parameters_may_be_anything(tmp_path, value, kept):
    file = tmp_path / "a.ckpt"
    weights = {"w": torch.randn(3), "b": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(1)}
    given = {"lr": 0.1, "other": value}
    torch.save({"state_dict": weights, "hyper_parameters": given, "epoch": 3}, file)
    found = load_plain(file)
    assert small.same_weights(found["state_dict"], weights)
    assert found["epoch"] == 3
    hyper = found["hyper_parameters"]
    assert hyper["lr"] == 0.1
    if kept is False:
        assert "other" not in hyper
    else:
        expected = value if kept is True else kept
        assert np.all(hyper["other"] == expected)
        assert type(hyper["other"]) is type(expected)


def test_what_is_trusted_is_read_whole(tmp_path):
    torch.save({"state_dict": {}, "mine": Mine()}, tmp_path / "a.ckpt")
    assert load_plain(tmp_path / "a.ckpt", trust=True)["mine"].deep == {"a": [1, 2]}


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", pickle.dumps([1]), b"PK\x03\x04 torn", b"\x80\x02}q\x00."]
)
def test_what_is_no_checkpoint_is_said_in_one_sentence(tmp_path, content):
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.ckpt cannot be read as a checkpoint"):
        load_plain(tmp_path / "a.ckpt")


# --- in a run ------------------------------------------------------------------------------------


def with_evil(file, at):
    state = torch.load(file, weights_only=False)
    state["hyper_parameters"] = {"evil": Calls(os.mkdir, str(at / "ran"))}
    torch.save(state, file)


def test_resume_and_replay_run_nothing(learner, tmp_path):
    given = {"weights": "warm"}
    expected = small.outcome(learner(**given).run().run_dir)
    run_dir = learner().run_dir
    path = run_dir / "journal.jsonl"
    old = [line for line in path.read_bytes().splitlines(keepends=True)]
    from lightning_al.journal.journal import Journal, read_journal

    records, _ = read_journal(path)
    assert len(old) == len(records)
    path.unlink()
    journal = Journal(path)  # without hashes, as somebody who hands a folder on may write it
    for record in records:
        if record.get("round") == 2:
            break
        journal.append(**{k: v for k, v in record.items() if k != "checkpoint_hash"})
    for file in (run_dir / "checkpoints").iterdir():
        with_evil(file, tmp_path)
    replay(run_dir, 1, learner(**given))
    learner(**given).run()
    assert not (tmp_path / "ran").exists()
    assert small.outcome(run_dir)["weights"] == expected["weights"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggest") / "run"
    words = ["run", "--config", "quickstart", "--budget", "20", "--trainer.max_epochs", "2"]
    main([*words, "--run_dir", str(folder), "--progress", "false"])
    return folder


def suggested(folder, out, *words):
    (last, *_) = sorted((folder / "checkpoints").glob("*.ckpt"), reverse=True)
    main(["suggest", "--ckpt", str(last), "--k", "5", "--out", str(out), *words])
    return out.read_text()


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("quickstart", "nothing"),
        lambda text: "strategy: random\n",
        lambda text: text + "\nmodel: {class_path: os.mkdir, init_args: {path: ran}}\n",
        lambda text: "\x00\xff",
        None,
    ],
)
def test_suggest_reads_the_journal_and_no_edited_file(finished, tmp_path, edit, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = suggested(finished, tmp_path / "a.csv")
    path = finished / "config.yaml"
    before = path.read_text()
    try:
        path.unlink() if edit is None else path.write_text(edit(before))
        assert suggested(finished, tmp_path / "b.csv") == expected
        assert not (tmp_path / "ran").exists()
    finally:
        path.write_text(before)


def test_suggest_takes_no_other_file_for_the_runs_own(finished, tmp_path):
    (last, first) = sorted((finished / "checkpoints").glob("*.ckpt"), reverse=True)[:2]
    before = last.read_bytes()
    try:
        last.write_bytes(first.read_bytes())
        with pytest.raises(ValueError, match=r"another file .*say with --config which model"):
            suggested(finished, tmp_path / "a.csv")
        assert suggested(finished, tmp_path / "a.csv", "--config", "quickstart")
    finally:
        last.write_bytes(before)


@pytest.mark.parametrize(("trust", "ran"), [([], False), (["--trust"], True)])
def test_suggest_trusts_where_it_is_told_to(finished, tmp_path, trust, ran):
    file = tmp_path / "a.ckpt"
    (last, *_) = sorted((finished / "checkpoints").glob("*.ckpt"), reverse=True)
    file.write_bytes(last.read_bytes())
    with_evil(file, tmp_path)
    words = ["--config", "quickstart", "--k", "5", "--out", str(tmp_path / "a.csv"), *trust]
    main(["suggest", "--ckpt", str(file), *words])
    assert (tmp_path / "ran").exists() is ran
