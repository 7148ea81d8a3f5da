"""What strategies made of strategies have in common; they nest, and they stream.

A composition scores a batch once a part: its ``score`` gives ``[n, m]``, the columns of the parts
side by side, and hands each part its own columns in ``choose``; that of a part which scores late,
when the pool is whole, is empty until then. It needs and keeps what its parts do; when one part
wants many posterior members, all parts see them (plain scores of classes are then those of the
members' mean prediction).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.protocols import asks_model, remembers
from lightning_al.records import Acquisition, Context, Pool, Predictions

from ..score_strategy import Described

__all__ = ["Composition", "broken", "columns", "ranks", "rows_of", "total"]

EMPTY = torch.finfo(torch.float32).min  # the score of an item that is not scored yet; finite


def columns(strategy: Any) -> int:
    """How many columns a strategy's ``score`` gives: 0 without one, else 1 or its ``columns``.

    One that scores late has a column too, which is empty until the pool is whole.
    """
    if hasattr(strategy, "late_scores"):
        return 1
    return int(getattr(strategy, "columns", 1)) if hasattr(strategy, "score") else 0


def ranks(strategy: Any) -> bool:
    """Whether a strategy ranks candidates by one score each."""
    if isinstance(strategy, Composition):
        return hasattr(strategy, "combine")
    return columns(strategy) == 1


def total(strategy: Any, scores: Tensor) -> Tensor:
    """The one score [N] by which a strategy ranks, from its own columns, [N] or [N, m]."""
    if not isinstance(strategy, Composition):
        return scores
    combined: Tensor = strategy.combine(scores if scores.ndim == 2 else scores[:, None])  # type: ignore[attr-defined]
    return combined


class Composition(Described):
    """What all compositions have in common; a subclass names ``inside`` and ``choose``s.

    One that ranks by a single score also has ``combine(scores [N, columns]) -> [N]``.
    """

    @property
    def inside(self) -> tuple[Any, ...]:
        """The strategies inside, in the order of their columns."""
        raise NotImplementedError

    def _union(self, name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(field for p in self.inside for field in getattr(p, name)))

    @property
    def needs(self) -> tuple[str, ...]:
        """Every field that a part needs."""
        return self._union("needs")

    @property
    def keeps(self) -> tuple[str, ...]:
        """Every field that a part keeps."""
        return self._union("keeps")

    @property
    def members(self) -> str:
        """Many, where one part wants many."""
        return "many" if any(p.members == "many" for p in self.inside) else "one"

    @property
    def privileged(self) -> bool:
        """Whether a part reads labels of the pool."""
        return any(p.privileged for p in self.inside)

    @property
    def asks_model(self) -> bool:
        """Whether a part chooses with the fitted model."""
        return any(map(asks_model, self.inside))

    @property
    def columns(self) -> int:
        """Columns that :meth:`score` gives."""
        return sum(map(columns, self.inside))

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """The parts' scores of one batch, side by side: [n, columns]."""
        scores = [_scored(p, batch, context) for p in self.inside if columns(p)]
        if not scores:
            return torch.empty(len(batch), 0, device=batch.index.device)
        return torch.cat([s if s.ndim == 2 else s[:, None] for s in scores], dim=1)

    def table(self, candidates: Pool) -> Tensor:
        """The scores of a pool as [N, columns], also of parts that score late.

        Raises:
            ValueError: the pool was not scored by this composition.
        """
        scores = candidates.scores
        if scores is None:
            width = 0 if self.needs else self.columns  # without a pass all that score score late
            scores = torch.full((len(candidates), width), EMPTY, device=candidates.index.device)
        scores = scores if scores.ndim == 2 else scores[:, None]
        if scores.shape[1] != self.columns:
            raise ValueError(
                f"{self!r} has {self.columns} columns of scores, the candidates carry "
                f"{scores.shape[1]}; score them with this strategy"
            )
        return self._filled(scores, candidates)

    def _filled(self, table: Tensor, candidates: Pool) -> Tensor:
        """The same [N, columns] with the columns of parts that score late, where they are empty."""
        filled = []
        for part, own in zip(self.inside, self.split(table), strict=True):
            if own is None:
                continue
            column = own if own.ndim == 2 else own[:, None]
            if isinstance(part, Composition):
                column = part._filled(column, candidates)
            elif hasattr(part, "late_scores") and bool((column == EMPTY).all()):
                column = part.late_scores(candidates).to(table)[:, None]
            filled.append(column)
        return torch.cat(filled, 1) if filled else table

    def split(self, table: Tensor) -> list[Tensor | None]:
        """The columns [N, columns] as each part knows them: [N], [N, m], or None for no score."""
        widths = [columns(p) for p in self.inside]
        parts = zip(widths, torch.split(table, widths, dim=1), strict=True)
        return [None if width == 0 else own[:, 0] if width == 1 else own for width, own in parts]

    def state_dict(self) -> dict[str, Any]:
        """What the parts remember, by their place; empty where none has a memory."""
        states = {str(i): p.state_dict() for i, p in enumerate(self.inside) if remembers(p)}
        return {"inside": kept} if (kept := {i: s for i, s in states.items() if s}) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for place, inner in state.get("inside", {}).items():
            self.inside[int(place)].load_state_dict(inner)

    def views(self, candidates: Pool) -> list[Pool]:
        """The pool as each part would see it alone."""
        return [replace(candidates, scores=own) for own in self.split(self.table(candidates))]


def rows_of(candidates: Pool, chosen: Acquisition, by: Any) -> Tensor:
    """Rows [K] of a pool that the strategy ``by`` chose.

    Raises:
        ValueError: the choice is not of this pool.
    """
    index = chosen.index
    ordered, order = candidates.index.sort()
    if index is not None:
        place = torch.searchsorted(ordered, index).clamp_max(len(ordered) - 1)
        if bool((ordered[place] == index).all()):
            return order[place]
    raise ValueError(
        f"{by!r} chose items that are not among the candidates; "
        "choose() returns candidates.index[rows], positions in the data set"
    )


def _scored(strategy: Any, batch: Predictions, context: Context) -> Tensor:
    if hasattr(strategy, "late_scores"):
        return torch.full((len(batch),), EMPTY, device=batch.index.device)
    scores: Tensor = strategy.score(batch, context)
    return scores


def broken(table: Tensor) -> Tensor:
    """Which candidates have a NaN among their scores [N, m]: they come last."""
    return table.isnan().any(1)
