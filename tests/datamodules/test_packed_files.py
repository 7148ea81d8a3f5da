"""Archives and compressed streams hold no more than they should, or are refused in a sentence."""

import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lightning_al.datamodules.readers import packed_files
from lightning_al.datamodules.readers.encoding import read_table, read_text
from lightning_al.datamodules.readers.image_files import read_idx, read_npz
from lightning_al.datamodules.readers.packed_files import bounded_zip, npz_arrays
from lightning_al.datamodules.readers.table_files import Excel, NumPy, Parser, Text

MB = 1 << 20


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_dot_", "."), content)
    return path


def array_bytes(array, shape=None):
    """A ``.npy`` member; with ``shape`` its header tells of another one."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    raw = file.getvalue()
    if shape is None:
        return raw
    head = io.BytesIO()
    facts = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, facts)
    return head.getvalue() + array.tobytes()


def test_arrays_are_those_that_were_saved(tmp_path):
    arrays = {"x": np.arange(6.0).reshape(2, 3), "y": np.array([1, 0]), "more": np.zeros(3)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "it.npz", **arrays)
        for file in (tmp_path / "it.npz", io.BytesIO((tmp_path / "it.npz").read_bytes())):
            found = npz_arrays(file, ("x", "y"))
            assert list(found) == ["x", "y"]
            for name, value in found.items():
                np.testing.assert_array_equal(value, arrays[name])


BAD = {
    "a member that unpacks to much": (
        lambda p: zipped(p, x_dot_npy=array_bytes(np.zeros(3 * MB, np.uint8))),
        "x.npy unpacks to more than 1.0 MB, which it should not hold",
    ),
    "a header that tells of more than any memory": (
        lambda p: zipped(p, x_dot_npy=array_bytes(np.zeros(4), (2**50,))),
        "llocate",
    ),
    "a header that tells of more than there is": (
        lambda p: zipped(p, x_dot_npy=array_bytes(np.zeros(4), (5,))),
        "reshape|EOF",
    ),
    "an array that is no member": (
        lambda p: zipped(p, z_dot_npy=array_bytes(np.zeros(4))),
        "the archive holds z.npy",
    ),
    "an array of objects": (
        lambda p: np.savez(p, x=np.array([{}, []], dtype=object)),
        "Object arrays cannot be loaded",
    ),
    "one array alone": (lambda p: p.write_bytes(array_bytes(np.zeros(4))), "not a zip file"),
    "nothing": (lambda p: p.write_bytes(b""), "not a zip file"),
}


@pytest.mark.parametrize("case", BAD)
def test_npz_files_that_are_refused(case, tmp_path):
    write, said = BAD[case]
    write(tmp_path / "it.npz")
    with pytest.raises(ValueError, match=said):
        npz_arrays(tmp_path / "it.npz", ("x",), most=MB)


def test_readers_of_npz_files_keep_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_files, "UNPACKED", MB)
    names = ("X_train", "y_train", "X_test", "y_test")
    large = {name: np.zeros(3 * MB, np.uint8) for name in names}
    np.savez_compressed(tmp_path / "it.npz", **large, x=large["X_test"], y=large["X_test"])
    assert (tmp_path / "it.npz").stat().st_size < MB / 10
    for read in (read_npz, Parser(NumPy(), None, 3 * MB)):
        with pytest.raises(ValueError, match=r"it\.npz.*unpacks to more than 1\.0 MB"):
            read(tmp_path / "it.npz")


@pytest.mark.parametrize("content", [bytes(60 * MB), b"\x00\x00\x08\x02" * (10 * MB)])
def test_a_gzipped_picture_file_is_not_unpacked_beyond_its_shape(content, tmp_path, monkeypatch):
    (tmp_path / "idx.gz").write_bytes(gzip.compress(content, 1))
    written = []
    real = Path.open

    def watched(path, *args, **more):
        file = real(path, *args, **more)
        if path.name == "unpacked":
            written.append(file)
        return file

    monkeypatch.setattr(Path, "open", watched)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"idx\.gz unpacks to more than 1\.0 MB"):
        read_idx(tmp_path / "idx.gz", (2, 2))
    assert tracemalloc.get_traced_memory()[1] < 10 * MB
    tracemalloc.stop()
    assert len(written) == 1


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
TABLE = "a,b,kind\n" + "".join(f"{i},{i / 4},{'xy'[i % 2]}\n" for i in range(50))


def packed_table(folder, suffix, text):
    path = folder / f"it.csv{suffix}"
    if suffix == ".zip":
        return zipped(path, it_dot_csv=text)
    path.write_bytes(PACKED[suffix](text.encode()))
    return path


@pytest.mark.parametrize("suffix", [*PACKED, ".zip"])
def test_compressed_tables_are_those_that_are_not(suffix, tmp_path):
    (tmp_path / "plain.csv").write_text(TABLE)
    path = packed_table(tmp_path, suffix, TABLE)
    for read in (read_table, read_text):
        pd.testing.assert_frame_equal(read(path), read(tmp_path / "plain.csv"))


@pytest.mark.parametrize("read", [read_table, read_text])
@pytest.mark.parametrize("suffix", [*PACKED, ".zip"])
def test_compressed_tables_have_a_bound(suffix, read, tmp_path, monkeypatch):
    monkeypatch.setattr(packed_files, "UNPACKED", MB)
    path = packed_table(tmp_path, suffix, TABLE + "0,0,x\n" * MB)
    with pytest.raises(ValueError, match=r"unpacks to more than 1\.0 MB.*unpack it by hand"):
        read(path)


@pytest.mark.parametrize("suffix", [*PACKED, ".zip"])
def test_a_damaged_table_is_named(suffix, tmp_path):
    path = packed_table(tmp_path, suffix, TABLE)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=rf"it\.csv\{suffix} is a damaged \{suffix} file"):
        read_table(path)


def test_archives_as_a_whole_have_a_bound(tmp_path):
    path = zipped(tmp_path / "it.xlsx", a="x" * MB, b="y" * MB)
    bounded_zip(path, 2 * MB)
    bounded_zip(Path(__file__), 0)  # no archive
    with pytest.raises(ValueError, match=r"it unpacks to more than 2\.1 MB"):
        bounded_zip(path, 2 * MB - 1)


def test_the_sheet_and_the_member_of_an_archive_keep_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(packed_files, "UNPACKED", MB)
    sheet = zipped(tmp_path / "it.xlsx", sheet="1" * 2 * MB)
    with pytest.raises(ValueError, match=r"it\.xlsx: it unpacks to more than 1\.0 MB"):
        Parser(Excel(), ("a",), 1)(sheet)
    table = zipped(tmp_path / "it.zip", it_dot_csv="1\n" * MB)
    with pytest.raises(ValueError, match=r"it\.csv unpacks to more than 1\.0 MB"):
        Parser(Text(), ("a",), MB, member="it.csv")(table)
