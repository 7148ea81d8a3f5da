"""What was slow for no reason: each step as it is, beside the same one item or file at a time.

    python benchmarks/python_costs.py [NAME ...] [--repeat 5]

CPU seconds on one thread, contenders in turn, the median of 5. "one by one" is what the step did
before; both must give the same. Asked: at most 0.8 of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import interleaved, medians, one_thread, seconds, show
from torch.utils.data import Dataset, TensorDataset

from lightning_al import suggest
from lightning_al.datamodules import ActiveDataModule, TensorItems
from lightning_al.datamodules.items import Items
from lightning_al.datamodules.portraits import dataset_digest, feed
from lightning_al.datamodules.readers.image_items import (
    SUFFIXES,
    ImageItems,
    ImageView,
    find_images,
    read_image,
)
from lightning_al.history.records import Purchase, Round
from lightning_al.history.round_log import RoundLog
from lightning_al.history.round_tables import acquired_items, write_acquired_csv
from lightning_al.journal.journal import _encode, _to_json
from lightning_al.networks import MLP
from lightning_al.tasks import Classification

ASK = 0.8
N = 200_000
Contenders = dict[str, Callable[[], Any]]


class Pairs(Dataset):
    """Items that are read one by one."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[int, int]:
        return index, index % 10


def table(n: int, width: int) -> ActiveDataModule:
    """A data module over a table in memory, set up."""
    inputs = torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    data = ActiveDataModule(TensorItems(inputs, torch.arange(n) % 10), test=1000, initial=1000)
    data.classes, data.class_names = 10, tuple("abcdefghij")
    data.setup()
    return data


def same(a: Any, b: Any) -> None:
    """Stop where two ways disagree."""
    if a != b:
        raise SystemExit("the two ways do not give the same")


@contextmanager
def labels() -> Iterator[Contenders]:
    """Labels of 200,000 items that were read before."""
    items, index = Items(Pairs()), torch.arange(N)
    found = items.labels(index)
    kept = dict(enumerate(found))
    one = lambda: torch.stack([kept[i] for i in index.tolist()])  # noqa: E731
    same(one().tolist(), found.tolist())
    yield {"one by one": one, "at once": lambda: items.labels(index)}


@contextmanager
def answers() -> Iterator[Contenders]:
    """Answers of 20,000 items as a table shows them."""
    data = table(N, 16)
    index = data.pool[:20_000]
    names = data.class_names

    def one() -> list[str]:
        return [str(names[int(data.labels(torch.tensor([i]))[0])]) for i in index.tolist()]

    same(one(), data.answers_to(index))
    yield {"one by one": one, "at once": lambda: data.answers_to(index)}


@contextmanager
def contents() -> Iterator[Contenders]:
    """Hashes of 20,000 items that are asked for."""
    data = table(N, 16)
    index = data.pool[:20_000]

    def one() -> list[str]:
        found = []
        for i in index.tolist():
            digest = hashlib.sha256()
            feed(digest, data.pool_items.inputs(torch.tensor([i])))
            found.append(digest.hexdigest()[:12])
        return found

    same(one(), data.contents(index))
    yield {"one by one": one, "at once": lambda: data.contents(index)}


@contextmanager
def tables() -> Iterator[Contenders]:
    """``acquired.csv`` over 10 rounds of 10,000 items each."""
    data, rounds = table(N, 4), []
    for r in range(10):
        index = data.pool[r * 10_000 : (r + 1) * 10_000].tolist()
        bought = [Purchase(i, r, "bald", 0.5, 1.0, r, time="2026-11-30") for i in index]
        rounds.append(Round(r, 10, 10, {}, 1, None, acquired=index, ledger=bought))
    with tempfile.TemporaryDirectory() as folder:

        def whole() -> None:
            items = []
            for r in rounds:
                items += acquired_items(r, data)
                write_acquired_csv(folder, items)

        def grown() -> None:
            log = RoundLog()
            log.run_started({"run_dir": folder}, [])
            for r in rounds:
                log.round_ended(r, data)

        files = [(call(), Path(folder, "acquired.csv").read_bytes())[1] for call in (whole, grown)]
        same(*files)
        yield {"whole each round": whole, "grown": grown}


@contextmanager
def journal() -> Iterator[Contenders]:
    """A journal line of 100,000 positions and scores."""
    record = {
        "event": "chosen",
        "index": list(range(100_000)),
        "scores": torch.rand(100_000).tolist(),
    }
    one = lambda: json.dumps(_to_json(record), separators=(",", ":"), allow_nan=False)  # noqa: E731
    same(one()[:-1], _encode(record).decode().rpartition(',"crc"')[0])
    yield {"each number looked at": one, "at once": lambda: _encode(record)}


