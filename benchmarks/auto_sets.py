"""Ten classification sets as frozen vectors, and the benchmarks by which ``auto`` was fixed.

    python benchmarks/auto_sets.py FOLDER
    lightning-al bench --config FOLDER/mnist-small.yaml

Five sets are for fixing its rule (MNIST, digits, DNA, glass, breast cancer), five for judging it
(Fashion-MNIST, a CIFAR-10 subset, chest X-rays, splice sites, wines); each with at most 5,000 items
in the pool and 2,000 for the test, shuffled once. Tables are as they come, columns scaled; images
are frozen features: responses to random 6 x 6 patches, whitened, rectified and pooled in quadrants
(Coates, Lee and Ng 2011, without their dictionary), for Fashion-MNIST the last hidden layer of a
small network trained on 10,000 images of MNIST. A linear layer is fitted to them. Small budgets go
from one label a class by as many to eleven, large ones from 50 by 50 to 500 labels.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

POOL, TEST, FILTERS, PATCH, SEED = 5000, 2000, 128, 6, 0
FIX = ("mnist", "digits", "dna", "glass", "breast-cancer")
JUDGE = ("fashion-mnist", "cifar10", "pneumonia", "splice", "wine")
CLASSES = dict.fromkeys(("mnist", "digits", "fashion-mnist", "cifar10"), 10) | {
    "dna": 3, "glass": 6, "breast-cancer": 2, "pneumonia": 2, "splice": 2, "wine": 3
}  # fmt: skip


EIGHT = ("margin", "entropy", "badge", "typiclust", "k-center", "max-herding", "uherding", "tcm")
RULES: dict[str, Any] = {name: name for name in ("random", *EIGHT)} | {
    f"tcm-{labels}-{then}": {
        "strategy": {"name": "tcm", "per_class": labels, "first": first, "then": then}
    }
    for labels in (2, 5)
    for first, then in (
        ("typiclust", "margin"),
        ("typiclust", "badge"),
        ("max-herding", "uherding"),
    )
}
JUDGED: dict[str, Any] = {name: name for name in ("random", *EIGHT)}


def images(name: str) -> tuple[Tensor, Tensor]:
    """Images [n, c, H, W] in [0, 1] and labels [n], pool first."""
    from lightning_al import datamodules as d

    made: Any = {
        "mnist": lambda: d.MNISTDataModule(),
        "fashion-mnist": lambda: d.FashionMNISTDataModule(),
        "cifar10": lambda: d.CIFAR10DataModule(subset=True, augment=False),
        "pneumonia": lambda: d.MedMNISTDataModule(name="pneumonia_balanced"),
    }[name]()
    made.prepare_data()
    splits = made.load()
    found = []
    for data, most in ((splits.pool or splits.train, POOL), (splits.test, TEST)):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))[:most]
        rows = [data[int(i)] for i in order]
        found.append((torch.stack([x for x, _ in rows]), torch.tensor([int(y) for _, y in rows])))
    (x, y), (tx, ty) = found
    return torch.cat([x, tx]), torch.cat([y, ty])


def table(name: str) -> tuple[Tensor, Tensor]:
    """Rows [n, d] and labels [n], shuffled."""
    from sklearn import datasets

    root = Path(os.environ.get("LIGHTNING_AL_DATA", "data"))
    if name in ("dna", "splice"):
        paths = [root / "dna" / f for f in ("dna.scale", "dna.scale.t")]
        if name == "splice":
            paths = [root / "splice" / f for f in ("splice", "splice.t")]
        parts = [datasets.load_svmlight_file(str(p)) for p in paths]
        width = max(x.shape[1] for x, _ in parts)
        x = np.zeros((sum(p.shape[0] for p, _ in parts), width))
        done = 0
        for p, _ in parts:
            x[done : done + p.shape[0], : p.shape[1]] = p.toarray()
            done += p.shape[0]
        y = np.concatenate([q for _, q in parts])
    elif name == "glass":
        rows = np.loadtxt(root / "glass" / "glass.csv", delimiter=",")
        x, y = rows[:, :-1], rows[:, -1]
    else:
        load = {"digits": "load_digits", "breast-cancer": "load_breast_cancer", "wine": "load_wine"}
        x, y = getattr(datasets, load[name])(return_X_y=True)
    y = np.unique(y, return_inverse=True)[1]
    order = np.random.default_rng(SEED).permutation(len(x))
    return torch.from_numpy(x[order]).float(), torch.from_numpy(y[order]).long()


def patches(x: Tensor) -> Tensor:
    """Responses [n, 4 * FILTERS] to random patches of the pool's images, pooled in quadrants."""
    drawn = torch.Generator().manual_seed(SEED)
    cut = F.unfold(x[:1000], PATCH).transpose(1, 2).flatten(0, 1)
    cut = cut[torch.randperm(len(cut), generator=drawn)[:50000]].double()
    cut = (cut - cut.mean(1, keepdim=True)) / (cut.var(1, keepdim=True) + 0.01).sqrt()
    mean = cut.mean(0)
    values, vectors = torch.linalg.eigh((cut - mean).T.cov())
    white = vectors @ (values.clamp_min(0) + 0.1).rsqrt().diag() @ vectors.T
    bank = F.normalize((cut[:FILTERS] - mean) @ white, dim=1)
    side = x.shape[-1] - PATCH + 1
    found = []
    for part in x.split(200):
        block = F.unfold(part, PATCH).transpose(1, 2).double()
        block = (block - block.mean(2, keepdim=True)) / (block.var(2, keepdim=True) + 0.01).sqrt()
        heard = ((block - mean) @ white @ bank.T - 0.5).relu().transpose(1, 2)
        maps = heard.reshape(len(part), FILTERS, side, side)
        found.append(F.adaptive_avg_pool2d(maps, 2).flatten(1).float())
    return torch.cat(found)


