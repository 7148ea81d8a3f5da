"""The shipped data sets: accepted files, downloads, readers, and what the modules make of them."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_al.datamodules import sources
from lightning_al.datamodules.images import (
    CIFAR10DataModule,
    FashionMNISTDataModule,
    MNISTDataModule,
    idx_resources,
)
from lightning_al.datamodules.partition import held_out, scaling
from lightning_al.datamodules.readers.image_files import read_cifar10, read_idx, read_npz
from lightning_al.datamodules.readers.transforms import CropFlip, Normalise
from lightning_al.datamodules.sources import Resource, Source, data_root
from lightning_al.datamodules.toy import (
    BreastCancerDataModule,
    DiabetesDataModule,
    DigitsDataModule,
)

ROWS = (30, 10)
FILES = {
    "train-images-idx3-ubyte": (30, 28, 28),
    "train-labels-idx1-ubyte": (30,),
    "t10k-images-idx3-ubyte": (10, 28, 28),
    "t10k-labels-idx1-ubyte": (10,),
}


def idx_bytes(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.tobytes()


def draw(shape, high=256):
    return np.random.default_rng(len(shape)).integers(high, size=shape, dtype=np.uint8)


@pytest.fixture
def arrays():
    return {name: draw(shape, 256 if len(shape) > 1 else 10) for name, shape in FILES.items()}


@pytest.fixture
def tiny(monkeypatch):
    """Both MNIST modules ask for 30 + 10 images."""
    for module, folder, unpacked in (
        (MNISTDataModule, "mnist", "MNIST/raw"),
        (FashionMNISTDataModule, "fashion_mnist", "FashionMNIST/raw"),
    ):
        made = idx_resources("tiny", folder, unpacked, ["http://127.0.0.1:9/"], rows=ROWS)
        monkeypatch.setattr(module, "resources", made)


def write(root, folder, arrays, packed):
    place = root / folder
    place.mkdir(parents=True)
    for name, array in arrays.items():
        raw = idx_bytes(array)
        if packed:
            (place / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (place / name).write_bytes(raw)


# --- where files are looked for ------------------------------------------------------------------


def test_data_root_takes_the_argument_then_the_environment_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("LIGHTNING_AL_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path / "arg") == tmp_path / "arg"
    assert data_root() == tmp_path / "env"
    monkeypatch.setenv("LIGHTNING_AL_DATA", "")
    monkeypatch.setattr(sources.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_root() == tmp_path / "lightning_al"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("module", "folder"),
    [
        (MNISTDataModule, "MNIST/raw"),
        (MNISTDataModule, "mnist"),
        (FashionMNISTDataModule, "FashionMNIST/raw"),
        (FashionMNISTDataModule, "fashion_mnist"),
    ],
)
def test_every_layout_gives_the_same_arrays(tmp_path, arrays, tiny, module, folder, packed):
    write(tmp_path, folder, arrays, packed)
    dm = module(data_dir=str(tmp_path), initial=5)
    dm.prepare_data()
    dm.setup()
    (stored,) = dm.splits.train.inputs
    assert stored.dtype == torch.uint8
    np.testing.assert_array_equal(stored[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(dm.splits.train.targets, arrays["train-labels-idx1-ubyte"])
    np.testing.assert_array_equal(dm.splits.test.targets, arrays["t10k-labels-idx1-ubyte"])
    images, labels = next(iter(dm.test_dataloader()))
    (mean,), (std,) = module.normalise.mean, module.normalise.std
    by_hand = (arrays["t10k-images-idx3-ubyte"].astype("float64")[:, None] / 255 - mean) / std
    np.testing.assert_allclose(images, by_hand, atol=1e-5)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (dm.classes, dm.in_channels, dm.image_size, len(dm.class_names)) == (10, 1, 28, 10)


def test_torchvision_reads_the_same_mnist(tmp_path, arrays, tiny):
    from torchvision.datasets import MNIST

    write(tmp_path, "MNIST/raw", arrays, packed=False)
    theirs = MNIST(tmp_path, train=True)
    dm = MNISTDataModule(data_dir=str(tmp_path), initial=5)
    dm.setup()
    assert torch.equal(dm.splits.train.inputs[0][:, 0], theirs.data)
    assert torch.equal(dm.splits.train.targets, theirs.targets)


def test_a_missing_file_says_where_it_was_looked_for_and_where_to_put_it(tmp_path, tiny):
    dm = MNISTDataModule(data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="prepare_data") as caught:
        dm.setup()
    text = str(caught.value)
    assert str(tmp_path / "MNIST/raw/train-images-idx3-ubyte") in text
    assert (
        f"put the file (from http://127.0.0.1:9/train-images-idx3-ubyte.gz) at {tmp_path}" in text
    )


# --- downloads -----------------------------------------------------------------------------------

BODY = b"the original file " * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def base(served):
    served.bodies = {"/file": BODY, "/cut": BODY}
    served.cut = {"/cut": 1000}
    return served.base


def whole(path):
    if path.read_bytes() != BODY:
        raise ValueError("another content")
    return "parsed"


def resource(url, sha256=DIGEST, parse=whole):
    return Resource("toy", (Source("toy", "file.bin", parse, url, sha256),))


def listing(root):
    return sorted(os.listdir(root / "toy")) if (root / "toy").exists() else []


def test_a_download_lands_whole_and_is_not_repeated(base, served, tmp_path):
    wanted = resource(f"{base}/file")
    path = wanted.fetch(tmp_path)
    assert path.read_bytes() == BODY
    assert listing(tmp_path) == ["file.bin"]
    assert wanted.fetch(tmp_path) == path
    assert served.asked == 1
    assert wanted.read(tmp_path) == "parsed"


@pytest.mark.parametrize(
    ("where", "sha256", "why"),
    [
        ("absent", DIGEST, "404"),
        ("cut", DIGEST, "cut off after 1,000 of 90,000 bytes"),
        ("cut", None, "cut off after 1,000 of 90,000 bytes"),
        ("file", "0" * 64, f"expected sha256 {'0' * 64}, got {DIGEST}"),
    ],
)
def test_a_bad_download_is_refused_and_not_kept(base, tmp_path, where, sha256, why):
    with pytest.raises(FileNotFoundError) as caught:
        resource(f"{base}/{where}", sha256).fetch(tmp_path)
    text = str(caught.value)
    assert why in text
    assert f"{base}/{where}" in text
    assert f"at {tmp_path / 'toy' / 'file.bin'}" in text
    assert listing(tmp_path) == []


def test_no_server_is_the_same_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="download failed"):
        resource("http://127.0.0.1:9/file").fetch(tmp_path)


def test_an_interrupted_download_leaves_nothing(base, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources.tqdm, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        resource(f"{base}/file").fetch(tmp_path)
    assert listing(tmp_path) == []


def test_the_next_address_is_tried_when_the_first_fails(base, tmp_path):
    (good,) = resource(f"{base}/file").sources
    bad = replace(good, url=f"{base}/absent")
    assert Resource("toy", (bad, good)).fetch(tmp_path).read_bytes() == BODY


def test_an_unknown_hash_is_recorded_and_compared_later(base, tmp_path):
    wanted = resource(f"{base}/file", None)
    path = wanted.fetch(tmp_path)
    assert (tmp_path / "toy" / "file.bin.sha256").read_text().split() == [DIGEST, "file.bin"]
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="damaged or another file"):
        wanted.read(tmp_path)
    path.unlink()  # the server's file is the recorded one: fine; with another record it is not
    assert wanted.fetch(tmp_path) == path
    path.unlink()
    (tmp_path / "toy" / "file.bin.sha256").write_text(f"{'0' * 64}  file.bin\n")
    with pytest.raises(FileNotFoundError, match="wrong content"):
        wanted.fetch(tmp_path)
    assert listing(tmp_path) == ["file.bin.sha256"]


def test_an_unknown_file_that_the_parser_refuses_is_not_kept(base, tmp_path):
    def refuse(path):
        raise ValueError("an HTML page")

    with pytest.raises(FileNotFoundError, match="an HTML page"):
        resource(f"{base}/file", None, refuse).fetch(tmp_path)
    assert listing(tmp_path) == []


def test_a_file_with_a_wrong_hash_is_named(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "file.bin").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"file\.bin is damaged or another file"):
        resource(None).read(tmp_path)


def test_every_shipped_resource_names_its_original_first():
    shipped = [*MNISTDataModule.resources.values(), *FashionMNISTDataModule.resources.values()]
    for each in (*shipped, CIFAR10DataModule.full):
        assert each.sources[0].url is not None
        assert all(len(s.sha256) == 64 for s in each.sources if s.url)


# --- readers -------------------------------------------------------------------------------------


TWO = np.zeros((2, 2), np.uint8)
HEAD = "00 00 08 02 00 00 00 02 00 00 00 02"  # of two by two unsigned bytes


@pytest.mark.parametrize(
    ("raw", "got"),
    [
        (b"", "0 that start with nothing"),
        (b"<html>", "6 that start with 3c 68 74 6d 6c 3e"),
        (b"\0\0\x08", "3 that start with 00 00 08"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 2]) + bytes(8), "16 that start with 00 00 0d 01"),
        (bytes([0, 0, 7, 2]) + idx_bytes(TWO)[4:], "16 that start with 00 00 07 02"),
        (bytes([0, 0, 8, 3, 0, 0]), "6 that start with 00 00 08 03 00 00"),
        (idx_bytes(np.zeros((3, 2), np.uint8)), "18 that start with 00 00 08 02 00 00 00 03"),
        (idx_bytes(np.zeros(4, np.uint8)), "12 that start with 00 00 08 01 00 00 00 04"),
        (idx_bytes(np.zeros((1, 1, 2, 2), np.uint8)), "24 that start with 00 00 08 04"),
        (idx_bytes(TWO)[:-1], f"15 that start with {HEAD}"),
        (idx_bytes(TWO) + b"x", f"17 that start with {HEAD}"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_idx_file_is_named(tmp_path, raw, got, packed):
    path = tmp_path / "images-idx"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(ValueError, match=f"got {got}") as caught:
        read_idx(path, (2, 2))
    assert str(caught.value).startswith(
        f"{path} must be an IDX file of unsigned bytes [2, 2]: expected 16 bytes that start with "
        f"{HEAD}, got "
    )


def test_a_damaged_gzip_file_is_named(tmp_path):
    path = tmp_path / "images-idx"
    whole = gzip.compress(idx_bytes(TWO))
    for raw in (whole[:-5], whole[:12] + b"\xff\xff" + whole[14:], whole[:-8] + bytes(8)):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="images-idx is a damaged gzip file"):
            read_idx(path, (2, 2))


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_as_they_were_written(tmp_path, shape, packed):
    array = draw(shape)
    path = tmp_path / "idx"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    got = read_idx(path, shape)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, array)


NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def cifar_batches(rows=4):
    rng = np.random.default_rng(0)
    return {
        name: {
            "data": rng.integers(256, size=(rows, 3072), dtype=np.uint8),
            "labels": rng.integers(10, size=rows).tolist(),
            "batch_label": name,
        }
        for name in NAMES
    }


def write_cifar(folder, batches):
    folder.mkdir(parents=True)
    for name, batch in batches.items():
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


def tar_bytes(batches):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, batch in batches.items():
            raw = pickle.dumps(batch, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return packed.getvalue()


@pytest.fixture
def tiny_cifar(monkeypatch):
    """The CIFAR-10 module asks for 5 x 4 + 4 images, or for a subset of 20 + 4."""
    full, part = CIFAR10DataModule.full, CIFAR10DataModule.part
    small = partial(read_cifar10, rows=4)
    made = tuple(replace(s, parse=small, sha256=None) for s in full.sources)
    made = (replace(made[0], url="http://127.0.0.1:9/cifar.tar.gz"), *made[1:])
    monkeypatch.setattr(CIFAR10DataModule, "full", Resource("CIFAR-10", made))
    (npz,) = part.sources
    npz = replace(npz, parse=partial(read_npz, rows=(20, 4)), sha256=None)
    monkeypatch.setattr(CIFAR10DataModule, "part", Resource("the subset", (npz,)))


def write_npz(root, seed=1):
    rng = np.random.default_rng(seed)
    (root / "cifar10_subset").mkdir()
    arrays = {
        "X_train": rng.integers(256, size=(20, 32, 32, 3), dtype=np.uint8),
        "y_train": rng.integers(10, size=20).astype(np.uint8),
        "X_test": rng.integers(256, size=(4, 32, 32, 3), dtype=np.uint8),
        "y_test": rng.integers(10, size=4).astype(np.uint8),
    }
    np.savez(root / "cifar10_subset" / "cifar10_subset.npz", **arrays)
    return arrays


@pytest.mark.parametrize("layout", ["folder", "subfolder", "archive", "archive in root"])
def test_every_cifar_layout_gives_the_same_arrays(tmp_path, tiny_cifar, layout):
    batches = cifar_batches()
    folder = tmp_path if layout in ("folder", "archive in root") else tmp_path / "cifar10"
    folder.mkdir(exist_ok=True)
    if layout.startswith("archive"):
        (folder / "cifar-10-python.tar.gz").write_bytes(tar_bytes(batches))
    else:
        write_cifar(folder / "cifar-10-batches-py", batches)
    dm = CIFAR10DataModule(data_dir=str(tmp_path), initial=5)
    dm.prepare_data()
    dm.setup()
    images = np.concatenate([batches[n]["data"] for n in NAMES[:5]]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(dm.splits.train.inputs[0], images)
    np.testing.assert_array_equal(
        dm.splits.train.targets, np.concatenate([batches[n]["labels"] for n in NAMES[:5]])
    )
    np.testing.assert_array_equal(dm.splits.test.targets, batches["test_batch"]["labels"])


def test_torchvision_reads_the_same_cifar(tmp_path, tiny_cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    write_cifar(tmp_path / "cifar-10-batches-py", cifar_batches())
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    theirs = CIFAR10(tmp_path)
    dm = CIFAR10DataModule(data_dir=str(tmp_path), initial=5)
    dm.setup()
    np.testing.assert_array_equal(
        dm.splits.train.inputs[0].permute(0, 2, 3, 1).numpy(), theirs.data
    )
    assert dm.splits.train.targets.tolist() == theirs.targets


def test_the_subset_is_used_only_when_the_full_set_is_not_there(tmp_path, tiny_cifar):
    arrays = write_npz(tmp_path)
    dm = CIFAR10DataModule(data_dir=str(tmp_path), initial=5)
    dm.prepare_data()
    dm.setup()
    np.testing.assert_array_equal(
        dm.splits.train.inputs[0], arrays["X_train"].transpose(0, 3, 1, 2)
    )
    write_cifar(tmp_path / "cifar-10-batches-py", batches := cifar_batches())
    full = batches["test_batch"]["labels"]
    for subset, labels in ((None, full), (False, full), (True, arrays["y_test"].tolist())):
        dm = CIFAR10DataModule(subset=subset, data_dir=str(tmp_path), initial=5)
        dm.setup()
        assert dm.splits.test.targets.tolist() == labels


def test_a_missing_subset_says_where_to_put_it(tmp_path, tiny_cifar):
    with pytest.raises(FileNotFoundError, match=r"cifar10_subset\.npz"):
        CIFAR10DataModule(subset=True, data_dir=str(tmp_path)).prepare_data()


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    write_cifar(tmp_path / "b", cifar_batches() | {"test_batch": {"data": Evil()}})
    with pytest.raises(ValueError, match=r"test_batch is no CIFAR-10 batch.*not allowed"):
        read_cifar10(tmp_path / "b", rows=4)


def test_bad_cifar_files_are_named(tmp_path):
    batches = cifar_batches()
    write_cifar(tmp_path / "b", batches)
    with pytest.raises(ValueError, match="data_batch_1 must hold 5 x 3072 bytes"):
        read_cifar10(tmp_path / "b", rows=5)
    (tmp_path / "b" / "data_batch_3").unlink()
    with pytest.raises(ValueError, match="lacks data_batch_3"):
        read_cifar10(tmp_path / "b", rows=4)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar_bytes({"data_batch_1": batches["data_batch_1"]}))
    with pytest.raises(ValueError, match=r"a\.tar\.gz lacks data_batch_2"):
        read_cifar10(archive, rows=4)
    archive.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="damaged archive"):
        read_cifar10(archive, rows=4)
    npz = tmp_path / "x.npz"
    npz.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.npz is no CIFAR-10 subset"):
        read_npz(npz)
    arrays = write_npz(tmp_path)
    np.savez(npz, **arrays)
    with pytest.raises(ValueError, match=r"X_train must be uint8 \[10000, 32, 32, 3\]"):
        read_npz(npz)
    np.savez(npz, X_train=arrays["X_train"])
    with pytest.raises(ValueError, match="y_train"):
        read_npz(npz)


# --- transforms ----------------------------------------------------------------------------------


def test_normalise_is_the_formula():
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # [1, 2, 1, 2]
    got = Normalise((0.5, 0.2), (0.5, 0.1))(images)
    torch.testing.assert_close(got, torch.tensor([[[[-1.0, 1.0]], [[0.0, 2.0]]]]))


def test_a_crop_is_a_window_of_the_padded_image_mirrored_or_not():
    images = torch.arange(1, 2 * 3 * 6 * 6 + 1).reshape(2, 3, 6, 6)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        for n, got in enumerate(CropFlip(2)(images)):
            hits = [
                (y, x, mirrored)
                for y in range(5)
                for x in range(5)
                for mirrored in (False, True)
                for window in [padded[n, :, y : y + 6, x : x + 6]]
                if torch.equal(got, window.flip(-1) if mirrored else window)
            ]
            assert len(hits) == 1
            seen.add(hits[0])
    assert {y for y, _, _ in seen} == {x for _, x, _ in seen} == set(range(5))
    assert {mirrored for _, _, mirrored in seen} == {False, True}


def test_augmentation_reaches_training_and_not_the_pool(tmp_path, tiny_cifar):
    write_npz(tmp_path)
    dm = CIFAR10DataModule(data_dir=str(tmp_path), initial=20, val=0.0)
    dm.setup()
    rows = torch.arange(20)
    a, b = dm.splits.train[rows][0], dm.splits.train[rows][0]
    assert not torch.equal(a, b)
    torch.manual_seed(3)
    first = dm.splits.train[rows][0]
    torch.manual_seed(3)
    assert torch.equal(first, dm.splits.train[rows][0])
    assert torch.equal(dm.splits.pool[rows][0], dm.splits.pool[rows][0])
    plain = CIFAR10DataModule(augment=False, data_dir=str(tmp_path), initial=5)
    plain.setup()
    assert torch.equal(plain.splits.train[rows][0], dm.splits.pool[rows][0])


# --- parts and scaling ---------------------------------------------------------------------------


def test_held_out_parts_are_disjoint_fixed_and_by_class():
    rows = torch.arange(0, 200, 2)
    classes = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    test, val = held_out(rows, test=0.2, val=0.1, seed=3, classes=classes)
    assert (len(test), len(val)) == (20, 10)
    assert not set(test.tolist()) & set(val.tolist())
    assert set(test.tolist()) | set(val.tolist()) <= set(rows.tolist())
    assert classes[test // 2].bincount().tolist() == [14, 4, 2]
    again = held_out(rows, test=0.2, val=0.1, seed=3, classes=classes)
    assert torch.equal(test, again[0])
    assert torch.equal(val, again[1])
    assert not torch.equal(test, held_out(rows, test=0.2, val=0.1, seed=4, classes=classes)[0])


@pytest.mark.parametrize(
    ("test", "val", "why"),
    [
        (0, None, "gives no test item"),
        (10, None, "would take all of the 10 items"),
        (5, 5, "test=5 and val=5 would take all"),
        (11, None, "test asks for 11 of 10"),
        (1.5, None, r"share must lie in \(0, 1\)"),
    ],
)
def test_impossible_parts_are_refused(test, val, why):
    with pytest.raises(ValueError, match=why):
        held_out(torch.arange(10), test=test, val=val, seed=0)


def test_scaling_is_the_mean_and_deviation_of_the_rows_left():
    features = torch.tensor([[1.0, 7.0, torch.nan], [3.0, 7.0, 4.0], [99.0, 8.0, 5.0]])
    mean, std = scaling(features, torch.tensor([2]), None)
    assert mean.tolist() == [2.0, 7.0, 4.0]
    assert std.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("module", "rows", "features"),
    [
        (DigitsDataModule, 1797, 64),
        (BreastCancerDataModule, 569, 30),
        (DiabetesDataModule, 442, 10),
    ],
)
def test_toy_sets(module, rows, features):
    dm = module(val=0.1)
    dm.setup()
    (inputs,) = dm.splits.train.inputs
    assert inputs.shape == (rows, features)
    assert inputs.dtype == torch.float32
    assert dm.in_features == features
    assert len(dm.splits.test) == round(0.2 * rows)
    assert len(dm.splits.val) == round(0.1 * rows)
    assert len(dm.labelled) + len(dm.pool) == rows - len(dm.splits.test) - len(dm.splits.val)
    held = dm.splits.test.clone()
    dm.start(seed=7)
    assert torch.equal(held, dm.splits.test)
    if module is not DigitsDataModule:
        learn = inputs[torch.cat([dm.labelled, dm.pool])].double()
        torch.testing.assert_close(learn.mean(0), torch.zeros(features).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            learn.std(0, correction=0), torch.ones(features).double(), atol=1e-5, rtol=0
        )


def test_toy_targets():
    digits, cancer, diabetes = DigitsDataModule(), BreastCancerDataModule(), DiabetesDataModule()
    for dm in (digits, cancer, diabetes):
        dm.setup()
    assert digits.splits.train.targets.bincount().tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert cancer.splits.train.targets.bincount().tolist() == [212, 357]
    assert list(cancer.class_names) == ["malignant", "benign"]
    targets = diabetes.splits.train.targets
    assert (float(targets.min()), float(targets.max())) == (25.0, 346.0)
    assert (diabetes.outputs, diabetes.classes, cancer.outputs) == (1, None, None)


def test_digits_as_images_are_the_same_pixels():
    flat, square = DigitsDataModule(), DigitsDataModule(as_images=True)
    for dm in (flat, square):
        dm.setup()
    (a,), (b,) = flat.splits.train.inputs, square.splits.train.inputs
    assert b.shape == (1797, 1, 8, 8)
    assert torch.equal(a, b.flatten(1))
    assert (float(a.min()), float(a.max())) == (0.0, 1.0)
    assert (square.in_channels, square.image_size, square.in_features) == (1, 8, None)


@pytest.mark.parametrize(
    "module",
    [
        MNISTDataModule,
        FashionMNISTDataModule,
        CIFAR10DataModule,
        DigitsDataModule,
        BreastCancerDataModule,
        DiabetesDataModule,
    ],
)
def test_the_command_line_can_set_the_arguments(module):
    parser = ArgumentParser()
    parser.add_class_arguments(module, "data")
    args = ["--data.val=0.25", "--data.initial=one_per_class", "--data.batch_size=7"]
    made = module(**parser.parse_args(args).data.as_dict())
    assert (made.val_size, made.initial, made.batch_size) == (0.25, "one_per_class", 7)
    assert not hasattr(parser.parse_args([]).data, "train")


# --- the real files ------------------------------------------------------------------------------


def real(module, *folders):
    root = data_root()
    if not os.environ.get("LIGHTNING_AL_DATA") or not any((root / f).exists() for f in folders):
        pytest.skip(f"no {' or '.join(folders)} below $LIGHTNING_AL_DATA")
    dm = module()
    dm.setup()
    return dm


@pytest.mark.parametrize(
    ("module", "folders"),
    [
        (MNISTDataModule, ("mnist", "MNIST/raw")),
        (FashionMNISTDataModule, ("fashion_mnist", "FashionMNIST/raw")),
    ],
)
def test_real_mnist_has_its_known_moments(module, folders):
    dm = real(module, *folders)
    (images,), targets = dm.splits.train.inputs, dm.splits.train.targets
    assert images.shape == (60_000, 1, 28, 28)
    assert len(dm.splits.test) == 10_000
    counts = images.flatten().bincount(minlength=256).double()
    values = torch.arange(256).double() / 255
    mean = (counts * values).sum() / counts.sum()
    std = ((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt()
    assert float(mean) == pytest.approx(module.normalise.mean[0], abs=5e-5)
    assert float(std) == pytest.approx(module.normalise.std[0], abs=5e-5)
    assert len(targets.unique()) == 10


def test_real_cifar_has_its_known_channel_means():
    dm = real(CIFAR10DataModule, "cifar10_subset", "cifar10", "cifar-10-batches-py")
    (images,) = dm.splits.train.inputs
    assert len(images) in (10_000, 50_000)
    means = images.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx(CIFAR10DataModule.normalise.mean, abs=5e-3)
    assert dm.splits.train.targets.bincount().tolist() == [len(images) // 10] * 10
