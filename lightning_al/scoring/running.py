"""Running a task over batches: on its device, in eval mode, under the Trainer's precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.utilities import move_data_to_device
from torch import nn

from lightning_al.compat import kinds, overrides

__all__ = ["Running", "home_of"]


def home_of(module: nn.Module) -> torch.device:
    """Where a module lies; one without parameters says so itself, or lies on the CPU."""
    first = next(module.parameters(), None)
    place = getattr(module, "device", "cpu") if first is None else first.device
    return torch.device(place)


@dataclass(frozen=True)
class Running:
    """A task and where it runs.

    Args:
        task: the module.
        trainer: for its device and precision; None leaves the task where it lies.
    """

    task: Any
    trainer: Any = None

    @property
    def device(self) -> torch.device:
        """Where the task runs."""
        if self.trainer is None:
            return home_of(self.task)
        place: torch.device = self.trainer.strategy.root_device
        return place

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The task on its device, in eval mode, without gradients; all put back after."""
        modes = {module: module.training for module in self.task.modules()}
        home, device = home_of(self.task), self.device
        plugin = None if self.trainer is None else self.trainer.precision_plugin
        lossy = (*kinds("plugins.DoublePrecision"), *kinds("plugins.HalfPrecision"))
        if isinstance(plugin, lossy):
            plugin.convert_module(self.task)  # type: ignore[attr-defined]
        if home != device:
            self.task.to(device)
        self.task.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes.items():
                module.training = training
            if home != device:
                self.task.to(home)

    @contextmanager
    def forward(self) -> Iterator[Callable[[Any], Any]]:
        """The Trainer's precision; gives what brings a batch of inputs to the task."""
        plugin = None if self.trainer is None else self.trainer.precision_plugin
        device = self.device

        def bring(inputs: Any) -> Any:
            made = inputs if plugin is None else plugin.convert_input(inputs)
            return move_data_to_device(made, device)

        with torch.no_grad(), nullcontext() if plugin is None else plugin.forward_context():
            yield bring

    def warn_of_hooks(self, datamodule: Any) -> None:
        """Say what the pool does not pass through: a bare batch has no label to hand to a hook."""
        for owner in (datamodule, self.task):
            for hook in ("on_before_batch_transfer", "on_after_batch_transfer"):
                if overrides(hook, owner):
                    warnings.warn(
                        f"{type(owner).__name__}.{hook} is not called for the pool; what it does "
                        "to inputs belongs into the data set's test transform, or into forward",
                        stacklevel=4,
                    )
