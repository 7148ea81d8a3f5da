"""The run folder: journal, configuration and checkpoints, written by rank 0 alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pytorch_lightning import LightningModule, Trainer

from lightning_al.compat import hyperparameters_name
from lightning_al.files import replacing
from lightning_al.identity import differences
from lightning_al.ranks.ranks import Ranks

from .journal import Journal, JournalError, disk_errors, sync_folder
from .lock import FolderLock

if TYPE_CHECKING:
    from lightning_al.history.records import Round

__all__ = ["FORMAT", "RunFolder", "check_same_run", "read_checkpoint"]

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
    "checkpoints/.round-*.memory",
    "queries/.round-*.csv",
)
"""What a killed run may leave half written."""


FORMAT = 2
"""Of the journal; version 0.1 wrote none."""


def check_same_run(
    first: Mapping[str, Any],
    config: Mapping[str, Any],
    start: Mapping[str, Any],
    path: Path,
    *,
    usual: Mapping[str, Any] | None = None,
    folder: bool = True,
) -> None:
    """Refuse a journal of another run.

    Args:
        first: its first line.
        config: plain values of the run that wants to go on.
        start: what that run starts from.
        path: the folder, for messages.
        usual: values at which a key that an older run lacks says nothing.
        folder: the run goes on in the folder; else only one of its rounds is looked at.

    Raises:
        JournalError: it is one, or one of version 0.1.
    """
    if first.get("format") != FORMAT:
        raise JournalError(
            f"{path} was written by lightning-al 0.1, whose runs this version cannot go on with: "
            "finish it with that version, or start anew with --overwrite (overwrite=True)"
        )
    found = differences(first["config"], config, usual=usual)
    new = [d for d in differences(first["identity"], start["identity"]) if d not in found]
    if found := [*found, *new]:
        shown = "; ".join(found[:5]) + (f"; … {len(found)} in all" if len(found) > 5 else "")
        mend = "Give another run_dir, or start anew with --overwrite (overwrite=True)"
        raise JournalError(
            f"{path} holds a run of another configuration ({shown}). {mend}"
            if folder
            else f"{path} holds a run of another learner ({shown})"
        )
    if not folder:
        return
    if first["world"] != start["world"]:
        raise JournalError(
            f"{path} was started on {first['world']} process(es), now there are "
            f"{start['world']}; the fits would differ: use as many as before, or --overwrite"
        )
    for name in ("threads", "versions"):
        if first[name] != start[name]:
            log.warning(
                "%s was started with %s %s, now it is %s: the last bits of later fits may "
                "differ from those of an undisturbed run",
                *(path, name, first[name], start[name]),
            )


class RunFolder:
    """One run's files; see the README's table of what lies where."""

    def __init__(self, path: Path, ranks: Ranks) -> None:
        self.path, self.ranks = path, ranks
        self.records: list[dict[str, Any]] = []
        self._journal: Journal | None = None
        self._lock: FolderLock | None = None

    def begins(self, *, overwrite: bool = False) -> bool:
        """Whether a run would begin here, not go on."""
        return self.ranks.on_zero(lambda: overwrite or not (self.path / "journal.jsonl").is_file())

    def open(
        self,
        config: Mapping[str, Any],
        start: Mapping[str, Any],
        *,
        usual: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Open for writing: make it, or read back what a run of the same configuration did.

        Args:
            config: plain values that ``config.yaml`` shows.
            start: of the first journal line: what the run starts from; its ``identity`` must be
                the same too.
            usual: values of ``config`` at which an older run that lacks the key is the same.
            overwrite: remove what an earlier run left.

        Raises:
            JournalError: it holds another configuration, or a damaged journal.
            FolderBusy: another process is at work in it.
        """
        try:
            self.records = self.ranks.on_zero(
                lambda: self._open(dict(config), start, usual or {}, overwrite)
            )
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        config: dict[str, Any],
        start: Mapping[str, Any],
        usual: Mapping[str, Any],
        overwrite: bool,
    ) -> list[dict[str, Any]]:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        self._clear(OURS if overwrite else ())
        journal = self._journal = Journal(self.path / "journal.jsonl")
        if not journal.records:
            with disk_errors(f"cannot write into {self.path}"):
                with replacing(self.path / "config.yaml") as file:
                    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
                sync_folder(self.path.parent)
            journal.append("start", format=FORMAT, config=config, **start)
        check_same_run(journal.records[0], config, start, self.path, usual=usual)
        return journal.records

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
            self._lock.release()
            self._lock = None

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

        self.ranks.on_zero(keep)
        return name

    def remember(self, memory: Mapping[str, Any], r: int) -> str:
        """Write what the strategies remember, on rank 0, durable before the journal names it.

        Args:
            memory: state of each, by its role.
            r: the round.

        Returns:
            The relative path.
        """
        name = f"checkpoints/round-{r:03d}.memory"
        target = self.path / name
        with disk_errors(f"cannot write the memory of the strategy {target}"):
            with replacing(target) as temporary, open(temporary, "wb") as file:
                torch.save(dict(memory), file)
            sync_folder(target.parent)
        return name

    def memory(self, name: str) -> dict[str, Any]:
        """What :meth:`remember` wrote: tensors and plain values; rank 0 reads, all get it.

        Raises:
            JournalError: it is gone.
        """
        return self.ranks.on_zero(lambda: read_checkpoint(self.path, name, weights_only=True))

    def checkpoint(self, name: str) -> dict[str, Any]:
        """A round's checkpoint on the CPU; rank 0 reads, all get it.

        Raises:
            JournalError: it is gone.
        """

        def read() -> dict[str, Any]:
            return read_checkpoint(self.path, name)

        return self.ranks.on_zero(read)

    def tidy(self, rounds: Sequence[Round], keep: str) -> None:
        """Remove the checkpoints that nobody needs any more; ``keep`` is "all" or "last"."""
        if keep == "last" and rounds and self.ranks.rank == 0:
            last = f"round-{rounds[-1].round:03d}"
            for old in (self.path / "checkpoints").glob("round-*.*"):
                if old.stem < last:
                    old.unlink()


def read_checkpoint(path: Path, name: str, *, weights_only: bool = False) -> dict[str, Any]:
    """The checkpoint ``name`` of the run folder ``path``, on the CPU.

    Args:
        path: of the folder.
        name: relative to it.
        weights_only: read tensors and plain values only.

    Raises:
        JournalError: it is gone.
    """
    if not (path / name).exists():
        raise JournalError(
            f"{path}: the checkpoint {name} is gone, and the run needs it to go on; bring it "
            "back, or start anew with --overwrite"
        )
    state: dict[str, Any] = torch.load(path / name, map_location="cpu", weights_only=weights_only)
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
        if (name := hyperparameters_name(task)) is not None:
            state[task.CHECKPOINT_HYPER_PARAMS_NAME] = name
    task.on_save_checkpoint(state)
    return state
