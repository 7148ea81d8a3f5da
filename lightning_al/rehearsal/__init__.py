"""Before the first fit: everything of a run meets a few items, on a copy."""

from .handed import check_handed
from .readings import check_reading
from .run import Rehearsal, rehearse

__all__ = ["Rehearsal", "check_handed", "check_reading", "rehearse"]
