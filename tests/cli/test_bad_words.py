"""Commands that cannot work, or make no sense, end with one sentence; none with a bare error."""

import pytest
from helpers import commands, tiny_data
from helpers.commands import QUICK

from lightning_al.assembly.settings_files import plain_yaml, settings_of
from lightning_al.cli import main

BENCH = ["bench", "--config", "benchmarks/classification"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data.shrink(monkeypatch, tmp_path / "data")


NUMBERS = {
    "a seed below 0": (["--seed", "-7"], "seed must be a whole number from 0 to 4294967295, got"),
    "a seed above all": (["--seed", str(2**32)], "seed must be a whole number from 0 to"),
    "one of several seeds": (["--seed", "[3, 4, -1]"], "seed must be a whole number from 0"),
    "memory below 0": (["--memory_budget", "-20"], "memory_budget must be a whole number from 0"),
    "a learning rate below 0": (["--model.lr", "-0.5"], "lr must be a finite number from 0"),
    "a learning rate without end": (["--model.lr", ".inf"], "lr must be a finite number from 0"),
    "a weight decay below 0": (["--model.weight_decay", "-2"], "weight_decay must be a finite"),
    "a layer of nothing": (["--model.network.hidden", "[8, 0]"], r"MLP: hidden[1] must be a whole"),
    "a layer below nothing": (["--model.network.hidden", "[-1]"], r"MLP: hidden[0] must be a"),
    "a dropout of all": (["--model.network.dropout", "1.0"], "MLP: dropout must be a number from"),
    "a dropout below 0": (["--model.network.dropout", "-0.1"], "MLP: dropout must be a number fr"),
    "batches below 1": (["--data.batch_size", "-8"], "batch_size must be a whole number from 1"),
    "no batches to score": (["--data.eval_batch_size", "0"], "eval_batch_size must be a whole"),
    "workers below 0": (["--data.num_workers", "-2"], "num_workers must be a whole number from 0"),
    "an optimiser's rate": (
        ["--optimizer", "Adam", "--optimizer.lr", "-3"],
        "--optimizer torch.optim.Adam refuses its settings (Invalid learning rate: -3.0); give",
    ),
    "an optimiser's momentum": (
        ["--optimizer", "SGD", "--optimizer.momentum", "-3"],
        "--optimizer torch.optim.SGD refuses its settings (Invalid momentum",
    ),
    "fewer devices than one": (
        ["--trainer.devices", "-5"],
        "no Trainer can be made of accelerator='cpu', devices='-5'",
    ),
    "steps below 0": (["--trainer.max_epochs", "-9"], "`max_epochs` must be a non-negative"),
    "batches of half": (
        ["--trainer.limit_train_batches", "1.5"],
        "You have passed invalid value 1.5 for limit_train_batches",
    ),
    "a folder without a name": (["--run_dir", " "], "--run_dir must be the path of a folder, got"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_values_that_make_no_sense(case, refused, tmp_path):
    words, wanted = NUMBERS[case]
    message, status = refused([*QUICK, *words])
    assert status == 1
    assert message.startswith(f"{wanted}")
    assert not list(tmp_path.glob("runs/*/journal.jsonl"))


KINDS = {
    "a budget without end": (["--budget", "inf"], "--budget: expected a whole number (int), got i"),
    "half an item": (["--query_size", "1.5"], "--query_size: expected a whole number (int), got 1"),
    "a word for a cost": (["--cost_budget", "much"], "--cost_budget: expected a number, got much"),
    "a word for a switch": (["--overwrite", "maybe"], "--overwrite: expected true or false, got m"),
    "a precision": (["--trainer.precision", "7"], "--trainer.precision: expected 64 or 32 or 16"),
    "a word for a seed": (["--seed", "now"], "--seed: expected a whole number (int) or list, got "),
}


@pytest.mark.parametrize("case", KINDS)
def test_values_of_another_kind(case, refused):
    words, wanted = KINDS[case]
    message, status = refused([*QUICK, *words])
    assert status == 2
    assert message.startswith(f"{wanted}")
    assert "class" not in message


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, now in zip("abcdef", "bcdefg", strict=True)
)
FILES = {
    "UTF-16": ("seed: 3\n".encode("utf-16"), "is no text in UTF-8 (byte 0xff in line 1); save"),
    "Latin-1 in a later line": (
        "seed: 3\n# größer\n".encode("latin-1"),
        "is no text in UTF-8 (byte 0xf6 in line 2); save it as UTF-8",
    ),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00", "is no text in UTF-8"),
    "a control character": (b"seed: \x00\n", "is no YAML: "),
    "an open bracket": (b"seed: 3\nmodel: {lr: [1, 2\n", "is no YAML: expected ',' or ']'"),
    "a tab": (b"model:\n\tlr: 3\n", "is no YAML: "),
    "a date that is none": (b"seed: 2026-13-45\n", "is no YAML: "),
    "aliases of aliases": (BOMB.encode(), "holds aliases that stand for"),
    "an alias of itself": (b"model: &m\n  init_args: *m\n", "holds aliases that stand for them"),
    "a list": (b"- seed\n- 3\n", "must hold settings, one `key: value` a line, got a list"),
    "a number for a name": (b"3: seed\n", "settings have names, got the key 3; put it in quotes"),
}


@pytest.mark.parametrize("command", ["run", "bench", "fit"])
@pytest.mark.parametrize("case", FILES)
def test_files_that_hold_no_settings(case, command, refused, tmp_path):
    content, wanted = FILES[case]
    (tmp_path / "mine.yaml").write_bytes(content)
    message, status = refused([command, "--config", "mine.yaml"])
    assert status == 1
    assert message.startswith("mine.yaml")
    assert wanted in message


def test_files_as_editors_leave_them():
    assert settings_of("", "it") == {}
    assert plain_yaml("a: &a [1, 2]\nb: [*a, *a]", "it") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_a_mark_of_windows_at_the_beginning(tmp_path, refused):
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfseed: -4\n")
    message, _ = refused([*QUICK, "--config", "mine.yaml"])
    assert "seed must be a whole number" in message


TYPED = {
    "a strategy in an open bracket": [*QUICK, "--strategy", "{name: power"],
    "a posterior": [*QUICK, "--posterior", "[MCDropout"],
    "an argument": [*QUICK, "--strategy", "power", "--strategy.beta", "{1"],
}


@pytest.mark.parametrize("case", TYPED)
def test_what_is_typed_and_is_no_yaml(case, refused):
    message, status = refused(TYPED[case])
    assert status == 1
    assert " is no YAML: " in message
    assert message.endswith("mend it there")


COUNTS = {
    "tasks": ["--engine", "slurm", "--tasks", "-1"],
    "no tasks": ["--engine", "slurm", "--tasks", "0"],
    "workers": ["--workers", "-4"],
    "seeds": ["--seeds", "0"],
    "folds": ["--folds", "x"],
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts_of_a_benchmark(case, refused, tmp_path):
    message, status = refused([*BENCH, *COUNTS[case]])
    assert status == 2
    assert "must be a whole number from" in message
    assert not list(tmp_path.glob("benches/*"))


LINES = {
    "a count": ([*BENCH, "--tasks", "0"], "--tasks: must be a whole number from 1, got '0'"),
    "an engine": ([*BENCH, "--engine", "slurp"], "--engine: invalid choice: 'slurp' (choose from"),
    "an option without its value": ([*BENCH, "--out"], "--out: expected one argument"),
    "no benchmark": (["bench"], "--config must be given; --help shows how"),
    "no folder": (["report"], "folders must be given; --help shows how"),
    "no checkpoint": (["suggest", "--k", "3"], "--ckpt must be given; --help shows how"),
    "a misspelt option": ([*BENCH, "--worker", "3"], "no option --worker (did you mean --workers?"),
    "an option of nobody": (["report", "a", "--xyz"], "no option --xyz; --help lists all"),
    "a seed": (["suggest", "--ckpt", "a", "--seed", "-1"], "--seed: must be a whole number from 0"),
}


@pytest.mark.parametrize("case", LINES)
def test_one_line_is_all_that_is_said(case, monkeypatch, capsys):
    words, wanted = LINES[case]
    message, status, before = commands.ended(words, monkeypatch, capsys)
    assert message.startswith(wanted)
    assert (status, before) == (2, "")
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04 broken", b"\x80\x02}q\x00."])
def test_a_policy_of_no_checkpoint(content, refused, tmp_path):
    (tmp_path / "it.ckpt").write_bytes(content)
    message, status = refused(["policy", "it.ckpt", "--out", "p"])
    assert status == 1
    assert message.startswith("it.ckpt ")
    assert "checkpoint" in message


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--model.objective", "Best"], "no objective named 'Best'; choose one of DAD"),
        (["--model.lr", "-1"], "lr must be a finite number from 0"),
        (["--model.network.dimension", "0"], "dimension"),
    ],
)
def test_fit_says_what_a_class_says(words, wanted, refused):
    message, status = refused(["fit", "--config", "policy/quick-1d", *words])
    assert status == 1
    assert wanted in message
    assert "Union" not in message


@pytest.mark.parametrize("command", ["run", "fit", "validate", "test", "predict"])
def test_a_command_alone(command, refused):
    message, status = refused([command])
    assert status == 2
    assert message.startswith("--data and --model must be given, or start from")


@pytest.mark.parametrize("command", ["validate", "test"])
def test_what_is_told_of_a_model_that_was_never_trained(command, capsys):
    main([command, "--config", "quickstart", "--trainer.logger", "false"])
    assert f"{command} without --ckpt_path takes a model that was never trained" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (["--posterior", "MCDropout", "--strategy", "margin"], True),
        (["--posterior", "Deterministic", "--strategy", "random"], True),
        (
            [
                *("--posterior", "MCDropout", "--strategy", "bald"),
                *("--model.network.dropout", "0.2"),
            ],
            False,
        ),
        ([], False),
    ],
)
def test_a_posterior_that_nobody_draws_from_is_told(words, idle, capsys):
    main([*QUICK, "--query_size", "20", *words])
    assert ("is left idle" in capsys.readouterr().err) is idle
