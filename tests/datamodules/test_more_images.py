"""CIFAR-100, SVHN, MedMNIST and variants of image sets, on miniatures and on what lies here."""

import io
import os
import pickle
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from lightning_al.datamodules import (
    CIFAR10VariantDataModule,
    CIFAR100DataModule,
    MedMNISTDataModule,
    SVHNDataModule,
    more_images,
)
from lightning_al.datamodules.more_images import LONG_TAIL, MEDMNIST, thinned
from lightning_al.datamodules.readers.image_files import read_npz
from lightning_al.datamodules.readers.more_image_files import (
    changed,
    read_cifar100,
    read_medmnist,
    read_svhn,
)

DRAWN = np.random.default_rng(0)


def images(n, *shape):
    return DRAWN.integers(0, 256, (n, *shape), dtype=np.uint8)


def started(module):
    module.prepare_data()
    module.start(0)
    return module


def labels_of(module):
    index = torch.cat([module.labelled, module.pool]).sort().values
    return module.labels(index)


# --- MedMNIST ------------------------------------------------------------------------------------


def medical(channels, classes, rows=(12, 4, 6)):
    more = () if channels == 1 else (3,)
    arrays = {}
    for part, n in zip(("train", "val", "test"), rows, strict=True):
        arrays[f"{part}_images"] = images(n, 28, 28, *more)
        arrays[f"{part}_labels"] = (np.arange(n) % classes)[:, None].astype(np.uint8)
    return arrays


def packed(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("name", [n for n in MEDMNIST if n != "pneumonia_balanced"])
def test_medical_sets_have_three_parts_and_one_normalisation(tmp_path, name):
    classes, channels, normalise = MEDMNIST[name]
    arrays = medical(channels, classes)
    (tmp_path / "medmnist").mkdir()
    (tmp_path / "medmnist" / f"{name}.npz").write_bytes(packed(arrays))
    module = started(MedMNISTDataModule(name, data_dir=str(tmp_path), initial=4))
    assert len(module.labelled) + len(module.pool) == 12
    assert labels_of(module).tolist() == (np.arange(12) % classes).tolist()
    for loader, part, n in (
        (module.val_dataloader(), "val", 4),
        (module.test_dataloader(), "test", 6),
    ):
        seen = torch.cat([x for x, _ in loader])
        given = torch.from_numpy(arrays[f"{part}_images"])
        given = given[:, None] if channels == 1 else given.permute(0, 3, 1, 2)
        assert seen.shape == (n, channels, 28, 28)
        torch.testing.assert_close(seen, normalise(given))


def test_a_medical_set_is_downloaded_once(served, tmp_path, monkeypatch):
    served.bodies = {"/dermamnist.npz?download=1": packed(medical(3, 7))}
    monkeypatch.setattr(more_images, "_ZENODO", served.base)
    for _ in range(2):
        started(MedMNISTDataModule("dermamnist", data_dir=str(tmp_path), initial=4))
    assert served.asked == 1
    assert (tmp_path / "medmnist" / "dermamnist.npz").is_file()
    with pytest.raises(FileNotFoundError, match=r"organcmnist\.npz is missing"):
        MedMNISTDataModule("organcmnist", data_dir=str(tmp_path)).prepare_data()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"val_labels": np.full((4, 1), 9, np.uint8)}, "val_labels must be 0 to 6, got 9"),
        ({"test_labels": np.zeros((5, 1), np.uint8)}, "test_images must be"),
        ({"train_images": np.zeros((12, 28, 28), np.uint8)}, r"\[N, H, W, 3\]"),
        ({"train_images": None}, "is no MedMNIST set"),
    ],
)
def test_bad_medical_files_are_named(tmp_path, change, says):
    arrays = {n: v for n, v in (medical(3, 7) | change).items() if v is not None}
    (tmp_path / "x.npz").write_bytes(packed(arrays))
    with pytest.raises(ValueError, match=rf"x\.npz.*{says}"):
        read_medmnist(tmp_path / "x.npz", 7, 3)


def test_the_balanced_pneumonia_set():
    root = Path(os.environ.get("LIGHTNING_AL_DATA", "nowhere"))
    if not (root / "pneumoniamnist_balanced").is_dir():
        pytest.skip("no pneumoniamnist_balanced/ below LIGHTNING_AL_DATA")
    module = started(MedMNISTDataModule("pneumonia_balanced", initial=10))
    assert labels_of(module).bincount().tolist() == [1214, 1214]
    assert sum(len(y) for _, y in module.val_dataloader()) == 270
    assert sum(len(y) for _, y in module.test_dataloader()) == 468


# --- CIFAR-100 and SVHN --------------------------------------------------------------------------


def cifar100(rows):
    batches = {}
    for name, n in zip(("train", "test"), rows, strict=True):
        labels = (np.arange(n) * 7 % 100).tolist()
        batches[name] = {"data": images(n, 3072), "fine_labels": labels}
    return batches


