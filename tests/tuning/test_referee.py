"""The referee on runs that tune: shared trials, collapses, and what its page draws."""

import copy
import math

import pandas as pd
import pytest
from helpers import small, tuned

from lightning_al.assembly.settings_tree import pasted, setting, with_settings
from lightning_al.benchmark.areas import collapse_count
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.report import report_of
from lightning_al.benchmark.results import Results
from lightning_al.benchmark.summary import per_run, settings, summary
from lightning_al.benchmark.tuning_figures import over_rounds, tuned_settings
from lightning_al.journal.journal import read_journal

# --- collapses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.6, 0.7], 0),
        ([0.7, 0.65, 0.64999], 1),  # five points are not more than five points
        ([0.7, 0.6, 0.6, 0.7, 0.9, 0.7], 3),
        ([0.1, 0.9, 0.1, 0.9], 1),
        ([0.9, math.nan, 0.9], 1),
        ([math.nan, 0.9], 0),
    ],
)
def test_collapses_are_fits_below_the_best_before_them(values, count):
    assert collapse_count(values) == count
    assert collapse_count([-v for v in values], higher_is_better=False) == count
    assert collapse_count([2 * v for v in values], drop=0.1) == count


def test_a_shift_changes_no_count_and_a_larger_drop_never_counts_more():
    values = [0.3, 0.8, 0.5, 0.7, 0.74, 0.9, 0.2]
    counts = [collapse_count(values, drop) for drop in (0.0, 0.05, 0.2, 0.5, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0
    assert collapse_count([v + 5 for v in values]) == collapse_count(values)


def table(metric="test/accuracy", higher=True, **columns):
    """Two strategies of two seeds, three rounds each."""
    rows = []
    for strategy, values in (("random", [0.5, 0.6, 0.7]), ("margin", [0.8, 0.6, 0.7])):
        for seed in (0, 1):
            for r, value in enumerate(values):
                row = {"run_id": f"{strategy}{seed}", "strategy": strategy, "seed": seed}
                row |= {"data": "d", "model": "m", "start": "", "query_size": 5, "fold": -1}
                row |= {"round": r, "n_labelled": 10 * (r + 1), "value": value, metric: value}
                row |= {"status": "done", "role": "strategy", "takes_all": False, "host": ""}
                row |= {"metric": metric, "higher_is_better": higher, "error": ""}
                row |= {"seconds_fit": 1.0, "seconds_score": 0.1, "seconds_choose": 0.1}
                row |= {"asks_model": True, **{k: v(strategy, r) for k, v in columns.items()}}
                rows.append(row)
    return pd.DataFrame(rows)


def test_the_summary_has_the_mean_count_of_a_strategy():
    facts = {"metric": "test/accuracy"}
    runs = per_run(table(), facts)
    assert dict(zip(runs["run_id"], runs["collapses"], strict=True)) == {
        **{"random0": 0, "random1": 0, "margin0": 2, "margin1": 2}
    }
    found = summary(runs, facts)
    assert dict(zip(found["strategy"], found["collapses"], strict=True)) == {
        **{"random": 0, "margin": 2}
    }
    other = per_run(table("test/rmse", higher=False), {"metric": "test/rmse"})
    assert other["collapses"].isna().all()  # nobody says what five points of it are
    given = per_run(table("test/rmse", higher=False), {"metric": "test/rmse", "collapse": 0.15})
    assert sorted(given["collapses"]) == [0, 0, 1, 1]


def test_the_page_draws_what_was_tuned_and_says_the_collapses(tmp_path):
    columns = {
        "tuned": lambda s, r: 1.0 / (r + 1) if s == "margin" else None,
        "trials": lambda s, r: 3.0 if s == "margin" else None,
        "model.lr": lambda s, r: 10.0**-r if s == "margin" else None,
        "model.hidden": lambda s, r: "[8]" if s == "margin" else None,
    }
    frame = table(**columns)
    assert tuned_settings(frame) == ["model.lr", "model.hidden"]
    report = report_of(frame, {"metric": "test/accuracy", "reference": "random"}, tmp_path)
    page = report.page.read_text()
    assert "<th>collapses</th>" in page
    assert {p.stem.partition("-")[0] for p in report.pictures} >= {"tuned", "judged"}
    (found,) = settings(per_run(frame, {}))
    panels = over_rounds(found, frame).axes
    assert [panel.get_yscale() for panel in panels] == ["log", "linear"]
    line = panels[0].lines[0]
    assert list(line.get_xdata()) == [10, 20, 30]
    assert list(line.get_ydata()) == pytest.approx([1.0, 0.1, 0.01])


def test_a_page_of_runs_that_tune_nothing_is_as_it_was(tmp_path):
    report = report_of(table("test/rmse", higher=False), {"metric": "test/rmse"}, tmp_path)
    assert "collapses" not in report.page.read_text()
    assert not [p for p in report.pictures if p.stem.startswith(("tuned", "judged"))]


# --- runs of a grid ------------------------------------------------------------------------------


def test_strategies_of_a_grid_share_trials_and_may_look_at_the_whole(tmp_path):
    from lightning_al.benchmark.bench import run_bench

    space = {"model.lr": {"float": [1e-3, 0.3], "log": True}, "trainer.max_epochs": {"int": [1, 2]}}
    tuning = {"space": space, "objective": "val/nll", "trials": 2, "when": "every_round"}
    network = {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [8]}}
    grid = {
        "metric": "test/accuracy",
        "seeds": 1,
        "common": {"query_size": 5, "budget": 5, "trainer": {"max_epochs": 1}, "rehearse": False},
        "data": {"digits": {"class_path": "lightning_al.datamodules.DigitsDataModule"}},
        "models": {
            "mlp": {
                "class_path": "lightning_al.tasks.Classification",
                "init_args": {"network": network},
            }
        },
        "strategies": {
            name: {"strategy": strategy, "tuning": tuning | {"judge": judge}}
            for name, strategy, judge in (
                ("random", "random", {"split": 0.3}),
                ("margin", "margin", {"split": 0.3}),
                ("whole", "margin", {"whole": 0.3}),
            )
        },
    }
    bench = bench_of(grid)
    frame = run_bench(bench, tmp_path, workers=0, progress=False)
    assert (frame["status"] == "done").all(), frame["error"].tolist()
    assert frame["trials"].tolist() == [2] * 6
    assert frame["model.lr"].between(1e-3, 0.3).all()
    rounds = sorted(p.name for p in (tmp_path / "tuning").iterdir())
    assert len(rounds) == 5  # round 0 of two runs holds the same labels, tuned alike
    of = {s.place["strategy"]: s.run_id for s in bench.runs}
    tried = {
        name: [
            r
            for r in read_journal(tmp_path / "runs" / run_id / "journal.jsonl")[0]
            if r["event"] == "tried" and r["round"] == 0
        ]
        for name, run_id in of.items()
    }
    assert tried["random"] == tried["margin"]  # its seconds too: it was done once
    assert tried["whole"] != tried["margin"]
    results = Results(tmp_path)
    results.check_ours()  # the folder is still a benchmark's
    again = run_bench(bench, tmp_path, workers=0, progress=False)
    assert again["model.lr"].tolist() == frame["model.lr"].tolist()


# --- settings by name ----------------------------------------------------------------------------

CONFIG = {
    "model": {
        "class_path": "a.Task",
        "init_args": {
            "lr": 0.1,
            "network": {"class_path": "a.Net", "init_args": {"hidden": [8, 4], "dropout": 0.0}},
        },
    },
    "optimizer": None,
    "trainer": {"max_epochs": 3},
    "data": {"class_path": "a.Data"},
}


def test_settings_are_found_and_put_by_their_dotted_names():
    new = {"model.network.hidden.1": 16, "model.lr": 0.5, "trainer.max_epochs": 9}
    made = with_settings(CONFIG, new)
    for name, value in new.items():
        assert setting(made, name) == value
    assert setting(CONFIG, "model.network.hidden") == [8, 4]
    assert made["model"]["init_args"]["network"]["init_args"] == {"hidden": [8, 16], "dropout": 0.0}
    assert made["data"] is CONFIG["data"]


def test_numbers_are_put_in_without_reading_and_give_what_reading_gives():
    from lightning_al.assembly.building import Assembly, Maker
    from lightning_al.assembly.parsed import parsed
    from lightning_al.compat import kinds

    network = {"class_path": "lightning_al.networks.MLP", "init_args": {"hidden": [8]}}
    task = {"class_path": "lightning_al.tasks.Classification", "init_args": {"network": network}}
    data = {"class_path": "lightning_al.datamodules.DigitsDataModule"}
    config = {"model": task, "data": data, "trainer": {"max_epochs": 1}, "strategy": "random"}
    whole = Assembly(parsed({**config, "query_size": 1, "budget": 1}))
    for new, quick in (
        ({"model.lr": 0.5, "model.network.dropout": 0.25}, True),
        ({"model.network.hidden": [8, 4]}, False),
        ({"model.lr": 1}, False),  # no number of its type
        ({"model.network.activation": "tanh"}, False),
        ({"trainer.max_epochs": 7}, True),
    ):
        under = whole.under(new)
        assert (under._model._parser is whole._model._parser) is quick
        made = under.task()
        read = copy.copy(under)
        read._model = Maker(kinds("LightningModule"), under.model_config)
        assert dict(made.hparams) == dict(read.task().hparams)
        assert under.trainer()["max_epochs"] == new.get("trainer.max_epochs", 1)
        assert made.lr == new.get("model.lr", 1e-3)
    assert whole.task().lr == 1e-3


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("model.network.droput", "model.network.dropout"),
        ("model.dropout", "model.network.dropout"),
        ("trainer.epochs", "trainer.max_epochs"),
        ("model.network.hidden.2", "model.network.hidden"),
        ("optimizer.lr", "model.lr"),
        ("model.lr.0", "model.lr"),
    ],
)
def test_a_setting_that_is_not_there_is_refused_with_the_nearest(name, near):
    with pytest.raises(LookupError, match=f"no setting named '{name}'; did you mean .*{near}"):
        setting(CONFIG, name)


