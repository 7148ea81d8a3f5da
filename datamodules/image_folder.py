"""A user's own folder of images, labelled by sub-folder or by a CSV that may be incomplete."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_al.records import Inventory

from .partition import held_out
from .pool_data import PoolDataModule, Splits
from .readers.encoding import check_columns, read_text
from .readers.image_items import ImageItems, ImageView, check_images, find_images, read_image
from .readers.table_checks import marks_of, warn_of_marks

__all__ = ["ImageFolderDataModule", "labels_from_csv", "labels_from_folders"]


def labels_from_folders(files: Sequence[str]) -> dict[str, str]:
    """Label of each file: the sub-folder it lies in; files directly in the root have none."""
    return {file: file.split("/", 1)[0] for file in files if "/" in file}


def labels_from_csv(table: Path, root: Path, files: Sequence[str]) -> dict[str, str]:
    """Labels from a CSV with the columns ``file`` and ``label``.

    Args:
        table: the CSV; ``file`` is a path relative to ``root`` or an absolute one. Files with an
            empty label, and files that are not named, have none.
        root: the image folder.
        files: all images, relative to ``root``.

    Raises:
        FileNotFoundError: no such CSV.
        ValueError: a column is missing, a file is not there or named twice.
    """
    frame = read_text(table)
    check_columns(frame, ["file", "label"], "required", table)
    written = frame["file"].str.strip()
    names = [Path(os.path.relpath(root / name, root)).as_posix() for name in written]
    known = set(files)
    if unknown := [w for w, n in zip(written, names, strict=True) if n not in known]:
        raise ValueError(
            f"{table} names {len(unknown)} file(s) that are no images below {root}: {_few(unknown)}"
        )
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise ValueError(f"{table} names {len(repeated)} file(s) twice: {_few(repeated)}")
    labels = frame["label"].str.strip()
    return {name: label for name, label in zip(names, labels, strict=True) if label}


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:10])) + (", …" if len(names) > 10 else "")


class ImageFolderDataModule(PoolDataModule):
    """Images in a folder; those without a label are pool items that only an oracle can answer.

    Items are RGB float32 [3, image_size, image_size], read from disk when they are needed, in the
    order of their sorted paths. Labels are the sub-folders' names (images directly in ``root`` have
    none), or come from a CSV. Class names are sorted.

    Args:
        root: the folder.
        labels: a CSV with the columns ``file`` (relative to ``root``) and ``label``.
        image_size: pixels a side; images are resized, whatever their proportions.
        missing_label: labels, or names of sub-folders, that mean that there is no label, such as
            "unlabeled"; [] for none, without a warning.
        class_names: all classes, where some may have no labelled image yet.
        test: share or number of labelled images held out for the test, class by class.
        test_root: a folder of test images instead, each with a label.
        test_labels: their CSV; None takes the sub-folders.
        val: share or number of labelled images for validation; None for none.
        augment: train on random parts, mirrored half the time; the pool is scored without.
        mean: of the RGB channels of pixels in [0, 1]; ImageNet's, as pretrained networks want.
        std: of the same.
        draft: decode JPEG files at 1/2, 1/4 or 1/8 of their size where that leaves twice the pixels
            that are wanted: several times faster for photos, colours differ by a little.
        verify: read every file's header at setup and name all that are no images.
        split_seed: of the test and validation draws; they do not change with the seed of a run.
        initial: as in :class:`PoolDataModule`; None for all labelled images where some have no
            label, else 10.
        kwargs: see :class:`PoolDataModule`.
    """

    grows = True

    def __init__(
        self,
        root: str,
        labels: str | None = None,
        *,
        image_size: int = 64,
        missing_label: str | int | list[str | int] | None = None,
        class_names: list[str] | None = None,
        test: int | float = 0.2,
        test_root: str | None = None,
        test_labels: str | None = None,
        val: int | float | None = None,
        augment: bool = False,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        draft: bool = False,
        verify: bool = False,
        split_seed: int = 0,
        initial: int | float | str | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            collate=None,
            initial=10 if initial is None else initial,
            **kwargs,
        )
        if test_labels is not None and test_root is None:
            raise ValueError("test_labels needs test_root, the folder that its files lie in")
        self.root = Path(root).expanduser()
        self.label_table = None if labels is None else Path(labels).expanduser()
        self.test_root = None if test_root is None else Path(test_root).expanduser()
        self.test_table = None if test_labels is None else Path(test_labels).expanduser()
        self.test_size, self.val_size, self.split_seed = test, val, split_seed
        self.augment, self.verify = augment, verify
        self.missing_label = missing_label
        self.image_size, self.in_channels = image_size, 3
        self.class_names = class_names
        self._view = ImageView(image_size, mean, std, draft=draft)
        self._default_initial = initial is None
        self._paths: list[str] = []

    def load(self) -> Splits:
        """List the files, read the labels, draw the fixed parts.

        Raises:
            FileNotFoundError: no such folder, no image in it, or no such CSV.
            ValueError: a fault of the CSV, fewer than two classes, an unlabelled test image, or
                (``verify=True``) files that are no images.
        """
        self._paths, labels = self._read_labels(self.root, self.label_table)
        names = self._name_classes(labels[: self.begun])
        self._check_later(labels[self.begun :] if self.begun is not None else [], names)
        number = {name: i for i, name in enumerate(names)}
        targets = torch.tensor([-1 if name is None else number[name] for name in labels])
        known = targets >= 0
        labelled = known[: self.begun].nonzero().flatten()  # what the run began with
        if not len(labelled):
            raise ValueError(f"no image below {self.root} has a label; label some first")
        test: Any
        test, val = held_out(
            labelled,
            test=self.test_size if self.test_root is None else None,
            val=self.val_size,
            seed=self.split_seed,
            classes=targets[labelled],
        )
        if self.test_root is not None:
            test = self._read_test(self.test_root, number)
        if not bool(known.all()):
            self.given = known.nonzero().flatten()
            if self._default_initial and not bool(known[: self.begun].all()):
                self.initial = "given"
        plain = ImageItems(self._paths, targets, self._view)
        if not self.augment:
            return Splits(train=plain, test=test, val=val)
        view = replace(self._view, augment=True)
        return Splits(train=ImageItems(self._paths, targets, view), test=test, pool=plain, val=val)

    def inventory(self) -> Inventory:
        """Each file by its path below the folder, its size and its label."""
        within = len(str(self.root / "_")) - 1
        names = [path[within:] for path in self._paths]
        targets = self.splits.train.targets.tolist()
        said = zip(names, self._paths, targets, strict=True)
        found = [
            hashlib.sha256(f"{name} {os.stat(path).st_size} {label}".encode()).digest()[:8]
            for name, path, label in said
        ]
        digest = np.maximum(np.frombuffer(b"".join(found), ">u8").astype(np.uint64), 1)
        return Inventory(digest.astype(np.uint64), tuple(names), "file")

    def _in_order(self, files: Sequence[str]) -> list[str]:
        """Files as a run knows their positions: new ones come behind, wherever they sort."""
        known, there = set(self.order), set(files)
        return [f for f in self.order if f in there] + [f for f in files if f not in known]

    def _read_labels(self, root: Path, table: Path | None) -> tuple[list[str], list[str | None]]:
        """Paths of the images below a folder, and their labels."""
        files = find_images(root)
        labels: Mapping[str, str] = (
            labels_from_folders(files) if table is None else labels_from_csv(table, root, files)
        )
        if root == self.root:
            files = self._in_order(files)
        within = str(root / "_")[:-1]
        paths = [within + file for file in files]
        if self.verify:
            check_images(paths)
        marks = marks_of(self.missing_label)
        found = [None if (name := labels.get(file)) in marks else name for file in files]
        if self.missing_label is None and self.class_names is None:
            warn_of_marks(found, str(root if table is None else table))
        return paths, found

    def _name_classes(self, labels: Sequence[str | None]) -> Sequence[str]:
        found = sorted({label for label in labels if label is not None})
        names = found if self.class_names is None else list(self.class_names)
        if unknown := sorted(set(found) - set(names)):
            raise ValueError(
                f"labels {_few(unknown)} of {self.root} are not among class_names: {_few(names)}"
            )
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                f"{self.root}: expected at least two different classes, got "
                f"{_few(names) or 'none'}; give class_names where some have no labelled image yet"
            )
        self.class_names, self.classes = names, len(names)
        return names

    def _check_later(self, labels: Sequence[str | None], names: Sequence[str]) -> None:
        """Refuse images that joined a run with a class that it does not have."""
        for row, label in enumerate(labels, start=self.begun or 0):
            if label is not None and label not in names:
                raise ValueError(
                    f"{self._paths[row]} joins with the class {label!r}, the run has "
                    f"{_few(list(names))}; a new class needs a new run, or class_names from the "
                    "start"
                )

    def _read_test(self, root: Path, number: Mapping[str, int]) -> ImageItems:
        paths, labels = self._read_labels(root, self.test_table)
        bare = [p for p, name in zip(paths, labels, strict=True) if name is None]
        if bare:
            raise ValueError(
                f"{len(bare)} test images have no label: {_few(bare)}; label or remove them"
            )
        if unknown := sorted({str(name) for name in labels} - set(number)):
            raise ValueError(
                f"test labels {_few(unknown)} of {root} are no classes of {self.root}: "
                f"{_few(list(number))}"
            )
        return ImageItems(paths, torch.tensor([number[str(name)] for name in labels]), self._view)

    def item_path(self, index: int) -> str | None:
        """The file of an item."""
        return self._paths[index]

    def thumbnail(self, index: int) -> Any:
        """The picture of an item, at most 128 pixels a side."""
        image = read_image(self._paths[index], 256).convert("RGB")
        image.thumbnail((128, 128))
        return image
