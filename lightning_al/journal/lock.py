"""One run at a time in a folder."""

from __future__ import annotations

import logging
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FolderBusy", "FolderLock"]

log = logging.getLogger(__name__)


class FolderBusy(RuntimeError):
    """Another process, or another run of this one, is at work in the folder."""


class FolderLock:
    """Holds a run folder; freed by :meth:`release` or the end of the process, however it ends.

    Worker processes that a loader forks do not hold it: they may outlive a killed run by seconds.

    Args:
        folder: of the run.

    Raises:
        FolderBusy: somebody holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder.resolve() / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise FolderBusy(
                f"another process is running in {folder}; wait for it, or give another run_dir"
            ) from None
        except (OSError, NotImplementedError) as error:  # a file system without locks
            why = getattr(error, "strerror", None) or error
            log.warning("%s cannot be locked (%s): start only one run in it", folder, why)

    def release(self) -> None:
        """Give the folder free."""
        self._lock.release(force=True)
