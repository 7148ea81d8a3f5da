"""Hyper-parameters of a Gaussian process task from a network that was trained beforehand."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

__all__ = ["SHIPPED", "ask", "check"]

SHIPPED = "amortised-gp"


def check(amortised: bool, surrogate: str | None, alone: bool, given: Collection[Any]) -> None:
    """Refuse settings that such a network has no use for, and load it.

    Args:
        amortised: the hyper-parameters are to come from a network.
        surrogate: name or path; None for the shipped one.
        alone: the kernel is "rbf" with a length scale a feature.
        given: settings that have to be None.

    Raises:
        ValueError: with the mend.
        LookupError: no such network.
    """
    if amortised and (not alone or any(value is not None for value in given)):
        raise ValueError(
            "hyperparameters='amortised' means rbf with a length scale a feature, on standardised "
            "data without safety, from a network; leave the rest out, or use 'map'"
        )
    if amortised:
        _load(surrogate)
    elif surrogate is not None:
        raise ValueError(f"surrogate={surrogate!r} is for hyperparameters='amortised'")


def ask(surrogate: str | None, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Length scales [D, d], output scales [D] and noise [D] for x [n, d], y [n, D]; float64."""
    from lightning_al.surrogates.amortised_gp import hyperparameters_of  # inside: seldom used

    found = [hyperparameters_of(_load(surrogate), x, column) for column in y.T]
    scale, output, noise = (torch.stack(part) for part in zip(*found, strict=True))
    return scale, output, noise


def _load(surrogate: str | None) -> Any:
    from lightning_al.surrogates import load  # inside: seldom used

    return load(surrogate or SHIPPED, "AmortisedGP").network
