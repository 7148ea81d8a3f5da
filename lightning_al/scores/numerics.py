"""What the scores share: a safe p log p, one precision, and the checks of their inputs."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_members", "check_regression", "full", "one_output", "p_log_p", "wide"]


def full(values: Tensor) -> Tensor:
    """At least float32 (half precision has no room for p log p); float64 stays what it is."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def wide(values: Tensor) -> Tensor:
    """The same in float64, where the device has it."""
    return values if values.device.type == "mps" else values.double()


def p_log_p(probs: Tensor) -> Tensor:
    """P log p of each element, 0 at p = 0 (the kernel of `log` is vectorised, `entr`'s is not)."""
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log_().mul_(probs)


def check_regression(name: str, mean: Tensor, variance: Tensor | None = None) -> None:
    """Refuse what is not ``mean [N, S, D]``, and a variance of another shape.

    Raises:
        ValueError: another number of axes, or two shapes.
    """
    if mean.ndim != 3:
        raise ValueError(
            f"{name} needs mean [N, S, D], got {list(mean.shape)}; "
            "add the sample axis with mean[:, None], the output axis with mean[..., None]"
        )
    if variance is not None and variance.shape != mean.shape:
        raise ValueError(
            f"{name} needs mean and variance of one shape [N, S, D], got "
            f"{list(mean.shape)} and {list(variance.shape)}"
        )


def one_output(name: str, values: Tensor, output: int | None) -> Tensor:
    """The output to rank by: values [..., D] -> [...]; which one must be named where D > 1.

    Raises:
        ValueError: D > 1 without ``output``, or no such output.
    """
    outputs = values.shape[-1]
    if output is None and outputs != 1:
        raise ValueError(f"{name} ranks one output, got D = {outputs}; name it: output=0")
    if not 0 <= (output or 0) < outputs:
        raise ValueError(f"{name} got output={output}, but D = {outputs}; use 0 to {outputs - 1}")
    return values[..., output or 0]


def check_members(name: str, probs: Tensor) -> None:
    """Refuse what is not ``probs [N, S, C]``.

    Raises:
        ValueError: probs of another number of axes.
    """
    if probs.ndim != 3:
        raise ValueError(
            f"{name} needs probs [N, S, C], got {list(probs.shape)}; add the sample axis with "
            "probs[:, None], or fold places with over_places"
        )
