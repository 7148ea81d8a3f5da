"""The run folder: journal, configuration and checkpoints, written by rank 0 alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
import yaml
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from .files import replacing
from .identity import differences
from .journal import Journal, JournalError, sync_folder
from .world import World

if TYPE_CHECKING:
    from .resume import Progress

__all__ = ["RunFolder"]

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
"""What ``overwrite`` removes; anything else in the folder is left alone."""


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
            RuntimeError: another process is at work in it.
        """
        self.records = self.world.on_zero(lambda: self._open(dict(config), dict(start), overwrite))

    def _open(
        self, config: dict[str, Any], start: dict[str, Any], overwrite: bool
    ) -> list[dict[str, Any]]:
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if overwrite:
            self._clear()
        journal = self._journal = Journal(self.path / "journal.jsonl")
        if not journal.records:
            with replacing(self.path / "config.yaml") as file:
                file.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
            journal.append("start", config=config, **start)
        first = journal.records[0]
        if found := differences(first["config"], json.loads(json.dumps(config))):
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
        return journal.records

    def _take_lock(self) -> None:
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"another process is running in {self.path}; wait for it, or give another run_dir"
            ) from None

    def _clear(self) -> None:
        for name in OURS:
            place = self.path / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one journal record (rank 0)."""
        assert self._journal is not None
        return self._journal.append(event, **fields)

    # --- checkpoints -------------------------------------------------------------------------

    def save(self, trainer: Trainer, task: LightningModule, datamodule: Any, r: int) -> str:
        """Write the round's checkpoint, durable before the journal names it; relative path."""
        name = f"checkpoints/round-{r:03d}.ckpt"
        target = self.path / name
        temporary = target.with_name(f".{target.name}")

        def keep() -> None:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.save(_checkpoint(trainer, task, datamodule), temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)

        self.world.on_zero(keep)
        return name

    def weights(self, checkpoint: str | None) -> dict[str, Tensor]:
        """The weights of a checkpoint; rank 0 reads, all get them."""

        def read() -> dict[str, Tensor]:
            if checkpoint is None:
                raise JournalError(f"{self.path}: this round has no checkpoint to go on from")
            state = torch.load(self.path / checkpoint, map_location="cpu", weights_only=False)
            weights: dict[str, Tensor] = state["state_dict"]
            return weights

        return self.world.on_zero(read)

    def previous_weights(self, r: int) -> dict[str, Tensor] | None:
        """The weights that round ``r`` goes on from, where there are any."""
        name = f"checkpoints/round-{r - 1:03d}.ckpt"
        there = self.world.on_zero(lambda: r > 0 and (self.path / name).exists())
        return self.weights(name) if there else None

    def tidy(self, progress: Progress, keep: str) -> None:
        """Remove the checkpoints that nobody needs any more."""
        if keep == "last" and self.world.rank == 0:
            last = progress.committed[-1].round
            for old in (self.path / "checkpoints").glob("round-*.ckpt"):
                if old.name != f"round-{last:03d}.ckpt":
                    old.unlink()


def _checkpoint(trainer: Trainer, task: LightningModule, datamodule: Any) -> dict[str, Any]:
    """What plain Lightning writes: weights, hyper-parameters, the datamodule's state."""
    import pytorch_lightning as pl

    state: dict[str, Any] = {
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "pytorch-lightning_version": pl.__version__,
        "state_dict": task.state_dict(),
        type(datamodule).__qualname__: datamodule.state_dict(),
    }
    if task.hparams:
        state[task.CHECKPOINT_HYPER_PARAMS_KEY] = dict(task.hparams)
        if (name := getattr(task, "_hparams_name", None)) is not None:
            state[task.CHECKPOINT_HYPER_PARAMS_NAME] = name
    task.on_save_checkpoint(state)
    return state
