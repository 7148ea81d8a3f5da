"""TCM: typical items while labels are few, then those of smallest margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lightning_al.records import Acquisition, Context, Pool

from ..around.composition import Composition
from ..strategy_registry import STRATEGIES, resolve

__all__ = ["TCM"]


@STRATEGIES.register("tcm", kind="classification", example=["per_class", "rounds", "first", "then"])
@dataclass(frozen=True, repr=False, eq=False)
class TCM(Composition):
    """TCM: TypiClust while labels are few, then margin (Doucet et al. 2024).

    Which of the two chooses depends on the context alone (labels, classes, round), never on what
    was chosen before: a resumed run and another rank decide alike. A batch is chosen by one of
    them as a whole, by the labels there are before it.

    Source: Doucet, Estermann, Aczel and Wattenhofer, Bridging Diversity and Uncertainty in Active
    Learning with Self-Supervised Pre-Training (2024): TypiClust first, then Margin, switching
    early because the backbone is pre-trained. The default of ``per_class`` is this library's, not
    a figure of the paper; to switch after a number of query steps, give ``rounds``.

    Args:
        per_class: switch once there are this many labels a class, counted over all of them:
            ``n_labelled >= per_class * classes``. Labels that were there at the start count.
        rounds: switch after this many rounds instead, whatever they brought; 0 is margin from the
            start.
        first: the strategy before the switch.
        then: the strategy after it.
    """

    per_class: float = 10.0
    rounds: int | None = None
    first: Any = "typiclust"
    then: Any = "margin"

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", resolve(self.first))
        object.__setattr__(self, "then", resolve(self.then))
        if not self.per_class >= 0:
            raise ValueError(f"per_class is at least 0, got {self.per_class}; 0 never uses first")
        if self.rounds is not None and self.rounds < 0:
            raise ValueError(f"rounds is at least 0 or None, got {self.rounds}; None counts labels")

    @property
    def inside(self) -> tuple[Any, ...]:
        """Before the switch, and after it."""
        return (self.first, self.then)

    def switched(self, context: Context) -> bool:
        """Whether it is the second strategy's turn.

        Raises:
            ValueError: a task without classes, while labels a class are counted.
        """
        if self.rounds is not None:
            return context.round >= self.rounds
        if context.classes is None:
            raise ValueError(
                "tcm counts labels a class, but this task names no classes; give rounds=, after "
                "how many rounds to switch"
            )
        return context.n_labelled >= self.per_class * context.classes

    def choose(self, candidates: Pool, k: int, generator: torch.Generator) -> Acquisition:
        """Choose k by the strategy whose turn it is."""
        views = self.views(candidates)
        turn = int(self.switched(candidates.context))
        chosen: Acquisition = self.inside[turn].choose(views[turn], k, generator)
        return chosen
