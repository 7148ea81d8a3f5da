"""A trained policy as a strategy: it names a place at once, and no model is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_al.randomness import seeded
from lightning_al.records import Acquisition, Box, Pool

from ..score_strategy import Described
from ..selection import check_k, top_k
from ..strategy_registry import STRATEGIES
from .frames import Frame, unit_of
from .nearest import Array, Found, Members, Nearest, PoolPoints, inputs_of

if TYPE_CHECKING:  # a policy is loaded where it is used, and its package with it
    from lightning_al.policies import Policy
    from lightning_al.policies.filter import Guard

__all__ = ["PolicyQuery"]

DRAWS = 2000  # places of a box that the safety filter may move to
LIMIT = 1000  # points and queries that an untrained policy takes


@dataclass
class _Memory:
    """What is dear to make: policies that are loaded, the tree of a pool. A copy has nothing."""

    policies: dict[Any, Policy] = field(default_factory=dict)
    points: PoolPoints = field(default_factory=PoolPoints)

    def __reduce__(self) -> Any:
        return _Memory, ()


@STRATEGIES.register("policy", behind="branin")
@dataclass(frozen=True, repr=False, eq=False)
class PolicyQuery(Described):
    """A trained policy names the next point at once, no model asked (Li et al. 2026).

    From all labelled points and the budget that is left.
    One forward pass, one query a round. On a continuous domain the query is the place that the
    policy names; on a pool the candidate that it scores highest or, of a policy that names places
    alone, the nearest candidate to its own. Inputs are scaled to [0, 1].

    Source: Li, Toussaint, Rakitsch and Zimmer (2026), with and without safety; without it Li,
    Toussaint, Rakitsch and Zimmer (2024).

    Args:
        policy: name of a shipped one, or the path of one's own; "auto" is the shipped one for as
            many inputs, with safety where targets are (y, z): ``asal-2d``, ``asal-safe-2d``.
            "untrained" is one with random weights, to see what the training is worth.
        safety_filter: "gp" or "conformal" moves queries that a Gaussian process of z, its
            hyper-parameters integrated out, does not think safe enough
            (:class:`lightning_al.policies.filter.SafetyFilter`); "none", as published.
        gamma: probability of being unsafe that the filter tolerates.
        low: of the inputs of a pool, one number or D, scaled to 0; a continuous domain has its own.
        high: of the inputs of a pool, scaled to 1.
        standardise: scale y to mean 0 and deviation 1, and z to deviation 1 around 0, by the
            labelled points; policies are trained on such values. Off, as published: there the
            data are scaled beforehand.
        unchecked: take a policy, too, that was measured to fall short of what its card promises,
            such as its share of safe queries.
    """

    policy: str = "auto"
    safety_filter: Literal["none", "gp", "conformal"] = "none"
    gamma: float = 0.05
    low: float | Sequence[float] = 0.0
    high: float | Sequence[float] = 1.0
    standardise: bool = False
    unchecked: bool = False
    _memory: _Memory = field(default_factory=_Memory, init=False, repr=False, compare=False)

    needs: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    members: ClassVar[str] = "one"
    privileged: ClassVar[bool] = False
    asks_model: ClassVar[bool] = False  # a safety filter has a model of its own
    kind: ClassVar[str] = "regression"
    most: ClassVar[int] = 1
    rehearsal: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"policy": "untrained", "low": -100.0, "high": 100.0}
    )

    def __post_init__(self) -> None:
        if self.safety_filter not in ("none", "gp", "conformal"):
            raise ValueError(
                f"safety_filter is 'none', 'gp' or 'conformal', got {self.safety_filter!r}"
            )
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is a probability above 0, at most 1, got {self.gamma}")
        if isinstance(self.policy, Path):
            object.__setattr__(self, "policy", str(self.policy))

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """The policy's query: a place of the box, the best or the nearest candidate.

        Raises:
            ValueError: more than one query asked for, no labelled point, no budget, inputs outside
                [low, high], a policy that falls short of its promise, or what the policy refuses:
                too long a history, too large a budget.
            LookupError: no such policy.
        """
        check_k(candidates.index, k)
        if k == 0:
            return Acquisition(index=candidates.index[:0])
        if k > 1:
            raise ValueError(
                f"a policy asks for one point at a time and sees the answer before the next, got "
                f"k = {k}; set query_size: 1"
            )
        frame = Frame.of(candidates, self.low, self.high)
        x, y, z = self._history(candidates, frame)
        trained = self._policy(x.shape[1], z is not None)
        left = self._left(candidates, trained)
        if trained.scores_candidates and not isinstance(candidates.domain, Box):
            return self._best_row(candidates, frame, trained, (x, y, z), generator)
        clock = time.perf_counter()
        asked = trained.query(x, *self._scaled(y, z, left))
        notes: dict[str, Any] = {"seconds_policy": time.perf_counter() - clock}
        place = asked.numpy().astype(np.float64)
        notes["proposed"] = frame.back(place).tolist()
        guard = self._guard(x, z)
        if isinstance(candidates.domain, Box):
            place = _in_box(place, guard, x, generator, notes)
            return Acquisition(x=frame.back(place)[None], notes=notes)
        clock = time.perf_counter()
        tree = self._memory.points.of(candidates, frame.scaled, frame.key)
        notes["seconds_tree"] = time.perf_counter() - clock
        members = Members(candidates.index, tree.ascending)
        found = _in_pool(place, tree, members, guard, generator, notes)
        return Acquisition(index=candidates.index.new_tensor([found.item]), notes=notes)

    def _best_row(
        self,
        candidates: Pool,
        frame: Frame,
        trained: Policy,
        told: tuple[Tensor, Tensor, Tensor | None],
        generator: torch.Generator,
    ) -> Acquisition:
        """The candidate with the highest score, or the highest that is safe enough."""
        x, y, z = told
        clock = time.perf_counter()
        rows = frame.scaled(inputs_of(candidates))
        notes: dict[str, Any] = {"seconds_inputs": time.perf_counter() - clock}
        clock = time.perf_counter()
        scaled, _, safety = self._scaled(y, z, 1)
        scores = trained.score(x, scaled, rows, safety)
        notes["seconds_policy"] = time.perf_counter() - clock
        guard = self._guard(x, z)
        first = top_k(scores, 1, generator)
        if guard is not None:
            best = torch.from_numpy(rows[first[0]])
            order = scores.argsort(descending=True, stable=True)
            moved = guard.settle(best, [torch.from_numpy(rows)[order]])
            notes |= {"moved": moved.row >= 0, "probability": moved.probability, "safe": moved.safe}
            first = order[moved.row : moved.row + 1] if moved.row >= 0 else first
        chosen = candidates.index[first.to(candidates.index.device)]
        return Acquisition(index=chosen, scores=scores[first], notes=notes)

    def _history(self, candidates: Pool, frame: Frame) -> tuple[Tensor, Tensor, Tensor | None]:
        """Labelled points [L, D] in [0, 1], y [L], and z [L] where it is measured."""
        targets = candidates.context.targets
        if targets is None or len(targets) == 0:
            raise ValueError(
                "a policy needs a labelled point to begin with; start with initial=1 or more"
            )
        columns = targets.reshape(len(targets), -1).double()
        if columns.shape[1] > 2:
            raise ValueError(
                f"a policy takes targets y, or (y, z) with a safety measurement z, got "
                f"{columns.shape[1]} columns"
            )
        z = columns[:, 1] if columns.shape[1] == 2 else None
        if z is None and self.safety_filter != "none":
            raise ValueError(
                f"safety_filter={self.safety_filter!r} needs a safety measurement z: targets "
                "(y, z); measure it too, or leave the filter out"
            )
        points = torch.from_numpy(frame.scaled(inputs_of(candidates.labelled)))
        return points, columns[:, 0], z

    def _policy(self, dimension: int, safe: bool) -> Policy:
        """The policy that is meant, loaded once."""
        key = (self.policy, dimension, safe)
        if key not in self._memory.policies:
            self._memory.policies[key] = _load(self.policy, dimension, safe, self.unchecked)
        return self._memory.policies[key]

    @staticmethod
    def _left(candidates: Pool, policy: Policy) -> int:
        left = candidates.context.remaining
        if left is not None:
            return left
        if not policy.network.budget_aware:
            return 1
        raise ValueError(
            "the policy plans by how many queries are left, and this run does not say; set a "
            f"budget of {policy.card.budget} at most (budget: 20), or remaining=20 in suggest"
        )

    def _scaled(self, y: Tensor, z: Tensor | None, left: int) -> tuple[Tensor, int, Tensor | None]:
        """What a query takes behind x."""
        if self.standardise:
            y = (y - y.mean()) / unit_of(y)
            z = None if z is None else z / unit_of(z)
        return y, left, z

    def _guard(self, x: Tensor, z: Tensor | None) -> Guard | None:
        if self.safety_filter == "none" or z is None:
            return None
        from lightning_al.policies.filter import SafetyFilter

        return SafetyFilter(self.safety_filter, self.gamma).fit(x, z)


def _in_pool(
    place: Array,
    tree: Nearest,
    members: Members,
    guard: Guard | None,
    generator: torch.Generator,
    notes: dict[str, Any],
) -> Found:
    """The candidate nearest to a place that is safe enough, where that is asked for."""
    clock = time.perf_counter()
    found = tree.find(place, members, generator)
    notes["seconds_nearest"] = time.perf_counter() - clock
    if guard is not None:
        shown: list[int] = []

        def blocks() -> Iterator[Tensor]:
            for rows in tree.blocks(place, members):
                shown.extend(rows.tolist())
                yield torch.from_numpy(tree.points[rows])

        moved = guard.settle(torch.from_numpy(found.point), blocks())
        notes |= {"moved": moved.row >= 0, "probability": moved.probability, "safe": moved.safe}
        if moved.row >= 0:
            row = shown[moved.row]
            away = float(np.linalg.norm(tree.points[row] - place))
            found = Found(int(tree.index[row]), tree.points[row], away)
    notes["distance"] = found.distance
    return found


def _in_box(
    place: Array,
    guard: Guard | None,
    x: Tensor,
    generator: torch.Generator,
    notes: dict[str, Any],
) -> Array:
    """A place [D] of the unit box, or one near to it that is safe enough."""
    if guard is None:
        return place
    from lightning_al.policies.filter import toward

    here = torch.from_numpy(place)
    drawn = torch.rand(DRAWS, len(place), generator=generator, dtype=torch.float64)
    safest = x[int(guard.deviations(x).argmax())]
    others = torch.cat([drawn, toward(here, safest)])
    away = torch.linalg.vector_norm(others - here, dim=1)
    others = others[away.argsort(stable=True)]
    moved = guard.settle(here, [others])
    notes |= {"moved": moved.row >= 0, "probability": moved.probability, "safe": moved.safe}
    chosen: Array = others[moved.row].numpy() if moved.row >= 0 else place
    return chosen


def _load(name: str, dimension: int, safe: bool, unchecked: bool) -> Policy:
    from lightning_al.policies import Policy, SetPolicy

    if name == "untrained":
        with seeded(0, 0, "untrained policy"):
            return Policy.of(SetPolicy(dimension, safe=safe), history=LIMIT, budget=LIMIT)
    if name != "auto":
        return Policy.load(name, unchecked=unchecked)
    wanted = f"asal-{'safe-' if safe else ''}{dimension}d"
    try:
        return Policy.load(wanted, unchecked=unchecked)
    except LookupError as error:
        raise LookupError(
            f"policy='auto' is {wanted}, for {dimension} inputs{' and safety' if safe else ''}: "
            f"{error}"
        ) from None
