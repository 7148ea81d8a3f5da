"""Two replicas, stacked and alone, over a few steps in float64: whether a stack gives the same.

In float64 rounding is far below what a mistake would do, so that a batch rule of ``vmap`` that is
not the layer's, a mask of another stream or a metric that was fed tensors of all replicas is told
from rounding. In float32 it could not be.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.fits.lean import lean_fit
from lightning_al.fits.probe import short

from .facts import LIMIT, nominal_rate
from .fields import rebuilt
from .member import Member

__all__ = ["Verdict"]

GAP = 1e-9  # of what is logged
DRIFT = 1e-7  # of weights: Adam blows up the rounding of gradients that are zero in theory


@dataclass
class Verdict:
    """What is known of the stacks of one cell; made once, and told to each of its fits.

    Args:
        why: they are not stacked; empty where they are, None before the first was tried.
    """

    why: str | None = None
    _twin: Any = field(default=None, repr=False)  # a module that has been fitted, to count steps of
    _slow: dict[int, str] = field(default_factory=dict, repr=False)  # by rows of a batch

    def of(self, members: Sequence[Member], together: Callable[..., Any]) -> str:
        """Why these are not stacked; empty where they are.

        Args:
            members: of the stack.
            together: fits a stack.
        """
        if self.why is None:
            self.why = self._tried(members[:2], together)
        if self.why or self._twin is None:  # a verdict that somebody else made counts nothing
            return self.why
        data = members[0].datamodule.restricted(None)
        batch = _double(next(iter(data.train_dataloader())))
        rows = len(batch[0] if isinstance(batch, tuple | list) else batch)
        if rows not in self._slow:
            rate = nominal_rate(self._twin, batch)
            self._slow[rows] = "" if rate <= LIMIT else _large(rate)
        return self._slow[rows]

    def _tried(self, members: Sequence[Member], together: Callable[..., Any]) -> str:
        """Why a stack of two is not the two alone; empty where it is."""
        with warnings.catch_warnings(), ExitStack() as briefly:
            warnings.simplefilter("ignore")
            for each in members:
                briefly.enter_context(short(each.trainer))
            try:
                with _doubled(members) as stack, _doubled(members) as twins:
                    found = together(stack)
                    alone = [_alone(twin) for twin in twins]
            except Exception as error:
                return str(error) or type(error).__name__
        self._twin = twins[0].module
        for member, twin, one, other in zip(stack, twins, found, alone, strict=True):
            if isinstance(one, Exception):
                return str(one)
            if why := _differs(member.module, twin.module, one, other):
                return why
        return ""


def _large(rate: float) -> str:
    return (
        f"a bare loop computes {rate / 1e9:.0f} Gflop/s by count, above {LIMIT / 1e9:.0f}: the "
        "module or its batches are too large for stacking to gain"
    )


def _alone(member: Member) -> Any:
    where: dict[str, Any] = {"seed": member.seed, "round": member.round}
    return lean_fit(member.module, member.recipe, member.datamodule, member.trainer, **where)


def _differs(module: Any, twin: Any, one: Any, other: Any) -> str:
    mine, theirs = dict(one.callback_metrics), dict(other.callback_metrics)
    if list(mine) != list(theirs):
        return f"a stack logs {sorted(mine)}, a fit alone {sorted(theirs)}"
    for name, value in theirs.items():
        if not _near(mine[name], value, GAP):
            return f"{name} would not be the same in a stack"
    for name, value in twin.state_dict().items():
        if isinstance(value, Tensor) and not _near(module.state_dict()[name], value, DRIFT):
            return f"{name} would not be the same in a stack"
    return ""


def _near(one: Tensor, other: Tensor, gap: float) -> bool:
    if one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=gap, atol=gap, equal_nan=True)


# --- float64 -------------------------------------------------------------------------------------


@contextmanager
def _doubled(members: Sequence[Member]) -> Iterator[list[Member]]:
    """Copies of members in float64; inside, that is what new tensors are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield [
            replace(
                each,
                module=copy.deepcopy(each.module).double(),
                recipe=replace(each.recipe, restore="last"),
                datamodule=_DoubleData(each.datamodule.restricted(None)),
            )
            for each in members
        ]
    finally:
        torch.set_default_dtype(before)


def _double(batch: Any) -> Any:
    return rebuilt(batch, lambda t: t.double() if t.is_floating_point() else t)


class _DoubleView:
    """The batches of a view in float64."""

    def __init__(self, view: Any) -> None:
        self._view, self.plain = view, view.plain

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, rows: Tensor) -> Any:
        return _double(self._view[rows])


class _DoubleData:
    """A data module whose batches are float64; the rest is the other's."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def state_dict(self) -> Mapping[str, Any]:
        """The other's."""
        found: Mapping[str, Any] = self._data.state_dict()
        return found

    def train_dataloader(self) -> Any:
        """Batches to train on."""
        return self._loader(self._data.train_dataloader())

    def val_dataloader(self) -> Any:
        """Batches to validate on."""
        return self._loader(self._data.val_dataloader())

    @staticmethod
    def _loader(loader: Any) -> Any:
        if not getattr(loader, "in_process", False):
            return loader  # refused by the loop, or none
        return type(loader)(_DoubleView(loader.view), loader.sampler)
