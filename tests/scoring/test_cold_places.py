"""Cold starts from the command line, on every ready data set, and on two processes."""

import json
from pathlib import Path

import pytest
import yaml
from helpers import cold_ranks, tiny_data
from helpers.processes import end, start

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.families import FEATURES, make
from lightning_al.assembly.parser import parse
from lightning_al.cli import main
from lightning_al.journal.journal import read_journal
from lightning_al.scoring.extractors import Backbone, Raw

# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--features", "Raw"], "Raw"),
        (
            ["--features", "Backbone", "--features.name", "vgg11", "--features.image_size", "32"],
            {"class_path": "Backbone", "init_args": {"name": "vgg11", "image_size": 32}},
        ),
        (
            ["--features", "Backbone", "--features.seed", "2", "--features.name", "vgg11"],
            {"class_path": "Backbone", "init_args": {"seed": 2, "name": "vgg11"}},
        ),
        (["--features", "my.own.Net"], {"class_path": "my.own.Net"}),
    ],
)
def test_features_are_given_by_name_and_arguments(given, wanted):
    assert parse(["run", "--config", "digits", *given])["features"] == wanted


def test_features_are_built_as_they_are_given(tmp_path):
    words = ["--features", "Backbone", "--features.name", "mobilenet_v3_small"]
    parts = Assembly(parse(["run", "--config", "digits", *words, "--features.image_size", "32"]))
    built = parts.learner(run_dir=tmp_path / "a").features
    assert repr(built) == repr(Backbone("mobilenet_v3_small", image_size=32))
    assert parts.learner(run_dir=tmp_path / "b").features is built
    kept = parse(["run", "--config", "digits", *words])["features"]
    assert make(FEATURES, kept).name == "mobilenet_v3_small"
    with pytest.raises(LookupError, match=r"no feature extractor named 'Rawr' .*'Raw'"):
        Assembly(parse(["run", "--config", "digits", "--features", "Rawr"]))


def test_an_argument_alone_names_no_features():
    with pytest.raises(ValueError, match="name needs features: give --features NAME"):
        CommandLine(["run", "--config", "digits", "--features.name", "vgg11"])


FAST = ["--query_size", "4", "--budget", "4", "--trainer.max_epochs", "1", "--progress", "false"]


def test_the_shipped_configuration_begins_without_a_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["--baseline", "random", "--run_dir", "run"]
    (history,) = main(["run", "--config", "cold_start", *FAST, *more])
    assert [r.n_labelled for r in history.rounds] == [0, 4]
    by = {}
    for folder in ("run", "run/baseline"):
        records, _ = read_journal(Path(folder, "journal.jsonl"))
        by[folder] = [r["strategy"] for r in records if r["event"] == "chosen"]
    assert by == {"run": ["typiclust"], "run/baseline": ["random"]}
    (again,) = main(["run", "--config", "run/config.yaml", "--progress", "false"])
    assert again.rounds == history.rounds
    assert "first" not in yaml.safe_load(Path("run/baseline/config.yaml").read_text())


@pytest.mark.parametrize("features", [[], ["--features", "Raw"]])
@pytest.mark.parametrize(
    "config", ["digits", "breast_cancer", "diabetes", "mnist", "cifar10", "csv", "image_folder"]
)
def test_every_ready_data_set_can_begin_without_a_label(config, features, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data.shrink(monkeypatch, tmp_path)
    more = [*features, "--first", "k-center", "--data.initial", "0", "--data.stratified", "false"]
    if config == "mnist":
        tiny_data.write_idx(tmp_path, "mnist")
    elif config == "cifar10":
        tiny_data.write_cifar(tmp_path)
    elif config == "csv":
        path = tiny_data.write_table(tmp_path / "my.csv")
        more += ["--data.path", str(path), "--data.target", "kind"]
    elif config == "image_folder":
        root = tiny_data.write_images(tmp_path / "images")
        more += ["--data.root", str(root), "--data.image_size", "16"]
    more += ["--strategy", "k-center", "--trainer.accelerator", "cpu"]
    (history,) = main(["run", "--config", config, *FAST, *more])
    assert [r.n_labelled for r in history.rounds] == [0, 4]


# --- two processes --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What cold_ranks.py found on two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    status, output = end(start("cold_ranks.py", folder), within=240)
    assert status == 0, output[-5000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", cold_ranks.STRATEGIES)
def test_two_processes_choose_what_one_does(ranks, name, tmp_path):
    alone = cold_ranks.Counted(rank=0)
    assert ranks["by"][name] == cold_ranks.acquired(1, tmp_path, name, alone)
    assert alone.count == 63
    assert sum(ranks["count"][name]) == 63  # each item once, by one of the two
    assert min(ranks["count"][name]) > 25


@pytest.mark.slow
def test_raw_inputs_and_a_file_on_two_processes(ranks, tmp_path):
    one = cold_ranks.acquired(1, tmp_path, "k-center", None)
    assert ranks["raw"][0] == one[0]
    features = cold_ranks.acquired(1, tmp_path / "features", "k-center", Raw())
    assert ranks["file"] == features


@pytest.mark.slow
def test_an_error_of_one_rank_is_raised_on_both(ranks):
    said = ("NaN or infinite", "must be [9, E], got [8,", "of one size, got E = [5, 6]")
    for both, part in zip(ranks["errors"], said, strict=True):
        assert len(both) == 2
        assert all(part in one for one in both)