def test_what_is_printed_holds_the_settings_and_their_classes_alone():
    new = {"model.network.hidden": [16], "model.lr": 0.5, "trainer.max_epochs": 9}
    assert pasted(CONFIG, new) == {
        "model": {
            "class_path": "a.Task",
            "init_args": {
                "network": {"class_path": "a.Net", "init_args": {"hidden": [16]}},
                "lr": 0.5,
            },
        },
        "trainer": {"max_epochs": 9},
    }


def test_the_command_tunes_on_the_labels_at_hand_and_prints_what_to_paste(tmp_path, capsys):
    import yaml

    from lightning_al.assembly.parser import parse
    from lightning_al.cli import main

    overlay = tmp_path / "more" / "tuned.yaml"
    overlay.parent.mkdir()
    space = {
        "model.lr": {"float": [0.01, 0.3]},
        "model.network.hidden": {"choice": [[4], [8, 8]]},
        "trainer.max_epochs": {"int": [1, 2]},
    }
    tuning = {"space": space, "objective": "val/nll", "trials": 2, "judge": {"folds": 2}}
    overlay.write_text(yaml.safe_dump({"tuning": tuning}))
    words = ["--config", "quickstart", "--trainer.max_epochs", "1"]
    settled = main(["tune", *words, "--config", str(overlay), "--fits", "lean"])
    out = capsys.readouterr()
    assert out.err.count("trial ") == 2
    file = tmp_path / "more" / "best.yaml"
    file.write_text(out.out)
    config = parse(["run", "--config", "quickstart", "--config", str(file)])
    for name, value in settled.settings.items():
        assert setting(config, name) == value
    assert setting(config, "model.network.activation") == "relu"
    with pytest.raises(ValueError, match="the configuration names no tuning"):
        main(["tune", *words])


def test_the_command_stands_where_a_run_does(tmp_path):
    from lightning_al.cli.at_hand import at_hand

    history = tuned.learner(tmp_path / "run", tuning={"when": "never"}, rehearse=False).run()
    data = small.datamodule(initial=9)
    data.prepare_data()
    bought = at_hand(data, tmp_path / "run", 0)
    assert bought == history.acquired
    assert len(data.labelled) == 9 + len(bought)
