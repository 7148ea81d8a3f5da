"""A table of past measurements, its bounds, and the next experiments that are suggested."""

import csv

import pytest
import torch

from lightning_al.assembly.advice import Past, advise
from lightning_al.cli import main
from lightning_al.datamodules import ExperimentDataModule
from lightning_al.policies.shipped import fitting
from lightning_al.records import Box

BOUNDS = {"temperature": [20.0, 80.0], "ph": [3.0, 9.0]}


def table(folder, rows=7, **changed):
    """A path, and the columns that it holds."""
    g = torch.Generator().manual_seed(0)
    unit = torch.rand(rows, 2, generator=g, dtype=torch.float64)
    columns = {
        "sample": list(range(rows)),
        "temperature": (20 + 60 * unit[:, 0]).tolist(),
        "ph": (3 + 6 * unit[:, 1]).tolist(),
        "yield": (50 + 10 * (6 * unit[:, 0]).sin()).tolist(),
        "margin": (1 - (unit - 0.5).square().sum(1)).tolist(),
    } | changed
    path = folder / "past.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path), columns


def test_it_reads_places_and_outcomes_in_their_own_units(tmp_path):
    path, columns = table(tmp_path)
    x, y = ExperimentDataModule(path, BOUNDS, "yield").past()
    assert x[:, 0].tolist() == pytest.approx(columns["temperature"])
    assert x[:, 1].tolist() == pytest.approx(columns["ph"])
    assert y.tolist() == pytest.approx(columns["yield"])
    _, both = ExperimentDataModule(path, BOUNDS, "yield", "margin").past()
    assert both[:, 1].tolist() == pytest.approx(columns["margin"])
    data = ExperimentDataModule(path, BOUNDS, "yield", candidates=9)
    data.setup()
    data.start(0)
    assert len(data.labelled) == 7
    assert len(data.pool) == 9
    torch.testing.assert_close(data.labels(data.labelled), y.float())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ph": [1.0] * 7}, r"'ph' lies in \[1, 1\], its bounds are \[3, 9\]; widen them"),
        ({"yield": [1.0] * 6 + [""]}, "row 6 has no number in 'yield'; fill it in"),
        ({"ph": [""] + [4.0] * 6}, "row 0 has no number in 'ph'"),
    ],
)
def test_tables_that_will_not_do_are_refused(tmp_path, changed, says):
    path, _ = table(tmp_path, **changed)
    with pytest.raises(ValueError, match=says):
        ExperimentDataModule(path, BOUNDS, "yield").past()


def test_bounds_that_make_no_box_and_columns_named_twice_are_refused(tmp_path):
    path, _ = table(tmp_path)
    for bounds, says in (
        ({}, "an experiment has inputs: give bounds"),
        ({"ph": [9.0, 3.0]}, r"bounds of 'ph' are \[low, high\], low < high"),
        ({"ph": [3.0]}, "bounds of 'ph'"),
    ):
        with pytest.raises(ValueError, match=says):
            ExperimentDataModule(path, bounds, "yield")
    with pytest.raises(ValueError, match="columns of their own, got temperature, ph, ph"):
        ExperimentDataModule(path, BOUNDS, "ph")
    with pytest.raises((ValueError, LookupError), match="oxygen"):
        ExperimentDataModule(path, {"oxygen": [0.0, 1.0]}, "yield").past()


@pytest.mark.parametrize("safe", [False, True])
def test_the_command_prints_places_in_the_box_with_what_is_expected_there(tmp_path, capsys, safe):
    path, _ = table(tmp_path)
    out = tmp_path / "next.csv"
    words = ["--data.path", path, "--data.bounds", str(BOUNDS), "--data.target", "yield"]
    words += ["--data.safety", "margin"] if safe else []
    found = main(["suggest", "--policy", "auto", "--k", "2", "--out", str(out), *words])
    assert [a.by for a in found] == [fitting(2, safe)] * 2 + ["gaussian process"] * 2
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row, advice in zip(rows, found, strict=True):
        assert 20 <= float(row["temperature"]) <= 80
        assert 3 <= float(row["ph"]) <= 9
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])
        assert float(row["mean"]) == pytest.approx(advice.mean, rel=1e-4)
        assert ("safe" in row) == safe
        assert advice.safe is None or 0 <= advice.safe <= 1
    assert len({(row["temperature"], row["ph"]) for row in rows}) == 4
    assert "7 measurements so far" in capsys.readouterr().out


def test_units_change_nothing_but_the_numbers():
    """Places and outcomes in other units: the same places, the same interval, in these units."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand(6, 2, generator=g, dtype=torch.float64)
    y = torch.randn(6, generator=g, dtype=torch.float64)
    one = Past(Box(torch.zeros(2).double(), torch.ones(2).double()), x, y, None)
    far = Box(torch.full((2,), -2.0).double(), torch.full((2,), 6.0).double())
    other = Past(far, x * 8 - 2, y * 100 + 7, None)
    for a, b in zip(advise(one, 1), advise(other, 1), strict=True):
        torch.testing.assert_close(a.x * 8 - 2, b.x, atol=1e-3, rtol=0)
        assert a.mean * 100 + 7 == pytest.approx(b.mean, abs=0.5)
        assert (a.high - a.low) * 100 == pytest.approx(b.high - b.low, rel=0.01)


def test_what_cannot_be_advised_is_said():
    box = Box(torch.zeros(1).double(), torch.ones(1).double())
    none = Past(box, torch.zeros(0, 1).double(), torch.zeros(0).double(), None)
    with pytest.raises(ValueError, match="nothing was measured yet"):
        advise(none, 1)
    with pytest.raises(TypeError, match="got ProblemDataModule; with a trained model give --ckpt"):
        main(["suggest", "--policy", "auto", "--config", "branin"])
    with pytest.raises(
        LookupError, match=r"no shipped policy has 40 inputs; there are .*candidate"
    ):
        fitting(40, safe=False)


def test_the_one_for_just_these_inputs_comes_before_a_flexible_one():
    assert fitting(2, safe=False) == "candidate-2d"
    assert fitting(2, safe=True) == "candidate-safe-2d"


def test_the_configuration_runs_and_waits_for_what_a_person_measures(tmp_path):
    """The loop: a place is asked for in a table, its outcome filled in, and the run goes on."""
    path, _ = table(tmp_path)
    run = tmp_path / "run"
    words = ["--data.path", path, "--data.bounds", str(BOUNDS), "--data.target", "yield"]
    words += ["--config", "experiment", "--budget", "1", "--progress", "false"]
    words += ["--run_dir", str(run), "--model.samples", "2"]
    main(["run", *words])
    question = run / "queries" / "round-000.csv"
    with question.open(newline="") as file:
        heads, row = list(csv.reader(file))
    with question.open("w", newline="") as file:
        csv.writer(file).writerows([heads, [*row[:-1], "51.5"]])
    (history,) = main(["run", *words])
    assert history.rounds[-1].n_labelled == 8
