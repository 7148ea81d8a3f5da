"""Watching one pass of a network: dropout by fixed masks, and what need not be run again.

Where the output of a pass is that of an ``nn.Sequential``, and no dropout was met before it, the
layers up to the first dropout give the same for all members: their output is kept, and the other
members run only the tail.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from .masks import Masks

__all__ = ["Tail", "Watch", "units"]

BUDGET = 8 * 2**20  # bytes of the tail's input that are laid out for several members at once

# modules that treat the rows of their input each for itself
ROWWISE = (
    *(nn.Linear, nn.Identity, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)


def _plain(module: nn.Module) -> bool:
    """An ``nn.Sequential`` that does nothing but call its layers one after the other."""
    return (
        isinstance(module, nn.Sequential)
        and type(module).forward is nn.Sequential.forward
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )


def units(chain: nn.Module) -> list[nn.Module]:
    """The layers of a chain, nested chains opened."""
    if not _plain(chain):
        return [chain]
    return [unit for layer in chain.children() for unit in units(layer)]


def _rowwise(module: nn.Module) -> bool:
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        return module.running_mean is not None  # else it looks at the batch, even in eval mode
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1
    return type(module) in ROWWISE


@dataclass
class _Run:
    """What happened to one chain in the pass being watched."""

    first: int  # the first unit with dropout inside
    chain: list[nn.Module]
    calls: int = 0
    dropout_before: int = 0
    saved: Any = None  # input of that unit
    output: Any = None


@dataclass(frozen=True)
class Tail:
    """The layers from the first dropout on, and what goes into them."""

    layers: list[nn.Module]
    x: Tensor  # [n, ...]
    together: int  # members that may be run at once

    def run(self) -> Tensor:
        """Output of the layers, for the members that the watch is set to."""
        out = self.x
        for layer in self.layers:
            out = layer(out)
        return out


@dataclass
class Watch:
    """Hooks on a module for the time of a ``with`` block.

    Set :meth:`members` before each pass. Fused attention, which skips dropout layers, is off
    inside.
    """

    module: nn.Module
    layers: dict[str, _DropoutNd]  # the dropout layers to be switched on
    masks: Masks
    n: int  # items in the batch
    current: range | None = None
    _calls: Counter[str] = field(default_factory=Counter)
    _runs: dict[nn.Module, _Run] = field(default_factory=dict)
    _handles: list[Any] = field(default_factory=list)
    _fused: bool = True

    def __enter__(self) -> Watch:
        self._fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        active = set(self.layers.values())
        chains = [m for m in self.module.modules() if _plain(m)]
        opened = {chain: units(chain) for chain in chains}  # before our own hooks are there
        for chain, flat in opened.items():
            first = next((i for i, u in enumerate(flat) if active & set(u.modules())), None)
            if first is not None:
                run = self._runs[chain] = _Run(first, flat)
                self._handles += [
                    chain.register_forward_pre_hook(partial(self._enter, run)),
                    flat[first].register_forward_pre_hook(partial(self._save, run)),
                    chain.register_forward_hook(partial(self._leave, run)),
                ]
        for name, layer in self.layers.items():
            self._handles.append(layer.register_forward_hook(partial(self._drop, name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        torch.backends.mha.set_fastpath_enabled(self._fused)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._runs.clear()

    def members(self, members: range | None) -> None:
        """The next pass is of these members; None for a pass without dropout."""
        self.current = members
        self._calls.clear()
        for run in self._runs.values():
            run.calls, run.dropout_before, run.saved, run.output = 0, 0, None, None

    def _enter(self, run: _Run, chain: nn.Module, args: tuple[Any, ...]) -> None:
        run.calls += 1
        run.dropout_before = sum(self._calls.values())

    def _save(self, run: _Run, unit: nn.Module, args: tuple[Any, ...]) -> None:
        if run.calls and run.saved is None and len(args) == 1:
            run.saved = args[0]

    def _leave(self, run: _Run, chain: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        run.output = output

    def _drop(
        self, name: str, layer: nn.Module, args: tuple[Any, ...], output: Tensor
    ) -> Tensor | None:
        call = self._calls[name]
        self._calls[name] += 1
        if self.current is None:
            return None
        return self.masks.apply(name, self.layers[name], call, output, self.current, self.n)

    def tail(self, raw: Tensor) -> Tail | None:
        """What other members still have to run, after a pass whose output was ``raw``.

        None where the output is not that of a chain, or dropout was met before it.
        """
        for run in self._runs.values():  # outer chains come first
            if run.output is raw and run.calls == 1 and run.dropout_before == 0:
                if not isinstance(run.saved, Tensor):
                    return None
                layers = run.chain[run.first :]
                size = max(run.saved.numel() * run.saved.element_size(), 1)
                whole = run.saved.ndim > 1 and run.saved.shape[0] == self.n > 0
                rowwise = whole and all(_rowwise(layer) for layer in layers)
                together = min(max(BUDGET // size, 1), self.masks.members) if rowwise else 1
                if together > 1 and not isinstance(layers[0], _DropoutNd):
                    together = 1
                return Tail(layers, run.saved, together)
        return None
