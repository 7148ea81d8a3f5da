"""Randomness comes in: every draw is keyed by (run seed, round, role).

Library draws take the :func:`generator`; code that PyTorch offers no generator for (building a
network, a fit) runs inside :func:`seeded`.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["derive", "generator", "seeded"]


def derive(seed: int, round: int, role: str, *more: int | str) -> int:
    """A 63-bit seed for one role in one round; different keys give unrelated seeds.

    >>> derive(0, 1, "fit") == derive(0, 1, "fit"), derive(0, 1, "fit") == derive(0, 2, "fit")
    (True, False)
    """
    key = "/".join(map(str, (seed, round, role, *more)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1


def generator(seed: int, round: int, role: str, *more: int | str) -> torch.Generator:
    """A CPU generator for one role in one round (see :func:`derive`)."""
    return torch.Generator().manual_seed(derive(seed, round, role, *more))


@contextmanager
def seeded(seed: int, round: int, role: str) -> Iterator[None]:
    """Set the Python, NumPy and torch random state inside; put the old state back after."""
    key = derive(seed, round, role)
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(key)
        np.random.seed(key % 2**32)
        _seed_torch(key)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _seed_torch(key: int) -> None:
    if _accelerated():
        torch.manual_seed(key)
    else:  # a hundred times faster: it queues no seeds for devices that are not there
        torch.default_generator.manual_seed(key)


@functools.cache
def _accelerated() -> bool:
    return torch.accelerator.is_available()
