"""The items of any data module as vectors that a frozen extractor gives, extracted once for all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor, nn
from tqdm.auto import tqdm

from lightning_al.files import replacing
from lightning_al.identity import Portrayal, digest, module_portrait
from lightning_al.scoring.extractor_names import FEATURES
from lightning_al.spec import read
from lightning_al.values import whole

from .pool_data import PoolDataModule, Splits
from .portraits import dataset_digest
from .sources import cache_root
from .splits import is_dataset
from .vectors import Scale, VectorItems, scaled
from .views import Bare, Batches, batches

__all__ = ["EmbeddedDataModule"]

log = logging.getLogger(__name__)
SAVED = 16  # batches after which it is written down how far an extraction is


class EmbeddedDataModule(PoolDataModule):
    """The items of another data module, each a vector [E] of a frozen extractor.

    The vectors lie in a cache on the disk under a name made of the extractor's weights and
    settings, and of the items and their transform. So all seeds and strategies of a benchmark, and
    every later run, share one extraction; another network, transform or data set makes another. An
    extraction that was cut off goes on where it was. Positions are those of the source.

    Args:
        source: gives items and labels; what it says of initial items, batches and seeds is not
            used.
        extractor: inputs [n, ...] -> [n, E]: a module, or the name of one of
            :mod:`lightning_al.features` with arguments, such as ``{name: Sentences, model: …}``.
        scale: as in :class:`EmbeddingsDataModule`; held-out rows are those the source fixes, not
            shares that each seed draws anew.
        cache_dir: where the vectors lie; ``embeddings`` in the cache folder of the data by default.
        extract_batch_size: items that the extractor is given at once.
        device: where it runs, "auto" for an accelerator where there is one.
        initial: as in :class:`PoolDataModule`; None for what the source has.
        kwargs: see :class:`PoolDataModule`.
    """

    def __init__(
        self,
        source: PoolDataModule,
        extractor: str | Mapping[str, Any] | Callable[[Any], Tensor],
        *,
        scale: Scale = "none",
        cache_dir: str | None = None,
        extract_batch_size: int = 64,
        device: str = "auto",
        initial: int | float | str | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            collate=None, initial=source.initial if initial is None else initial, **kwargs
        )
        if scale not in ("none", "unit", "standard"):
            raise ValueError(f"scale must be one of none, unit, standard, got {scale!r}")
        self.source, self.extractor, self.scale = source, read(extractor, FEATURES), scale
        self.cache_dir = cache_root() / "embeddings" if cache_dir is None else Path(cache_dir)
        self.extract_batch_size = whole(1)("extract_batch_size", extract_batch_size)
        self.device = device
        self._default_initial = initial is None

    def prepare_data(self) -> None:
        """Download what the source needs."""
        self.source.prepare_data()

    def load(self) -> Splits:
        """Read the source, and extract what no cache holds."""
        source = self.source
        source.setup()
        splits = source.splits
        if self._default_initial:
            self.initial = source.initial
        self.classes, self.class_names = source.classes, source.class_names
        self.outputs, self.given = source.outputs, source.given
        if (written := getattr(source, "written", None)) is not None:
            self.written = written  # a question shows what the source's file says
        who = self._extractor_name()
        train = splits.train if splits.pool is None else splits.pool
        vectors, name = self._vectors(source.pool_items, train, who)
        held = {n: getattr(splits, n) for n in ("test", "val")}
        rows = [torch.as_tensor(p) for p in held.values() if isinstance(p, (Tensor, list, tuple))]
        transform = scaled(vectors, self.scale, *rows)
        labels = self._labels(source.items, source.given)
        found: dict[str, Any] = {
            "train": VectorItems(vectors, labels, transform, name, finite=True)
        }
        for each, part in held.items():
            if is_dataset(part):
                items = source.items.like(part)
                more, its_name = self._vectors(items, part, who)
                targets = self._labels(items, None)
                found[each] = VectorItems(more, targets, transform, its_name, finite=True)
            else:
                found[each] = part
        self.in_features = vectors.shape[1]
        return Splits(**found, groups=splits.groups)

    def item_path(self, index: int) -> str | None:
        """The file of an item, where the source has one."""
        return self.source.item_path(index)

    def thumbnail(self, index: int) -> Any:
        """The picture of an item, where the source has one."""
        return self.source.thumbnail(index)

    # --- labels ------------------------------------------------------------------------------

    @staticmethod
    def _labels(items: Any, given: Tensor | None) -> Tensor | None:
        """Labels [N]; of items that have none -1, or NaN beside numbers. None where none has."""
        if not items.labelled:
            return None
        if given is None:
            whole_set: Tensor = items.labels(torch.arange(len(items)))
            return whole_set
        own = items.labels(given)
        nothing = float("nan") if own.is_floating_point() else -1
        labels = torch.full((len(items), *own.shape[1:]), nothing, dtype=own.dtype)
        labels[given] = own
        return labels

    # --- the cache ---------------------------------------------------------------------------

    def _extractor_name(self) -> Any:
        """What the extractor is, its weights with it.

        Raises:
            ValueError: nothing tells it from another one.
        """
        if isinstance(self.extractor, nn.Module):
            return module_portrait(self.extractor.eval())
        shown = Portrayal()
        name = shown.of(self.extractor)
        if shown.unknown:
            raise ValueError(
                f"the cache cannot tell {self.extractor!r} from another extractor: no values of "
                f"{', '.join(shown.unknown)} can be seen; give a module, a named function, or an "
                "object with a method portrait()"
            )
        return name

    def _vectors(self, items: Any, dataset: Any, who: Any) -> tuple[Tensor, str]:
        """Vectors [N, E] of a data set, from the cache or extracted now, and their name."""
        transform = getattr(dataset, "transform", None)
        what = {"items": dataset_digest(dataset), "transform": Portrayal().of(transform)}
        name = digest({"extractor": who, "n": len(items), **what}, 20)
        path = self.cache_dir / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                self._extract(items, path)
        found = np.load(path, mmap_mode="c", allow_pickle=False)
        if found.ndim != 2 or len(found) != len(items):
            raise ValueError(f"{path} is damaged; delete it, and it is made again")
        return torch.from_numpy(found), name

    def _extract(self, items: Any, path: Path) -> None:
        """Write the vectors of all items; goes on with what an earlier process has left."""
        n, part, so_far = len(items), path.with_suffix(".part"), path.with_suffix(".json")
        done = _done(part, so_far)
        view = Bare(items, torch.arange(done, n))
        loader = batches(view, Batches(n - done, self.extract_batch_size), self.source.num_workers)
        device = torch.device(_best() if self.device == "auto" else self.device)
        mapped = np.load(part, mmap_mode="r+") if done else None
        with tqdm(total=n, initial=done, unit="item", desc=f"embedding {path.stem}") as bar:
            for count, (rows, found) in enumerate(self._batches(loader, device), start=1):
                if mapped is None:
                    shape = (n, found.shape[1])
                    mapped = np.lib.format.open_memmap(part, "w+", np.dtype("<f4"), shape)
                if found.shape[1] != mapped.shape[1]:
                    raise ValueError(
                        f"the extractor gives vectors of length {mapped.shape[1]} and of "
                        f"{found.shape[1]}; pool over places, or bring items to one shape"
                    )
                mapped[int(rows[0]) : int(rows[-1]) + 1] = found.numpy()
                bar.update(len(rows))
                if count % SAVED == 0:
                    mapped.flush()
                    with replacing(so_far, sync=False) as file_:
                        file_.write_text(json.dumps({"done": int(rows[-1]) + 1}))
        if mapped is None:
            raise ValueError("there are no items to extract vectors from")
        mapped.flush()
        del mapped
        part.replace(path)
        so_far.unlink(missing_ok=True)
        log.info("embeddings of %s items: %s", f"{n:,}", path)

    def _batches(self, loader: Iterable[Any], device: torch.device) -> Iterable[Any]:
        """(positions [n], vectors [n, E] float32) of each batch, checked."""
        extractor = self.extractor
        if isinstance(extractor, nn.Module):
            extractor.eval().to(device)
        with torch.no_grad():
            for rows, inputs in loader:
                found = extractor(move_data_to_device(inputs, device))
                if not isinstance(found, Tensor) or found.ndim < 1 or len(found) != len(rows):
                    got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                    raise ValueError(
                        f"the extractor gives {got} for {len(rows)} items; wanted [n, E]"
                    )
                flat = found.reshape(len(rows), -1).float().cpu()
                if bool((bad := ~flat.isfinite().all(1)).any()):
                    raise ValueError(
                        f"the extractor gives NaN or infinities for {int(bad.sum())} of "
                        f"{len(rows)} items, first: item(s) {rows[bad][:5].tolist()}; mend "
                        "or leave out these items"
                    )
                yield rows, flat


def _best() -> str:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else str(found)


def _done(part: Path, so_far: Path) -> int:
    """How many vectors of an extraction that was cut off stand in its file."""
    try:
        done = json.loads(so_far.read_text())["done"] if part.is_file() else 0
        return int(done)
    except (OSError, ValueError, KeyError, TypeError):
        return 0
