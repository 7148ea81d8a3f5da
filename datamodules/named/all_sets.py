"""All data sets by name: the rows of ``sets.toml``, and those of your own.

A set of your own is registered as a function that gives its spec:
``DATASETS.register("mine")(lambda: TableSpec("mine", …))``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from os import PathLike
from typing import Any, TypeAlias

from lightning_al.registry import Registry

from ..images import FashionMNISTDataModule, MNISTDataModule
from ..sources import Resource, data_root
from .checked_row import arguments, refuse
from .set_rows import table_from_row
from .table_spec import Table, TableSpec, Task, Variant

__all__ = ["DATASETS", "ImageSpec", "Spec", "load", "names", "spec", "spec_from_row", "table_spec"]

MODULES = {module.__name__: module for module in (MNISTDataModule, FashionMNISTDataModule)}


@dataclass(frozen=True)
class ImageSpec:
    """A set of images, read by a module of its own.

    Args:
        name: as in :func:`names`.
        module: the datamodule.
        fold_seed: of the shuffled folds over training and test images together.
        flat: the published variant has pixels in [0, 1] as one row of features.
        licence: of the data.
        citation: author and year.
        source: page of the original.
        title: the name in words.
    """

    name: str
    module: type[MNISTDataModule]
    fold_seed: int = 0
    flat: bool = False
    licence: str = ""
    citation: str = ""
    source: str = ""
    task: Task = "classification"
    title: str = ""

    @property
    def resources(self) -> tuple[Resource[Any], ...]:
        """All files of the set."""
        return tuple(self.module.resources.values())


Spec: TypeAlias = TableSpec | ImageSpec


def spec_from_row(name: str, row: Mapping[str, Any]) -> Spec:
    """The facts of one set from its row, as in ``sets.toml``.

    Args:
        name: of the set.
        row: its keys; one with ``module`` is a set of images.

    Raises:
        ValueError: a row that is wrong; names the set, the key, what was expected, and the mend.
    """
    if "module" not in row:
        return table_from_row(name, row)
    where = f"data set {name!r}"
    if row["module"] not in MODULES:
        refuse(where, "module", f"one of {', '.join(MODULES)}", row["module"])
    facts = {key: value for key, value in row.items() if key != "module"}
    values = arguments(ImageSpec, facts, where, without=("name", "module"))
    return ImageSpec(name, MODULES[row["module"]], **values)


DATASETS: Registry[Spec] = Registry("data set")
for _name, _row in tomllib.loads((files(__package__) / "sets.toml").read_text("utf-8")).items():
    DATASETS.register(_name)(partial(spec_from_row, _name, _row))


def names() -> list[str]:
    """All names, sorted."""
    return DATASETS.names()


def spec(name: str) -> Spec:
    """The facts of one set.

    Raises:
        LookupError: no such name; the message lists all.
    """
    return DATASETS.build(name)


def table_spec(name: str) -> TableSpec:
    """The facts of one table.

    Raises:
        LookupError: no such name; the message lists all.
        ValueError: a set of images.
    """
    found = spec(name)
    if isinstance(found, ImageSpec):
        raise ValueError(f"{name} is a set of images; use {found.module.__name__}")
    return found


def load(
    name: str, variant: Variant = "corrected", *, data_dir: str | PathLike[str] | None = None
) -> Table:
    """Download a table where it is missing, and read it.

    Args:
        name: see :func:`names`; images are read by their datamodules.
        variant: "corrected", or "published" for the parsing behind the figures of Scherer et al.
            (2022).
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.

    Raises:
        LookupError: no such name.
        FileNotFoundError: a file could not be had; says where to put it.
        ValueError: images, an unknown variant, or a file that is not as expected.
    """
    found = table_spec(name)
    root = data_root(data_dir)
    for resource in found.resources:
        resource.fetch(root)
    return found.load(root, variant)