@pytest.mark.parametrize("layout", ["archive", "folder"])
def test_cifar100_in_both_layouts(tmp_path, monkeypatch, layout):
    batches = cifar100((20, 6))
    inside = "cifar-100-python"
    if layout == "folder":
        (tmp_path / inside).mkdir()
        for name, batch in batches.items():
            (tmp_path / inside / name).write_bytes(pickle.dumps(batch))
    else:
        (tmp_path / "cifar100").mkdir()
        with tarfile.open(tmp_path / "cifar100" / f"{inside}.tar.gz", "w:gz") as archive:
            for name, batch in batches.items():
                raw, member = pickle.dumps(batch), tarfile.TarInfo(f"{inside}/{name}")
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    small = partial(read_cifar100, rows=(20, 6))
    made = tuple(replace(s, parse=small) for s in CIFAR100DataModule.resource.sources)
    resource = replace(CIFAR100DataModule.resource, sources=made)
    monkeypatch.setattr(CIFAR100DataModule, "resource", resource)
    module = started(CIFAR100DataModule(data_dir=str(tmp_path), augment=False, initial=4))
    assert labels_of(module).tolist() == batches["train"]["fine_labels"]
    assert module.classes == 100
    merged = started(CIFAR100DataModule(merged=9, data_dir=str(tmp_path), initial=4))
    assert labels_of(merged).tolist() == [min(c, 9) for c in batches["train"]["fine_labels"]]
    assert merged.classes == 10
    with pytest.raises(ValueError, match="must hold 21 x 3072"):
        read_cifar100(made[0].path(tmp_path) if layout == "archive" else tmp_path / inside, (21, 6))


def test_svhns_ten_is_a_nought(tmp_path, monkeypatch):
    parts = {}
    for name, n in (("train", 15), ("test", 5)):
        x, y = images(32, 32, 3, n), (np.arange(n) % 10 + 1)[:, None]
        savemat(tmp_path / f"{name}_32x32.mat", {"X": x, "y": y})
        resource = SVHNDataModule.resources[name]
        made = tuple(replace(s, parse=partial(read_svhn, rows=n)) for s in resource.sources)
        parts[name] = replace(resource, sources=made)
    monkeypatch.setattr(SVHNDataModule, "resources", parts)
    module = started(SVHNDataModule(data_dir=str(tmp_path), initial=4))
    assert labels_of(module).tolist() == [(i % 10 + 1) % 10 for i in range(15)]
    seen = torch.cat([x for x, _ in module.test_dataloader()])
    given = torch.from_numpy(x).permute(3, 2, 0, 1)
    torch.testing.assert_close(seen, SVHNDataModule.normalise(given))
    noughts = started(SVHNDataModule(against=0, data_dir=str(tmp_path), initial=4))
    assert labels_of(noughts).tolist() == [int(i % 10 == 9) for i in range(15)]
    with pytest.raises(ValueError, match=r"must hold X uint8 \[32, 32, 3, 7\]"):
        read_svhn(tmp_path / "test_32x32.mat", 7)
    (tmp_path / "broken.mat").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.mat is no MATLAB file"):
        read_svhn(tmp_path / "broken.mat", 7)


# --- variants ------------------------------------------------------------------------------------


def test_a_long_tail_keeps_each_class_by_its_odds_and_always_the_same():
    labels = np.arange(40_000) % 10
    stay = thinned(labels, LONG_TAIL)
    shares = [stay[labels == c].mean() for c in range(10)]
    # of 4,000 items a class the share has a deviation of 0.008 at most
    assert shares == pytest.approx(list(LONG_TAIL), abs=0.04)
    assert shares[9] == 1
    assert (thinned(labels, LONG_TAIL) == stay).all()
    with pytest.raises(ValueError, match="for each class"):
        thinned(labels, [1.0])
    with pytest.raises(ValueError, match="from 0 to 1"):
        thinned(labels, [2.0] * 10)


def test_classes_are_put_together():
    labels = np.array([3, 0, 9, 5], np.uint8)
    assert changed(labels, against=9).tolist() == [0, 0, 1, 0]
    assert changed(labels, merged=4).tolist() == [3, 0, 4, 4]
    assert changed(labels).tolist() == labels.tolist()
    with pytest.raises(ValueError, match=r"against .* or merged"):
        changed(labels, against=1, merged=2)


def test_variants_of_cifar10(tmp_path, monkeypatch):
    root = tmp_path / "cifar10_subset"
    root.mkdir()
    x, y = images(60, 32, 32, 3), np.arange(60) % 10
    np.savez(root / "cifar10_subset.npz", X_train=x, y_train=y, X_test=x[:10], y_test=y[:10])
    part = CIFAR10VariantDataModule.part
    parse = partial(read_npz, rows=(60, 10))
    small = tuple(replace(s, parse=parse, sha256=None) for s in part.sources)
    monkeypatch.setattr(CIFAR10VariantDataModule, "part", replace(part, sources=small))
    tail = started(
        CIFAR10VariantDataModule(keep="long-tail", subset=True, data_dir=str(tmp_path), initial=4)
    )
    assert labels_of(tail).tolist() == y[thinned(y, LONG_TAIL)].tolist()
    one = started(
        CIFAR10VariantDataModule(against=3, subset=True, data_dir=str(tmp_path), initial=4)
    )
    assert labels_of(one).tolist() == (y == 3).astype(int).tolist()
    assert (one.classes, one.class_names) == (2, ("anything else", "cat"))
    for wrong in ({"against": 10}, {"keep": "short-tail"}, {"keep": [0.5]}):
        with pytest.raises(ValueError, match=r"0 to 9|long-tail|each class"):
            CIFAR10VariantDataModule(**wrong)
