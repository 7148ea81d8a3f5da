"""The conformance kit: what every query strategy must hold, ours or anyone's.

``check_strategy(MyStrategy())`` in a test of your own raises AssertionError and names the property
that fails. It builds small pools by hand, scores them as a run does (batch by batch, keeping only
what the strategy keeps), and needs no data. Strategies that need more of a model than its outputs
find a small one in the pool's ``bench``. Three facts are optional: ``kind`` of the model
("density": whole predictive densities; "safe": outputs y and z), ``most`` candidates it chooses at
a time, and ``rehearsal``, arguments in place of files that only the user has.
"""

from __future__ import annotations

from lightning_al.strategies import kind_of

from .bandit import Bandit
from .conformance import check_strategy, rehearsed
from .world import World

__all__ = ["Bandit", "World", "check_strategy", "kind_of", "rehearsed"]
