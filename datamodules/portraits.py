"""What data are, as plain values: a run folder answers only for the data it was made with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.identity import portray
from lightning_al.randomness import seeded

from .splits import base_positions, is_dataset
from .tensors import as_tensor_items

__all__ = ["SAMPLED", "content_digests", "dataset_digest", "feed", "portrait_of"]

AT_ONCE = 2**22  # bytes that are read, or hashed, as one block
THREADS = 4
SAMPLED = 32  # items of a data set that can only be read one by one
WEIGHED = 20_000  # files whose sizes are looked up; of more these many, evenly


def portrait_of(data: Any) -> dict[str, Any]:
    """Settings of a data module that decide what a run does, and hashes of its data.

    Tables and tensors are hashed whole; of files the names and sizes, where the data set has a
    ``files()``, as image folders have; of any other data set a sample of its items, read under the
    test transform. A transform that a data set names is described besides.
    """
    splits, begun = data.splits, data.begun
    parts = {"train": splits.train, "pool": splits.pool, "test": splits.test, "val": splits.val}
    shown: dict[str, Any] = {}
    for name, part in parts.items():
        plain = isinstance(part, (list, tuple, range, Tensor, np.ndarray))
        if plain and name in ("test", "val"):  # positions
            shown[name] = torch.as_tensor(list(part))
        elif not plain and not is_dataset(part):
            shown[name] = part
        elif name == "train" and splits.pool is not None:
            shown[name] = {"class": type(part).__qualname__, "items": begun or len(part)}
        else:
            shown[name] = dataset_digest(part, begun if name in ("train", "pool") else None)
    return {
        "class": type(data).__qualname__,
        "items": len(data.items) if begun is None else begun,
        "batch_size": data.batch_size,
        "label": data.label,
        "collate": data.collate,
        "state": data.fingerprint(),
        **{k: v for k, v in shown.items() if v is not None},
        **({"transforms": used} if (used := _transforms(parts)) else {}),
    }


def _transforms(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What the data sets say that they do to their items."""
    found = {}
    for name, part in parts.items():
        if is_dataset(part):
            base, _ = base_positions(part)
            said = {n: getattr(base, n, None) for n in ("transform", "target_transform")}
            if given := {n: value for n, value in said.items() if value is not None}:
                found[name] = given
    return found


def dataset_digest(dataset: Any, count: int | None = None) -> str:
    """Twelve letters that name what a map-style data set holds.

    Args:
        dataset: any.
        count: how many of its items, the first ones; all by default.
    """
    count = len(dataset) if count is None else count
    digest = hashlib.sha256(f"{count}".encode())
    tensors = as_tensor_items(dataset)
    files, said = getattr(dataset, "files", None), getattr(dataset, "portrait", None)
    if callable(said):
        digest.update(str(portray(said())).encode())
    elif tensors is not None:
        for part in (*tensors.inputs, tensors.targets):
            if part is not None:
                feed(digest, part[:count])
    elif callable(files):
        _feed_files(digest, [os.fspath(path) for path in files()[:count]])
        _feed_labels(digest, dataset, count)
    else:
        _feed_labels(digest, dataset, count)
        rows = torch.linspace(0, count - 1, min(count, SAMPLED)).long().unique()
        with seeded(0, 0, "portrait"):
            for row in rows.tolist():
                feed(digest, dataset[row])
    return digest.hexdigest()[:12]


def _feed_files(digest: hashlib._Hash, paths: Sequence[str]) -> None:
    """Files by their paths below the folder that all of them lie in, and by their sizes."""
    if not paths:
        return
    root = os.path.commonpath([os.path.dirname(p) for p in (min(paths), max(paths))])
    below = "\n".join(["", *paths]).replace(f"\n{root}", "\n")  # all of them begin with it
    digest.update(below[1:].encode())
    step = max(1, len(paths) // WEIGHED)
    digest.update(str([_size(path) for path in paths[::step]]).encode())


def _feed_labels(digest: hashlib._Hash, dataset: Any, count: int) -> None:
    """The labels of a data set that has them all beside its items, the first ones."""
    labels = getattr(dataset, "targets", None)
    if isinstance(labels, Tensor):
        feed(digest, labels[:count])
        return
    if not isinstance(labels, (list, tuple, np.ndarray)) or not len(labels):
        return
    if isinstance(labels[0], (bool, int, float, str, np.generic)):
        feed(digest, np.asarray(labels[:count]))


def content_digests(data: Any, index: Tensor) -> list[str]:
    """Twelve letters of what each of some items [K] is: its file, or its inputs.

    Args:
        data: a data module.
        index: positions.
    """
    tensors = data.pool_items.tensors
    paths = [data.item_path(item) for item in index.tolist()]
    if tensors is not None and tensors.transform is None and all(p is None for p in paths):
        return _row_digests(tensors.inputs, index)
    found = []
    for item, path in zip(index.tolist(), paths, strict=True):
        digest = hashlib.sha256()
        if path is not None:
            digest.update(_name(path).encode())
        else:
            feed(digest, data.pool_items.inputs(torch.tensor([item])))
        found.append(digest.hexdigest()[:12])
    return found


def _row_digests(inputs: Sequence[Tensor], index: Tensor) -> list[str]:
    """What :func:`feed` makes of single rows [K] of tensors in memory, many rows at a time."""
    size = max(sum(part[:1].nbytes for part in inputs), 1)
    found: list[str] = []
    for some in index.split(max(1, AT_ONCE // size)):
        columns = []
        for part in inputs:
            rows = part[some].detach().cpu().contiguous()
            head = f"{rows.dtype}{[1, *rows.shape[1:]]}".encode()
            data = rows.reshape(-1).view(torch.uint8).numpy().tobytes()
            width = len(data) // max(len(rows), 1)
            columns.append([head + data[i * width : (i + 1) * width] for i in range(len(rows))])
        found += [hashlib.sha256(b"".join(c)).hexdigest()[:12] for c in zip(*columns, strict=True)]
    return found


def _name(path: str | os.PathLike[str]) -> str:
    """A file by its name and size; -1 where it is gone."""
    return f"{os.path.basename(path)} {_size(path)}"


def _size(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _feed_bytes(digest: hashlib._Hash, data: memoryview) -> None:
    """Put bytes into a hash; many of them as the hashes of their blocks, side by side."""
    if len(data) <= AT_ONCE:
        digest.update(data)
        return
    blocks = [data[start : start + AT_ONCE] for start in range(0, len(data), AT_ONCE)]
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:  # hashing leaves the GIL
        for part in pool.map(lambda block: hashlib.sha256(block).digest(), blocks):
            digest.update(part)


def feed(digest: hashlib._Hash, value: Any) -> None:
    """Put a value of an item into a hash; what has no bytes of its own goes by its text."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        digest.update(f"{value.dtype}{list(value.shape)}".encode())
        _feed_bytes(digest, value.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(
            f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
        )
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            feed(digest, value[key])
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for part in value:
            feed(digest, part)
    elif hasattr(value, "tobytes"):  # a picture
        digest.update(f"{getattr(value, 'size', '')}".encode() + value.tobytes())
    else:
        digest.update(str(portray(value)).encode())
