"""When a batch has told the members of a posterior apart, more picks say nothing more."""

from __future__ import annotations

import math
import warnings
from typing import Any

__all__ = ["FULL", "saturation"]

FULL = 0.9  # share of log S from which a batch counts as having told the members apart


def saturation(name: str, information: float, members: int) -> dict[str, Any]:
    """Notes of an acquisition: what a batch says about S members, and whether that is all.

    S equally likely members have log S nats of entropy, so no batch says more about them. Near that
    the estimate of what further labels say is made by a few members, and soon by none.

    Args:
        name: of the strategy.
        information: of the batch's labels on the member, in nats.
        members: S.

    >>> saturation("batch-bald", 1.5, 100)
    {'information': 1.5}
    """
    most = math.log(members)
    notes: dict[str, Any] = {"information": round(information, 6)}
    if most > 0 and information > FULL * most:
        notes["saturated"] = (
            f"the batch says {information:.2f} nats about the {members} members, of log S = "
            f"{most:.2f}: the last picks are little better than random"
        )
        warnings.warn(
            f"{name}: {notes['saturated']}; take more members (100 are usual) or a smaller "
            "query_size",
            stacklevel=3,
        )
    return notes
