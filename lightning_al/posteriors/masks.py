"""Dropout masks that make each member one function for all items, batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lightning_al.randomness import generator

__all__ = ["Masks", "dropout_layers"]

CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
SELU_FLOOR = -1.7580993408473766  # what AlphaDropout puts in place of dropped numbers


def dropout_layers(module: nn.Module) -> dict[str, _DropoutNd]:
    """All dropout layers by name, those with p = 0 included."""
    return {name: m for name, m in module.named_modules() if isinstance(m, _DropoutNd)}


@dataclass(frozen=True)
class _Drawn:
    """Masks of one call of one layer: kept numbers are ``x * scale + shift``."""

    scale: Tensor  # [S, *shape]
    shift: Tensor | None  # [S, *shape]

    def like(self, x: Tensor) -> _Drawn:
        if self.scale.device == x.device and self.scale.dtype == x.dtype:
            return self
        return _Drawn(self.scale.to(x), None if self.shift is None else self.shift.to(x))


def _affine(layer: _DropoutNd, p: float, keep: Tensor) -> _Drawn:
    kept = keep.float()
    if p >= 1:
        return _Drawn(torch.zeros_like(kept), None)
    if not isinstance(layer, ALPHA):
        return _Drawn(kept / (1 - p), None)
    # Klambauer et al. (2017), "Self-Normalizing Neural Networks": mean and variance are kept
    a = ((1 - p) * (1 + p * SELU_FLOOR**2)) ** -0.5
    return _Drawn(a * kept, a * SELU_FLOOR * (1 - kept - p))


class Masks:
    """The masks of S members, drawn at first sight per (seed, round, member, layer, call).

    A layer that is called several times in one pass has a mask for each call. A mask has the shape
    of an item, so that each number is dropped on its own; for ``Dropout1d/2d/3d`` and
    ``FeatureAlphaDropout`` it has one entry a channel (axis 1). Under ``per_channel``, and where a
    layer's first axis is not the batch, every mask has one entry a channel: axis 1 of inputs with
    four axes or more, the last axis of three.

    Args:
        seed: the run's seed.
        round: the round.
        members: S.
        per_channel: one entry a channel for all layers.
        least: the least probability that a layer drops with.
    """

    def __init__(
        self,
        seed: int,
        round: int,
        members: int,
        per_channel: bool = False,
        least: float = 0.0,
    ) -> None:
        self.seed, self.round, self.members = seed, round, members
        self.per_channel, self.least = per_channel, least
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.vary = False
        self._drawn: dict[str, _Drawn] = {}

    def p(self, layer: _DropoutNd) -> float:
        """The probability that a layer drops with."""
        return max(layer.p, self.least)

    def apply(
        self, name: str, layer: _DropoutNd, call: int, x: Tensor, members: range, n: int
    ) -> Tensor:
        """Drop numbers of ``x`` for one member or several.

        Args:
            name: of the layer.
            layer: its kind and probability.
            call: how often it was called before in this pass.
            x: its input [n, ...]; for several members [len(members) * n, ...], member by member,
                or [n, ...] where they share it.
            members: which.
            n: items in the batch.

        Returns:
            [len(members) * n, ...], member by member.

        Raises:
            ValueError: a layer whose channels differ from item to item.
        """
        count = len(members)
        shape = self._shape(layer, x, x.shape[0] in (n, count * n))
        drawn = self._draw(name, layer, call, shape).like(x)
        here = slice(members.start, members.stop)
        scale, shift = drawn.scale[here], None if drawn.shift is None else drawn.shift[here]
        if count == 1:
            out = x * scale[0]
            return out if shift is None else out + shift[0]
        each = x.unsqueeze(0) if x.shape[0] == n else x.reshape(count, -1, *x.shape[1:])
        out = each * scale.unsqueeze(1)
        out = out if shift is None else out + shift.unsqueeze(1)
        return out.flatten(0, 1)

    def _shape(self, layer: _DropoutNd, x: Tensor, batch_first: bool) -> tuple[int, ...]:
        item = tuple(x.shape[1:])
        if len(item) <= 1:
            return item
        if isinstance(layer, CHANNELS):
            return (item[0], *(1 for _ in item[1:]))
        if not self.per_channel and batch_first:
            return item
        return (1, item[1]) if len(item) == 2 else (item[0], *(1 for _ in item[1:]))

    def _draw(self, name: str, layer: _DropoutNd, call: int, shape: tuple[int, ...]) -> _Drawn:
        key = f"{name}#{call}" if call else name
        known = self.shapes.get(key)
        if known == shape:
            return self._drawn[key]
        if known is not None:
            self.vary = True
            if self.per_channel:
                raise ValueError(
                    f"dropout layer {name!r} met {known} and {shape} channels: a member cannot be "
                    "one function of items with different channels; use nn.Dropout1d/2d/3d, or "
                    "bring the items to one shape"
                )
        more = (call,) if call else ()
        keep = torch.stack(
            [
                torch.rand(
                    shape, generator=generator(self.seed, self.round, "mask", s, name, *more)
                )
                >= self.p(layer)
                for s in range(self.members)
            ]
        )
        self.shapes[key], self._drawn[key] = shape, _affine(layer, self.p(layer), keep)
        return self._drawn[key]
