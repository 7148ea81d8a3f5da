"""All data sets by name; a set of your own is registered as a function that gives its spec."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import TypeAlias

from lightning_al.registry import Registry

from ..images import FashionMNISTDataModule, MNISTDataModule
from ..sources import data_root
from .others import OTHERS
from .table_spec import Table, TableSpec, Variant
from .uci import UCI

__all__ = ["DATASETS", "ImageSpec", "Spec", "load", "names", "spec"]


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
    """

    name: str
    module: type[MNISTDataModule]
    fold_seed: int = 1234
    flat: bool = False
    licence: str = ""
    citation: str = ""
    source: str = ""
    task: str = "classification"


Spec: TypeAlias = TableSpec | ImageSpec

IMAGES = (
    ImageSpec(
        "mnist",
        MNISTDataModule,
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, C. Cortes and C. Burges, 1998",
        source="http://yann.lecun.com/exdb/mnist/",
    ),
    ImageSpec(
        "fashion-mnist",
        FashionMNISTDataModule,
        flat=True,
        licence="MIT",
        citation="H. Xiao, K. Rasul and R. Vollgraf, 2017",
        source="https://github.com/zalandoresearch/fashion-mnist",
    ),
)

DATASETS: Registry[Spec] = Registry("data set")
for _each in (*UCI, *OTHERS, *IMAGES):
    DATASETS.register(_each.name)(partial(copy, _each))


def names() -> list[str]:
    """All names, sorted."""
    return DATASETS.names()


def spec(name: str) -> Spec:
    """The facts of one set.

    Raises:
        LookupError: no such name; the message lists all.
    """
    return DATASETS.build(name)


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
    found = spec(name)
    if isinstance(found, ImageSpec):
        raise ValueError(f"{name} is a set of images; use {found.module.__name__}")
    root = data_root(data_dir)
    for resource in found.resources:
        resource.fetch(root)
    return found.load(root, variant)
