"""Hooks of a lean fit: those that anybody has, called where Lightning calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from lightning_al.compat import is_a, overrides

from .lean_trainer import LeanTrainer
from .recorder import NotPlain

__all__ = ["Hooks", "evaluating", "refuse"]

WATCHES = ("callbacks.EarlyStopping", "callbacks.Checkpoint")  # they come after the module


class Hooks:
    """Callbacks' and the module's own hooks, by name; a hook that nobody has costs nothing.

    Args:
        trainer: that the callbacks are given.
    """

    def __init__(self, trainer: LeanTrainer) -> None:
        self._trainer, self._known = trainer, {}  # type: ignore[var-annotated]

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call one; what the module's returned."""
        said = None
        for own, hook in self.of(name):
            if own:
                said = self.module(name, hook, *args, **kwargs)
            else:
                hook(*args, **kwargs)
        return said

    def module(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what is the module's own; what it logs is logged under this name."""
        recorder = self._trainer.recorder
        if recorder is None:
            return work(*args, **kwargs)
        before, recorder.hook = recorder.hook, name
        try:
            return work(*args, **kwargs)
        finally:
            recorder.hook = before

    def of(self, name: str) -> Sequence[tuple[bool, Callable[..., Any]]]:
        """Who has a hook of this name, in turn, each with whether it is the module."""
        if name not in self._known:
            self._known[name] = self._found(name)
        found: Sequence[tuple[bool, Callable[..., Any]]] = self._known[name]
        return found

    def _found(self, name: str) -> list[tuple[bool, Callable[..., Any]]]:
        trainer, module = self._trainer, self._trainer.lightning_module
        have = [c for c in trainer.callbacks if overrides(name, c)]
        late = []
        if name == "on_train_epoch_end":  # what monitors sees what the module logs at the end
            late = [c for c in have if any(is_a(c, path) for path in WATCHES)]
        calls = [(False, partial(getattr(c, name), trainer, module)) for c in have if c not in late]
        if overrides(name, module):
            calls.append((True, getattr(module, name)))
        return calls + [(False, partial(getattr(c, name), trainer, module)) for c in late]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; afterwards each part is in the mode in which it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    yield
    for part, training in modes:
        part.training = training


def refuse(said: Any) -> None:
    """Refuse to leave out the rest of an epoch.

    Raises:
        NotPlain: the hook asked for it.
    """
    if said == -1:
        raise NotPlain("on_train_batch_start leaves out the rest of an epoch")
