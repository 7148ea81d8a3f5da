"""How a run begins with nothing labelled: by which strategy, on which embeddings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from lightning_al.ranks.ranks import ALONE, Ranks

from .bank import Bank
from .extractors import Raw

__all__ = ["Banks", "serves_cold"]

log = logging.getLogger(__name__)

LABEL_FREE = frozenset({"embedding"})  # what can be had without a fitted network


def serves_cold(strategy: Any) -> bool:
    """Whether a strategy can choose where nothing is labelled: it asks for embeddings at most."""
    return set(strategy.needs) <= LABEL_FREE


class Banks:
    """Which features serve as embeddings in a round.

    Args:
        features: the extractor that was given; None where the task gives the embeddings.
        datamodule: the data.
        memory_budget: bytes.
        ranks: the processes; a module's weights become those of rank 0.
    """

    def __init__(
        self, features: Any, datamodule: Any, memory_budget: int, ranks: Ranks = ALONE
    ) -> None:
        self.features, self.datamodule, self.ranks = features, datamodule, ranks
        self.memory_budget = memory_budget
        self._bank: Bank | None = None
        if isinstance(features, nn.Module):
            ranks.sync_weights(features)

    @property
    def cold(self) -> bool:
        """Whether nothing is labelled now."""
        return not len(self.datamodule.labelled)

    def now(self, folder: Path | None) -> Bank | None:
        """The features of this round; None where the task gives the embeddings."""
        if self.features is None and not self.cold:
            self._bank = None  # raw inputs have served
            return None
        if self._bank is None:
            extract = Raw() if self.features is None else self.features
            half = self.memory_budget // (2 * min(self.ranks.size, 2))
            self._bank = Bank(extract, self.datamodule, half, folder, self.ranks)
        return self._bank

    def check(self, first: Any) -> None:
        """Refuse a cold start on inputs that are no embeddings, before anything is written.

        Raises:
            ValueError: raw inputs are needed, and they are not single tensors.
        """
        if self.cold and self.features is None and "embedding" in first.needs:
            Raw()(self.datamodule.pool_items.inputs(self.datamodule.pool[:1]))

    def tell(self, round: int, first: Any, name: str, usual: str, *, given: bool) -> None:
        """Say on rank 0 how a round with nothing labelled is chosen, where nobody said.

        Args:
            round: which.
            first: the strategy that chooses.
            name: its name.
            usual: name of the run's own.
            given: somebody named the first one.
        """
        if not self.cold or self.ranks.rank:
            return
        start = f"round {round}, with nothing labelled, is chosen by {name}"
        if not given and name != usual:
            log.info("%s: %s needs a fitted network; name another as first", start, usual)
        elif not serves_cold(first):
            log.warning("%s, from a network that was never fitted", start)
        if self.features is None and "embedding" in first.needs:
            log.info("%s on the raw inputs; name features for others", start)
