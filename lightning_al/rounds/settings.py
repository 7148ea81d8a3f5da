"""Settings, data and choices that cannot work, refused before they cost anything."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from lightning_al.fits.weights import WEIGHTS
from lightning_al.records import Acquisition, Box
from lightning_al.scoring.bank import check_features

if TYPE_CHECKING:
    from .driver import ActiveLearner

__all__ = ["check_choice", "check_data", "check_settings", "strategy_name"]


def strategy_name(spec: Any, strategy: Any) -> str:
    """A short name for folders and legends."""
    if isinstance(spec, str):
        return spec
    if isinstance(spec, Mapping):
        return str(spec.get("name") or str(spec.get("class_path", "")).rpartition(".")[2])
    return str(getattr(strategy, "name", "") or type(strategy).__name__)


def check_settings(it: ActiveLearner, strategy: Any, name: str) -> None:
    """Refuse what no data set could make work.

    Raises:
        ValueError: a number or word that makes no sense, or a privileged strategy.
        LookupError: an unknown weights policy.
    """
    if it.query_size < 1:
        raise ValueError(f"query_size must be at least 1, got {it.query_size}")
    if it.budget < it.query_size:
        raise ValueError(
            f"the budget of {it.budget} is smaller than one query of {it.query_size}; "
            "raise the budget or lower query_size"
        )
    if it.cost_budget is not None and not (isfinite(it.cost_budget) and it.cost_budget >= 0):
        raise ValueError(f"cost_budget must be a finite number from 0, got {it.cost_budget}")
    if it.hit_ratio_at is not None and not 0 < it.hit_ratio_at < 1:
        raise ValueError(f"hit_ratio_at must be a share between 0 and 1, got {it.hit_ratio_at}")
    WEIGHTS.factory(it.weights)
    for what, value, valid in (
        ("restore", it.restore, ("last", "best")),
        ("keep_checkpoints", it.keep_checkpoints, ("all", "last")),
    ):
        if value not in valid:
            raise ValueError(f"{what} must be one of {', '.join(valid)}, got {value!r}")
    if strategy.privileged and not it.privileged:
        raise ValueError(f"strategy {name!r} reads labels of the pool; it runs only inside `bench`")
    if it.features is not None:
        check_features(it.features)


def check_data(it: ActiveLearner) -> None:
    """Refuse data that allow no first round.

    Raises:
        ValueError: an empty pool, or one smaller than a query.
    """
    n = len(it.datamodule.pool)
    if n == 0:
        raise ValueError("the pool is empty: every item is labelled or held out already")
    if getattr(it.datamodule, "box", None) is not None:
        for what in ("features", "hit_ratio_at"):
            if getattr(it, what) is not None:
                raise ValueError(
                    f"{what} is for pools: the candidates of a box are others in each round; "
                    "leave it out"
                )
    if it.query_size > n:
        raise ValueError(f"cannot acquire {it.query_size} of {n} candidates; lower query_size")


def check_choice(
    chosen: Acquisition, k: int, pool: torch.Tensor, name: str, box: Box | None = None
) -> None:
    """Refuse what a strategy must never do: repeat itself, or choose outside the pool.

    Raises:
        ValueError: it did, or chose nothing or too many.
    """
    index = chosen.index
    if chosen.x is not None and index is None:
        _check_places(chosen.x, k, name, box)
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


def _check_places(x: torch.Tensor, k: int, name: str, box: Box | None) -> None:
    if box is None:
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
