"""A strategy is score after selector: the composition that most strategies are one line of."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import CodeType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_al import measures
from lightning_al.records import Acquisition, Context, Pool, Predictions

from .selection import RESOLUTION, range_resolution, relative_resolution, top_k

__all__ = [
    "Described",
    "Relative",
    "ScoreStrategy",
    "acquired",
    "describe",
    "resolution_of",
    "select",
]

Relative = bool | Literal["range"]
"""Whether a score's unit is arbitrary, and with "range" its zero too."""

PLACED = ("probs", "logits")


def describe(value: Any) -> str:
    """A text that names a value in every process alike: no memory addresses.

    Functions appear as ``module.qualname`` (nameless ones with a hash of their code), partials
    as calls; dataclasses of this package use it as their ``repr``.

    >>> describe(functools.partial(max, [1, 2], default=0))
    'builtins.max([1, 2], default=0)'
    """
    if isinstance(value, functools.partial):
        given = [*map(describe, value.args)]
        given += [f"{name}={describe(v)}" for name, v in sorted(value.keywords.items())]
        return f"{describe(value.func)}({', '.join(given)})"
    if isinstance(value, list | tuple):
        inner = ", ".join(map(describe, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {describe(v)}" for k, v in value.items()) + "}"
    if callable(value) and hasattr(value, "__qualname__"):
        name = f"{value.__module__}.{value.__qualname__}"
        code = getattr(value, "__code__", None)
        return f"{name}#{_digest(code)}" if "<" in name and code is not None else name
    return repr(value)


def _digest(code: CodeType) -> str:
    plain = [c for c in code.co_consts if c is None or isinstance(c, int | float | str | bytes)]
    return hashlib.sha256(repr((code.co_code, code.co_names, plain)).encode()).hexdigest()[:8]


class Described:
    """Equality, hash and repr of a frozen dataclass by :func:`describe` of its fields."""

    def __repr__(self) -> str:
        values = ((f.name, getattr(self, f.name)) for f in fields(self) if f.repr)  # type: ignore[arg-type]
        inner = ", ".join(f"{name}={describe(value)}" for name, value in values)
        return f"{type(self).__name__}({inner})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def select(
    selector: Callable[..., Tensor],
    scores: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    relative: Relative = False,
) -> Tensor:
    """Rows [K] chosen by a kernel of :mod:`.selection`, at the resolution that fits the units."""
    if relative:
        return selector(scores, k, generator, resolution=resolution_of(scores, relative))
    return selector(scores, k, generator)


def resolution_of(scores: Tensor, relative: Relative) -> float:
    """Scores that differ by less are ties."""
    if not relative:
        return RESOLUTION
    return range_resolution(scores) if relative == "range" else relative_resolution(scores)


def acquired(candidates: Pool, rows: Tensor, scores: Tensor | None = None) -> Acquisition:
    """The acquisition of some rows [K] of a pool; ``scores`` [N] are those of the whole pool."""
    return Acquisition(
        index=candidates.index[rows.to(candidates.index.device)],
        scores=None if scores is None else scores[rows],
    )


@dataclass(frozen=True, repr=False, eq=False)
class ScoreStrategy(Described):
    """Scores each item by itself inside its batch, then selects from the scores of all.

    ``ScoreStrategy(my_score)`` makes any function of tensors a strategy.

    Args:
        function: takes the fields of ``needs`` in that order (``probs [M, S, C]``,
            ``mean [M, S, D]``, ``embedding [M, E]``, ...) and gives scores [M], or [M, S], which
            are averaged over the members. Places of an item (``probs [N, S, C, *P]``) are scored
            as items of their own and averaged.
        needs: fields that the model must supply.
        members: "one" scores the plain network, "many" needs a posterior.
        selector: scores [N], k, generator -> rows [K].
        relative: the score is in arbitrary units (of the target), so ties are those within 1e-6
            of the largest magnitude instead of within 1e-6; "range": its zero is arbitrary too
            (a predicted value), so they are those within 1e-6 of the range of the scores.
    """

    function: Callable[..., Tensor]
    needs: Collection[str] = ("probs",)
    members: str = "one"
    selector: Callable[..., Tensor] = top_k
    relative: Relative = False

    keeps: ClassVar[tuple[str, ...]] = ()
    privileged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        needs: Sequence[str] = [self.needs] if isinstance(self.needs, str) else list(self.needs)
        object.__setattr__(self, "needs", tuple(needs))
        if self.members not in ("one", "many"):
            raise ValueError(f"members is 'one' or 'many', got {self.members!r}")

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Scores [n] of one batch."""
        given = batch.keep(self.needs).tensors()
        values = [given[name] for name in self.needs]
        if values and set(self.needs) <= set(PLACED):
            scores = measures.over_places(self.function, *values, mask=batch.mask)
        else:
            scores = self.function(*values)
            scores = scores.mean(1) if scores.ndim == 2 else scores
        if scores.shape != (len(batch),):
            raise ValueError(
                f"{describe(self.function)} gave scores {list(scores.shape)} for {len(batch)} "
                "items; return one score an item, [n] or [n, S]"
            )
        return scores

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Select k of the scored candidates.

        Raises:
            ValueError: candidates without scores, or more asked than there are.
        """
        scores = candidates.scores
        if scores is None:
            raise ValueError(f"{self!r} chooses by score, but the candidates carry no scores")
        rows = select(self.selector, scores, k, generator, relative=self.relative)
        return acquired(candidates, rows, scores)
