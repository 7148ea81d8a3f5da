"""The command line: every setting can be given, and what it prints works."""

import csv
import os
import shlex
import subprocess
import sys

import pytest
import torch
import yaml
from helpers.user_parts import Gloves, Spy, Wrapped
from matplotlib.figure import Figure

from lightning_al import replay
from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.parser import parse
from lightning_al.assembly.shipped import list_configs
from lightning_al.cli import main

FAST = ["--trainer.max_epochs", "2", "--budget", "40", "--progress", "false"]
OWN = [
    *("--model", "helpers.user_parts.Net", "--model.width", "6", "--trainer.accelerator", "cpu"),
    *(
        "--data",
        "ActiveDataModule",
        "--data.train",
        "helpers.user_parts.Blobs",
        "--data.train.n",
        "50",
    ),
    *("--data.test", "0.2", "--trainer.max_epochs", "2", "--query_size", "3", "--budget", "6"),
    *("--progress", "false"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Spy.seen.clear()


def run(*more, config="quickstart"):
    """One run of three rounds."""
    (history,) = main(["run", "--config", config, *FAST, *more])
    return history


# --- settings ------------------------------------------------------------------------------------


def test_what_is_typed_overrides_the_configuration_wherever_it_stands():
    before = parse(["run", "--query_size", "5", "--config", "quickstart"])
    after = parse(["run", "--config=quickstart", "--query_size=5"])
    assert before == after
    assert before["query_size"] == 5


@pytest.mark.parametrize(
    "given",
    [
        ["--strategy", "{name: power, score: entropy, beta: 2}"],
        ["--strategy", "power", "--strategy.score", "entropy", "--strategy.beta", "2"],
        ["--strategy=power", "--strategy.score=entropy", "--strategy.beta=2"],
    ],
)
def test_a_strategy_takes_arguments_in_one_piece_or_by_dotted_keys(given):
    wanted = {"name": "power", "score": "entropy", "beta": 2}
    assert parse(["run", "--config", "quickstart", *given])["strategy"] == wanted


def test_a_dotted_key_changes_what_the_configuration_names():
    config = parse(["run", "--config", "digits", "--posterior.members", "7"])
    assert config["posterior"]["init_args"] == {"members": 7}
    with pytest.raises(ValueError, match=r"--posterior\.members needs a posterior"):
        parse(["run", "--config", "quickstart", "--posterior.members", "7"])


@pytest.mark.parametrize(
    "key", ["model.init_args.network.init_args.hidden", "model.network.hidden"]
)
def test_settings_of_the_network_are_reached(key):
    network = parse(["run", "--config", "quickstart", f"--{key}", "[128]"])["model"]["init_args"]
    assert network["network"]["init_args"]["hidden"] == [128]


def test_short_class_names_are_enough_for_our_own_classes():
    config = parse(
        [
            *("run", "--model", "Classification", "--model.network", "Ensemble"),
            *("--model.network.network", "MLP", "--model.network.network.hidden", "[7]"),
            *("--data", "BreastCancerDataModule", "--optimizer", "SGD", "--optimizer.lr", "0.1"),
            *("--trainer.callbacks+", "EarlyStopping", "--trainer.callbacks.monitor", "val/nll"),
        ]
    )
    member = config["model"]["init_args"]["network"]["init_args"]["network"]
    assert member["class_path"] == "lightning_al.networks.MLP"
    assert config["data"]["class_path"] == "lightning_al.datamodules.BreastCancerDataModule"


def test_fit_prints_its_configuration_too(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", "quickstart", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["init_args"]["initial"] == 20
    assert "strategy" not in printed


# --- what settings do ----------------------------------------------------------------------------


def test_the_optimizer_of_the_command_line_acts_in_every_round():
    run(
        *("--optimizer", "SGD", "--optimizer.lr", "0.1"),
        *("--lr_scheduler", "CosineAnnealingLR", "--lr_scheduler.T_max", "10"),
        *("--trainer.callbacks", "[{class_path: helpers.user_parts.Spy}]"),
    )
    made = [(note.optimizer, note.lr, note.schedulers) for note in Spy.seen]
    assert made == [("SGD", 0.1, ["CosineAnnealingLR"])] * 3


def test_callbacks_are_new_in_each_round_and_the_best_weights_come_back(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(
        """
trainer:
  callbacks:
    - class_path: pytorch_lightning.callbacks.EarlyStopping
      init_args: {monitor: val/nll, patience: 1}
    - class_path: pytorch_lightning.callbacks.ModelCheckpoint
      init_args: {monitor: val/nll, dirpath: best}
    - class_path: helpers.user_parts.Spy
"""
    )
    more = ("--config", str(own), "--restore", "best", "--data.val", "0.2", "--run_dir", "it")
    history = run(*more, "--trainer.max_epochs", "30", "--model.lr", "0.03")
    kept = [note.callbacks for note in Spy.seen]
    assert len(kept) == 3
    names = {"EarlyStopping", "ModelCheckpoint"}
    ours = [c for round in kept for c in round if type(c).__name__ in names]
    assert len({id(c) for c in ours}) == 6
    for done, callbacks in zip(history.rounds, kept, strict=True):
        (checkpoint,) = (c for c in callbacks if type(c).__name__ == "ModelCheckpoint")
        best = torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"]
        saved = torch.load(history.run_dir / done.checkpoint, weights_only=True)["state_dict"]
        assert all(torch.equal(best[name], saved[name]) for name in best)


def test_bald_with_dropout_masks():
    dropout = ["--strategy", "bald", "--model.network.dropout", "0.2"]
    history = run(*dropout, "--posterior", "MCDropout", "--posterior.members", "10")
    assert all(score > 0 for done in history.rounds for score in done.scores)


def test_a_stopping_rule_and_an_oracle():
    rule = "[{name: MetricTarget, metric: test/accuracy, target: 0.01}]"
    history = run("--stopping", rule, "--oracle", "SimulatedOracle", "--oracle.cost", "2.5")
    assert history.stopped.startswith("test/accuracy reached")
    history = run("--oracle", "{name: SimulatedOracle, cost: 2.5}", "--query_size", "4")
    assert history.rounds[0].cost == 10


def test_all_three_loggers(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run("--loggers", "[csv,tensorboard,wandb]", "--run_dir", "it", "--budget", "20")
    assert list((tmp_path / "it/logs/csv").rglob("metrics.csv"))
    assert list((tmp_path / "it/logs/tensorboard").rglob("events*"))
    assert list((tmp_path / "it/wandb").rglob("*.wandb"))


# --- parts of the user's own ---------------------------------------------------------------------


def test_module_dataset_strategy_oracle_rule_and_posterior_of_the_users_own():
    (history,) = main(
        [
            *("run", *OWN, "--adapter.embedding", "head:input"),
            *("--strategy", "{class_path: helpers.user_parts.Farthest, init_args: {sign: -1.0}}"),
            *(
                "--baseline",
                "helpers.user_parts.Farthest",
                "--oracle",
                "helpers.user_parts.Person",
                "--posterior",
                "helpers.user_parts.Plain",
            ),
            *("--stopping", "[{class_path: helpers.user_parts.Enough, init_args: {rounds: 2}}]"),
        ]
    )
    assert history.stopped == "that is enough"
    assert history.name == "Farthest"
    assert [len(done.refused) for done in history.rounds] == [1, 0]


def test_a_module_that_takes_a_network_loads_with_plain_lightning_and_keeps_the_trainers_objects():
    body = ["--model.body", "lightning_al.networks.MLP", "--model.body.in_features", "4"]
    model = ["--model", "helpers.user_parts.Wrapped", *body, "--model.body.outputs", "3"]
    plugins = ["--trainer.plugins", "helpers.user_parts.Gloves"]
    (history,) = main(["run", *model, *plugins, *OWN[4:]])
    module = Wrapped.load_from_checkpoint(history.final_checkpoint)
    saved = torch.load(history.final_checkpoint, weights_only=True)
    assert saved["hyper_parameters"]["body"]["class_path"] == "lightning_al.networks.MLP"
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, saved["state_dict"][name], rtol=0, atol=0)
    assert Gloves.made >= len(history)


def test_a_pool_view_and_validation_data_by_class_path():
    more = ["--data.pool", "helpers.user_parts.Blobs", "--data.pool.n", "50", "--data.val", "0.1"]
    (history,) = main(["run", *OWN, *more, "--strategy", "entropy"])
    assert len(history) == 3


# --- where a run lies ----------------------------------------------------------------------------


def test_the_folder_is_named_by_what_the_run_does(tmp_path):
    first = run()
    assert first.run_dir.parent.name == "runs"
    assert first.run_dir.name.startswith("quickstart-")
    assert run("--loggers", "[csv]", "--trainer.log_every_n_steps", "3").run_dir == first.run_dir
    assert len({first.run_dir, run("--query_size", "40").run_dir, run("--seed", "1").run_dir}) == 3


def test_the_same_command_goes_on_and_overwrite_starts_anew(tmp_path):
    history = run("--run_dir", "it")
    journal = tmp_path / "it/journal.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:9]))
    again = run("--run_dir", "it")
    assert again.acquired == history.acquired
    assert len(journal.read_bytes().splitlines()) == len(lines)
    assert run("--run_dir", "it", "--query_size", "40", "--overwrite").rounds[1].n_labelled == 60


def test_a_configuration_from_a_run_folder_changed_is_another_run():
    first = run()
    (other,) = main(["run", "--config", str(first.run_dir / "config.yaml"), "--query_size", "40"])
    assert other.run_dir != first.run_dir
    assert other.run_dir.name.startswith(first.run_dir.name)


def test_a_round_is_replayed_from_the_folder_alone():
    history = run("--optimizer", "SGD", "--optimizer.lr", "0.1")
    again = replay(history.run_dir, 1).state_dict()
    saved = torch.load(history.run_dir / history.rounds[1].checkpoint, weights_only=True)
    assert all(torch.equal(value, again[name]) for name, value in saved["state_dict"].items())


@pytest.mark.parametrize(
    ("words", "times"),
    [([], 1), (["--files", "false"], 1), (["--baseline", "random"], 3)],  # two, and both
    ids=["by the run", "by the command", "with a baseline"],
)
def test_each_picture_is_drawn_once(tmp_path, monkeypatch, words, times):
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (drawn.append(a), save(f, *a, **k)))
    run("--run_dir", "it", *words)
    assert len(drawn) == times
    assert (tmp_path / "it/curve.png").exists()


def test_several_seeds_lie_side_by_side_and_are_shown_together(tmp_path, capsys):
    command = ["run", "--config", "quickstart", *FAST, "--run_dir", "it"]
    histories = main([*command, "--seed", "[0,1,2]", "--baseline", "random"])
    assert len(histories) == 3
    assert len({tuple(history.acquired) for history in histories}) == 3
    for seed in range(3):
        assert (tmp_path / f"it/seed-{seed}/baseline/journal.jsonl").exists()
        assert (tmp_path / f"it/seed-{seed}/curve.png").exists()
    assert (tmp_path / "it/curve.png").exists()
    shown = capsys.readouterr().out
    mean = sum(h.rounds[-1].metrics["test/accuracy"] for h in histories) / 3
    assert "mean ± standard deviation of 3 seeds" in shown
    last = next(line for line in shown.splitlines() if line.strip().startswith("60 "))
    assert f"{mean:.3f} ± " in last
    assert last.count("±") == 3  # the strategy, the baseline, their difference


# --- Lightning's own commands, and suggest -------------------------------------------------------


def test_plain_lightning_works_on_a_configuration_of_a_run_and_suggest_takes_its_checkpoint(capsys):
    quickstart = ["--config", "quickstart", "--data.val", "0.1"]
    main(["fit", *quickstart, "--trainer.max_epochs", "3", "--trainer.default_root_dir", "fit"])
    (checkpoint,) = (os.path.join(d, f) for d, _, fs in os.walk("fit") for f in fs if ".ckpt" in f)
    for command in ("validate", "test", "predict"):
        main([command, *quickstart, "--ckpt_path", checkpoint])
    assert "test/accuracy" in capsys.readouterr().out
    found = main(["suggest", "--ckpt", checkpoint, *quickstart, "--k", "5"])
    assert len(found) == 5


def test_suggest_names_the_next_items_of_a_run(tmp_path, capsys):
    history = run("--run_dir", "it")
    checkpoint = str(history.final_checkpoint)
    found = main(["suggest", "--ckpt", checkpoint, "--k", "7"])
    assert "7 items of" in capsys.readouterr().out
    with open("suggestions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["rank", "index", "path", "score"]
    assert [int(row["index"]) for row in rows] == found.index.tolist()
    assert not set(found.index.tolist()) & set(history.acquired)
    other = ["--strategy", "power", "--strategy.score", "entropy", "--out", "other.csv"]
    main(["suggest", "--ckpt", checkpoint, *other, "--data.eval_batch_size", "64"])
    assert len((tmp_path / "other.csv").read_text().splitlines()) == 21


# --- what is printed -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quickstart", "digits", "breast_cancer", "diabetes"])
def test_each_command_that_is_printed_works(name, capsys):
    main(
        [
            *("run", "--config", name, "--trainer.max_epochs", "1", "--query_size", "5"),
            *("--budget", "5", "--progress", "false", "--baseline", "random"),
        ]
    )
    shown = capsys.readouterr().out
    commands = [
        shlex.split(line) for line in shown.splitlines() if line.startswith("  lightning-al")
    ]
    assert [words[1] for words in commands].count("run") == (1 if name == "diabetes" else 2)
    assert {"suggest", "configs"} <= {words[1] for words in commands}
    for words in commands:
        main(words[1:])


def test_configs_lists_and_prints(capsys):
    assert main(["configs"]) == list_configs()
    shown = capsys.readouterr().out
    assert all(name in shown for name in list_configs())
    main(["configs", "quickstart"])
    assert yaml.safe_load(capsys.readouterr().out)["strategy"] == "margin"


def test_help_is_short_and_a_runs_own_settings_come_before_the_trainers(capsys):
    main([])
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 25
    assert "run --config quickstart" in shown
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    assert shown.index("--query_size QUERY_SIZE") < shown.index("--trainer.max_epochs MAX_EPOCHS")
    assert len(shown[: shown.index("options:")].splitlines()) < 10


def test_it_runs_as_a_module_and_as_a_command(tmp_path):
    place = os.path.dirname(sys.executable)
    for command in ([sys.executable, "-m", "lightning_al"], [os.path.join(place, "lightning-al")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("lightning-al ")


# --- the words themselves ------------------------------------------------------------------------


def test_words_become_arguments():
    line = CommandLine(
        ["run", "--print_config", "--trainer.max_steps", "-1", "--model.network=MLP"]
    )
    assert list(line.parsed) == [
        *("run", "--print_config", "--trainer.max_steps", "-1"),
        *("--model.network", "lightning_al.networks.MLP"),
    ]
    assert line.name == "run"
    assert line.without("trainer") == ["run", "--print_config", "--model.network", "MLP"]
