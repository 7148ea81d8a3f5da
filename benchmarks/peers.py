"""Other active-learning libraries, where they are installed; imported at the moment of need."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

__all__ = ["quiet", "with_peers"]

T = TypeVar("T")


def quiet() -> None:
    """Silence what Lightning and the peers say of themselves."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.ERROR)
    try:
        import structlog  # BaaL's
    except ImportError:
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def with_peers(
    ours: Mapping[str, T], peers: Mapping[str, tuple[str, Callable[[], T]]]
) -> tuple[dict[str, T], dict[str, str]]:
    """Our contenders and those peers that can be imported.

    Args:
        ours: name -> contender.
        peers: name -> (module to import, a function that builds the contender).

    Returns:
        The contenders, and why the others are missing.
    """
    if not hasattr(np, "float_"):  # PyRelationAL 1.0 was written for NumPy 1
        np.float_ = np.float64  # type: ignore[attr-defined]
    found, absent = dict(ours), {}
    for name, (module, build) in peers.items():
        try:
            importlib.import_module(module)
            found[name] = build()
        except Exception as error:  # a peer that is absent or broken is no failure of ours
            absent[name] = f"{type(error).__name__}: {error}"
    return found, absent
