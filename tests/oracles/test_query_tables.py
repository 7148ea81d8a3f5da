"""What people get to fill in: rows as their file has them, identifiers first."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_al.cli import main
from lightning_al.datamodules import TabularDataModule
from lightning_al.oracles import FileOracle
from lightning_al.records import Acquisition
from lightning_al.rounds.suggest import write_suggestions

N = 60


def lines_of(path):
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def table(**columns):
    drawn = np.random.default_rng(0)
    a = drawn.normal(size=N).round(3)
    target = pd.Series(np.where(a > 0, "yes", "no"))
    target[30:] = None
    given = {name: [values(i) for i in range(N)] for name, values in columns.items()}
    return pd.DataFrame({"a": a, **given, "y": target})


TABLES = {
    "an identifier that is dropped": (
        table(name=lambda i: f"patient {i}"),
        {"drop": ["name"]},
        ["index", "name", "a", "answer"],
    ),
    "categories and units": (
        table(kind=lambda i: "red" if i % 2 else "blue", weight=lambda i: f"{i} kg"),
        {},
        ["index", "a", "kind", "weight", "answer"],
    ),
    "empty cells": (
        table(size=lambda i: i if i % 3 else None, where=lambda i: "x" if i % 5 else None),
        {"missing": "mean"},
        ["index", "a", "size", "where", "answer"],
    ),
    "names that the table has itself": (
        table(index=lambda i: 1000 + i % 7, answer=lambda i: i % 3, annotator=lambda i: i % 4),
        {},
        ["index", "a", "x_index", "x_answer", "x_annotator", "answer"],
    ),
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("case", TABLES)
def test_a_question_holds_the_row_as_the_file_has_it(case, suffix, tmp_path):
    frame, options, header = TABLES[case]
    path = tmp_path / f"table.{suffix}"
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    data = TabularDataModule(str(path), "y", **options)
    data.setup()
    asked = torch.tensor([41, 30, 59])
    FileOracle(tmp_path / "q").ask(asked, data, 0)
    first, *rows = lines_of(tmp_path / "q" / "round-000.csv")
    assert first == header
    assert [row[0] for row in rows] == ["41", "30", "59"]
    for row, item in zip(rows, asked.tolist(), strict=True):
        assert row[-1] == ""
        for name, cell in list(zip(first, row, strict=True))[1:-1]:
            given = frame[name.removeprefix("x_")][item]
            if pd.isna(given):
                assert cell == ""
            elif isinstance(given, str):
                assert cell == given
            else:
                assert float(cell) == pytest.approx(given)


def test_very_wide_tables_are_cut(tmp_path):
    frame = table(**{f"c{i}": (lambda i: i * i) for i in range(200)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = TabularDataModule(str(tmp_path / "t.csv"), "y")
    data.setup()
    FileOracle(tmp_path / "q").ask(torch.tensor([35]), data, 2)
    (first, _) = lines_of(tmp_path / "q" / "round-002.csv")
    assert first[:3] == ["index", "a", "c0"]
    assert len(first) == 102


def test_suggestions_hold_the_rows_too(tmp_path):
    frame, options, _ = TABLES["an identifier that is dropped"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = TabularDataModule(str(tmp_path / "t.csv"), "y", **options)
    data.setup()
    found = Acquisition(index=torch.tensor([33, 50]), scores=torch.tensor([2.0, 1.0]))
    write_suggestions(found, data, tmp_path / "s.csv")
    said = pd.read_csv(tmp_path / "s.csv")
    assert list(said["name"]) == ["patient 33", "patient 50"]
    assert list(said["a"]) == list(frame["a"][[33, 50]])
    assert list(said["index"]) == [33, 50]


def test_answers_to_such_a_question_go_to_their_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame, _, _ = TABLES["an identifier that is dropped"]
    frame.to_csv("t.csv", index=False)
    words = [
        *("run", "--config", "csv", "--data.path", "t.csv", "--data.target", "y"),
        *("--data.drop", "[name]", "--trainer.max_epochs", "1", "--oracle", "File"),
        *("--budget", "4", "--query_size", "4", "--progress", "false", "--run_dir", "q"),
    ]
    main(words)
    question = tmp_path / "q" / "queries" / "round-000.csv"
    asked = pd.read_csv(question, dtype=str)
    asked["answer"] = np.where(asked["a"].astype(float) > 0, "yes", "no")
    asked.iloc[::-1].to_csv(question, index=False)
    (history,) = main(words)
    assert not history.waiting
    bought = pd.read_csv("q/acquired.csv")
    truth = np.where(frame["a"][bought["index"]] > 0, "yes", "no")
    assert list(bought["label"]) == list(truth)
