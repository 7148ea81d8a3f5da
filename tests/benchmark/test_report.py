"""The report: what it claims follows from the numbers, and the page holds together."""

import errno
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from helpers.bench_parts import FACTS, made, parts
from PIL import Image

from lightning_al.benchmark import report
from lightning_al.benchmark.ceilings import FULL_DATA
from lightning_al.benchmark.paper_table import markdown_table
from lightning_al.benchmark.report import report_of, write_report
from lightning_al.benchmark.results import Results
from lightning_al.benchmark.summary import _seeds, paired, per_run, settings, summary
from lightning_al.cli import main


@pytest.mark.parametrize("up", [True, False])
def test_the_summary_finds_what_was_put_in(up):
    table = summary(per_run(made(up=up), FACTS), FACTS)
    assert len(table) == 8
    for _, part in table.groupby("data"):
        assert part["strategy"].iloc[[0, -1]].tolist() == ["good", "bad"]
        verdict = dict(zip(part["strategy"], part["better"], strict=True))
        assert verdict == {
            "good": "better", "bad": "worse", "same": "no difference shown", "random": ""
        }  # fmt: skip
        gap = dict(zip(part["strategy"], part["difference"], strict=True))
        # a lead that grows 0, half, whole over 10, 20, 40 labels: its area by hand
        area = (10 * 0.25 + 20 * 0.75) / 30 * 0.05
        assert gap["good"] == pytest.approx(area if up else -area)
        assert (part["n"] == 8).all()
        assert (part["low"] <= part["area"]).all()
        assert (part["area"] <= part["high"]).all()
        assert part["full_data"].notna().all()


def test_a_failed_run_takes_its_whole_block_out():
    frame = made(data=["one"])
    frame.loc[frame["run_id"] == "one-good-3", "status"] = "failed"
    (setting,) = settings(per_run(frame, FACTS))
    table = paired(setting)
    assert 3 not in table.index.get_level_values("seed")
    assert len(table) == 7
    assert FULL_DATA not in table


def test_one_seed_claims_nothing():
    table = summary(per_run(made(seeds=1), FACTS), FACTS)
    assert set(table["better"]) == {"", "no difference shown"}
    assert np.isinf(table["low"]).all()


