"""What a run did, on disk: the journal, what it says was done, the run folder."""

from __future__ import annotations

__all__: list[str] = []
