"""The run folder: journal, configuration and checkpoints, written by rank 0 alone."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
import yaml
from pytorch_lightning import LightningModule, Trainer

from lightning_al.files import replacing
from lightning_al.identity import differences
from lightning_al.ranks.ranks import World

from .journal import Journal, JournalError, disk_errors, sync_folder

if TYPE_CHECKING:
    from lightning_al.history.records import Round

__all__ = ["FolderBusy", "RunFolder", "read_checkpoint"]

log = logging.getLogger(__name__)

LIGHTNING = version("pytorch-lightning")  # reads a file: not once a round
OURS = (
    "journal.jsonl",
    "config.yaml",
    "metrics.csv",
    "acquired.csv",
    "curve.png",
    "checkpoints",
    "baseline",
    "logs",
    "wandb",
)
"""What ``overwrite`` removes; all else in the folder is left alone, answers of people too."""

LEFT = (
    ".metrics.*.csv",
    ".acquired.*.csv",
    ".config.*.yaml",
    ".curve.*.png",
    "tmp*.scores",
    "checkpoints/.round-*.ckpt",
    "queries/.round-*.csv",
)
"""What a killed run may leave half written."""


_held: set[Path] = set()
"""Folders that this process is at work in: its own locks do not stop it."""


class FolderBusy(RuntimeError):
    """Another process, or another run of this one, is at work in the run folder."""


class RunFolder:
    """One run's files; see the README's table of what lies where."""

    def __init__(self, path: Path, world: World) -> None:
        self.path, self.world = path, world
        self.records: list[dict[str, Any]] = []
        self._journal: Journal | None = None
        self._lock: IO[str] | None = None

    def open(self, config: Mapping[str, Any], start: Mapping[str, Any], *, overwrite: bool) -> None:
        """Open for writing: make it, or read back what a run of the same configuration did.

        Raises:
            JournalError: it holds another configuration, or a damaged journal.
            FolderBusy: another process is at work in it.
        """
        try:
            self.records = self.world.on_zero(lambda: self._open(dict(config), start, overwrite))
        except BaseException:
            self.close()
            raise

    def _open(
        self, config: dict[str, Any], start: Mapping[str, Any], overwrite: bool
    ) -> list[dict[str, Any]]:
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._clear(OURS if overwrite else ())
        journal = self._journal = Journal(self.path / "journal.jsonl")
        if not journal.records:
            with disk_errors(f"cannot write into {self.path}"):
                with replacing(self.path / "config.yaml") as file:
                    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
                sync_folder(self.path.parent)
            journal.append("start", config=config, **start)
        self._same_run(journal.records[0], config, start)
        return journal.records

    def _same_run(
        self, first: Mapping[str, Any], config: Mapping[str, Any], start: Mapping[str, Any]
    ) -> None:
        if found := differences(first["config"], config):
            shown = "; ".join(found[:5]) + (f"; … {len(found)} in all" if len(found) > 5 else "")
            raise JournalError(
                f"{self.path} holds a run of another configuration ({shown}). Give another "
                "run_dir, or start anew with --overwrite (overwrite=True)"
            )
        if first["world"] != start["world"]:
            raise JournalError(
                f"{self.path} was started on {first['world']} process(es), now there are "
                f"{start['world']}; the fits would differ: use as many as before, or --overwrite"
            )
        for name in ("threads", "versions"):
            if first[name] != start[name]:
                log.warning(
                    "%s was started with %s %s, now it is %s: the last bits of later fits may "
                    "differ from those of an undisturbed run",
                    *(self.path, name, first[name], start[name]),
                )

    def _take_lock(self) -> None:
        place = self.path.resolve()
        busy = FolderBusy(
            f"another process is running in {self.path}; wait for it, or give another run_dir"
        )
        if place in _held:
            raise busy
        lock = open(place / ".lock", "w")  # noqa: SIM115
        try:
            # not flock: loader workers inherit that, and may outlive a killed run by seconds
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            lock.close()
            raise busy from None
        except OSError as error:
            log.warning("%s cannot be locked (%s): start only one run in it", place, error.strerror)
        self._lock = lock
        _held.add(place)

    def _clear(self, names: Collection[str]) -> None:
        for name in names:
            place = self.path / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        for pattern in LEFT:
            for left in self.path.glob(pattern):
                left.unlink()

    def close(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
            _held.discard(self.path.resolve())

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one journal record (rank 0)."""
        assert self._journal is not None
        return self._journal.append(event, **fields)

    # --- checkpoints -------------------------------------------------------------------------

    def save(self, trainer: Trainer, task: LightningModule, datamodule: Any, r: int) -> str:
        """Write the round's checkpoint, durable before the journal names it; relative path.

        Raises:
            OSError: the disk would not take it.
        """
        name = f"checkpoints/round-{r:03d}.ckpt"
        target = self.path / name

        def keep() -> None:
            with disk_errors(f"cannot write the checkpoint {target}"):
                with replacing(target) as temporary, open(temporary, "wb") as file:
                    # into a file object: of a path, torch.save's errors do not tell a full disk
                    torch.save(_checkpoint(trainer, task, datamodule), file)
                sync_folder(target.parent)

        self.world.on_zero(keep)
        return name

    def checkpoint(self, name: str) -> dict[str, Any]:
        """A round's checkpoint on the CPU; rank 0 reads, all get it.

        Raises:
            JournalError: it is gone.
        """

        def read() -> dict[str, Any]:
            return read_checkpoint(self.path, name)

        return self.world.on_zero(read)

    def tidy(self, rounds: Sequence[Round], keep: str) -> None:
        """Remove the checkpoints that nobody needs any more; ``keep`` is "all" or "last"."""
        if keep == "last" and rounds and self.world.rank == 0:
            last = f"round-{rounds[-1].round:03d}.ckpt"
            for old in (self.path / "checkpoints").glob("round-*.ckpt"):
                if old.name < last:
                    old.unlink()


def read_checkpoint(path: Path, name: str) -> dict[str, Any]:
    """The checkpoint ``name`` of the run folder ``path``, on the CPU.

    Raises:
        JournalError: it is gone.
    """
    if not (path / name).exists():
        raise JournalError(
            f"{path}: the checkpoint {name} is gone, and the run needs it to go on; bring it "
            "back, or start anew with --overwrite"
        )
    state: dict[str, Any] = torch.load(path / name, map_location="cpu", weights_only=False)
    return state


def _checkpoint(trainer: Trainer, task: LightningModule, datamodule: Any) -> dict[str, Any]:
    """What plain Lightning writes: weights, hyper-parameters, the datamodule's state."""
    state: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": LIGHTNING,
        "state_dict": task.state_dict(),
        type(datamodule).__qualname__: datamodule.state_dict(),
    }
    if task.hparams:
        state[task.CHECKPOINT_HYPER_PARAMS_KEY] = dict(task.hparams)
        if (name := getattr(task, "_hparams_name", None)) is not None:
            state[task.CHECKPOINT_HYPER_PARAMS_NAME] = name
    task.on_save_checkpoint(state)
    return state
