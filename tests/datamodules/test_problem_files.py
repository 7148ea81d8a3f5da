"""Problems over data sets: their files and downloads, and the parts of their tables."""

import io
import os
import tarfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_al.datamodules import ProblemPoolDataModule, problems
from lightning_al.datamodules.problems import problem_files as files
from lightning_al.datamodules.problems import recorded as tables
from lightning_al.datamodules.sources import data_root

HEADER = "mach alpha beta lift drag pitch side yaw roll"


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def booster(rows=400, seed=0):
    """A miniature of the booster's table: (text, its numbers [rows, 9])."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (rows, 9))
    values[:, 0] *= 6  # mach
    values[:, 1] = 35 * values[:, 1] - 5  # alpha
    values[:, 2] = rng.choice([0, 0, 0.5, 2], rows)  # beta
    values[:, 5] -= 0.5
    values = values.round(6)
    preface = [f"# line {i}, words and 1 2 3" for i in range(21)]
    lines = [*preface, HEADER, *(" ".join(map(str, row)) for row in values.tolist())]
    return "\n".join(lines) + "\n", values


def packed(text):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, body in (("lgbb/README", b"hello"), ("lgbb/lgbb_original.txt", text.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return out.getvalue()


def months():
    """A series of the right shape: (text, passengers [144])."""
    values = [100 + 3 * i + (i % 12) for i in range(144)]
    lines = [f'"{1949 + i // 12}-{1 + i % 12:02d}",{v}' for i, v in enumerate(values)]
    return "\n".join(['"Month","Passengers"', *lines]) + "\n", np.array(values, float)


@pytest.fixture
def lgbb(tmp_path):
    text, values = booster(1500)
    (tmp_path / "lgbb").mkdir()
    (tmp_path / "lgbb" / "lgbb_original.txt").write_text(text)
    return tmp_path, values


def real(name):
    found = problems.problem(name)
    for resource in found.resources:
        if resource.find(data_root()) is None:
            pytest.skip(f"{resource.sources[0].file} is not in the data folder")
    return found


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def base(served):
    served.bodies = {"/lgbb": packed(booster()[0]), "/months": months()[0].encode()}
    return served.base


def moved(name, url, root):
    """The problem with its first source at another address, of unknown content."""
    found = problems.problem(name, data_dir=root)
    first, *others = found.file.sources
    first = replace(first, url=url, sha256=None)
    return replace(found, file=replace(found.file, sources=(first, *others)))


def test_files_are_downloaded_once_and_read(base, served, tmp_path):
    found = moved("lgbb-safe", f"{base}/lgbb", tmp_path)
    found.prepare()
    assert sorted(os.listdir(tmp_path / "lgbb")) == ["lgbb.tar.gz", "lgbb.tar.gz.sha256"]
    assert len(found.points) == int((booster()[1][:, 2] == 0).sum())
    served.bodies = {}
    found.prepare()
    with pytest.raises(FileNotFoundError, match=r"404.*\n.*put the file .* at"):
        moved("airline", f"{base}/months", tmp_path).prepare()
    served.bodies = {"/months": months()[0].encode(), "/page": b"<html>"}
    with pytest.raises(FileNotFoundError, match="must hold 144 rows"):
        moved("airline", f"{base}/page", tmp_path).prepare()
    assert os.listdir(tmp_path / "airline_passengers") == []
    found = moved("airline", f"{base}/months", tmp_path)
    found.prepare()
    y = months()[1]
    np.testing.assert_allclose(found.points.y, (y - y.mean()) / y.std())
    np.testing.assert_allclose(found.points.x[:, 0], np.arange(144) / 143, atol=1e-9)


def test_known_files_name_their_digest():
    for problem in tables.TABLES:
        first = problem.file.sources[0]
        assert first.url.startswith("https://")
        if problem.name in ("airline", "engine"):
            assert len(first.sha256) == 64


@pytest.mark.parametrize("name", ["airline", "engine", "airfoil", "lgbb", "lgbb-safe"])
def test_a_missing_file_says_where_it_is_from_and_where_to_put_it(name, tmp_path):
    dm = ProblemPoolDataModule(name, data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="call prepare_data") as caught:
        dm.setup()
    assert "(from https://" in str(caught.value)
    assert f"at {tmp_path}" in str(caught.value)


def test_the_booster_is_read_from_text_and_from_its_archive(tmp_path):
    text, values = booster(50)
    wanted = values[:, [0, 1, 2, 3, 5]]
    plain, archive = tmp_path / "lgbb_original.txt", tmp_path / "lgbb.tar.gz"
    plain.write_text(text)
    archive.write_bytes(packed(text))
    np.testing.assert_array_equal(files.read_lgbb(plain), wanted)
    np.testing.assert_array_equal(files.read_lgbb(archive), wanted)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace("pitch", "pitches"), "pitch missing among mach, alpha"),
        (lambda text: "one more line\n" + text, "missing among"),
        (lambda text: text + "1 2 3 four 5 6 7 8 9\n", "1 of them with other cells"),
        (lambda text: "\n".join(text.splitlines()[:22]), "0 rows"),
        (lambda text: "", "no table behind 21 lines"),
    ],
)
def test_a_bad_booster_file_is_named(tmp_path, change, why):
    path = tmp_path / "lgbb_original.txt"
    path.write_text(change(booster(5)[0]))
    with pytest.raises(ValueError, match=f"{path}.*{why}"):
        files.read_lgbb(path)


def test_an_archive_without_the_booster_is_named(tmp_path):
    path = tmp_path / "lgbb.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("other.txt"))
    with pytest.raises(ValueError, match=r"holds no lgbb_original\.txt"):
        files.read_lgbb(path)


def test_the_booster_keeps_the_runs_without_slip(lgbb):
    root, values = lgbb
    kept = values[values[:, 2] == 0]
    safe = problems.problem("lgbb-safe", data_dir=root).points
    np.testing.assert_allclose(safe.x, np.c_[kept[:, 0] / 6, (kept[:, 1] + 5) / 35])
    for got, column in ((safe.y, 3), (safe.z, 5)):
        each = kept[:, column]
        np.testing.assert_allclose(got, (each - each.mean()) / each.std(), atol=1e-12)
    assert safe.safe.tolist() == (kept[:, 5] >= kept[:, 5].mean()).tolist()
    free = problems.problem("lgbb", data_dir=root)
    assert free.points.z is None
    noise = free.pool(None, drawn()).y - free.points.y
    assert 0.007 < float(noise.std()) < 0.013
    assert torch.equal(free.pool(None, drawn()).y - free.points.y, noise)


@pytest.mark.parametrize("name", ["airline", "airfoil", "engine"])
def test_the_real_tables_are_scaled_to_the_cube(name):
    if name == "engine":
        pytest.importorskip("openpyxl")
    points = real(name).points
    rows = {"airline": 144, "airfoil": 1503, "engine": 785}[name]
    assert points.x.shape == (rows, problems.problem(name).dimension)
    assert float(points.x.amin(0).max()) == 0
    assert float(points.x.amax(0).min()) == 1
    assert float(points.y.mean()) == pytest.approx(0, abs=1e-4)
    assert float(points.y.std(correction=0)) == pytest.approx(1, abs=2e-3)
    if name == "airline":  # 112 in January 1949, 432 in December 1960
        mean, std = 40363 / 144, 119.549
        assert float(points.y[0]) == pytest.approx((112 - mean) / std, abs=1e-4)
        assert float(points.y[-1]) == pytest.approx((432 - mean) / std, abs=1e-4)
    if name == "engine":
        path = files.ENGINE_FILE.find(data_root()).path(data_root())
        sheet = pd.read_excel(path, sheet_name="data", header=[0], skiprows=[1], engine="openpyxl")
        for column, its in enumerate(("engine_speed", "engine_load", "air_fuel_ratio")):
            raw = sheet[its].to_numpy(float)
            np.testing.assert_allclose(points.x[:, column], (raw - raw.min()) / np.ptp(raw))
        # the first row, read off the sheet
        assert float(points.y[0]) == pytest.approx(-0.50865, abs=1e-6)
        assert float(points.z[0]) == pytest.approx(-1.940437 - 0.2, abs=1e-6)


@pytest.mark.parametrize("name", ["airline", "airfoil", "engine", "lgbb", "lgbb-safe"])
def test_parts_of_a_table_share_no_row(name, lgbb):
    if name.startswith("lgbb"):
        found = problems.problem(name, data_dir=lgbb[0])
        sizes = (2 if found.safe else 1, None, 40)
    else:
        found = real(name)
        sizes = (found.n_initial, None, found.n_test)
    parts = found.draw(*sizes, drawn())
    n = len(found.points)
    assert (len(parts.initial), len(parts.test)) == (sizes[0], sizes[2])
    assert len(parts.pool) == n - sizes[0] - sizes[2]
    noise = {"lgbb": 0.06}.get(name, 0)
    for part in parts:  # rows in the order of the table, each measured as in the table
        same = (part.x[:, None] == found.points.x).all(-1)
        assert bool(same.any(1).all())
        if not noise:
            assert bool((same & (part.y[:, None] == found.points.y)).any(1).all())
    both = torch.cat([part.y for part in parts]).sort().values
    torch.testing.assert_close(both, found.points.y.sort().values, atol=noise, rtol=0)
    assert bool(parts.test.safe.all())
    if found.safe:
        assert bool(parts.initial.safe.all())
        assert bool(((parts.initial.x >= 0.4) & (parts.initial.x <= 0.6)).all())
        assert bool((~parts.pool.safe).any())
    other = found.draw(*sizes, drawn(1))
    assert not torch.equal(other.test.x, parts.test.x)
    assert len(found.draw(sizes[0], 7, sizes[2], drawn()).pool) == 7
    with pytest.raises(ValueError, match=rf"{name}: {n} test points were asked for, the table has"):
        found.draw(1, None, n, drawn())
