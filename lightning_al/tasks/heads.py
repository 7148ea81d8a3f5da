"""The part of a fitted module from its embedding to its outputs, found and checked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .adapter import Adapter, call, find, listening

__all__ = ["find_head"]

EXACT, ROUNDED = 1e-4, 3e-2  # of the largest output: float32 and float64, shorter floats
MEND = "name a method or layer that does it: Adapter(head=…), from embeddings [n, E] to outputs"


def find_head(
    module: nn.Module, adapter: Adapter, inputs: Any, device: torch.device | None = None
) -> Callable[[Tensor], Tensor]:
    """What a module makes of an embedding: [n, E] -> logits [n, S, C, *P], or means [n, S, D].

    The function works on a copy of the layers, in eval mode, whose parameters ask for no gradient;
    it is differentiable, and takes and gives tensors of any device.

    Args:
        module: the fitted module, in eval mode, where the inputs lie.
        adapter: names the head; else the layers whose inputs are the embedding are taken, one for
            each member where there are several.
        inputs: a small batch, on which the head must give what the module gives.
        device: where the head works; default: where the module lies.

    Raises:
        LookupError: no head can be told, or what was told does not give the module's outputs.
    """
    with torch.no_grad():
        raw, embedding = adapter.run(module, inputs, embedding=True)
        assert embedding is not None  # asked for in the line above
        if adapter.head is not None:
            inner = _named(module, adapter.head)
        else:
            inner = _layers(module, adapter, inputs)
    kept = next(iter(inner.parameters()), raw)
    place = torch.device(raw.device if device is None else device)
    inner.to(place)
    field = "logits" if adapter.reading.kind == "classification" else "mean"

    def fields(raw: Tensor) -> Tensor:
        return adapter.reading.fields(adapter.sampled(raw), [field])[field]

    def head(points: Tensor) -> Tensor:
        out = inner(points.to(place, kept.dtype))
        home = next(iter(module.parameters()), out).device  # adapters may use the module's buffers
        return fields(out.to(home)).to(points.device)

    with torch.no_grad():
        _check(head, embedding, fields(raw), raw.dtype, type(module))
    return head


class _Method(nn.Module):
    """A method of a module as a module, so that a copy can be made and moved."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, points: Tensor) -> Any:
        return find(self.module, self.name, "head")(points)


class _SideBySide(nn.Module):
    """Layers that each read their part of an embedding [n, E], each part shaped as it was.

    One layer gives its outputs, several give them stacked: [n, S, ...].
    """

    def __init__(self, layers: list[nn.Module], shapes: list[torch.Size]) -> None:
        super().__init__()
        self.layers, self.shapes = nn.ModuleList(layers), shapes

    def forward(self, points: Tensor) -> Tensor:
        parts = points.split([shape.numel() for shape in self.shapes], dim=1)
        given = [p.reshape(-1, *shape) for p, shape in zip(parts, self.shapes, strict=True)]
        out = [layer(part) for layer, part in zip(self.layers, given, strict=True)]
        return out[0] if len(out) == 1 else torch.stack(out, dim=1)


def _named(module: nn.Module, name: str) -> nn.Module:
    found = find(module, name, "head")
    return _frozen(found if isinstance(found, nn.Module) else _Method(module, name))


def _frozen(part: nn.Module) -> nn.Module:
    return copy.deepcopy(part).eval().requires_grad_(False)


def _layers(module: nn.Module, adapter: Adapter, inputs: Any) -> nn.Module:
    """The layers whose inputs the embedding is."""
    given = adapter.embedding
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if not names or not all(name.endswith(":input") for name in names):
        raise LookupError(
            f"what follows the embedding {given!r} cannot be told, only what follows the input of "
            f"a layer ('fc:input'); {MEND}"
        )
    layers = [find(module, name.removesuffix(":input"), "embedding") for name in names]
    if not all(isinstance(layer, nn.Module) for layer in layers):
        raise LookupError(f"{given!r} names a method, which has no layer that follows; {MEND}")
    with listening(list(zip(names, layers, strict=True))) as heard:
        call(find(module, adapter.output, "output"), inputs)
    return _SideBySide([_frozen(layer) for layer in layers], [heard[n].shape[1:] for n in names])


def _check(
    head: Callable[[Tensor], Tensor],
    embedding: Tensor,
    wanted: Tensor,
    dtype: torch.dtype,
    owner: type,
) -> None:
    """Refuse a head that does not give the module's outputs [n, S, ...] for its embedding."""
    problem: str | Exception
    try:
        got = head(embedding)
        problem = f"it gives {list(got.shape)} for {list(wanted.shape)}"
        if got.shape == wanted.shape:
            share = EXACT if dtype in (torch.float32, torch.float64) else ROUNDED
            told = wanted.isfinite()  # items with NaN tell nothing
            apart = _largest((got - wanted)[told])
            size = _largest(wanted[told])
            if apart <= share * size:
                return
            problem = f"outputs of size {size:.3g} come out {apart:.3g} apart"
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        problem = error
    raise LookupError(
        f"the head of {owner.__name__} does not give its outputs ({problem}): other layers or "
        f"inputs take part; {MEND}"
    )


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
