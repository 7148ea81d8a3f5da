"""One optimiser for all replicas: the class and settings that each of them configures.

An optimiser that works number by number does the same to a stack as to each of its rows, for all
rows have taken as many steps. One that looks at a whole tensor, a norm or a matrix, would mix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.fits.recorder import NotPlain

from .rows import Rows, named_slots

__all__ = ["ELEMENTWISE", "StackedOptimizer", "clip"]

ELEMENTWISE = (
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.SGD,
)
"""Optimisers that take each number for itself; subclasses may do anything."""


class StackedOptimizer:
    """The optimiser of a stack.

    Args:
        rows: of the replicas.
        own: the optimiser that each has configured for itself, in the order of the rows.
        lead: the optimiser whose learning rates and other settings schedules change.

    Raises:
        NotPlain: one that is not known to work number by number, or settings that differ.
    """

    def __init__(self, rows: Rows, own: Sequence[Any], lead: Any) -> None:
        self._rows, self._lead = rows, lead
        first = own[0]
        if type(first) not in ELEMENTWISE:
            raise NotPlain(
                f"the optimiser {type(first).__name__} is not known to work number by number"
            )
        self._named = [
            _names(optimizer, module) for optimizer, module in zip(own, rows.modules, strict=True)
        ]
        if any(each != self._named[0] for each in self._named):
            raise NotPlain("replicas differ in the parameters that they optimise")
        settings = [_settings(optimizer) for optimizer in own]
        if any(
            each != settings[0] or type(o) is not type(first)
            for each, o in zip(settings, own, strict=True)
        ):
            raise NotPlain("replicas differ in the settings of their optimisers")
        groups = [
            {**group, "params": [rows.tensors[name] for name in names]}
            for group, names in zip(settings[0], self._named[0], strict=True)
        ]
        self.optimizer = type(first)(groups)

    @property
    def parameters(self) -> list[Tensor]:
        """What it trains, [R, ...] each."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def follow(self) -> None:
        """Take over what a schedule has changed."""
        for group, lead in zip(self.optimizer.param_groups, self._lead.param_groups, strict=True):
            group.update({key: value for key, value in lead.items() if key != "params"})

    def hand_out(self, row: int, own: Any, module: nn.Module) -> None:
        """Give a replica's own optimiser the state that it would have."""
        for group, mine in zip(self.optimizer.param_groups, own.param_groups, strict=True):
            mine.update({key: value for key, value in group.items() if key != "params"})
            for stacked, parameter in zip(group["params"], mine["params"], strict=True):
                if (state := self.optimizer.state.get(stacked)) is not None:
                    own.state[parameter] = {
                        name: _row(value, row, stacked) for name, value in state.items()
                    }

    def keep(self, index: Tensor) -> None:
        """Keep some rows, as :meth:`.rows.Rows.keep` has them; after it."""
        old = self.optimizer.state
        states = []
        for group, names in zip(self.optimizer.param_groups, self._named[0], strict=True):
            new = [self._rows.tensors[name] for name in names]
            for before, now in zip(group["params"], new, strict=True):
                if (state := old.pop(before, None)) is not None:
                    cut = {n: v[index] if _by_rows(v, before) else v for n, v in state.items()}
                    states.append((now, cut))
            group["params"] = new
        for now, state in states:
            old[now] = state


def _by_rows(value: Any, stacked: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(stacked)


def _row(value: Any, row: int, stacked: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value[row].clone() if _by_rows(value, stacked) else value.clone()


def _names(optimizer: Any, module: nn.Module) -> list[list[str]]:
    """Names of the parameters in each group."""
    known = {id(getattr(part, attribute)): name for part, attribute, name in named_slots(module)}
    groups = [[known.get(id(p), "") for p in group["params"]] for group in optimizer.param_groups]
    if any("" in group for group in groups):
        raise NotPlain("the optimiser has parameters that are not the module's")
    return groups


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    """Settings of each group; tensors as numbers."""
    return [
        {k: v.item() if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
        for group in optimizer.param_groups
    ]


def clip(parameters: Sequence[Tensor], limit: float, by_value: bool) -> None:
    """Clip gradients [R, ...], by value or by the norm of each row over all parameters.

    The rule is torch's ``clip_grad_norm_``: the factor is limit / (norm + 1e-6), at most 1.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if by_value:
        nn.utils.clip_grad_value_(list(parameters), limit)
        return
    if not gradients:
        return
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    total = torch.linalg.vector_norm(norms, dim=0)
    factor = (limit / (total + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
