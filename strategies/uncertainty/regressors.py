"""Strategies that score a regressor's predictions, item by item.

``maximize`` says whether high or low target values are wanted, ``output`` which of several
outputs is meant (needed where there are several), ``aleatoric`` that the noise which each member
itself predicts counts too (needs a task with a variance).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from lightning_al import measures
from lightning_al.records import Context, Predictions
from lightning_al.scores.regression import incumbent

from ..score_strategy import ScoreStrategy
from ..strategy_registry import STRATEGIES

__all__ = [
    "AgainstIncumbent",
    "expected_improvement",
    "greedy",
    "probability_of_improvement",
    "regression_bald",
    "ucb",
    "variance",
]


@dataclass(frozen=True, repr=False, eq=False)
class AgainstIncumbent(ScoreStrategy):
    """A score whose function also takes ``best``, the best answer bought so far.

    Args:
        function: takes the fields of ``needs``, and ``best``, ``maximize``, ``output`` by name.
        needs: as for a :class:`ScoreStrategy`, like ``members``, ``selector`` and ``relative``.
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
    """

    maximize: bool = True
    output: int | None = None

    def score(self, batch: Predictions, context: Context) -> Tensor:
        """Scores [n] of one batch.

        Raises:
            ValueError: nothing is labelled yet.
        """
        maximize, output = self.maximize, self.output
        best = incumbent(context.targets, maximize, output)
        bound = partial(self.function, best=best, maximize=maximize, output=output)
        return ScoreStrategy(bound, needs=self.needs).score(batch, context)


def _needs(aleatoric: bool) -> tuple[str, ...]:
    return ("mean", "variance") if aleatoric else ("mean",)


@STRATEGIES.register("variance", kind="regression", members=20)
def variance(aleatoric: bool = False) -> ScoreStrategy:
    """Highest predictive variance first: the members' spread (Kendall and Gal 2017).

    Args:
        aleatoric: add the noise that each member itself predicts (needs a task with a variance).
    """
    return ScoreStrategy(measures.variance, needs=_needs(aleatoric), members="many", relative=True)


@STRATEGIES.register("greedy", kind="regression")
def greedy(maximize: bool = True, output: int | None = None) -> ScoreStrategy:
    """Best predicted value first (Graff et al. 2021).

    Args:
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
    """
    function = partial(measures.expected, maximize=maximize, output=output)
    return ScoreStrategy(function, needs=("mean",), relative="range")


@STRATEGIES.register("ucb", kind="regression", members=20)
def ucb(
    kappa: float = 1.0,
    maximize: bool = True,
    output: int | None = None,
    aleatoric: bool = False,
) -> ScoreStrategy:
    """Highest mean + kappa std first; to minimise, lowest mean - kappa std (Auer 2002).

    Args:
        kappa: >= 0, how much uncertainty is worth (Srinivas et al. 2010 let it grow).
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
        aleatoric: add the members' own noise to their spread.
    """
    function = partial(
        measures.upper_confidence_bound, kappa=float(kappa), maximize=maximize, output=output
    )
    if not kappa >= 0:
        raise ValueError(f"kappa must be at least 0, got {kappa}; to minimise use maximize=False")
    return ScoreStrategy(function, needs=_needs(aleatoric), members="many", relative="range")


@STRATEGIES.register("expected-improvement", kind="regression", members=20)
def expected_improvement(
    xi: float = 0.0,
    maximize: bool = True,
    output: int | None = None,
    aleatoric: bool = False,
    form: str = "gaussian",
) -> AgainstIncumbent:
    """Highest expected improvement on the best answer so far (Jones et al. 1998).

    Their equation 15. The Gaussian form is scored as its logarithm (Ament et al. 2023), which has
    the same order and still tells items apart where the value itself is next to 0; ``softmax`` over
    it samples with odds of a power of the value.

    Args:
        xi: improvement that counts as none, in target units.
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
        aleatoric: add the members' own noise to their spread.
        form: "gaussian" (closed form on mean and std) or "members" (mean over the members).
    """
    return AgainstIncumbent(
        partial(measures.expected_improvement, xi=float(xi), **_form(form)),
        needs=_needs(aleatoric),
        members="many",
        relative=form == "members",
        maximize=maximize,
        output=output,
    )


@STRATEGIES.register("probability-of-improvement", kind="regression", members=20)
def probability_of_improvement(
    xi: float = 0.0,
    maximize: bool = True,
    output: int | None = None,
    aleatoric: bool = False,
    form: str = "gaussian",
) -> AgainstIncumbent:
    """Most probable improvement on the best answer so far by more than xi (Kushner 1964).

    The Gaussian form is scored as its logarithm, as Ament et al. (2023) do with the expected
    improvement: it has the same order and still tells items apart where the value itself is next to
    0; ``softmax`` over it samples with odds of a power of the value.

    Args:
        xi: improvement that counts as none, in target units.
        maximize: whether high or low target values are wanted.
        output: which of several outputs.
        aleatoric: add the members' own noise to their spread.
        form: "gaussian" (closed form on mean and std) or "members" (mean over the members).
    """
    return AgainstIncumbent(
        partial(measures.probability_of_improvement, xi=float(xi), **_form(form)),
        needs=_needs(aleatoric),
        members="many",
        maximize=maximize,
        output=output,
    )


def _form(form: str) -> dict[str, Any]:
    if form not in ("gaussian", "members"):
        raise ValueError(f"form is 'gaussian' or 'members', got {form!r}")
    return {"form": form, "log": form == "gaussian"}


@STRATEGIES.register("regression-bald", kind="regression", members=20)
def regression_bald(aleatoric: bool = False) -> ScoreStrategy:
    """Most information on the function first: ½ log(1 + epistemic / noise) (Houlsby et al. 2011).

    Without ``aleatoric`` the noise is 1 everywhere: then one output is ranked as ``variance`` does.

    Args:
        aleatoric: the noise is what the members predict (needs a task with a variance).
    """
    return ScoreStrategy(
        measures.regression_bald, needs=_needs(aleatoric), members="many", relative=not aleatoric
    )
