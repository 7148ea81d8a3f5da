"""The tensors of all replicas, each with a first axis for the rows; and the modules as its views.

A module of a stack has its own parameters and buffers, but they lie in the stack: what a step does
to the stack is seen by the module at once, and what a hook does to the module in place is done to
the stack. Other attributes are carried to and fro, around hooks that may look at them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_al.compat import put_tensor, tensor_slots
from lightning_al.fits.recorder import NotPlain

from .fields import (
    PLAIN,
    Fields,
    changed,
    fields_in,
    fields_of,
    leaves,
    parts_of,
    rebuilt,
    set_field,
    together,
)

__all__ = ["Rows", "named_slots"]


def named_slots(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Where a module keeps tensors: (part, attribute, name); what is tied has one name."""
    names: dict[int, str] = {}
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        names.setdefault(id(value), name)
    return [(part, name, names[id(value)]) for part, name, value in tensor_slots(module)]


class Rows:
    """Parameters, buffers and attributes of R modules in one place.

    Args:
        modules: replicas of one module; row ``r`` is that of the module at place ``r``.

    Raises:
        NotPlain: the modules are no replicas of each other.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = list(modules)
        self.tensors: dict[str, Tensor] = {}  # [R, ...] by name; leaves that ask for gradients
        self.fields: Fields = {}  # with tensors [R, ...]
        self._slots = [named_slots(module) for module in self.modules]
        self._gather_tensors()
        self._parts = [dict(module.named_modules()) for module in self.modules]
        self._moving = [parts_of(module, moving=True) for module in self.modules]
        self._compare()
        self._at: list[list[int]] = []  # where in memory each slot of each module lies
        self._bind()

    def __len__(self) -> int:
        return len(self.modules)

    @property
    def trained(self) -> list[Tensor]:
        """Those that are trained, in order."""
        return [value for value in self.tensors.values() if value.requires_grad]

    def part(self, row: int, name: str) -> Any:
        """A part of a replica by its name; one that it lacks is looked for anew.

        Raises:
            NotPlain: there is none, for it is built inside the step.
        """
        if name not in self._parts[row]:
            self._parts[row] = dict(self.modules[row].named_modules())
        if name not in self._parts[row]:
            raise NotPlain(f"{name} is built inside a step")
        return self._parts[row][name]

    def _compare(self) -> None:
        """Refuse replicas whose layers have other settings."""
        each = [fields_of(module) for module in self.modules]
        if any(fields.keys() != each[0].keys() for fields in each):
            raise NotPlain("replicas differ in their attributes")
        for key in each[0]:
            together(".".join(filter(None, key)), [fields[key] for fields in each], torch.stack)

    # --- parameters and buffers --------------------------------------------------------------

    def _gather_tensors(self) -> None:
        names = [[name for _, _, name in slots] for slots in self._slots]
        if any(each != names[0] for each in names):
            raise NotPlain("replicas differ in their layers")
        for place, (_, _, name) in enumerate(self._slots[0]):
            if name in self.tensors:
                continue
            own = [getattr(slots[place][0], slots[place][1]) for slots in self._slots]
            kinds = {(v.shape, v.dtype, v.requires_grad) for v in own}
            if len(kinds) > 1:
                raise NotPlain(f"replicas differ in the shape of {name}")
            joined = torch.stack([value.detach() for value in own])
            self.tensors[name] = joined.requires_grad_(own[0].requires_grad)

    def _bind(self) -> None:
        """Let the modules' tensors be rows of these."""
        self._at = []
        for row, slots in enumerate(self._slots):
            places = []
            for part, attribute, name in slots:
                value = getattr(part, attribute)
                value.data = self.tensors[name].detach()[row]
                places.append(value.data_ptr())
            self._at.append(places)

    def take_over(self, new: Sequence[tuple[str, Tensor]]) -> None:
        """Take tensors [R, ...] in the place of buffers; the modules see them too."""
        for name, value in new:
            if value.shape != self.tensors[name].shape:
                raise NotPlain(f"a step changes the shape of {name}")
            self.tensors[name] = value.contiguous()
        if new:
            self._bind()

    def reclaim(self, rows: Sequence[int]) -> None:
        """See to tensors that a hook has put in the place of others.

        Raises:
            NotPlain: one of another shape.
        """
        for row in rows:
            for (part, attribute, name), where in zip(self._slots[row], self._at[row], strict=True):
                value = getattr(part, attribute)
                if value.data_ptr() == where:
                    continue
                own = self.tensors[name].detach()[row]
                if value.shape != own.shape or value.dtype != own.dtype:
                    raise NotPlain(f"a hook changes the shape of {name}")
                value.data = own.copy_(value.detach())

    # --- attributes --------------------------------------------------------------------------

    def gather(self, rows: Sequence[int], parts: Mapping[str, nn.Module]) -> None:
        """Take in the attributes of the modules of some rows; a copy of them learns the plain ones.

        Rows that are left out, for their fits are over, have those of the first.

        Args:
            rows: that are alive.
            parts: of the copy, by name.
        """
        found = {row: fields_in(self._moving[row]) for row in rows}
        first = found[rows[0]]
        if any(each.keys() != first.keys() for each in found.values()):
            raise NotPlain("replicas differ in their attributes")
        each_row = [found.get(row, first) for row in range(len(self))]
        self.fields = {}
        for key, value in first.items():
            name = ".".join(filter(None, key))
            joined = together(name, [fields[key] for fields in each_row], torch.stack)
            if any(True for _ in leaves(value)):
                self.fields[key] = joined
            elif key[0] in parts:
                set_field(parts[key[0]], key[1], rebuilt(value, lambda t: t))
        for name, part in self._parts[rows[0]].items():
            if name in parts:
                parts[name].training = part.training

    def scatter(self, rows: Sequence[int], now: Fields) -> None:
        """Give the modules of some rows their attributes, as a step of all has left them.

        Args:
            rows: that are alive.
            now: attributes of the copy, for the plain values.
        """
        parts = self._parts[rows[0]]
        new: Fields = {}
        for key, value in now.items():
            if key in self.fields or key[0] not in parts:
                continue
            old = vars(parts[key[0]]).get(key[1])
            if type(value) in PLAIN and old is value:
                continue
            if changed(old, value):
                new[key] = value
        for key, value in self.fields.items():
            columns = [tensor.unbind(0) for tensor in leaves(value)]
            for row in rows:
                own = iter([column[row] for column in columns])
                set_field(self._parts[row][key[0]], key[1], rebuilt(value, partial(_next, own)))
        for key, value in new.items():
            for row in rows:
                set_field(self._parts[row][key[0]], key[1], rebuilt(value, lambda t: t))

    # --- leaving -----------------------------------------------------------------------------

    def release(self, row: int) -> None:
        """Let a module keep what it has now: its tensors are its own from here on."""
        for part, attribute, name in self._slots[row]:
            getattr(part, attribute).data = self.tensors[name].detach()[row].clone()
        self._at[row] = [getattr(part, a).data_ptr() for part, a, _ in self._slots[row]]

    def keep(self, rows: Sequence[int]) -> Tensor:
        """Keep some rows only; the index [r] by which other stacks are to be cut."""
        index = torch.tensor(rows)
        for name, value in self.tensors.items():
            cut = value.detach()[index].requires_grad_(value.requires_grad)
            self.tensors[name] = cut
        self.fields = {
            key: rebuilt(value, lambda t: t[index]) for key, value in self.fields.items()
        }
        self.modules = [self.modules[row] for row in rows]
        self._slots = [self._slots[row] for row in rows]
        self._parts = [self._parts[row] for row in rows]
        self._moving = [self._moving[row] for row in rows]
        self._bind()
        return index


def _next(flow: Iterator[Tensor], _: Tensor) -> Tensor:
    return next(flow)


def place_tensors(slots: Sequence[tuple[Any, str, str]], tensors: dict[str, Any]) -> None:
    """Put tensors where a module keeps those of their names."""
    for part, attribute, name in slots:
        put_tensor(part, attribute, tensors[name])
