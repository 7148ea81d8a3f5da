"""A copy of a module through which all replicas take a step at once.

``torch.func.vmap`` runs the user's own ``training_step`` once, with a first axis on every tensor
that it does not see. Whatever the step would do to the outside, log a value, feed a metric, add to
an attribute, is noted down, and done for each replica afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchmetrics import MetricCollection

from lightning_al.fits.recorder import NotPlain

from .fields import METRICS, Fields, fields_in, leaves, parts_of, rebuilt, set_field
from .rows import Rows, named_slots, place_tensors
from .streams import Streams

__all__ = ["Note", "Shell"]


@dataclass(frozen=True)
class Note:
    """Something that a step did to the outside; its tensors have a first axis of replicas.

    Args:
        what: the method that was called.
        whose: name of the part that it is of.
        args: its arguments.
        named: its arguments by name.
    """

    what: str
    whose: str
    args: Any
    named: Any


@dataclass(frozen=True)
class Named:
    """Stands for a part of the module among noted arguments."""

    name: str


class Shell:
    """A module that stands for all replicas in one kind of step.

    Args:
        leader: one of them, attached to its trainer; it is copied.
        step: name of the method, such as ``training_step``.
        apart: names of further methods that are done for each replica afterwards.
    """

    def __init__(self, leader: Any, step: str, apart: Sequence[str] = ()) -> None:
        attached, leader.trainer = leader.trainer, None
        ours = {id(t): t for t in (*leader.parameters(), *leader.buffers())}  # soon others' places
        try:
            self.module: Any = copy.deepcopy(leader, ours)
        finally:
            leader.trainer = attached
        self.module.trainer = attached
        self.slots = named_slots(self.module)
        self.parts = dict(self.module.named_modules())
        self._own = {id(part): name for name, part in self.parts.items()}
        self._moving = parts_of(self.module, moving=True)
        self._notes: list[Note] = []
        self.step = step
        self._watch(apart)
        method = getattr(self.module, step)
        self._call: Callable[..., Any] = method
        self._both = is_param_in_hook_signature(method, "batch_idx", min_args=2)

    @property
    def fields(self) -> Fields:
        """Its attributes that steps may change."""
        return fields_in(self._moving)

    # --- what is noted down ------------------------------------------------------------------

    def _watch(self, apart: Sequence[str]) -> None:
        module = self.module
        vars(module)["log"] = self._noting("log", "")
        plain_dict = type(module).log_dict

        def log_dict(dictionary: Any, *args: Any, **named: Any) -> None:
            if isinstance(dictionary, MetricCollection):
                self._note("log_dict", "", (dictionary, *args), named)
            else:
                plain_dict(module, dictionary, *args, **named)

        vars(module)["log_dict"] = log_dict
        for name in apart:
            vars(module)[name] = self._noting(name, "")
        for name, part in self.parts.items():
            if isinstance(part, METRICS):
                vars(part)["update"] = self._noting("update", name)
                vars(part)["forward"] = vars(part)["compute"] = self._refusing(name)

    def _noting(self, what: str, whose: str) -> Callable[..., None]:
        def noted(*args: Any, **named: Any) -> None:
            self._note(what, whose, args, named)

        return noted

    def _note(self, what: str, whose: str, args: Any, named: Any) -> None:
        self._notes.append(Note(what, whose, self._by_name(args), self._by_name(named)))

    @staticmethod
    def _refusing(name: str) -> Callable[..., None]:
        def refuse(*_: Any, **__: Any) -> None:
            raise NotPlain(f"a step asks the metric {name} for its value")

        return refuse

    def _by_name(self, value: Any) -> Any:
        """The value with parts of the module by their names."""
        if isinstance(value, nn.Module):
            if id(value) not in self._own:
                raise NotPlain(f"a step hands on a {type(value).__name__} that is no part of it")
            return Named(self._own[id(value)])
        if type(value) is dict:
            return {key: self._by_name(inner) for key, inner in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self._by_name(inner) for inner in value)
        return value

    # --- a step of all -----------------------------------------------------------------------

    def __call__(
        self, rows: Rows, batch: Any, place: int, streams: Streams
    ) -> tuple[Any, list[Note]]:
        """What the step returns, with losses [R], and what it did to the outside.

        Args:
            rows: the replicas; their attributes and buffers are changed as the step changes them.
            batch: tensors [R, n, ...].
            place: of the batch.
            streams: of the rows.

        Raises:
            NotPlain: a value that the step must not have.
        """
        shape: list[Any] = []
        names, parts = list(rows.tensors), self.parts
        given = (*rows.tensors.values(), *leaves(rows.fields), *leaves(batch))

        def one(*flat: Tensor) -> tuple[Tensor, ...]:
            flow = iter(flat)
            tensors = {name: next(flow) for name in names}
            place_tensors(self.slots, tensors)
            for (part, attribute), value in rows.fields.items():
                set_field(parts[part], attribute, rebuilt(value, lambda _: next(flow)))
            items = rebuilt(batch, lambda _: next(flow))
            self._notes.clear()
            streams.doubts.clear()
            made = self._call(items, place) if self._both else self._call(items)
            changed = self._replaced(tensors)
            fields = {k: v for k, v in self.fields.items() if any(True for _ in leaves(v))}
            notes = [[note.args, note.named] for note in self._notes]
            doubts = [doubt for _, doubt in streams.doubts]
            shape[:] = [made, [fields, changed, notes, doubts]]
            out = [torch.zeros(()), *leaves(made), *(t.detach() for t in leaves(shape[1]))]
            return tuple(out)

        with streams, sdpa_kernel(SDPBackend.MATH):  # other kernels go row by row
            flow = iter(torch.vmap(one, randomness="error")(*given)[1:])
        made, kept = rebuilt(shape, lambda _: next(flow))
        fields, changed, notes, doubts = kept
        for (why, _), found in zip(streams.doubts, doubts, strict=True):
            if bool(found.any()):
                raise NotPlain(why)
        rows.fields = {key: rebuilt(value, Tensor.contiguous) for key, value in fields.items()}
        rows.take_over(list(changed.items()))
        said = [
            Note(note.what, note.whose, args, named)
            for note, (args, named) in zip(self._notes, notes, strict=True)
        ]
        return made, said

    def _replaced(self, tensors: dict[str, Any]) -> dict[str, Tensor]:
        """Buffers that the step has put another tensor in the place of."""
        found: dict[str, Tensor] = {}
        for part, attribute, name in self.slots:
            value = getattr(part, attribute)
            if value is not tensors[name]:
                found[name] = value
        return found

    def told(self, value: Any, rows: Rows, row: int) -> Any:
        """Noted arguments as one replica has them: its parts of the module, its rows of tensors."""
        if isinstance(value, Named):
            return rows.part(row, value.name)
        if isinstance(value, Tensor):
            return value[row]
        if type(value) is dict:
            return {key: self.told(inner, rows, row) for key, inner in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.told(inner, rows, row) for inner in value)
        return value
