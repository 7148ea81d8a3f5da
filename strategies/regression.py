"""Strategies that score a regressor's predictions, item by item."""

from __future__ import annotations

from functools import partial

from lightning_al import measures

from .base import ScoreStrategy
from .registry import STRATEGIES

__all__ = ["greedy", "variance"]


@STRATEGIES.register("variance")
def variance(aleatoric: bool = False) -> ScoreStrategy:
    """Highest predictive variance first: the members' spread (Kendall and Gal 2017).

    Args:
        aleatoric: add the noise that each member itself predicts (needs a task with a variance).
    """
    needs = ("mean", "variance") if aleatoric else ("mean",)
    return ScoreStrategy(measures.variance, needs=needs, members="many", relative=True)


@STRATEGIES.register("greedy")
def greedy(maximize: bool = True, output: int | None = None) -> ScoreStrategy:
    """Best predicted value first (Graff et al. 2021).

    Args:
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
    """
    function = partial(measures.expected, maximize=maximize, output=output)
    return ScoreStrategy(function, needs=("mean",), relative=True)
