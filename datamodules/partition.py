"""Fixed parts of a data set, and features standardised on the rows that learning may see."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_al.randomness import generator

from .splits import draw, share_to_count

__all__ = ["held_out", "in_unit_range", "scaling"]


def held_out(
    labelled: Tensor,
    *,
    test: float | None,
    val: float | None,
    seed: int,
    classes: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Draw the test and the validation part among the items that have labels.

    The parts depend on the data and ``seed`` alone, not on the seed of a run.

    Args:
        labelled: positions of items with labels [M].
        test: share in (0, 1) or count; None where the test data lie elsewhere.
        val: the same; None or 0 for no validation part. Shares are of all M.
        seed: of the draws.
        classes: of the M items; given, each class gets its share.

    Returns:
        sorted positions of the test part and of the validation part; None where not asked for.

    Raises:
        ValueError: no test items, or none left to learn from.
    """
    sizes = {"test": test, "val": val or None}
    counts = {n: share_to_count(s, len(labelled), n) for n, s in sizes.items() if s is not None}
    if counts.get("test") == 0:
        raise ValueError(f"test={test} gives no test item; give a share in (0, 1) or a count")
    if sum(counts.values()) >= len(labelled):
        wanted = " and ".join(f"{name}={sizes[name]}" for name in counts)
        raise ValueError(
            f"{wanted} would take all of the {len(labelled)} items that have a label; "
            "none is left to learn from: lower them or label more"
        )
    parts: dict[str, Tensor] = {}
    free = torch.ones(len(labelled), dtype=torch.bool)
    for name, count in counts.items():
        strata = None if classes is None else classes[free]
        parts[name] = draw(labelled[free], count, generator(seed, 0, f"hold-{name}"), labels=strata)
        free &= ~torch.isin(labelled, parts[name])
    return parts.get("test"), parts.get("val")


def scaling(features: Tensor, *held: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the columns of ``features`` [N, E] over the rows that are not held out.

    A column that is constant there gets the deviation 1, so that it becomes zero and not NaN.
    Missing values (NaN) are left out of both.

    Returns:
        mean [E] and population deviation [E], float64; NaN for a column without any value.
    """
    mask = torch.ones(len(features), dtype=torch.bool)
    for part in held:
        if part is not None:
            mask[part] = False
    seen = features[mask].double()
    mean = seen.nanmean(0)
    std = (seen - mean).square().nanmean(0).sqrt()
    centre = seen.nan_to_num(torch.inf).amin(0)
    constant = centre == seen.nan_to_num(-torch.inf).amax(0)
    return torch.where(constant, centre, mean), torch.where(constant, 1.0, std)


def in_unit_range(values: Tensor, seen: Tensor) -> Tensor:
    """Values [N, ...] brought to [0, 1] by the range of the rows that are seen (bool [N]).

    Others may lie outside; what is constant among them becomes 0.
    """
    low, high = values[seen].amin(0), values[seen].amax(0)
    spread = high - low
    return torch.where(spread > 0, (values - low) / torch.where(spread > 0, spread, 1), 0)
