"""The records that cross the borders between the parts.

Letters mean one thing everywhere: ``N`` candidates, ``L`` labelled, ``S`` posterior samples,
``C`` classes, ``D`` outputs, ``E`` features of an embedding, ``K`` acquired, ``P`` places in an
item. The candidate axis comes first; indices are positions in the data set, never in the pool.
"""

from __future__ import annotations

from .answers import Acquisition, Answers, Due, Later, Status, positions
from .domain import Box, Domain, Finite, Outcomes
from .inputs import Inputs, items_of
from .inventory import Inventory
from .parts import (
    LABEL_KEYS,
    label_place,
    labelled_attribute,
    named_label,
    with_attribute,
    with_label,
    without_label,
)
from .plan import RunPlan
from .pool import Context, NoBench, Pool
from .predictions import DENSITY, FIELDS, Predictions

__all__ = [
    "DENSITY",
    "FIELDS",
    "LABEL_KEYS",
    "Acquisition",
    "Answers",
    "Box",
    "Context",
    "Domain",
    "Due",
    "Finite",
    "Inputs",
    "Inventory",
    "Later",
    "NoBench",
    "Outcomes",
    "Pool",
    "Predictions",
    "RunPlan",
    "Status",
    "items_of",
    "label_place",
    "labelled_attribute",
    "named_label",
    "positions",
    "with_attribute",
    "with_label",
    "without_label",
]
