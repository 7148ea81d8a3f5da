"""What newcomers hand over as a data set: refused with how to wrap it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_al.compat import is_a

__all__ = ["map_style"]

WANTED = "must be a map-style data set (with len(data) and data[i] -> (inputs, label))"
TABLE = "TensorDataset(torch.as_tensor(X).float(), torch.as_tensor(y))"


def map_style(value: Any, name: str) -> None:
    """Refuse what is no data set, and neither a share, a count nor positions.

    Args:
        value: given as the split ``name``.
        name: "train", "pool", "test" or "val".

    Raises:
        TypeError: it is something else; the message says how to wrap it.
    """
    mend = _mend(value, name in ("train", "pool"))
    if mend is None:
        return
    or_a_share = "" if name in ("train", "pool") else ", a share of train such as 0.2, or positions"
    raise TypeError(f"{name} {WANTED}{or_a_share}, got {_kind(value)}; {mend}")


def _kind(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)} {'arrays' if len(value) < 4 else 'items'}"
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _mend(value: Any, whole: bool) -> str | None:
    """How to make a data set of it; None where it is one, or may be a share or positions."""
    if value is None:
        return None
    if isinstance(value, IterableDataset):
        return "a stream has no positions to label: keep its items in a list or a data set"
    if isinstance(value, Dataset):
        lacks = [n for n in ("__len__", "__getitem__") if not _has(value, n)]
        return f"give {type(value).__name__} the method {lacks[0]}" if lacks else None
    mend = _of_other_kinds(value) or _of_arrays(value)
    return mend or (_of_strangers(value) if whole else _of_items(value))


def _has(value: Any, name: str) -> bool:
    found = getattr(type(value), name, None)
    return found is not None and found is not getattr(Dataset, name, None)


def _of_other_kinds(value: Any) -> str | None:
    if isinstance(value, DataLoader):
        return "give the data set of the loader: loader.dataset"
    if is_a(value, "LightningDataModule"):
        return "give its data sets: ActiveDataModule.of_datamodule(yours) takes them from it"
    if is_a(value, "Trainer"):
        return "the Trainer belongs to ActiveLearner(trainer=…)"
    if isinstance(value, nn.Module):
        return "the module belongs to ActiveLearner(task=…)"
    if isinstance(value, (str, PathLike)):
        return "read the file: TabularDataModule(path, target), ImageFolderDataModule(root)"
    if hasattr(value, "iloc"):
        return f"save it for TabularDataModule(path, target), or give {TABLE}"
    if isinstance(value, Mapping):
        return f"give one of its entries ({', '.join(map(str, list(value)[:5]))}), or {TABLE}"
    return None


def _of_arrays(value: Any) -> str | None:
    """(X, y), as scikit-learn has it."""
    if not isinstance(value, (tuple, list)) or not 2 <= len(value) <= 3:
        return None
    sizes = [len(part.shape) for part in value if hasattr(part, "shape")]
    arrays = len(sizes) == len(value) and min(sizes) >= 1
    several = isinstance(value, tuple) or len(set(sizes)) > 1
    return f"give {TABLE}" if arrays and several else None


def _of_strangers(value: Any) -> str | None:
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        return None
    return "wrap it in a class with __len__ and __getitem__"


def _of_items(value: Any) -> str | None:
    """A list of items, where a list means positions."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    if isinstance(value[0], (tuple, list, Mapping)) or getattr(value[0], "shape", ()) != ():
        return "a list stands for positions here: wrap the items in a Dataset class"
    return None
