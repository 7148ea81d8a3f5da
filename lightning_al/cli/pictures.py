"""Pictures that a run of a certain kind of model ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning_al.assembly.building import class_of

__all__ = ["DENSITIES", "pictures"]

DENSITIES = "densities.png"
"""What was predicted of the items that were asked for last."""


def pictures(make: Callable[[], Any], model: Any) -> list[Any]:
    """Observers that draw what a model predicts.

    Args:
        make: builds the task.
        model: its settings.
    """
    from lightning_al.tasks import DensityRegression

    found = class_of(model) if isinstance(model, Mapping) else None
    if not (isinstance(found, type) and issubclass(found, DensityRegression)):
        return []
    from lightning_al.history.density_pictures import DensityPictures

    return [DensityPictures(make, DENSITIES)]
