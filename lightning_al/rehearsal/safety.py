"""Whose word for safety a strategy takes."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["warn_of_one_estimate"]

log = logging.getLogger(__name__)


def warn_of_one_estimate(strategy: Any, task: Any) -> None:
    """Say so where a safe strategy trusts one estimate of the hyper-parameters of z.

    Of the places that such a process calls safe at 95 %, 23 to 33 % are not
    (``benchmarks/safety.py``). Tasks that do not declare ``integrates_safety`` are let be.
    """
    if getattr(strategy, "kind", None) == "safe" and not getattr(task, "integrates_safety", True):
        log.warning(
            "%s takes the word of %s for what is safe, one estimate of the hyper-parameters, which "
            "calls places safe of which a quarter is not; MarginalGPRegression integrates them out",
            *(type(strategy).__name__, type(task).__name__),
        )
