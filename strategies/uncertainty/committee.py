"""Query by committee: the items that the members of a posterior or an ensemble disagree on.

``bald``, ``variation-ratio`` and ``mean-std`` in :mod:`.uncertainty` are committees too; here are
the two measures that go by that name. A committee is any posterior of many members: MCDropout
masks, or the members of :class:`lightning_al.networks.Ensemble`.
"""

from __future__ import annotations

from lightning_al import measures

from ..score_strategy import ScoreStrategy
from ..strategy_registry import STRATEGIES

__all__ = ["consensus_kl", "vote_entropy"]


@STRATEGIES.register("vote-entropy", kind="classification", members=20)
def vote_entropy() -> ScoreStrategy:
    """Highest entropy of the members' votes first (Dagan and Engelson 1995).

    Votes are hard; for soft ones (the entropy of the mean distribution) take
    ``posterior-entropy``. With few members many items tie, and ties are drawn.
    """
    return ScoreStrategy(measures.vote_entropy, members="many")


@STRATEGIES.register("consensus-kl", kind="classification", members=20)
def consensus_kl() -> ScoreStrategy:
    """Largest mean divergence of the members from their mean first (McCallum and Nigam 1998).

    The same number as ``bald``, under the name by which committees know it.
    """
    return ScoreStrategy(measures.consensus_kl, members="many")
