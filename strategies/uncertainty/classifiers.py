"""Strategies that score a classifier's uncertainty, item by item.

Each plain one, and its ``posterior-*`` namesake, scores the mean prediction: the mean distribution
over the members, where there are several. They differ in what they ask for: a plain one takes the
model as it is (an ensemble's members are its own), the namesake wants the members of a posterior.
Each ``expected-*`` one scores every member by itself and averages, so that members which contradict
each other, each sure of itself, score nothing. With one member the three are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lightning_al import measures

from ..score_strategy import ScoreStrategy
from ..strategy_registry import STRATEGIES

__all__ = [
    "bald",
    "entropy",
    "expected_entropy",
    "expected_least_confidence",
    "expected_margin",
    "expected_ratio",
    "least_confidence",
    "margin",
    "mean_std",
    "posterior_entropy",
    "posterior_least_confidence",
    "posterior_margin",
    "posterior_ratio",
    "ratio",
    "variation_ratio",
]


def _of_mean(measure: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return partial(measures.of_mean, measure)


@STRATEGIES.register("least-confidence", kind="classification")
def least_confidence() -> ScoreStrategy:
    """Lowest probability of the best class first (Lewis and Gale 1994)."""
    return ScoreStrategy(_of_mean(measures.least_confidence))


@STRATEGIES.register("margin", kind="classification")
def margin() -> ScoreStrategy:
    """Smallest lead of the best class first (Scheffer et al. 2001)."""
    return ScoreStrategy(_of_mean(measures.margin))


@STRATEGIES.register("ratio", kind="classification")
def ratio() -> ScoreStrategy:
    """Largest ratio of the second-best to the best probability first (Munro 2021)."""
    return ScoreStrategy(_of_mean(measures.ratio))


@STRATEGIES.register("entropy", kind="classification")
def entropy() -> ScoreStrategy:
    """Highest entropy of the prediction first (Settles 2009)."""
    return ScoreStrategy(_of_mean(measures.entropy))


@STRATEGIES.register("posterior-least-confidence", kind="classification", members=20)
def posterior_least_confidence() -> ScoreStrategy:
    """Least confidence of the mean over posterior members (Gal, Islam and Ghahramani 2017).

    That paper calls it variation ratio; ``variation-ratio`` counts votes, as Freeman did.
    """
    return ScoreStrategy(_of_mean(measures.least_confidence), members="many")


@STRATEGIES.register("posterior-margin", kind="classification", members=20)
def posterior_margin() -> ScoreStrategy:
    """Margin of the mean over posterior members (Scheffer et al. 2001)."""
    return ScoreStrategy(_of_mean(measures.margin), members="many")


@STRATEGIES.register("posterior-ratio", kind="classification", members=20)
def posterior_ratio() -> ScoreStrategy:
    """Ratio of the mean over posterior members (Munro 2021)."""
    return ScoreStrategy(_of_mean(measures.ratio), members="many")


@STRATEGIES.register("posterior-entropy", kind="classification", members=20)
def posterior_entropy() -> ScoreStrategy:
    """Predictive entropy: of the mean over posterior members (Gal et al. 2017)."""
    return ScoreStrategy(_of_mean(measures.entropy), members="many")


@STRATEGIES.register("expected-least-confidence", kind="classification", members=20)
def expected_least_confidence() -> ScoreStrategy:
    """Mean over posterior members of each one's least confidence (Lewis and Gale 1994)."""
    return ScoreStrategy(measures.least_confidence, members="many")


@STRATEGIES.register("expected-margin", kind="classification", members=20)
def expected_margin() -> ScoreStrategy:
    """Mean over posterior members of each one's margin (Scheffer et al. 2001)."""
    return ScoreStrategy(measures.margin, members="many")


@STRATEGIES.register("expected-ratio", kind="classification", members=20)
def expected_ratio() -> ScoreStrategy:
    """Mean over posterior members of each one's ratio (Munro 2021)."""
    return ScoreStrategy(measures.ratio, members="many")


@STRATEGIES.register("expected-entropy", kind="classification", members=20)
def expected_entropy() -> ScoreStrategy:
    """Mean over posterior members of each one's entropy (Houlsby et al. 2011).

    The second term of their equation 2: ``posterior-entropy`` is the sum of this and ``bald``.
    """
    return ScoreStrategy(measures.entropy, members="many")


@STRATEGIES.register("bald", kind="classification", members=20)
def bald() -> ScoreStrategy:
    """Highest mutual information of label and model first (Houlsby et al. 2011)."""
    return ScoreStrategy(measures.bald, members="many")


@STRATEGIES.register("variation-ratio", kind="classification", members=20)
def variation_ratio() -> ScoreStrategy:
    """Fewest votes of the members for their favourite class first (Freeman 1965; Gal 2016)."""
    return ScoreStrategy(measures.variation_ratio, members="many")


@STRATEGIES.register("mean-std", kind="classification", members=20)
def mean_std() -> ScoreStrategy:
    """Largest spread of the members, mean over classes (Kampffmeyer et al. 2016)."""
    return ScoreStrategy(measures.mean_std, members="many")
