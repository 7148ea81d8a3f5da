"""How to get outputs and embeddings from any LightningModule; nothing has to be inherited."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lightning_al.readings import Classes, Numbers, Reading, Undeclared, reading_of

__all__ = ["Adapter", "call", "find", "listening"]


def call(function: Callable[..., Any], inputs: Any) -> Any:
    """``function(*inputs)`` for a tuple or list of inputs, else ``function(inputs)``."""
    return function(*inputs) if isinstance(inputs, (tuple, list)) else function(inputs)


def find(module: nn.Module, name: str, role: str) -> Any:
    """The submodule or method called ``name`` (dotted)."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if callable(found):
        return found
    layers = [n for n, _ in module.named_modules() if n]
    methods = [
        n for n, _ in inspect.getmembers(type(module), inspect.isfunction) if not n.startswith("_")
    ]
    near = difflib.get_close_matches(name, layers + methods, n=5, cutoff=0.4) or layers[-5:]
    raise LookupError(
        f"{type(module).__name__} has no layer or method {name!r}, named as the adapter's {role}; "
        f"close: {', '.join(near)}"
    )


@dataclass(frozen=True)
class Adapter:
    """Where outputs and embeddings are in a module, and what its outputs mean.

    Inputs are passed as ``function(inputs)``, a tuple of several as ``function(*inputs)``, and a
    dict as one argument.

    Args:
        output: method or submodule (dotted) that turns inputs [n, ...] into outputs [n, ...].
        embedding: a method; or a layer whose output, or with the suffix ``":input"`` whose input,
            is flattened to [n, E]; several layers are put side by side. A layer called more than
            once counts with its last call.
        reading: what the outputs are (see :mod:`lightning_al.readings`): a reading, its name, or
            ``{name: …, arguments}``. Without it, and without the two short forms below, outputs
            [n, C] are logits of one class an item, and anything else is refused.
        head: method or submodule that turns embeddings [n, E] into outputs, for strategies that
            ask what the model makes of a changed embedding. Where the embedding is the input of
            the last layer (``"fc:input"``), that layer is found without a name.
        pool: how an embedding with places, [n, E, *P], becomes [n, E]: "flatten" puts all numbers
            side by side, "mean" averages over the places.
        mask: of inputs that are mappings, the key of [n, *P] that says which places count (others
            are padding); or a method of the module that gives it for inputs.
        kind: short for a reading: "classification" is Classes(), "regression" is Numbers().
        output_is: short for its ``given``: "logits", "probs", "log_probs"; "mean", "gaussian", or
            a function that splits outputs.
        members: short for its ``members``: outputs have the posterior samples on their second axis.
    """

    output: str = "forward"
    embedding: str | tuple[str, ...] | None = None
    reading: Any = None
    head: str | None = None
    pool: Literal["flatten", "mean"] = "flatten"
    mask: str | None = None
    kind: Literal["classification", "regression"] | None = None
    output_is: Any = None
    members: bool = False

    def __post_init__(self) -> None:
        if self.pool not in ("flatten", "mean"):
            raise ValueError(f"pool is 'flatten' or 'mean', got {self.pool!r}")
        short = self.kind is not None or self.output_is is not None or self.members
        if self.reading is not None and short:
            raise ValueError("kind, output_is and members are short for a reading; give either")
        if self.kind not in (None, "classification", "regression"):
            raise ValueError(f"kind must be classification or regression, got {self.kind!r}")
        object.__setattr__(self, "reading", self._reading(short))
        for name, usual in (("kind", None), ("output_is", None), ("members", False)):
            object.__setattr__(self, name, usual)  # the reading says it all

    def _reading(self, short: bool) -> Reading:
        if self.reading is not None:
            return reading_of(self.reading)
        if not short:
            return Undeclared()
        if self.kind == "regression" or callable(self.output_is):
            if self.kind == "classification":
                raise ValueError("output_is can be a function for kind='regression' only")
            return Numbers(given=self.output_is or "mean", members=self.members)
        return Classes(given=self.output_is or "logits", members=self.members)

    @staticmethod
    def for_task(task: nn.Module) -> Adapter:
        """``task.adapter`` where the task has one, else ``forward`` gives logits."""
        own = getattr(task, "adapter", None)
        return own if isinstance(own, Adapter) else Adapter()

    def run(
        self, module: nn.Module, inputs: Any, embedding: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Raw outputs [n, ...] and, if asked for, embeddings [n, E]; one pass where layers allow.

        Raises:
            LookupError: a layer or method that is not there, or an embedding with no place named.
            ValueError: an output that is no tensor [n, ...].
        """
        function = find(module, self.output, "output")
        if not embedding:
            return self._checked(call(function, inputs)), None
        if self.embedding is None:
            raise LookupError(
                f"embeddings are asked for, and the adapter of {type(module).__name__} names none; "
                "name a layer, for instance Adapter(embedding='model.fc:input')"
            )
        names = (self.embedding,) if isinstance(self.embedding, str) else self.embedding
        layers, parts = [], []
        for name in names:
            found = find(module, name.removesuffix(":input"), "embedding")
            if isinstance(found, nn.Module):
                layers.append((name, found))
            else:
                parts.append(call(found, inputs))
        with listening(layers) as heard:
            raw = self._checked(call(function, inputs))
        if silent := [name for name, _ in layers if name not in heard]:
            raise LookupError(f"{self.output} never calls the embedding layer {silent[0]!r}")
        parts += [heard[name] for name, _ in layers]
        return raw, torch.cat([self._flat(part, raw) for part in parts], dim=1)

    def outputs(self, module: nn.Module, inputs: Any) -> Tensor:
        """Raw outputs [n, ...]."""
        return self.run(module, inputs)[0]

    def sampled(self, raw: Tensor) -> Tensor:
        """Raw outputs of the module [n, ...] as those of its members [n, S, ...]."""
        return raw if self.reading.members else raw.unsqueeze(1)

    def places(self, module: nn.Module, inputs: Any) -> Tensor | None:
        """Which places of the items count, bool [n, *P]; None where all do.

        Raises:
            LookupError: neither a key of the inputs nor a method of the module.
        """
        if self.mask is None:
            return None
        if isinstance(inputs, Mapping) and self.mask in inputs:
            return cast(Tensor, inputs[self.mask]).bool()
        return cast(Tensor, call(find(module, self.mask, "mask"), inputs)).bool()

    def _checked(self, raw: Any) -> Tensor:
        if not isinstance(raw, Tensor) or raw.ndim < 1:
            got = list(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise ValueError(
                f"{self.output} must return a tensor [n, ...], got {got}; name a method or layer "
                "that does in Adapter(output=…)"
            )
        return raw

    def _flat(self, part: Any, raw: Tensor) -> Tensor:
        if not isinstance(part, Tensor) or part.ndim < 1 or part.shape[0] != raw.shape[0]:
            got = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(
                f"the embedding {self.embedding!r} must be a tensor [{raw.shape[0]}, ...] with one "
                f"row an item, got {got}"
            )
        if self.pool == "mean" and part.ndim > 2:
            part = part.flatten(2).mean(2)
        return part.reshape(part.shape[0], -1).float()


@contextmanager
def listening(layers: list[tuple[str, nn.Module]]) -> Iterator[dict[str, Any]]:
    """Collect the outputs (or inputs) of some layers; the hooks are removed in any case.

    PyTorch's fused attention skips submodules, so it is off inside.
    """
    heard: dict[str, Any] = {}
    handles = []
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        for name, layer in layers:

            def hear(
                _: nn.Module,
                args: tuple[Any, ...],
                kwargs: dict[str, Any],
                out: Any,
                name: str = name,
            ) -> None:
                given = args[0] if args else next(iter(kwargs.values()), None)
                heard[name] = given if name.endswith(":input") else out

            handles.append(layer.register_forward_hook(hear, with_kwargs=True))
        torch.backends.mha.set_fastpath_enabled(fused and not layers)
        yield heard
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for handle in handles:
            handle.remove()
