"""How a run begins with nothing labelled: by which strategy, on which embeddings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_al.ranks.ranks import World
from lightning_al.rounds.settings import strategy_name

from .bank import Bank
from .extractors import Raw

if TYPE_CHECKING:
    from lightning_al.rounds.driver import ActiveLearner

__all__ = ["Banks", "first_strategy"]

log = logging.getLogger(__name__)

LABEL_FREE = frozenset({"embedding"})  # what can be had without a fitted network


def first_strategy(it: ActiveLearner, strategy: Any, name: str) -> tuple[Any, str]:
    """The strategy of rounds in which nothing is labelled, and its name.

    Raises:
        LookupError, ValueError: ``first`` names no strategy, or a privileged one.
    """
    from lightning_al.strategies import resolve  # inside: the core never imports a sibling

    if it.first is None:
        if set(strategy.needs) <= LABEL_FREE:
            return strategy, name
        return resolve("random"), "random"
    first = resolve(it.first)
    named = strategy_name(it.first, first)
    if first.privileged and not it.privileged:
        raise ValueError(
            f"the first strategy {named!r} reads labels of the pool; it runs only inside `bench`"
        )
    return first, named


class Banks:
    """Which features serve as embeddings in a round.

    Args:
        it: the learner; the weights of its features become those of rank 0.
        world: the ranks.
    """

    def __init__(self, it: ActiveLearner, world: World) -> None:
        self.it, self.world = it, world
        self._bank: Bank | None = None
        features: Any = it.features
        if isinstance(features, nn.Module):
            world.sync_weights(features)  # type: ignore[arg-type]

    @property
    def cold(self) -> bool:
        """Whether nothing is labelled now."""
        return not len(self.it.datamodule.labelled)

    def now(self, folder: Path) -> Bank | None:
        """The features of this round; None where the task gives the embeddings."""
        if self.it.features is None and not self.cold:
            self._bank = None  # raw inputs have served
            return None
        if self._bank is None:
            extract = Raw() if self.it.features is None else self.it.features
            half = self.it.memory_budget // (2 * min(self.world.size, 2))
            self._bank = Bank(extract, self.it.datamodule, half, folder, self.world)
        return self._bank

    def check(self, first: Any) -> None:
        """Refuse a cold start on inputs that are no embeddings, before anything is written.

        Raises:
            ValueError: raw inputs are needed, and they are not single tensors.
        """
        if self.cold and self.it.features is None and "embedding" in first.needs:
            Raw()(self.it.datamodule.pool_items.inputs(self.it.datamodule.pool[:1]))

    def tell(self, round: int, first: Any, name: str, usual: str) -> None:
        """Say on rank 0 how a round with nothing labelled is chosen, where nobody said."""
        if not self.cold or self.world.rank:
            return
        start = f"round {round}, with nothing labelled, is chosen by {name}"
        if self.it.first is None and name != usual:
            log.info("%s: %s needs a fitted network; name another as first", start, usual)
        elif not set(first.needs) <= LABEL_FREE:
            log.warning("%s, from a network that was never fitted", start)
        if self.it.features is None and "embedding" in first.needs:
            log.info("%s on the raw inputs; name features for others", start)
