"""Named data sets as specifications: what their files are, how they are read, split and started.

>>> from lightning_al.datamodules import datasets
>>> table = datasets.load("diabetes")
>>> tuple(table.features.shape), table.spec.task
((442, 10), 'regression')
"""

from .all_sets import DATASETS, ImageSpec, load, names, spec, spec_from_row, table_spec
from .folds import own_split, split
from .starts import farthest, one_each, share, start
from .table_spec import Published, Table, TableSpec

__all__ = [
    "DATASETS",
    "ImageSpec",
    "Published",
    "Table",
    "TableSpec",
    "farthest",
    "load",
    "names",
    "one_each",
    "own_split",
    "share",
    "spec",
    "spec_from_row",
    "split",
    "start",
    "table_spec",
]