def test_an_absent_metric_names_those_there_are():
    frame = made().assign(value=np.nan)
    with pytest.raises(LookupError, match="test/accuracy"):
        per_run(frame, FACTS)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with failures, ceilings and two data sets; its folder."""
    out = tmp_path_factory.mktemp("report")
    frame = made()
    frame.loc[frame["run_id"] == "two-same-0", ["status", "error"]] = "failed", "it <b>broke</b>"
    report = report_of(frame, FACTS, out)
    return report, out


def test_every_claim_says_on_how_many_pairs_it_stands(page):
    report, _ = page
    assert len(report.claims) == 6
    assert all(re.search(r"\((7|8) pairs, mean difference", claim) for claim in report.claims)
    assert sum("is better than random" in claim for claim in report.claims) == 2
    assert sum("pairs would show such a gap" in claim for claim in report.claims) >= 1


def test_the_page_needs_no_network_and_no_file(page):
    text = page[0].page.read_text()
    for tag in ("<script", "<link", "<img", "<iframe", "@import"):
        assert tag not in text
    outside = set(re.findall(r'(?:href|src)="([^"#][^"]*)"', text)) | set(
        re.findall(r"url\((?!#)([^)]*)\)", text)
    )
    assert all(target.startswith("data:") for target in outside)
    assert "it &lt;b&gt;broke&lt;/b&gt;" in text
    assert "A &lt;title&gt;" in text


def test_names_inside_the_pictures_do_not_meet(page):
    names = re.findall(r'\bid="([^"]+)"', page[0].page.read_text())
    assert len(names) == len(set(names))
    text = page[0].page.read_text()
    for target in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{target}"' in text


def test_pictures_are_saved_twice(page):
    report, out = page
    found = {p.name for p in (out / "figures").iterdir()}
    assert found == {p.name for p in report.pictures}
    stems = {"critical-difference", "critical-settings", "penalties"}
    stems |= {
        f"{kind}-{data}-net-10-a-query" for kind in ("curve", "time") for data in ("one", "two")
    }
    assert found == {f"{stem}{suffix}" for stem in stems for suffix in (".svg", ".png")}
    for picture in report.pictures:
        if picture.suffix == ".svg":
            ET.parse(picture)
        else:
            assert min(Image.open(picture).size) > 150


def test_the_same_results_give_the_same_page(page, tmp_path):
    frame = made()
    frame.loc[frame["run_id"] == "two-same-0", ["status", "error"]] = "failed", "it <b>broke</b>"
    again = report_of(frame.sample(frac=1, random_state=0), FACTS, tmp_path)
    assert again.page.read_text() == page[0].page.read_text()


def test_the_table_for_papers(page):
    text = (page[1] / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    for row in rows[2:]:
        assert row.count("**") == 2
    table = summary(per_run(made(), FACTS), FACTS)
    assert "good" in markdown_table(table).splitlines()[0]


def test_dependent_runs_are_warned_of(page, tmp_path):
    assert "not independent of each other" in page[0].page.read_text()
    alone = report_of(made(data=["one"]), FACTS, tmp_path).page.read_text()
    assert "speaks about it alone" in alone


def test_lower_is_better_turns_ranks_over(tmp_path):
    text = report_of(made(up=False, metric="test/mse"), FACTS, tmp_path).page.read_text()
    first = re.search(r"mean rank</th></tr>\s*<tr><td>(\w+)", text)
    assert first.group(1) == "good"


def test_no_results_are_said_plainly(tmp_path):
    with pytest.raises(LookupError, match="holds no table"):
        write_report(tmp_path)
    with pytest.raises(LookupError, match=r"holds no table yet; .* with --collect"):
        Results(tmp_path).read_table()


def test_a_run_folder_has_a_report_too(tmp_path, capsys):
    run = tmp_path / "run"
    words = "run --config quickstart --trainer.max_epochs 1 --budget 40 --baseline random"
    main([*words.split(), "--run_dir", str(run), "--progress", "false"])
    report = main(["report", str(run)])
    assert "One run of each strategy" in report.page.read_text()
    assert "not told apart (1 pairs" in capsys.readouterr().out
    other = main(["report", str(run), "--metric", "test/nll", "--out", str(tmp_path / "other")])
    assert "negative log-likelihood" in other.page.read_text()
    with pytest.raises(LookupError, match="test/accuracy"):
        main(["report", str(run), "--metric", "test/acuracy"])


def test_without_a_study_the_table_of_strategies_has_times_alone(page):
    plain = parts(page[0].page.read_text())
    for name in ("one", "two"):
        assert "<h3>Time</h3>" in plain[name]
        assert re.findall(r"<th>(ms \w+|safe share|final RMSE)</th>", plain[name]) == [
            *("ms fit", "ms query"),
        ]
    assert (
        "two, net, 10 a query: same: some runs failed: it &lt;b&gt;broke&lt;/b&gt; (1 of 8 runs)."
        in (plain["two"])
    )
    assert "adds." not in plain["How"]


def test_one_error_of_many_runs_is_said_once(tmp_path):
    frame = made(data=["one"], seeds=4)
    gone = frame["strategy"].isin(["same", "bad"])
    frame.loc[gone, ["status", "error"]] = "failed", "FileNotFoundError: no table"
    text = report_of(frame, FACTS, tmp_path).page.read_text()
    assert "8 runs have failed" in text
    failed = parts(text)["Failed"]
    assert failed.count("no table") == 1
    assert "bad, same" in failed
    assert "0, 1, 2, 3" in failed
    assert "not run: FileNotFoundError: no table (4 of 4 runs)" in parts(text)["one"]


# --- in a browser --------------------------------------------------------------------------------


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(folder, page, *options):
    """Run headless Chromium on a page."""
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += ["--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", *options]
    done = subprocess.run(
        [*words, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="SKIP: no Chromium here: apt install chromium")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (500, False)])
def test_the_page_in_a_browser(page, tmp_path, width, dark):
    report, _ = page
    # what the page itself says of its width: nothing may stick out sideways
    probe = tmp_path / "probe.html"
    text = report.page.read_text().replace(
        "</body>",
        "<script>document.title = document.documentElement.scrollWidth + ' ' + innerWidth"
        "</script></body>",
    )
    probe.write_text(text)
    scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    size = [f"--window-size={width},1500"]
    dom = browse(tmp_path, probe, *size, "--dump-dom")
    needed, given = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert needed <= given
    shot = tmp_path / "shot.png"
    browse(tmp_path, report.page, *size, *scheme, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("L"), dtype=float)
    paper = np.median(pixels)
    assert (paper < 60) if dark else (paper > 200)
    ink = np.abs(pixels - paper) > 100  # text and lines stand out from the paper
    assert 0.005 < ink.mean() < 0.4
    rows = ink.any(1)
    assert rows[: len(rows) // 2].mean() > 0.2


def test_labels_needed_are_where_the_curve_crosses():
    frame = made(data=["one"], leads={"random": 0.0, "good": 0.05, FULL_DATA: 0.0})
    frame.loc[frame["strategy"] == FULL_DATA, "value"] = 0.6
    frame["value"] -= frame["value"] - frame["value"].round(1)  # no luck, no lead: 0.5, 0.6, 0.7
    table = summary(per_run(frame, FACTS), FACTS, share=0.5)
    assert table["labels_needed"].tolist() == pytest.approx([15.0, 15.0])
    short = frame[frame["n_labelled"] != 20].assign(value=lambda f: f["value"].clip(upper=0.52))
    short.loc[(short["strategy"] == FULL_DATA) & (short["n_labelled"] == 500), "value"] = 0.9
    table = summary(per_run(short, FACTS), FACTS)
    assert np.isinf(table["labels_needed"]).all()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_takes_nothing_is_said_with_the_option_for_another(
    number, tmp_path, monkeypatch, capsys, refused
):
    words = ["--config", "quickstart", "--trainer.max_epochs", "1", "--budget", "20"]
    folder = tmp_path / "run"
    main(["run", *words, "--progress", "false", "--run_dir", str(folder)])

    def closed(dir, **more):
        if Path(dir) == folder:
            raise OSError(number, "closed")
        return real(dir=dir, **more)

    real = report.TemporaryFile
    monkeypatch.setattr(report, "TemporaryFile", closed)
    message, status = refused(["report", str(folder)])
    assert f"nothing can be written into {folder} (" in message
    assert message.endswith("name a folder for the report with --out FOLDER (out=…)")
    assert status == 1
    assert write_report(folder, out=tmp_path / "new").page == tmp_path / "new" / "report.html"
    monkeypatch.setattr(report, "TemporaryFile", real)
    (tmp_path / "elsewhere").mkdir()
    (folder / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"figures is a symbolic link.*--out FOLDER"):
        write_report(folder)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_the_pairs_that_would_do_are_never_fewer_than_the_test_can_notice():
    steady = np.array([0.1, 0.1001, 0.0999, 0.1, 0.1002, 0.0998])
    for others in (1, 3, 20):
        n = _seeds(steady, 0.05 / others)
        assert 2 ** (1 - n) <= 0.05 / others < 2 ** (2 - n)
    wide = np.random.default_rng(0).normal(0.1, 1.0, 50)
    assert _seeds(wide, 0.05 / 8) > _seeds(wide, 0.05)
    assert np.isnan(_seeds(steady[:1], 0.05))
