"""Tiny stand-ins for the shipped data sets, written as the real ones are found on disk."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from PIL import Image

from lightning_al.datamodules.images import (
    CIFAR10DataModule,
    FashionMNISTDataModule,
    MNISTDataModule,
    idx_resources,
)
from lightning_al.datamodules.readers.image_files import read_npz
from lightning_al.datamodules.sources import Resource

ROWS = (40, 10)


def write_idx(root, folder, seed=0):
    """The four files of a set in MNIST's form, 40 + 10 images, each class there."""
    place = root / folder
    place.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for stem, n in zip(("train", "t10k"), ROWS, strict=True):
        images = rng.integers(256, size=(n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (place / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())


def write_cifar(root, seed=0):
    """The CIFAR-10 subset's file, 40 + 10 images."""
    (root / "cifar10_subset").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, n in zip(("train", "test"), ROWS, strict=True):
        arrays[f"X_{part}"] = rng.integers(256, size=(n, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = (np.arange(n) % 10).astype(np.uint8)
    np.savez(root / "cifar10_subset" / "cifar10_subset.npz", **arrays)


def write_table(path, n=60, seed=0):
    """A CSV with features a and b, a class ``kind`` of two and a number ``size``."""
    x = np.random.default_rng(seed).normal(size=(n, 2))
    rows = [f"{a:.4f},{b:.4f},{'yes' if a > 0 else 'no'},{a + b:.4f}" for a, b in x]
    path.write_text("\n".join(["a,b,kind,size", *rows]) + "\n")
    return path


def write_vectors(folder, n=60, seed=0):
    """Vectors [n, 5] and a class each, as two files."""
    x = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    np.save(folder / "vectors.npy", x)
    np.save(folder / "classes.npy", (x[:, 0] > 0).astype(int))
    return folder / "vectors.npy", folder / "classes.npy"


def write_texts(path, n=60):
    """A CSV of texts of two classes."""
    rows = [f"{'good ' * (i % 5 + 1)}day,yes" if i % 2 else f"bad {i},no" for i in range(n)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


class Lengths:
    """A feature extractor of texts: how long they are, and how many letters o they have."""

    def __call__(self, texts):
        return torch.tensor([[float(len(t)), float(t.count("o"))] for t in texts])


def write_images(root, each=8, size=12, seed=0):
    """Two sub-folders of PNG files."""
    rng = np.random.default_rng(seed)
    for name, bright in (("dark", 60), ("light", 200)):
        (root / name).mkdir(parents=True)
        for i in range(each):
            pixels = (bright + rng.integers(40, size=(size, size, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def shrink(monkeypatch, root):
    """The image modules ask for the tiny files; they and nothing else lie below ``root``."""
    for module, folder in ((MNISTDataModule, "mnist"), (FashionMNISTDataModule, "fashion_mnist")):
        made = idx_resources("tiny", folder, f"{folder}/raw", ["http://127.0.0.1:9/"], rows=ROWS)
        monkeypatch.setattr(module, "resources", made)
    (npz,) = CIFAR10DataModule.part.sources
    npz = replace(npz, parse=partial(read_npz, rows=ROWS), sha256=None)
    monkeypatch.setattr(CIFAR10DataModule, "part", Resource("the subset", (npz,)))
    monkeypatch.setenv("LIGHTNING_AL_DATA", str(root))
