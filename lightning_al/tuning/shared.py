"""Trials that several runs share: strategies of a benchmark that hold the same labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from lightning_al.files import replacing

from .trials import Trial

__all__ = ["SharedTrials"]


class SharedTrials:
    """Trials on disk, by what decides them; each is done once, by whoever comes first.

    Args:
        folder: of the benchmark.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def once(self, key: str, number: int, work: Callable[[], Trial]) -> Trial:
        """The trial of a key, read back, or done now; another process that does it is waited for.

        Args:
            key: a hash of all that decides the trials of a round.
            number: of the trial.
            work: does it.
        """
        place = self.folder / key / f"{number:04d}.json"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_suffix(".lock")):  # let go of where its holder dies
                if not place.exists():
                    with replacing(place) as file:
                        file.write_text(json.dumps(work().to_json()))
        return Trial.from_json(json.loads(place.read_text()))