@contextmanager
def pool() -> Iterator[Contenders]:
    """``suggest`` over 1,000,000 rows in memory, by batches of 512 and as it is."""
    inputs = torch.randn(1_000_000, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(len(inputs)) % 10
    model = Classification(MLP(16, outputs=10), classes=10).eval()
    modules = []
    for size in (512, None):
        data = ActiveDataModule(
            TensorDataset(inputs, targets), test=1000, initial=1000, eval_batch_size=size
        )
        data.classes = 10
        data.setup()
        modules.append(data)

    def loop(size: int) -> None:
        margins = []
        with torch.no_grad():
            for start in range(0, len(inputs), size):
                two = model(inputs[start : start + size]).softmax(1).topk(2, 1).values
                margins.append(two[:, 0] - two[:, 1])
        torch.cat(margins).topk(20, largest=False)

    chosen = [suggest(model, data, "margin", 20).index.tolist() for data in modules]
    same(*chosen)
    yield {
        "batches of 512": lambda: suggest(model, modules[0], "margin", 20),
        "as it is": lambda: suggest(model, modules[1], "margin", 20),
        "a plain loop of 512": lambda: loop(512),
        "a plain loop of 8192": lambda: loop(8192),
    }


@contextmanager
def photos() -> Iterator[Contenders]:
    """A photo of 12 megapixels as [3, 224, 224]."""
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
        path = Path(folder, "x.jpg")
        Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=90)
        views = [ImageView(224, (0.5,) * 3, (0.25,) * 3, draft=draft) for draft in (False, True)]
        one, part = (partial(lambda v: v(read_image(path, v.least)), view) for view in views)
        yield {"in full": one, "draft=True": part}


@contextmanager
def folders() -> Iterator[Contenders]:
    """The images below a folder of 20,000 files."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for i in range(20_000):
            place = root / f"class-{i % 20}"
            place.mkdir(exist_ok=True)
            (place / f"{i}.jpg").touch()

        def globbed() -> list[str]:
            return sorted(
                relative.as_posix()
                for path in root.rglob("*")
                if path.suffix.lower() in SUFFIXES and path.is_file()
                for relative in [path.relative_to(root)]
                if not any(part.startswith(".") for part in relative.parts)
            )

        same(globbed(), find_images(root))
        yield {"by globbing": globbed, "as it is": lambda: find_images(root)}


STEPS = {f.__name__: f for f in (labels, answers, contents, tables, journal, pool, photos, folders)}
FREE = ("a plain loop of 512", "a plain loop of 8192")  # beside it, not asked for


def identities(repeat: int) -> None:
    """CPU and wall seconds to name a million rows, or a million files."""
    rows = {w: TensorDataset(torch.randn(1_000_000, w), torch.zeros(1_000_000)) for w in (16, 64)}
    view = ImageView(64, (0.0,) * 3, (1.0,) * 3)
    paths = [f"/data/photos/class-{i % 100}/{i:07}.jpg" for i in range(1_000_000)]
    many = ImageItems(paths, torch.zeros(1_000_000, dtype=torch.int64), view)
    for name, data in {"16 columns": rows[16], "64 columns": rows[64], "files": many}.items():
        start = time.perf_counter(), time.process_time()
        for _ in range(repeat):
            dataset_digest(data)
        wall, spent = ((now() - then) / repeat for now, then in zip(CLOCKS, start, strict=True))
        print(f"identity of a million, {name}: {spent:.3f} CPU s, {wall:.3f} s")


CLOCKS = (time.perf_counter, time.process_time)


def main() -> None:
    """Measure and print the tables; status 1 where a step takes more than asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(STEPS)}; all by default")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    one_thread()
    missed = []
    for name in args.names or STEPS:
        with STEPS[name]() as contenders:
            calls = {said: partial(seconds, call) for said, call in contenders.items()}
            figures = interleaved(calls, args.repeat)
        print(f"\n{STEPS[name].__doc__}")
        show(figures, "CPU ms", scale=1000)
        before, now = (v for n, v in medians(figures).items() if n not in FREE)
        print(f"{before / now:.1f} x")
        missed += [name] if now > ASK * before else []
    if not args.names:
        print()
        identities(args.repeat)
    sys.exit(bool(missed))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
