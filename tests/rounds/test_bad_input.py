"""What cannot work is refused in one line that says what came and the mend, and nothing is lost."""

import re
import subprocess
import sys

import pytest
from helpers import tiny_data, with_helpers
from helpers.commands import QUICK

from lightning_al.cli import main

BLOBS = [
    *("run", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--progress", "false"),
    *(
        "--data",
        "ActiveDataModule",
        "--data.train",
        "helpers.user_parts.Blobs",
        "--data.test",
        "0.2",
    ),
    *("--query_size", "5", "--budget", "5"),
]
NET = [*BLOBS, "--model", "helpers.user_parts.Net"]
MLP = [
    *(*BLOBS, "--model", "Classification", "--model.classes", "3", "--model.network", "MLP"),
    *("--model.network.in_features", "4", "--model.network.outputs", "3"),
]
TABLE = ["run", "--config", "csv", "--data.path", "my.csv", "--progress", "false"]
TABLE += ["--trainer.max_epochs", "1", "--budget", "10"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data.shrink(monkeypatch, tmp_path / "data")


SETTINGS = {
    "an unknown strategy": (
        [*QUICK, "--strategy", "blad"],
        r"no strategy named 'blad' \(did you mean 'bald'\?\); choose one of .* bald, .*entropy, .*",
    ),
    "an unknown baseline": ([*QUICK, "--baseline", "rondom"], "no strategy named 'rondom'.*"),
    "an argument that the strategy does not take": (
        [*QUICK, "--strategy", "margin", "--strategy.beta", "2"],
        "strategy 'margin': no argument 'beta'; it takes no arguments",
    ),
    "an argument of another type": (
        [*QUICK, "--strategy", "power", "--strategy.beta", "x"],
        "strategy 'power': beta must be a float, got 'x'; it takes score='bald', beta=1.0",
    ),
    "an argument of a strategy inside another": (
        [*QUICK, "--strategy", "{name: power, score: {name: power, score: {name: bald, k: 1}}}"],
        "strategy 'bald': no argument 'k'; it takes no arguments",
    ),
    "an argument that is missing": (
        [*QUICK, "--stopping", "[{name: MetricTarget, target: 0.9}]"],
        "stopping rule 'MetricTarget': metric must be given; it takes metric, target, mode='max'",
    ),
    "a class of something else": (
        [*QUICK, "--strategy", "helpers.user_parts.Person"],
        "helpers.user_parts.Person is no strategy: it has no method choose",
    ),
    "an unknown configuration": (
        ["run", "--config", "quikstart"],
        r"no configuration named 'quikstart', .*did you mean 'quickstart'.*one of .*digits.*",
    ),
    "an unknown posterior": (
        [*QUICK, "--posterior", "MCDroput"],
        "no posterior named 'MCDroput'.*did you mean 'MCDropout'.*Deterministic, .*MCDropout.*",
    ),
    "an argument that the posterior does not take": (
        [*QUICK, "--posterior", "MCDropout", "--posterior.member", "3"],
        r"posterior 'MCDropout': no argument 'member' \(did you mean 'members'\?\); "
        "it takes members=20, per_channel=False, least=0.0",
    ),
    "a posterior that cannot be imported": (
        [*QUICK, "--posterior", "helpers.user_parts.NoSuch"],
        "no posterior at 'helpers.user_parts.NoSuch'.*one of Deterministic, .*MCDropout.*",
    ),
    "a posterior that is none": (
        [*QUICK, "--posterior", "helpers.user_parts.Enough"],
        "helpers.user_parts.Enough is no posterior: it has no method start",
    ),
    "an unknown oracle": ([*QUICK, "--oracle", "Me"], "no oracle named 'Me'.*SimulatedOracle.*"),
    "an unknown metric of the model": (
        [*QUICK, "--model.metrics", "[acuracy]"],
        "no .*metric named 'acuracy'.*choose one of accuracy, .*",
    ),
    "an unknown metric of a stopping rule": (
        [*QUICK, "--stopping", "[{name: MetricTarget, metric: test/acc, target: 1}]"],
        "stopping rule: no metric named 'test/acc'.*choose one of test/accuracy.*",
    ),
    "an unknown logger": ([*QUICK, "--loggers", "[csvv]"], "no logger named 'csvv'.*csv, tensor.*"),
    "an unknown weights policy": (
        [*QUICK, "--weights", "wram"],
        "no weights policy named 'wram'.*reset, shrink_perturb, warm",
    ),
    "a query larger than the pool": (
        [*QUICK, "--query_size", "5000", "--budget", "5000"],
        "cannot acquire 5000 of [0-9]+ candidates; lower query_size",
    ),
    "a budget smaller than a query": (
        [*QUICK, "--query_size", "30"],
        "the budget of 20 is smaller than one query of 30; .*",
    ),
    "no seed": ([*QUICK, "--seed", "[]"], "seed is one number, or a list.*"),
    "a strategy that spawns": (
        [*QUICK, "--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"],
        "strategy .*'spawn'.*choose one of: auto, ddp.*",
    ),
    "an accelerator that is none": (
        [*QUICK, "--trainer.accelerator", "gpuu"],
        ".*invalid accelerator name.*gpuu.*",
    ),
    "members that do not differ": (
        [*QUICK, "--strategy", "bald", "--posterior", "MCDropout"],
        ".*no dropout layer.*",
    ),
    "no members at all": ([*QUICK, "--strategy", "bald"], ".*posterior.*MCDropout.*Ensemble.*"),
    "best weights of nothing": (
        [*QUICK, "--restore", "best"],
        "restore='best' needs a ModelCheckpoint.*",
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run folder."""
    folder = tmp_path_factory.mktemp("runs") / "it"
    main([*QUICK, "--run_dir", str(folder)])
    return folder


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_cannot_work_is_refused_and_the_run_folder_is_left_alone(
    case, refused, finished
):
    words, wanted = SETTINGS[case]
    before = contents(finished)
    message, status = refused([*words, "--run_dir", "other"])
    assert re.fullmatch(wanted, message)
    assert status == 1
    message, status = refused([*words, "--run_dir", str(finished)])
    assert status == 1
    assert "\n" not in message
    assert contents(finished) == before


USAGE = {
    "an unknown command": (["rum"], "no command 'rum'; choose one of run, fit, .*"),
    "a misspelt option": ([*QUICK, "--query_sise", "3"], ".*did you mean --query_size.*"),
    "a misspelt setting": (
        [*QUICK, "--model.network.hiden", "[3]"],
        ".*MLP takes no 'hiden'.*hidden.*",
    ),
    "a setting of the class's base that it does not take": (
        ["run", "--config", "branin", "--data.stratified", "false"],
        r"--data: .*ProblemDataModule takes no 'stratified'",
    ),
    "a word for a number": ([*QUICK, "--query_size", "three"], "--query_size: .*int.*three"),
    "an unknown class": ([*QUICK, "--data", "Digits"], ".*choose one of .*DigitsDataModule.*"),
    "nothing to run": (["run"], "--data and --model must be given, or start from .*--config NAME"),
    "no table": (["run", "--config", "csv"], "--data.path and --data.target must be given"),
}


@pytest.mark.parametrize("case", USAGE)
def test_a_command_that_cannot_be_read_ends_with_status_2(case, refused):
    words, wanted = USAGE[case]
    message, status = refused(words)
    assert re.fullmatch(wanted, message)
    assert status == 2


DATA = {
    "validation that overlaps the test": (
        [*NET, "--data.test", "[0, 1, 2]", "--data.val", "[2, 3]"],
        ".*item 2 is .*held for validation or test.*overlap.*",
    ),
    "initial labels that are validation": (
        [*NET, "--data.val", "[5]", "--data.test", "[6]", "--data.initial", "[5, 7]"],
        "initial: .*item 5 is held for validation or test.*",
    ),
    "a label outside the classes": (
        [*MLP, "--data.train.wrong", "true", "--data.initial", "[0, 30]", "--data.test", "[1, 2]"],
        ".*label 7 .*classes 0 to 2.*",
    ),
    "features that are not numbers": (
        [*NET, "--data.train.nan", "true", "--data.initial", "[0, 1]", "--data.test", "[2, 3]"],
        ".*NaN.*",
    ),
    "a pool view that is random": (
        [*NET, "--data.train", "helpers.user_parts.Restless"],
        "two reads of item .* differ: .*give pool=.*",
    ),
    "a pool of other items": (
        [*NET, "--data.pool", "helpers.user_parts.Blobs", "--data.pool.n", "3"],
        "pool must be the items of train.*60.*3.*",
    ),
    "no data": ([*NET, "--data.train.n", "0"], "the train data are empty.*"),
    "no test data": ([*NET, "--data.test", "null"], ".*needs train and test.*"),
    "embeddings of a model that names none": (
        [*NET, "--strategy", "helpers.user_parts.Farthest"],
        ".*adapter of Net names none; name a layer.*",
    ),
    "a layer that is not there": (
        [*NET, "--strategy", "helpers.user_parts.Farthest", "--adapter.embedding", "haed:input"],
        ".*no layer or method 'haed'.*close: head.*",
    ),
}


@pytest.mark.parametrize("case", DATA)
def test_data_and_models_that_cannot_work(case, refused):
    words, wanted = DATA[case]
    message, status = refused(words)
    assert re.fullmatch(wanted, message)
    assert status == 1


TABLES = {
    "an absent target": (["kid"], None, ".*kid.*(kind|a, b).*"),
    "an empty table": (["kind"], "a,b,kind\n", ".*my.csv.*"),
    "an empty cell": (["kind"], "a,b,kind\n1,2,x\n,2,y\n3,4,x\n5,6,y\n", ".*a \\(1\\).*missing.*"),
    "no table": (["kind", "--data.path", "no.csv"], None, ".*no.csv.*"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(case, refused, tmp_path):
    (target, *more), text, wanted = TABLES[case]
    tiny_data.write_table(tmp_path / "my.csv")
    if text is not None:
        (tmp_path / "my.csv").write_text(text)
    message, status = refused([*TABLE, "--data.target", target, *more])
    assert re.fullmatch(wanted, message)
    assert status == 1


def test_an_unreadable_image_is_named(refused, tmp_path):
    root = tiny_data.write_images(tmp_path / "images")
    (root / "dark" / "3.png").write_bytes(b"no picture")
    words = ["run", "--config", "image_folder", "--data.root", "images", "--progress", "false"]
    message, status = refused([*words, "--data.verify", "true"])
    assert status == 1
    assert re.search(r"cannot be read as images: .*dark/3\.png", message)


def test_a_missing_data_set_says_where_it_was_looked_for_and_where_to_put_it(refused, tmp_path):
    message, status = refused(["run", "--config", "mnist"])
    assert status == 1
    assert str(tmp_path / "data" / "mnist" / "train-images-idx3-ubyte.gz") in message
    assert re.search(r"put the file .* at .*LIGHTNING_AL_DATA", message)


def test_a_run_folder_of_another_configuration(refused, finished):
    before = contents(finished)
    message, status = refused([*QUICK, "--run_dir", str(finished), "--query_size", "10"])
    assert status == 1
    assert re.search(r"another configuration \(query_size: 20 -> 10\).*--overwrite", message)
    assert contents(finished) == before


def test_a_damaged_journal(refused, tmp_path):
    main([*QUICK, "--run_dir", "it"])
    journal = tmp_path / "it" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"0", b"1", 1)
    journal.write_bytes(b"".join(lines))
    before = contents(tmp_path / "it")
    message, status = refused([*QUICK, "--run_dir", "it"])
    assert status == 1
    assert re.search(r"journal\.jsonl: line 4 is damaged .*head -n 3", message)
    assert contents(tmp_path / "it") == before


def test_suggest_refuses_more_than_there_is_and_files_that_are_no_checkpoint(refused, finished):
    checkpoint = str(finished / "checkpoints" / "round-001.ckpt")
    message, status = refused(["suggest", "--ckpt", checkpoint, "--k", "5000"])
    assert re.fullmatch("cannot suggest 5000 of .* candidates; .*", message)
    other = ["--config", "quickstart", "--model.network.hidden", "[3]"]
    message, status = refused(["suggest", "--ckpt", checkpoint, *other])
    assert "is not of the model in the configuration" in message
    journal = str(finished / "journal.jsonl")
    message, status = refused(["suggest", "--ckpt", journal])
    assert "cannot be read as a checkpoint" in message
    assert status == 1


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([*QUICK, "--query_sise", "3"], 2),
        ([*NET, "--data.train", "helpers.user_parts.Restless"], 1),
    ],
)
def test_the_command_itself_shows_one_line(words, status, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lightning_al", *words],
        capture_output=True,
        text=True,
        env=with_helpers(),
    )
    assert done.returncode == status
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("lightning-al: ")


def test_an_error_of_somebody_elses_code_keeps_its_traceback(monkeypatch):
    words = [*NET, "--data.train", "helpers.user_parts.Broken"]
    monkeypatch.setattr(sys, "argv", ["lightning-al", *words])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize("within_a_fit", [False, True])
def test_an_interrupt_says_how_to_go_on(within_a_fit, monkeypatch, refused):
    def stopped(words):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if within_a_fit:
                sys.exit(1)
            raise

    monkeypatch.setattr("lightning_al.cli._dispatch", stopped)
    message, status = refused(["run"])
    assert message == "interrupted; a run goes on with the same command"
    assert status == 130
