"""What a step inside ``vmap`` draws: each replica from a stream of its own, as if it were alone.

A replica that is fitted alone draws its masks from torch's global state, seeded for its fit. Here
each has a generator that stands where that state would stand, and dropout takes row ``r`` of a
mask from generator ``r``. Drawing is the same call with the same shape and the same probability, so
the numbers are the same to the last bit. Other draws, such as the dropout inside of an attention
layer, are errors in ``vmap``, and such a module is not stacked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lightning_al.compat import beneath_vmap
from lightning_al.fits.recorder import NotPlain
from lightning_al.randomness import derive

__all__ = ["Streams", "fit_stream"]

CHANNELS = {F.dropout1d: 3, F.dropout2d: 4, F.dropout3d: 5}
"""Dropout of whole channels, with the number of axes of its inputs."""


def fit_stream(seed: int, round: int) -> torch.Generator:
    """A generator that stands where the global state does when the fit of a run begins."""
    return torch.Generator().manual_seed(derive(seed, round, "fit"))


class Streams(TorchFunctionMode):
    """Inside, functions that ``vmap`` cannot run as they are give what each replica would get.

    Args:
        generators: one a row [R]; None for a row whose fit is over.
    """

    def __init__(self, generators: Sequence[torch.Generator | None]) -> None:
        super().__init__()
        self.generators = list(generators)
        self.doubts: list[tuple[str, Tensor]] = []  # what must hold of no row, and where it does

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, or what stands for it here."""
        given = kwargs or {}
        stand_in = STAND_INS.get(func)
        if stand_in is None:
            return func(*args, **given)
        return stand_in(self, func, *args, **given)

    # --- dropout -----------------------------------------------------------------------------

    def dropout(
        self, func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        """``F.dropout`` and its kin of channels, by own streams."""
        if not training or not 0 < p < 1 or not input.numel():
            return func(input, p, training, inplace)  # type: ignore[no-any-return]
        axes = CHANNELS.get(func)
        if axes is not None and input.ndim != axes:
            raise NotPlain(f"{func.__name__} of inputs with {input.ndim} axes")
        mask = beneath_vmap(lambda rows: self._masks(rows, 1 - p, axes is not None), input)
        if mask is None:  # nothing in it differs between replicas, yet their masks do
            raise NotPlain("dropout of what is no function of weights or data")
        return input.mul_(mask) if inplace else input * mask

    def _masks(self, rows: Tensor, keep: float, channels: bool) -> Tensor:
        """Scaled masks [R, ...] for inputs [R, ...]."""
        if len(rows) != len(self.generators):
            raise NotPlain("a layer of dropout sees another number of replicas")
        if channels:
            masks = rows.new_empty((*rows.shape[:3], *[1] * (rows.ndim - 3)))
        else:
            masks = torch.empty_like(rows)
        for row, generator in zip(masks.unbind(0), self.generators, strict=True):
            if generator is not None:
                row.bernoulli_(keep, generator=generator)
        return masks.div_(keep)

    # --- checks that look at values ------------------------------------------------------------

    def gaussian_nll(
        self,
        func: Any,
        input: Tensor,
        target: Tensor,
        var: Tensor | float,
        full: bool = False,
        eps: float = 1e-6,
        reduction: str = "mean",
    ) -> Tensor:
        """``F.gaussian_nll_loss``, whose look at the sign of the variance comes after the step."""
        plain = isinstance(var, Tensor) and var.shape == input.shape and reduction in REDUCED
        if not plain:
            return func(input, target, var, full, eps, reduction)  # type: ignore[no-any-return]
        assert isinstance(var, Tensor)
        self.doubts.append(("gaussian_nll_loss has a negative variance", (var < 0).any()))
        floored = var.clone()
        with torch.no_grad():
            floored.copy_(floored.clamp(min=eps))  # clamp_ would go row by row
        loss = 0.5 * (torch.log(floored) + (input - target) ** 2 / floored)
        if full:
            loss = loss + 0.5 * math.log(2 * math.pi)
        return REDUCED[reduction](loss)


def _whole(loss: Tensor) -> Tensor:
    return loss


REDUCED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    "sum": torch.sum,
    "none": _whole,
}
STAND_INS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((F.dropout, *CHANNELS), Streams.dropout),
    F.gaussian_nll_loss: Streams.gaussian_nll,
}
