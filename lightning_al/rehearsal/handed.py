"""What was handed over as task, data and Trainer, where something else was expected."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_al.compat import is_a

__all__ = ["check_handed", "explained"]

WIDTH = re.compile(r"mat1 and mat2 shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)")
CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
"""What torch says of inputs of another size."""
WRAP = "wrap your data sets: ActiveDataModule(train, test=0.2)"


def check_handed(task: Any, datamodule: Any, trainer: Any) -> None:
    """Refuse objects of another kind than a run can use.

    Raises:
        TypeError: one of them; the message says how to wrap it.
    """
    if inspect.isclass(datamodule) or not hasattr(datamodule, "acquire"):
        raise TypeError(
            f"datamodule must be an ActiveDataModule or another of lightning_al.datamodules, got "
            f"{_kind(datamodule)}; {_mend(datamodule)}"
        )
    if is_a(trainer, "Trainer"):
        raise TypeError(
            "trainer must be the arguments of a Trainer, such as {'max_epochs': 20}, or a function "
            "that builds one, got a Trainer; each round needs a fresh one: give "
            "trainer=lambda: Trainer(…)"
        )
    plain = isinstance(task, nn.Module) and not is_a(task, "LightningModule")
    if plain or not callable(task):
        mend = "Classification(network, classes=…) makes one of a network" if plain else "give that"
        raise TypeError(
            "task must be a LightningModule or a function that builds one, got "
            f"{type(task).__name__}; {mend}"
        )


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"


def _mend(data: Any) -> str:
    if inspect.isclass(data):
        return f"build it: {data.__name__}(…)"
    if is_a(data, "LightningDataModule"):
        return "ActiveDataModule.of_datamodule(yours) takes the data sets from it"
    if isinstance(data, DataLoader):
        return "give the data set of the loader: ActiveDataModule(loader.dataset, test=0.2)"
    if isinstance(data, (tuple, list)):
        return "give ActiveDataModule(TensorDataset(torch.as_tensor(X).float(), y), test=0.2)"
    return WRAP


def explained(error: Exception, datamodule: Any) -> Exception:
    """An error of the rehearsal as a sentence, where it says what the module and data are not."""
    text = str(error)
    said: Exception | None = None
    if isinstance(error, NotImplementedError) and 'missing the required "forward"' in text:
        said = TypeError(
            "the task has no method forward, which gives the outputs that strategies score; write "
            f"one, or name another with Adapter(output=…): {text}"
        )
    elif found := WIDTH.search(text):
        said = ValueError(
            f"a layer of the module takes {found[2]} numbers an item, and gets {found[1]}; build "
            f"it for these data (their items are {_sizes(datamodule)}): {text}"
        )
    elif found := CHANNELS.search(text):
        said = ValueError(
            f"a layer of the module takes {found[1]} channels, and gets {found[2]}; build it for "
            f"these data (their items are {_sizes(datamodule)}): {text}"
        )
    if said is not None:
        return said
    if not isinstance(error, RuntimeError) or not ("Double" in text or "float64" in text):
        return error
    index = datamodule.labelled[:1] if len(datamodule.labelled) else datamodule.pool[:1]
    if torch.float64 not in _types(datamodule.items.inputs(index)):
        return error
    return ValueError(
        "the inputs are float64, and the module's weights are not; give float32 inputs (x.float() "
        f"in the data set), or let the Trainer compute with precision='64-true': {text}"
    )


def _sizes(datamodule: Any) -> str:
    """The size of an item, as in [4] or [1, 28, 28]."""
    inputs = datamodule.items.inputs(datamodule.pool[:1])
    return str(list(inputs.shape[1:])) if isinstance(inputs, Tensor) else "no single tensors"


def _types(value: Any) -> set[torch.dtype]:
    """The types of all tensors in a batch."""
    if isinstance(value, Tensor):
        return {value.dtype}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return {kind for part in value for kind in _types(part)}
    return set()
