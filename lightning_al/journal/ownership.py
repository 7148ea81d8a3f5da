"""Whose folder it is: only one with our journal, or an empty one, is written into or cleared."""

from __future__ import annotations

import shutil
from pathlib import Path

from .journal import JournalError

__all__ = ["check_above", "check_ours", "holds_journal", "remove"]

HEAD = b'{"event":"'
"""How each line of a journal begins."""
INSIDE = (
    *(".lock", "journal.jsonl", "config.yaml", "checkpoints", "logs", "wandb", "baseline"),
    *("queries", "metrics.csv", "acquired.csv", "curve.png", "items.npz"),
)
"""What a run writes, and where a link would lead it out of its folder."""


def holds_journal(folder: Path) -> bool:
    """Whether a folder has a journal of ours, be it damaged or cut off in its first line."""
    path = folder / "journal.jsonl"
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(len(HEAD))
    return HEAD.startswith(head)


def check_ours(folder: Path) -> None:
    """Refuse a run folder that is somebody else's, before anything is written or removed.

    Raises:
        NotADirectoryError: it is a file.
        JournalError: it holds files and no journal, or links that lead out of it.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"the run folder {folder} is a file; give another run_dir")
    if not folder.is_dir():
        return
    if not holds_journal(folder):
        names = sorted(place.name for place in folder.iterdir() if place.name[:1] != ".")
        if names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise JournalError(
                f"{folder} holds files ({shown}) and no journal of a run, so it is not a run "
                "folder, and nothing in it is touched; give a new or an empty run_dir"
            )
    if links := [name for name in INSIDE if (folder / name).is_symlink()]:
        raise JournalError(
            f"{folder}/{links[0]} is a symbolic link, by which the run would write elsewhere; put "
            "a file or folder in its place, or let the run folder itself be the link"
        )


def check_above(folder: Path) -> None:
    """Refuse a folder for the runs of several seeds that is somebody else's.

    Raises:
        JournalError: it holds files, and no run of ours below it.
    """
    if not any(holds_journal(place) for place in folder.glob("seed-*")):
        check_ours(folder)


def remove(place: Path) -> None:
    """Remove a file or a folder; of a link the link alone."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
