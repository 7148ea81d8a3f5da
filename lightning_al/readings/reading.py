"""The contract of a reading, and how one is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from lightning_al.records.predictions import DENSITY
from lightning_al.registry import Registry

__all__ = ["READINGS", "Reading", "check_fields", "expected", "reading_of"]

READINGS: Registry[Reading] = Registry("reading")
"""Readings by name."""


@runtime_checkable
class Reading(Protocol):
    """What the raw output of a module is, and how fields are read off it.

    Raw outputs come as [n, S, *item]: the posterior samples behind the items. ``members`` says
    whether the module's own output has that axis already (an ensemble).
    """

    kind: ClassVar[str]  # "classification" or "regression": which strategies are for it
    gives: ClassVar[frozenset[str]]  # fields that it can be read for

    @property
    def members(self) -> bool:
        """Whether outputs have the posterior samples on their second axis."""
        ...

    def fields(self, raw: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
        """Those of ``gives`` that ``needs`` names, of raw outputs [n, S, *item].

        Raises:
            LookupError: a field that such an output has not.
            ValueError: an output that is no such thing.
        """
        ...

    def check(self, raw: Tensor, targets: Tensor | None) -> None:
        """Refuse raw outputs [n, S, *item] and targets [n, ...] that do not go together.

        Raises:
            ValueError: with the mend.
        """
        ...


def reading_of(spec: Any) -> Reading:
    """The reading that a name, ``{"name": …, **arguments}`` or an object is.

    Raises:
        LookupError: no such name.
        ValueError: no reading at all.
    """
    if isinstance(spec, str):
        return READINGS.build(spec)
    if isinstance(spec, Mapping):
        given = dict(spec)
        if "name" not in given:
            raise ValueError(
                f"a reading is a name of {', '.join(READINGS.names())}, or a mapping with `name` "
                f"and arguments, got {given}"
            )
        return READINGS.build(given.pop("name"), **given)
    if isinstance(spec, type) or not isinstance(spec, Reading):
        raise ValueError(
            f"a reading is a name of {', '.join(READINGS.names())}, a mapping with `name` and "
            f"arguments, or an object with `fields` and `check`, got {spec!r}"
        )
    return spec


def check_fields(reading: Reading, needs: Collection[str]) -> list[str]:
    """The fields of ``needs`` that are read off an output, embeddings left out.

    Raises:
        LookupError: one that the reading does not give.
    """
    wanted = [name for name in needs if name not in ("embedding", "head_input")]
    if missing := [name for name in wanted if name not in reading.gives]:
        mend = ""
        if set(missing) & set(DENSITY):
            mend = (
                "; whole densities come from DensityRegression, or from a module read as Density()"
            )
        elif "variance" in missing and reading.kind == "regression":
            mend = "; a variance comes from Numbers(given='gaussian') or a function that splits"
        raise LookupError(
            f"the strategy needs {missing}, and this {reading.kind} model gives "
            f"{sorted(reading.gives)}{mend}"
        )
    return wanted


def expected(what: str, raw: Tensor, mend: str) -> ValueError:
    """The error of an output that is not what was declared."""
    return ValueError(
        f"the output was declared to be {what}, and came as {list(raw.shape)} [n, S, …] (S "
        f"posterior samples); {mend}"
    )
