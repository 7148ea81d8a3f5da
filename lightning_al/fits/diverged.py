"""Fits that end with weights that are no numbers."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import Parameter

__all__ = ["Diverged", "refuse_diverged"]


class Diverged(ValueError):
    """A fit ended with weights that are not finite."""


def refuse_diverged(module: Any, round: int) -> None:
    """Refuse weights that are not finite.

    Raises:
        Diverged: a weight is not.
    """

    def bad(value: Any) -> bool:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return False
        # a buffer may hold infinities (attention masks), never NaN
        return bool((~value.isfinite() if isinstance(value, Parameter) else value.isnan()).any())

    for name, value in module.state_dict(keep_vars=True).items():
        if bad(value):
            raise Diverged(
                f"the fit of round {round} diverged: {name} is not finite; lower the learning "
                "rate, clip gradients (trainer.gradient_clip_val), or look for NaN in the features"
            )
