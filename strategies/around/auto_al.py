"""AutoAL: learns, item by item, which of several strategies to trust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from lightning_al.randomness import seeded
from lightning_al.records import Pool

from ..strategy_registry import STRATEGIES
from .candidates import CLASSES, NUMBERS, Opinions
from .labelled_halves import LEAST, Halves, halves_of
from .mixture import Mixture, Weighed
from .search_settings import SearchSettings

if TYPE_CHECKING:
    from .search_sides import Side

__all__ = ["AutoAL", "RegressionAutoAL"]


@dataclass(frozen=True, repr=False, eq=False)
class _Searched(Mixture):
    """Weights by a search network, which a fit network's losses teach."""

    variant: Literal["search", "published"] = "search"
    networks: Literal["embedding", "backbone"] = "embedding"
    search: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in ("search", "published"):
            raise ValueError(f"variant is 'search' or 'published', got {self.variant!r}")
        if self.networks not in ("embedding", "backbone"):
            raise ValueError(f"networks is 'embedding' or 'backbone', got {self.networks!r}")
        found = SearchSettings.of(self.search, published=self.variant == "published")
        object.__setattr__(self, "search", found)

    @property
    def needs(self) -> tuple[str, ...]:
        """Those of the candidates, and what the networks sit on."""
        return self._with_embedding(super().needs)

    @property
    def keeps(self) -> tuple[str, ...]:
        """Those of the candidates, and what the networks sit on."""
        return self._with_embedding(super().keeps)

    def _with_embedding(self, names: tuple[str, ...]) -> tuple[str, ...]:
        more = ("embedding",) if self.networks == "embedding" else ()
        return tuple(dict.fromkeys((*names, *more)))

    def weigh(self, pool: Pool, found: Opinions, k: int, generator: torch.Generator) -> Weighed:
        """Train the networks on the labelled items, then ask the search network.

        Raises:
            ValueError: too few labelled items, or such of several labels.
        """
        targets = pool.context.targets
        if targets is None or len(targets) < LEAST:
            raise ValueError(
                f"auto-al learns from the labelled items in two halves and needs at least {LEAST} "
                f"of them, got {0 if targets is None else len(targets)}; begin with more (data "
                "initial=…), or let another strategy choose first"
            )
        first, second, third = torch.randint(
            2**62, (3,), generator=generator, device=generator.device
        ).tolist()
        halves = halves_of(self, pool, self._memory, first, self.search.share)
        side = self._side(pool, halves, second)
        weights, classes = side.searched(third)
        self._memory.clear()
        self._memory.update({**halves.plain(), **side.memory()})
        named = found.nominated.float() if self.variant == "published" else None
        return Weighed(weights, named, classes)

    def _side(self, pool: Pool, halves: Halves, seed: int) -> Side:
        from .published_search import PublishedSearcher  # inside: Lightning loads slowly
        from .search_networks import Searcher
        from .search_sides import backbone_side, embedding_side

        make = embedding_side if self.networks == "embedding" else backbone_side
        kind = PublishedSearcher if self.variant == "published" else Searcher
        with torch.inference_mode(False), torch.enable_grad(), seeded(seed, 0, "auto-al"):
            return make(pool, halves, self.search, self._memory, kind)


@STRATEGIES.register("auto-al", kind="classification", members=20, example=["candidates"])
@dataclass(frozen=True, repr=False, eq=False)
class AutoAL(_Searched):
    """AutoAL: learns which of several strategies to trust, item by item (Wang et al. 2025).

    An item's utility is the mean of its ranks under the candidates, by weights that a search
    network gives to that item. It is trained on the labelled items, split in two halves: each half
    is ranked by the candidates as a pool, and those items are to be chosen whose loss is high under
    a fit network that was trained on the other half. Details: :class:`.search_networks.Searcher`.
    What was learnt is the start of the next round. The notes of an acquisition hold the mean
    weight of each candidate, over all items and over those of each class, and how much of the batch
    each candidate would have chosen too.

    Candidates are any strategies; those that do not rank all items count by the order of their
    picks; one that has the same to say of all items has no weight. All of them are scored in one
    pass; where one wants the members of a posterior, all see these. A candidate needs its own batch
    of the pool and of each half, which for set strategies is most of the cost.

    ``variant="published"`` is the released code, whose search network gets no gradient; it is there
    to be compared.

    Source: Wang, Zhan and Huang, AutoAL: Automated Active Learning with Differentiable Query
    Strategy Search (2025).

    Args:
        candidates: strategies, by name or specification, each once.
        variant: "search", or "published" for what the released code computes.
        networks: "embedding" has small networks on the embeddings (the run's features where it has
            any); "backbone" copies of the task's own network on inputs, as published, which takes
            as long as fits do.
        search: settings of the search, see :class:`.search_settings.SearchSettings`.
    """

    candidates: Sequence[Any] = CLASSES


@STRATEGIES.register("regression-auto-al", kind="regression", members=20, example=["candidates"])
@dataclass(frozen=True, repr=False, eq=False)
class RegressionAutoAL(_Searched):
    """AutoAL for numbers: learns which of several strategies to trust (Wang et al. 2025).

    As ``auto-al``, with squared errors of standardised targets as losses. The paper is about
    classes only; the candidates are our choice.

    Source: Wang, Zhan and Huang, AutoAL: Automated Active Learning with Differentiable Query
    Strategy Search (2025).

    Args:
        candidates: strategies, by name or specification, each once.
        networks: "embedding" has small networks on the embeddings (the run's features where it has
            any); "backbone" copies of the task's own network on inputs.
        search: settings of the search, see :class:`.search_settings.SearchSettings`.
    """

    candidates: Sequence[Any] = NUMBERS
    variant: Literal["search"] = field(default="search", init=False, repr=False)  # type: ignore[assignment]