def taught(x: Tensor) -> Tensor:
    """The last hidden layer [n, 64] of a small network trained on MNIST."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        body = nn.Sequential(
            nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
        )  # fmt: skip
        head = nn.Linear(64, 10)
        teach, labels = images("mnist")
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=1e-3)
        for _ in range(4):
            for rows in torch.randperm(len(teach)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(head(body(teach[rows])), labels[rows]).backward()
                optimizer.step()
    with torch.no_grad():
        return body(x)


def grid(folder: Path, name: str, large: bool, strategies: dict[str, Any]) -> dict[str, Any]:
    """A benchmark, as in a YAML file."""
    probe = {"in_features": None, "classes": None, "lr": 0.01}
    step = 50 if large else CLASSES[name]
    data = {
        "path": f"{folder}/{name}.npy",
        "labels": f"{folder}/{name}-labels.npy",
        "test": f"{folder}/{name}-test.npy",
        "test_labels": f"{folder}/{name}-test-labels.npy",
        "scale": "standard",
        "initial": step,
    }
    return {
        "metric": "test/accuracy",
        "seeds": 10,
        "reference": "random",
        "common": {
            "query_size": step,
            "budget": step * (9 if large else 10),
            "fits": "stacked",
            "trainer": {"max_epochs": 50, "accelerator": "cpu", "devices": 1},
        },
        "models": {"probe": {"class_path": "lightning_al.tasks.LinearProbe", "init_args": probe}},
        "data": {
            name: {
                "class_path": "lightning_al.datamodules.EmbeddingsDataModule",
                "init_args": data,
            }
        },
        "strategies": strategies,
    }


def main() -> None:
    """Write the vectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIX + JUDGE:
        if name in ("mnist", "fashion-mnist", "cifar10", "pneumonia"):
            x, y = images(name)
            x = taught(x) if name == "fashion-mnist" else patches(x)
            test = min(TEST, len(x) - POOL) if len(x) > POOL + TEST // 2 else len(x) // 5
        else:
            x, y = table(name)
            test = min(TEST, len(x) // 3)
        for part, rows in (("", slice(None, len(x) - test)), ("-test", slice(-test, None))):
            np.save(folder / f"{name}{part}.npy", x[rows].numpy())
            np.save(folder / f"{name}{part}-labels.npy", y[rows].numpy())
        for large in (False, True):
            if large and len(x) - test < 1000:
                continue  # half of it would be labelled
            told = grid(folder, name, large, RULES if name in FIX else JUDGED)
            part = f"{name}-{'large' if large else 'small'}.yaml"
            (folder / part).write_text(yaml.safe_dump(told, sort_keys=False))
        print(f"{name}: {len(x) - test} items of {x.shape[1]} numbers, {test} for the test")


if __name__ == "__main__":
    main()
