"""Settings, data and choices that cannot work, refused before they cost anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lightning_al.fits.weights import WEIGHTS
from lightning_al.records import Acquisition, Box, Domain, Finite, RunPlan
from lightning_al.scoring.bank import check_features

from .parts import Parts

__all__ = ["check_choice", "check_data", "check_settings"]

FINITE = Finite()


def check_settings(plan: RunPlan, parts: Parts) -> None:
    """Refuse what no data set could make work.

    Raises:
        ValueError: a privileged strategy.
        LookupError: an unknown weights policy.
        TypeError: a ``config`` that is no mapping.
    """
    WEIGHTS.factory(plan.weights)
    if parts.config is not None and not isinstance(parts.config, Mapping):
        raise TypeError(
            f"config must be plain values by name, such as {{'data': 'mine'}}, got a "
            f"{type(parts.config).__name__}"
        )
    if parts.strategy.privileged and not plan.privileged:
        raise ValueError(
            f"strategy {parts.name!r} reads labels of the pool; it runs only inside `bench`"
        )
    if parts.first.privileged and not plan.privileged:
        raise ValueError(
            f"the first strategy {parts.first_name!r} reads labels of the pool; it runs only "
            "inside `bench`"
        )
    if parts.features is not None:
        check_features(parts.features)


def check_data(plan: RunPlan, datamodule: Any) -> None:
    """Refuse data that allow no first round.

    Raises:
        ValueError: an empty pool, or one smaller than a query.
    """
    n = len(datamodule.pool)
    if n == 0:
        raise ValueError("the pool is empty: every item is labelled or held out already")
    if isinstance(datamodule.domain, Box):
        for what in ("features", "hit_ratio_at"):
            if getattr(plan, what) is not None:
                raise ValueError(
                    f"{what} is for pools: the candidates of a box are others in each round; "
                    "leave it out"
                )
    if plan.query_size > n:
        raise ValueError(f"cannot acquire {plan.query_size} of {n} candidates; lower query_size")


def check_choice(
    chosen: Acquisition, k: int, pool: torch.Tensor, name: str, domain: Domain = FINITE
) -> None:
    """Refuse what a strategy must never do: repeat itself, or choose outside the pool.

    Raises:
        ValueError: it did, or chose nothing or too many.
    """
    index = chosen.index
    if chosen.x is not None and index is None:
        _check_places(chosen.x, k, name, domain)
        return
    if index is None or len(index) == 0:
        raise ValueError(f"strategy {name!r} chose nothing; it must choose {k} of {len(pool)}")
    if len(index.unique()) != len(index):
        raise ValueError(f"strategy {name!r} chose an item twice: {index.tolist()[:20]}")
    if len(index) > k:
        raise ValueError(f"strategy {name!r} chose {len(index)} items where {k} were due")
    places = torch.searchsorted(pool, index.to(pool)).clamp_max(len(pool) - 1)  # the pool ascends
    if not bool((pool[places] == index).all()):
        raise ValueError(
            f"strategy {name!r} chose items outside the pool; it must return "
            "candidates.index[rows], positions in the data set"
        )
    if chosen.scores is not None and len(chosen.scores) != len(index):
        raise ValueError(
            f"strategy {name!r} chose {len(index)} items and gave {len(chosen.scores)} scores; "
            "an acquisition's scores are those of the chosen items"
        )


def _check_places(x: torch.Tensor, k: int, name: str, box: Domain) -> None:
    if not isinstance(box, Box):
        raise ValueError(
            f"strategy {name!r} chose places, but the pool is finite; it must return "
            "candidates.index[rows], positions in the data set"
        )
    d = len(box.low)
    if x.ndim != 2 or x.shape[1] != d or not 1 <= len(x) <= k:
        raise ValueError(
            f"strategy {name!r} must choose 1 to {k} places [K, {d}], got {list(x.shape)}"
        )
    if not bool(x.isfinite().all()) or not box.holds(x.double()):
        raise ValueError(
            f"strategy {name!r} chose a place outside the box {box.low.tolist()} to "
            f"{box.high.tolist()}: {x[:3].tolist()}"
        )
