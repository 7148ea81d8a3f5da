"""Places of a Sobol sequence: what a design that looks at no outcome is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_al.records import Acquisition, Box, Pool

from ..score_strategy import Described
from ..selection import check_k, top_k
from ..strategy_registry import STRATEGIES
from .frames import Frame
from .nearest import inputs_of

__all__ = ["Sobol"]

MOST = 21201  # dimensions that the sequence is known for


@dataclass
class _Begun:
    """Where the sequence of a run was moved, and how far it has come."""

    shift: Tensor | None = None  # [D] float64, in [0, 1)
    asked: int = 0


@STRATEGIES.register("sobol", behind="branin")
@dataclass(frozen=True, repr=False, eq=False)
class Sobol(Described):
    """The next points of a Sobol sequence, that knows no outcome: a baseline (Sobol 1967).

    The sequence is moved by a shift modulo 1, drawn once a run (Cranley and Patterson 1976), so
    that runs differ and any stretch of it is as even as the sequence. On a continuous domain its
    places are asked for; on a pool the candidate nearest to each, which was not taken yet.

    Source: Sobol (1967), "On the distribution of points in a cube and the approximate evaluation of
    integrals"; Cranley and Patterson (1976).

    Args:
        low: of the inputs of a pool, one number or D, scaled to 0; a continuous domain has its own.
        high: of the inputs of a pool, scaled to 1.
    """

    low: float | Sequence[float] = 0.0
    high: float | Sequence[float] = 1.0
    _begun: _Begun = field(default_factory=_Begun, init=False, repr=False, compare=False)

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False
    asks_model: ClassVar[bool] = False
    kind: ClassVar[str] = "regression"
    rehearsal: ClassVar[Mapping[str, Any]] = MappingProxyType({"low": -100.0, "high": 100.0})

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The next k places of the sequence, or the candidates nearest to them.

        Raises:
            ValueError: more asked than there are; inputs outside [low, high], or with other
                dimensions than those that the run began with.
        """
        check_k(candidates.index, k)
        if k == 0:
            return Acquisition(index=candidates.index[:0])
        frame = Frame.of(candidates, self.low, self.high)
        if isinstance(candidates.domain, Box):
            return Acquisition(
                x=torch.stack(
                    [frame.back(p.numpy()) for p in self._next(len(frame.low), k, generator)]
                )
            )
        points = torch.from_numpy(frame.scaled(inputs_of(candidates)))
        rows: list[int] = []
        for place in self._next(points.shape[1], k, generator):
            away = torch.linalg.vector_norm(points - place, dim=1)
            away[rows] = torch.inf
            rows.append(int(top_k(-away, 1, generator)))
        return Acquisition(index=candidates.index[rows])

    def _next(self, dimension: int, k: int, generator: torch.Generator) -> Tensor:
        """The next places [k, D] in [0, 1), float64."""
        begun = self._begun
        if dimension > MOST:
            raise ValueError(
                f"a Sobol sequence has at most {MOST} inputs, these have {dimension}; take random"
            )
        if begun.shift is None:
            begun.shift = torch.rand(
                dimension, generator=generator, dtype=torch.float64, device=generator.device
            ).cpu()
        if len(begun.shift) != dimension:
            raise ValueError(
                f"the sequence of this run has {len(begun.shift)} inputs, the candidates have "
                f"{dimension}; make a new strategy for other data"
            )
        engine = torch.quasirandom.SobolEngine(dimension)
        drawn = engine.fast_forward(begun.asked).draw(k, dtype=torch.float64)
        begun.asked += k
        return torch.frac(drawn + begun.shift)

    def state_dict(self) -> dict[str, Any]:
        """Shift and count; empty before the first choice."""
        begun = self._begun
        return {} if begun.shift is None else {"shift": begun.shift, "asked": begun.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        shift = state.get("shift")
        self._begun.shift = None if shift is None else shift.double()
        self._begun.asked = int(state.get("asked", 0))
