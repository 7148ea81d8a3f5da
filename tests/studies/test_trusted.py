"""What combining strategies trusted: notes to loggers and pictures; beside the best single one."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers.small import datamodule, dropout_task, learner

from lightning_al.benchmark.report import write_report
from lightning_al.history.records import Round
from lightning_al.history.sinks import al_values
from lightning_al.posteriors import MCDropout
from lightning_al.studies import AutoAL
from lightning_al.studies.autoal.autoal_study import beside_the_best
from lightning_al.studies.autoal.trusted import draw, read_trusted, trusted_of


def told(n, weights, by_class=None):
    names = "abc"[: len(weights)]
    notes = {"n_labelled": n, "trusted": dict(zip(names, weights, strict=True))}
    notes["overlap"] = dict.fromkeys(names, 0.5)
    return notes | ({} if by_class is None else {"trusted by class": by_class})


def test_means_over_the_runs_of_the_rounds_that_all_have():
    long = [told(10, [0.2, 0.8]), told(20, [0.4, 0.6]), told(30, [1.0, 0.0])]
    short = [told(10, [0.6, 0.4]), told(20, [0.0, 1.0], {"7": {"a": 0.0, "b": 1.0}})]
    found = trusted_of("auto-al", [long, short, []])
    assert found.names == ["a", "b"]
    assert found.runs == 2
    assert found.labelled.tolist() == [10, 20]
    np.testing.assert_allclose(found.weights, [[0.4, 0.6], [0.2, 0.8]])
    np.testing.assert_allclose(found.overlap, 0.5)
    assert found.classes == ["7"]
    np.testing.assert_allclose(found.by_class, [[0.0, 1.0]])
    figure = draw([found])
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"a": [0.4, 0.2], "b": pytest.approx([0.6, 0.8])}
    assert trusted_of("random", [[], []]) is None


def test_loggers_are_told_a_value_each():
    notes = {"trusted": {"margin": 0.25, "bald": 0.75}, "looked at": 7, "kind": {"a": "words"}}
    values = al_values(Round(0, 10, 5, {"test/accuracy": 0.5}, 3, None, notes=notes))
    assert values["al/trusted/margin"] == 0.25
    assert values["al/trusted/bald"] == 0.75
    assert not [name for name in values if "looked" in name or "kind" in name]


def test_the_best_single_one_is_chosen_by_the_other_seeds():
    areas = {  # by seed: the best of the others is b, b, a
        "a": [0.5, 0.6, 0.9],
        "b": [0.8, 0.9, 0.1],
        "mix": [0.7, 0.7, 0.7],
    }
    rows = [
        {"fold": -1, "seed": s, "strategy": name, "area": v}
        for name, values in areas.items()
        for s, v in enumerate(values)
    ]
    runs = pd.DataFrame(rows)
    best = []
    for seed in range(3):
        mean = {n: sum(areas[n]) - areas[n][seed] for n in ("a", "b")}
        best.append(areas[max(mean, key=mean.get)][seed])
    found = beside_the_best(runs, ["a", "b"], True)
    assert found["mix"].mean == pytest.approx(sum(0.7 - b for b in best) / 3)
    assert found["mix"].n == 3
    worst = beside_the_best(runs.assign(area=-runs["area"]), ["a", "b"], False)
    assert worst["mix"].mean == pytest.approx(found["mix"].mean)
    assert beside_the_best(runs, [], True) == {}
    assert beside_the_best(runs[runs["seed"] == 0], ["a", "b"], True) == {}
    assert not math.isnan(found["a"].low)


def test_a_runs_journal_and_page_tell(tmp_path):
    spec = {"name": "uniform-mixture", "candidates": ["margin", "random"]}
    run = learner(
        tmp_path,
        datamodule=datamodule(initial=8),
        task=dropout_task,
        strategy=spec,
        posterior=MCDropout(members=2),
    )
    run.run()
    rounds = read_trusted(tmp_path)
    assert [r["trusted"] for r in rounds] == [{"margin": 0.5, "random": 0.5}] * 2
    report = write_report(tmp_path, study="autoal")
    assert any("trusted" in path.name for path in report.pictures)
    assert "What AutoAL trusted" in report.page.read_text()


@pytest.mark.parametrize(
    ("strategy", "serves"),
    [
        ("auto-al", True),
        ({"name": "uniform-mixture"}, True),
        ({"class_path": "lightning_al.strategies.AutoAL"}, True),
        ("margin", False),
        (None, False),
    ],
)
def test_it_serves_runs_that_combine(strategy, serves):
    assert AutoAL().serves({"strategy": strategy}) is serves
