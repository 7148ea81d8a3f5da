"""A benchmark writes into a new or empty folder, or its own; what is somebody else's stays so."""

import json

import pytest
from helpers.bench_parts import SETTINGS, write

from lightning_al.benchmark import execute as executing
from lightning_al.benchmark.bench import run_bench
from lightning_al.benchmark.grid import bench_of
from lightning_al.benchmark.results import INSIDE, Results
from lightning_al.cli import main

QUIET = {"progress": False, "workers": 0}
SMALL = {**SETTINGS, "strategies": ["random"], "seeds": 1}


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


FOREIGN = {
    "photographs": lambda f: put(f, "a.jpg", "b/c.jpg"),
    "outcomes of something else": lambda f: put(f, "outcomes/a.json", "runs/b"),
    "a run": lambda f: put(f, "journal.jsonl", "config.yaml"),
    "an empty folder inside": lambda f: (f / "thesis").mkdir(),
    "a benchmark.json that is none": lambda f: put(f, "benchmark.json", "precious.txt"),
    "somebody's benchmark.json": lambda f: (f / "benchmark.json").write_text('{"fps": 3}'),
    "a list": lambda f: (f / "benchmark.json").write_text("[1, 2]"),
}


@pytest.mark.parametrize("way", ["python", "command", "slurm", "collect"])
@pytest.mark.parametrize("case", FOREIGN)
def test_a_folder_of_somebody_else_is_left_as_it_was(case, way, tmp_path):
    folder = tmp_path / "it"
    folder.mkdir()
    FOREIGN[case](folder)
    before = contents(folder)
    words = ["bench", "--config", write(tmp_path / "b.yaml"), "--out", str(folder)]
    more = {"slurm": ["--engine", "slurm"], "collect": ["--collect"]}.get(way, [])
    said = r"nothing in it is touched; .*--out|does not say what a benchmark compares; give another"
    python = way == "python"
    with pytest.raises(ValueError, match=said):
        run_bench(bench_of(SMALL), folder, **QUIET) if python else main([*words, *more])
    assert contents(folder) == before


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "it").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file; give another --out"):
        run_bench(bench_of(SMALL), tmp_path / "it", **QUIET)
    assert (tmp_path / "it").read_text() == "mine"


@pytest.mark.parametrize("name", INSIDE)
def test_links_that_lead_out_are_refused(name, tmp_path):
    bench = bench_of(SMALL)
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "it"
    elsewhere.mkdir()
    Results(folder).describe(bench)
    if name == "benchmark.json":
        (folder / name).rename(elsewhere / name)
    (folder / name).symlink_to(elsewhere / name)
    before = contents(elsewhere)
    with pytest.raises(ValueError, match="is a symbolic link, by which the benchmark would write"):
        run_bench(bench, folder, **QUIET)
    assert contents(elsewhere) == before


@pytest.mark.parametrize("hidden", [[], [".DS_Store"], [".benchmark.77.json", ".nfs1"]])
def test_new_empty_and_own_folders_are_taken(hidden, tmp_path):
    folder = tmp_path / "it"
    put(folder, *hidden) if hidden else None
    for _ in range(2):
        Results(folder).describe(bench_of(SMALL))
    assert json.loads((folder / "benchmark.json").read_text())["metric"] == "test/accuracy"
    put(folder, "report.html", "notes.txt")  # in a folder of ours anything may lie
    Results(folder).describe(bench_of(SMALL))
    (tmp_path / "link").symlink_to(folder)  # the folder itself may be one
    Results(tmp_path / "link").describe(bench_of(SMALL))


def test_a_script_for_an_array_makes_the_folder_a_benchmarks(tmp_path):
    words = ["bench", "--config", write(tmp_path / "b.yaml"), "--out", str(tmp_path / "it")]
    for _ in range(2):
        assert main([*words, "--engine", "slurm"]).exists()


def test_a_run_that_failed_before_its_first_line_can_be_done_again(tmp_path, monkeypatch):
    bench, real = bench_of(SMALL), executing._opened
    monkeypatch.setattr(executing, "_opened", lambda *_: 1 / 0)
    assert run_bench(bench, tmp_path, **QUIET)["status"].tolist() == ["failed"]
    (told,) = tmp_path.glob("errors/*.txt")
    assert "ZeroDivisionError" in told.read_text()
    monkeypatch.setattr(executing, "_opened", real)
    again = run_bench(bench, tmp_path, retry_failed=True, **QUIET)
    assert set(again["status"]) == {"done"}


def test_a_run_folder_of_somebody_else_inside_is_left_as_it_was(tmp_path):
    bench = bench_of(SMALL)
    (spec,) = bench.runs
    Results(tmp_path).describe(bench)
    put(tmp_path / "runs" / spec.run_id, "checkpoints/precious.txt", "a.txt")
    before = contents(tmp_path / "runs")
    frame = run_bench(bench, tmp_path, **QUIET)
    assert frame["status"].tolist() == ["failed"]
    assert "no journal of a run" in frame["error"].item()
    assert contents(tmp_path / "runs") == before
