"""Every full configuration that is shipped runs, on tiny data, and survives being written down.

Those that name a strategy alone are tested in ``test_strategy_library.py``.
"""

import re

import pytest
import yaml
from helpers import tiny_data

from lightning_al.assembly.parser import parse
from lightning_al.assembly.shipped import config_path, is_overlay, list_configs
from lightning_al.cli import main

WAITS = ("experiment",)  # for answers: see test_experiments.py
FULL = [name for name in list_configs() if not is_overlay(name) and name not in WAITS]
POLICIES = ("branin", "townsend")  # a policy asks for one place at a time
FAST = [
    *("--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
    *("--data.initial", "4", "--query_size", "2", "--budget", "2", "--progress", "false"),
]
UNLIKE = ["--data.stratified", "false"]  # classes, of which so few items hold not all


@pytest.fixture
def needs(tmp_path, monkeypatch):
    """``needs(name)``: arguments that a configuration needs on tiny data, which are written."""
    data = tmp_path / "data"
    data.mkdir()
    tiny_data.shrink(monkeypatch, data)
    monkeypatch.chdir(tmp_path)

    def write(name):
        if name in ("mnist", "fashion_mnist"):
            tiny_data.write_idx(data, name)
        elif name == "cifar10":
            tiny_data.write_cifar(data)
        elif name.startswith("csv") or name == "density":
            path = tiny_data.write_table(data / "my.csv")
            target = "kind" if name == "csv" else "size"
            return ["--data.path", str(path), "--data.target", target]
        elif name == "embeddings":
            vectors, labels = tiny_data.write_vectors(data)
            return ["--data.path", str(vectors), "--data.labels", str(labels)]
        elif name == "text":
            table = tiny_data.write_texts(data / "texts.csv")
            extractor = ["--data.extractor", "helpers.tiny_data.Lengths"]
            return ["--data.source.init_args.path", str(table), *extractor]
        elif name == "image_folder":
            root = tiny_data.write_images(data / "images")
            return ["--data.root", str(root), "--data.image_size", "16"]
        return []

    return write


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def few(name):
    """Arguments of a short run on few items; places of a box have no classes."""
    return FAST if name in POLICIES else [*UNLIKE, *FAST]


def test_there_are_configurations():
    assert {"quickstart", "digits", "mnist", "cifar10", "csv", "image_folder"} <= set(FULL)
    assert {"scenes_labels", "scenes_places", "linear_probe"} <= set(FULL)
    assert not [name for name in FULL if "/" in name]


@pytest.mark.parametrize("name", FULL)
def test_it_runs_and_its_run_folder_goes_on_from_its_own_file(name, needs, tmp_path):
    run = tmp_path / "run"
    k = 1 if name in POLICIES else 2
    settings = [*needs(name), *few(name), "--query_size", str(k), "--run_dir", str(run)]
    (history,) = main(["run", "--config", name, *settings])
    assert [r.n_labelled for r in history.rounds] == list(range(4, 7, k))
    assert history.stopped == "the budget is spent"
    assert any(metric.startswith("test/") for metric in history.rounds[-1].metrics)
    assert {"config.yaml", "journal.jsonl", "metrics.csv", "acquired.csv", "curve.png"} <= {
        p.name for p in run.iterdir()
    }
    journal = (run / "journal.jsonl").read_bytes()
    (again,) = main(["run", "--config", str(run / "config.yaml"), "--progress", "false"])
    assert again.run_dir == run  # a configuration that lies in a run folder means that run
    assert again.rounds == history.rounds
    assert (run / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize("name", FULL)
def test_printed_and_read_again_it_is_the_same(name, needs, tmp_path, capsys):
    given = ["run", "--config", name, *needs(name), "--query_size", "3"]
    with pytest.raises(SystemExit) as ended:
        main([*given, "--print_config"])
    assert ended.value.code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    again = parse(["run", "--config", str(printed)])
    assert again == parse(given)
    assert again["query_size"] == 3


@pytest.mark.parametrize("name", FULL)
def test_plain_lightning_fits_it(name, needs):
    main(["fit", "--config", name, *needs(name), *few(name)[:-6], "--trainer.fast_dev_run", "true"])


@pytest.mark.parametrize("name", FULL)
def test_it_says_what_it_is_and_names_its_classes_in_full(name):
    text = config_path(name).read_text()
    assert re.match(r"# [A-Z].{20,100}\n", text)

    def paths(value):
        if isinstance(value, dict):
            if "class_path" in value:
                yield value["class_path"]
            for inner in value.values():
                yield from paths(inner)

    assert all(path.count(".") >= 2 for path in paths(yaml.safe_load(text)))
