"""Several strategies side by side as candidates: what each thinks of every item, on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lightning_al.randomness import generator as keyed
from lightning_al.records import Pool

from ..score_strategy import ScoreStrategy, resolution_of
from ..selection import quantise, top_k
from ..strategy_registry import STRATEGIES, kind_of, resolve
from .combined import WeightedSum
from .composition import Composition, rows_of, total
from .restricted import unusable
from .soft_top import picks_as_utility, ranks_as_utility

__all__ = ["CLASSES", "NUMBERS", "Candidates", "Opinions", "sorted_usable"]

CLASSES = (
    *("least-confidence", "margin", "entropy", "k-means", "bald", "variation-ratio", "mean-std"),
)
"""The candidates of Wang et al. (2025); their variation ratio, the least confidence under another
name, is the frequency of the members' favourite class here."""
NUMBERS = ("variance", "k-center", "k-means")


@dataclass(frozen=True)
class Opinions:
    """What K candidates think of N items."""

    utility: Tensor  # [N, K] in [0, 1], float32; higher is wanted more
    batches: Tensor  # [K, k] rows of the batch that each would choose alone, first choice first

    @property
    def nominated(self) -> Tensor:
        """Which items are in which candidate's own batch, bool [N, K]."""
        named = torch.zeros(self.utility.shape, dtype=torch.bool, device=self.utility.device)
        return named.scatter_(0, self.batches.T, True)


@dataclass(frozen=True, repr=False, eq=False)
class Candidates(Composition):
    """What strategies have in common that combine others; a subclass has ``choose``.

    One that ranks all items by a score (a :class:`ScoreStrategy` that takes the highest ones, a
    weighted sum) has the ranks as utility. Any other has the order of its picks: 1 for the first, 0
    for what it does not pick.

    Args:
        candidates: names, specifications or objects.
    """

    candidates: Sequence[Any] = CLASSES
    names: tuple[str, ...] = field(default=(), init=False, repr=False, compare=False)
    _memory: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.candidates, str | Mapping) or not len(self.candidates):
            raise ValueError(
                f"candidates are a list of at least one strategy, got {self.candidates!r}"
            )
        built = tuple(map(resolve, self.candidates))
        names = _labels(self.candidates, built)
        _refuse_twice(names, built)
        _refuse_kinds(names, built)
        object.__setattr__(self, "candidates", built)
        object.__setattr__(self, "names", names)

    @property
    def inside(self) -> tuple[Any, ...]:
        """The candidates."""
        return tuple(self.candidates)

    @property
    def kind(self) -> str:
        """What the candidates are for; "either" where all are."""
        return next((k for k in map(kind_of, self.inside) if k != "either"), "either")

    def opinions(self, pool: Pool, k: int, seed: int) -> Opinions:
        """What each candidate thinks of a pool of usable items that these candidates scored.

        Each draws from a generator of its own, so that their order means nothing.

        Args:
            pool: its scores are complete.
            k: items that a batch has.
            seed: of the generators.
        """
        columns, batches = [], []
        for name, part, view in zip(self.names, self.inside, self.views(pool), strict=True):
            draw = keyed(seed, pool.context.round, "candidate", name)
            rows = rows_of(pool, part.choose(view, k, draw), part)
            batches.append(rows)
            columns.append(
                _ranked(part, view) if _ranks_all(part) else picks_as_utility(rows, len(pool))
            )
        return Opinions(torch.stack(columns, 1), torch.stack(batches))

    def whole(self, pool: Pool) -> Pool:
        """A pool that these candidates scored, with the scores of those that score late."""
        return replace(pool, scores=self.table(pool))

    def state_dict(self) -> dict[str, Any]:
        """What was learnt across rounds, and what the candidates remember."""
        mine = {"learnt": dict(self._memory)} if self._memory else {}
        return {**super().state_dict(), **mine}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state)
        self._memory.clear()
        self._memory.update(state.get("learnt", {}))


def sorted_usable(pool: Pool) -> tuple[Tensor, Tensor]:
    """Rows of a pool by ascending index: those with nothing but numbers, and the others."""
    bad = unusable(pool)
    kept = {} if pool.kept is None else pool.kept.tensors()
    if (points := kept.get("embedding")) is not None:
        bad |= ~torch.cat([part.isfinite().all(1) for part in points.split(2**14)]).to(bad.device)
    order = pool.index.argsort()
    return order[~bad[order]], order[bad[order]]


def _ranks_all(part: Any) -> bool:
    """Whether a candidate's batch is the top of an order of all items."""
    scored = isinstance(part, ScoreStrategy) and part.selector is top_k
    return scored or isinstance(part, WeightedSum)


def _ranked(part: Any, view: Pool) -> Tensor:
    assert view.scores is not None  # such a part scores
    score = total(part, view.scores)
    relative = False if isinstance(part, WeightedSum) else part.relative
    return ranks_as_utility(quantise(score, resolution_of(score, relative)))


def _labels(specs: Sequence[Any], built: Sequence[Any]) -> tuple[str, ...]:
    """A name a candidate, for people: as it was written; told apart by a number."""
    found: list[str] = []
    for spec, strategy in zip(specs, built, strict=True):
        said = spec
        if isinstance(spec, Mapping):
            said = spec.get("name", spec.get("class_path"))
        if not isinstance(said, str):
            said = _registered(strategy) or type(strategy).__name__
        name = said.rpartition(".")[2]
        again = sum(other.partition(" ")[0] == name for other in found)
        found.append(f"{name} {again + 1}" if again else name)
    return tuple(found)


def _registered(strategy: Any) -> str | None:
    """The name that builds such a strategy by its defaults; None where none does."""
    for name in STRATEGIES:
        factory = STRATEGIES.factory(name)
        mixes = isinstance(factory, type) and issubclass(factory, Candidates)
        if not mixes and STRATEGIES.build(name) == strategy:
            return name
    return None


def _refuse_twice(names: Sequence[str], built: Sequence[Any]) -> None:
    for i, one in enumerate(built):
        for j in range(i):
            if built[j] is one or built[j] == one:
                raise ValueError(
                    f"the candidate {names[j]!r} is there twice; one that counts more is no "
                    "candidate of its own: name each once, or with other arguments"
                )


def _refuse_kinds(names: Sequence[str], built: Sequence[Any]) -> None:
    kinds = {kind: name for name, s in zip(names, built, strict=True) if (kind := kind_of(s))}
    kinds.pop("either", None)
    if len(kinds) > 1:
        told = " and ".join(f"{name!r} is for {kind}" for kind, name in kinds.items())
        raise ValueError(f"candidates serve one task, and {told}; leave out one of them")
