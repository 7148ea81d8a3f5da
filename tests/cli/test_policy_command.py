"""The command ``policy``: what it writes of a checkpoint, what it reads, and what it refuses."""

import csv
import json
import os
from argparse import ArgumentError
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_al.cli import main
from lightning_al.cli import policy_command as command
from lightning_al.policies import (
    Batch,
    CandidateModule,
    FlexiblePolicy,
    KernelPrior,
    Policy,
    PolicyModule,
    SafetyPrior,
    SetPolicy,
    Simulator,
    SimulatorDataModule,
    roll_out,
)
from lightning_al.policies.training import Turn
from lightning_al.policies.training_progress import Progress, plain, simulator_of
from lightning_al.policies.training_record import policy_of, read_checkpoint, read_metrics

CONFIG = [
    *("--config", "policy/asal-safe-2d", "--model.network.init_args.width=8"),
    *("--model.network.init_args.heads=2", "--model.network.init_args.hidden=8"),
    *(f"--data.simulator.batch.{k}=2" for k in ("kernels", "functions")),
    *("--data.simulator.horizon=3", "--data.steps=30", "--trainer.accelerator=cpu"),
    "--trainer.enable_progress_bar=false",
]
WEIGHTS, CARD = ("out/mine.safetensors", "out/mine.json")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two of 200 epochs of a shipped configuration, made small."""
    folder, before = tmp_path_factory.mktemp("fit"), Path.cwd()
    os.chdir(folder)
    try:
        main(["fit", *CONFIG, "--trainer.max_epochs=2"])
    finally:
        os.chdir(before)
    (checkpoint,) = folder.rglob("last.ckpt")
    return checkpoint


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def changed(checkpoint, change):
    """A copy with its log beside it, as if `change` had been done to its content."""
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    Path("copy/checkpoints").mkdir(parents=True)
    torch.save(state, "copy/checkpoints/x.ckpt")
    log = checkpoint.parents[1] / "metrics.csv"
    Path("copy/metrics.csv").write_bytes(log.read_bytes())
    return "copy/checkpoints/x.ckpt"


def as_before(state):
    """What checkpoints held before they kept the progress of their training."""
    del state["progress"], state["datamodule_hyper_parameters"], state["datamodule_hparams_name"]


def losses_of(checkpoint):
    with (checkpoint.parents[1] / "metrics.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["train/loss"]]
    return [float(r["train/loss"]) for r in rows]


def test_the_card_says_how_far_the_policy_was_trained(trained, capsys):
    policy = main(["policy", str(trained), "--out", "out/mine", "--note", "a try"])
    shown = capsys.readouterr().out
    card, training = policy.card, policy.card.training
    assert (card.kind, card.history, card.budget) == ("SetPolicy", 5 + 3 - 1, 3)
    assert (training["steps"], training["planned_steps"]) == (60, 60)
    assert training["summary"] == "Trained to the end of its schedule, 60 steps."
    losses = losses_of(trained)
    assert len(losses) == 60
    assert training["final_loss"] == pytest.approx(sum(losses[10:]) / 50, rel=1e-9)
    assert training["final_loss_of"] == 50
    assert 0 <= training["validation"]["safe"] <= 1
    assert training["validation"]["step"] == 60
    assert read_checkpoint(trained)["progress"]["validation"] == training["validation"]
    assert training["seeds"] == {"problems": 2, "weights": 2}
    assert training["config"]["objective"] == "MinUnsafeGPEntropy2"
    assert training["config"]["arguments"] == {"gamma": 0.05}
    assert training["config"]["simulator"]["variant"] == "published"
    assert training["config"]["simulator"]["batch"]["kernels"] == 2
    assert training["machine"]["threads"] == torch.get_num_threads()
    assert training["versions"]["torch"] == torch.__version__
    assert 0 < training["wall_seconds"] < 600
    assert training["note"] == "a try"
    assert json.loads(Path(CARD).read_text())["training"] == training
    assert "60 of 60" in shown
    assert f"{training['final_loss']:.3f}" in shown


def test_a_policy_that_scores_candidates_comes_out_with_its_evidence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--data.simulator.batch.kernels=2", "--data.simulator.horizon=3", "--data.steps=2"]
    small += [f"--model.network.init_args.{k}" for k in ("width=8", "heads=2", "candidates=9")]
    more = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", "policy/candidate-safe-2d", *small, *more])
    (last,) = tmp_path.rglob("last.ckpt")
    policy = main(["policy", str(last), "--out", "out/mine"])
    shown = capsys.readouterr().out
    card, training = policy.card, policy.card.training
    assert (card.kind, card.history, card.budget) == ("CandidatePolicy", 5 + 3 - 1, 3)
    assert training["config"]["optimizer"] == "AdamW"
    assert training["config"]["target"] == "entropy"
    assert set(training["evidence"]) >= {"spread", "heeded", "rmse", "rmse_sobol", "safe"}
    assert f"{100 * training['evidence']['safe']:.1f} %" in shown
    module = CandidateModule.load_from_checkpoint(last)
    again = Policy.of(module.network, 7, 3)  # the average, not what is learning
    x, y, z = torch.rand(5, 2), torch.randn(5), torch.randn(5)
    torch.testing.assert_close(policy.query(x, y, 3, z), again.query(x, y, 3, z))
    with pytest.raises(ValueError, match="trained with target entropy, the configuration says ivr"):
        main(["policy", str(last), "--out", "out/other", "--config", "policy/candidate-5d"])


def test_the_policy_asks_what_the_trained_network_asks(trained):
    policy = main(["policy", str(trained), "--out", "out/mine.json"])
    module = PolicyModule.load_from_checkpoint(trained)
    x, y, z = torch.rand(1, 7, 2), torch.randn(1, 7), torch.randn(1, 7)
    with torch.no_grad():
        expected = module.network(torch.tensor([3]), x, y, z)[0]
    torch.testing.assert_close(policy.query(x[0], y[0], 3, z[0]), expected)
    torch.testing.assert_close(
        Policy.load("out/mine", unchecked=True).query(x[0], y[0], 3, z[0]), expected
    )


def test_a_checkpoint_that_says_less_needs_the_configuration_and_the_log(trained, capsys):
    whole = main(["policy", str(trained), "--out", "out/mine"]).card.training
    old = changed(trained, as_before)
    with pytest.raises(ValueError, match="give with --config"):
        main(["policy", old, "--out", "out/old"])
    found = main(["policy", old, "--out", "out/old", *CONFIG]).card.training
    assert found["final_loss"] == pytest.approx(whole["final_loss"], rel=1e-6)
    assert found["validation"] == pytest.approx(whole["validation"], rel=1e-6)
    assert found["config"] == whole["config"]
    assert found["seeds"] == whole["seeds"]
    assert (found["machine"], found["wall_seconds"]) == (None, None)
    assert "torch" not in found["versions"]
    assert found["planned_steps"] == 200 * 30
    assert found["summary"].startswith("The training was cut short: 60 of the 6000 steps")
    here = main(["policy", old, "--out", "out/here", "--here", *CONFIG]).card.training
    assert here["machine"]["threads"] == torch.get_num_threads()
    Path("copy/metrics.csv").unlink()
    capsys.readouterr()
    bare = main(["policy", old, "--out", "out/bare", *CONFIG]).card.training
    assert (bare["final_loss"], bare["final_loss_of"]) == (None, 0)
    assert "with --metrics" in capsys.readouterr().out


def test_a_training_that_was_stopped_on_purpose_was_cut_short_by_its_configuration(trained):
    found = main(["policy", str(trained), "--out", "out/mine", *CONFIG]).card.training
    assert (found["steps"], found["planned_steps"]) == (60, 6000)
    assert "cut short" in found["summary"]
    own = main(["policy", str(trained), "--out", "own"]).card.training
    same = {k: v for k, v in found.items() if k not in ("planned_steps", "summary")}
    assert {k: own[k] for k in same} == same


@pytest.mark.parametrize(
    "law",
    [
        {"dimension": 1, "initial": 1, "horizon": 4},
        {"dimension": 2, "initial": (2, 5), "horizon": 3, "safety": SafetyPrior()},
        {"dimension": 2, "initial": 2, "horizon": 3, "flexible": True},
    ],
    ids=["one", "ragged", "flexible"],
)
def test_history_and_budget_are_the_most_that_the_training_showed(tmp_path, law):
    simulator = Simulator(**law, batch=Batch(2, 3, 2), prior=KernelPrior("uniform"))
    cls = FlexiblePolicy if simulator.flexible else SetPolicy
    safe = simulator.safety is not None
    network = cls(simulator.dimension, safe=safe, width=8, heads=2, hidden=8)
    objective = "MinUnsafeGPEntropy2" if safe else "GPEntropy2"
    data = SimulatorDataModule(simulator, steps=2, seed=5)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    module = PolicyModule(network.double(), objective, lr=1e-3)
    trainer.fit(module, data)
    trainer.save_checkpoint("x.ckpt")
    policy = policy_of(read_checkpoint("x.ckpt"))
    seen, budgets = [], []
    propose, remaining = network.propose, network.remaining
    network.propose = lambda history, left: seen.append(len(history)) or propose(history, left)
    network.remaining = lambda b: budgets.append(b) or remaining(b)
    turn = Turn(simulator, 5, 0, "validate", 0, 1, torch.device("cpu"))
    roll_out(network, module.drawn(turn).episode)
    assert policy.card.history == max(seen)
    assert policy.card.budget == int(torch.cat(budgets).max()) == simulator.horizon
    assert policy.card.training["planned_steps"] == 2
    assert next(policy.network.parameters()).dtype == torch.float32
    read = SimulatorDataModule.load_from_checkpoint("x.ckpt")
    assert plain(read.simulator) == plain(simulator)
    assert (read.seed, read.steps) == (5, 2)


def test_settings_of_a_simulator_and_back():
    safety = SafetyPrior(KernelPrior("uniform", base=[0.3]), low=[2.0], high=[3.0], rotated=False)
    law = Simulator(2, 9, [1, 4], Batch(1, 2, 3), KernelPrior(base=[0.2, 0.3]), safety)
    assert simulator_of(json.loads(json.dumps(plain(law)))) == law
    assert simulator_of({"dimension": 3}) == Simulator(3)
    with pytest.raises(ValueError, match="no settings of a simulator"):
        simulator_of({"dimensions": 3})


def test_logs_of_a_resumed_training_are_one_and_the_later_counts():
    Path("a.csv").write_text(
        "epoch,step,train/loss,val/rmse\n0,0,1.0,\n0,1,2.0,\n0,1,,0.5\n0,2,9,\n"
    )
    Path("b.csv").write_text("epoch,step,train/loss\n0,2,3.0\n0,3,4.0\n0,4")
    found = read_metrics(["a.csv", "b.csv"])
    assert found == {"train/loss": {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}, "val/rmse": {1: 0.5}}
    Path("c.csv").write_text("epoch,loss\n0,1\n")
    with pytest.raises(ValueError, match="no columns step and train/loss"):
        read_metrics(["c.csv"])
    with pytest.raises(FileNotFoundError, match="no file"):
        read_metrics(["d.csv"])


def test_losses_beyond_the_checkpoint_do_not_count(trained):
    def earlier(state):
        as_before(state)
        state["global_step"] = 20

    found = main(["policy", changed(trained, earlier), "--out", "x", *CONFIG]).card.training
    assert found["final_loss"] == pytest.approx(sum(losses_of(trained)[:20]) / 20, rel=1e-9)
    assert (found["final_loss_of"], found["validation"]) == (20, {})


def test_no_code_of_a_checkpoint_runs_unless_it_is_trusted(trained):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, ("ran",))

    path = changed(trained, lambda state: state.update(callbacks=Evil()))
    with pytest.raises(
        ValueError, match=r"tensors and plain values: (nt|posix)\.mkdir; where .*--trust"
    ):
        main(["policy", path, "--out", "out/mine"])
    assert not Path("ran").exists()
    main(["policy", path, "--out", "out/mine", "--trust"])
    assert Path("ran").exists()


def network_of(state):
    return state["hyper_parameters"]["network"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("state_dict"), "no checkpoint of Lightning"),
        (lambda s: s["hyper_parameters"].pop("network"), "no checkpoint of a PolicyModule"),
        (lambda s: network_of(s).update(class_path="os.SetPolicy"), "got os.SetPolicy"),
        (lambda s: network_of(s)["init_args"].update(width=16), "not those of its network"),
        (lambda s: network_of(s)["init_args"].update(depth=1), "not those of its network"),
        (lambda s: s["state_dict"]["network.last.bias"].fill_(float("nan")), "hold NaN"),
    ],
)
def test_checkpoints_of_something_else_are_refused(trained, change, says):
    with pytest.raises(ValueError, match=says):
        main(["policy", changed(trained, change), "--out", "out/mine"])
    assert not Path(WEIGHTS).exists()


def test_bad_calls_are_refused(trained):
    path = str(trained)
    for words, error, says in (
        (["--out", "x"], ArgumentError, "checkpoint first"),
        ([path], ArgumentError, "--out says where"),
        ([path, "--out", "x", "--data.seed=1"], ArgumentError, "name it with --config"),
        ([path, "--out", "asal-0.5"], ValueError, "no dot"),
        (["absent.ckpt", "--out", "x"], FileNotFoundError, "no checkpoint at absent.ckpt"),
        ([path, "--out", "x", *CONFIG, "--data.seed=1"], ValueError, "other problems"),
        ([path, "--out", "x", *CONFIG, "--data.simulator.horizon=4"], ValueError, "other problems"),
        ([path, "--out", "x", *CONFIG, "--model.lr=1"], ValueError, "with lr 0.0001, .* says 1"),
        ([path, "--out", "x", "--config", "policy/asal-1d"], ValueError, "trained with objective"),
        ([path, "--out", "x", "--config", "quickstart"], ValueError, "no training of a policy"),
        ([path, "--out", "x", "--metrics", "none.csv"], FileNotFoundError, "no file none.csv"),
    ):
        with pytest.raises(error, match=says):
            main(["policy", *words])
        assert not Path("x.json").exists()
    Path("bad.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"bad\.ckpt"):
        main(["policy", "bad.ckpt", "--out", "x"])


def test_a_policy_that_is_there_is_not_replaced_unasked(trained):
    main(["policy", str(trained), "--out", "out/mine"])
    with pytest.raises(FileExistsError, match="--overwrite"):
        main(["policy", str(trained), "--out", "out/mine"])
    again = main(["policy", str(trained), "--out", "out/mine", "--overwrite", "--note", "two"])
    assert Policy.load("out/mine", unchecked=True).card == again.card
    assert again.card.training["note"] == "two"


def test_without_a_checkpoint_it_lists_what_is_shipped(trained, monkeypatch, capsys):
    monkeypatch.setattr(command, "shelf", list)
    assert main(["policy"]) == []
    assert "no policies are shipped" in capsys.readouterr().out
    main(["policy", str(trained), "--out", "shelf/b", *CONFIG])
    Policy.of(SetPolicy(3, width=8, heads=2, hidden=8), 12, 9).save("shelf/a")  # a bare card
    monkeypatch.setattr(command, "shelf", lambda: sorted(Path("shelf").glob("*.json")))
    capsys.readouterr()
    assert main(["policy"]) == ["a", "b"]
    head, a, b = capsys.readouterr().out.splitlines()
    named = ["name", "D", "safe", "safe", "share", "history", "budget", "steps", "final", "loss"]
    assert head.split() == named
    assert a.split() == ["a", "3", "no", "12", "9", "?", "?"]
    assert b.split()[:3] == ["b", "2", "yes"]
    assert " 7       3  60 of 6000" in b


@pytest.mark.parametrize(("safe", "said"), [(0.9, "90.0 % < 95 %: unchecked"), (0.96, "96.0 %")])
def test_what_is_measured_of_safety_stands_in_the_list(monkeypatch, capsys, safe, said):
    training = {"config": {"arguments": {"gamma": 0.05}}, "validation": {"safe": safe}}
    network = SetPolicy(2, safe=True, width=8, heads=2, hidden=8)
    Policy.of(network, 12, 9, **training).save("shelf/a")
    Policy.of(network, 12, 9).save("shelf/b")
    monkeypatch.setattr(command, "shelf", lambda: sorted(Path("shelf").glob("*.json")))
    assert main(["policy"]) == ["a", "b"]
    _, a, b = capsys.readouterr().out.splitlines()
    assert " ".join(a.split()).startswith(f"a 2 yes {said} 12 ")
    assert b.split()[:4] == ["b", "2", "yes", "?"]


def test_a_training_that_fell_short_is_written_and_it_is_said(trained, capsys):
    def short(state):
        state["progress"]["validation"]["safe"] = 0.2

    policy = main(["policy", changed(trained, short), "--out", "out/mine"])
    assert policy.card.training["validation"]["safe"] == 0.2
    assert "20 %, promised 95 %: it is loaded with unchecked=True alone" in capsys.readouterr().out
    with pytest.raises(ValueError, match="mine falls short"):
        Policy.load("out/mine")


def test_time_goes_on_where_it_stopped():
    first = Progress()
    assert first._times() == {"wall": 0.0, "cpu": 0.0}
    first.spent = {"wall": 100.0, "cpu": 50.0}
    first._began = {"wall": 0.0, "cpu": 0.0}
    assert first._times()["wall"] > 100
    first.end()
    spent = dict(first.spent)
    assert first._times() == spent


def test_one_that_goes_on_from_an_old_checkpoint_claims_no_time_and_takes_the_log(trained):
    old = changed(trained, as_before)
    main(["fit", *CONFIG, "--trainer.max_epochs=3", "--ckpt_path", old])
    (last,) = Path("runs").rglob("last.ckpt")
    own = main(["policy", str(last), "--out", "own"]).card.training
    assert (own["steps"], own["wall_seconds"], own["final_loss_of"]) == (90, None, 30)
    logs = [str(p) for f in ("copy", "runs") for p in Path(f).rglob("metrics.csv")]
    words = [word for log in logs for word in ("--metrics", log)]
    both = main(["policy", str(last), "--out", "both", *words]).card.training
    expected = [*losses_of(trained), *losses_of(last)][-50:]
    assert both["final_loss_of"] == 50
    assert both["final_loss"] == pytest.approx(sum(expected) / 50, rel=1e-9)
    again = Progress()
    again.restore(read_checkpoint(last)["progress"])
    assert (again._times(), len(again.losses)) == (None, 30)
    main(["fit", *CONFIG, "--trainer.max_epochs=3", "--ckpt_path", str(trained)])
    newest = max(Path("runs").rglob("last*.ckpt"), key=lambda p: p.stat().st_mtime)
    timed = main(["policy", str(newest), "--out", "timed"]).card.training
    before = main(["policy", str(trained), "--out", "before"]).card.training
    assert timed["wall_seconds"] > before["wall_seconds"] > 0
