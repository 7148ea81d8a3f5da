"""The run folder: journal, configuration and checkpoints, written by rank 0 alone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pytorch_lightning import LightningModule, Trainer

from lightning_al.files import disk_errors, file_hash, read_only, replacing
from lightning_al.identity import differences
from lightning_al.ranks.ranks import Ranks

from .amendments import changes, in_force
from .checkpoints import checkpoint_of, read_checkpoint, size_of, trouble_of
from .extension import ITEMS, Stock
from .journal import Journal, JournalError, sync_folder, utc
from .lock import FolderLock
from .order import check_order
from .ownership import check_ours, remove

if TYPE_CHECKING:
    from lightning_al.history.records import Round
    from lightning_al.records import RunPlan

__all__ = ["FORMAT", "RunFolder", "check_same_run"]

log = logging.getLogger(__name__)

OURS = (
    "config.yaml",
    "metrics.csv",
    "acquired.csv",
    "curve.png",
    ITEMS,
    "checkpoints",
    "baseline",
    "logs",
    "wandb",
)
"""What ``overwrite`` removes beside the journal's lines; all else is left alone, answers too."""

LEFT = (
    ".metrics.*.csv",
    ".acquired.*.csv",
    ".config.*.yaml",
    ".curve.*.png",
    ".items.*.npz",
    "tmp*.scores",
    "checkpoints/.round-*.ckpt",
    "checkpoints/.round-*.memory",
    "queries/.round-*.csv",
)
"""What a killed run may leave half written."""


OTHERWISE = "Give another run_dir, or start anew with --overwrite (overwrite=True)"
CHANGED = (
    "A run may go on with other settings of {}: say --change (change=True) for the rounds to come. "
    "Else give another run_dir, or start anew with --overwrite (overwrite=True)"
)

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
    mend: str = OTHERWISE,
) -> None:
    """Refuse a journal of another run.

    Args:
        first: its first line.
        config: plain values of the run that wants to go on.
        start: what that run starts from.
        path: the folder, for messages.
        usual: values at which a key that an older run lacks says nothing.
        folder: the run goes on in the folder; else only one of its rounds is looked at.
        mend: what to do.

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
        if start[name] is not None and first[name] != start[name]:
            log.warning(
                "%s was started with %s %s, now it is %s: the last bits of later fits may "
                "differ from those of an undisturbed run",
                *(path, name, first[name], start[name]),
            )


class RunFolder:
    """One run's files; see the README's table of what lies where."""

    def __init__(self, path: Path, ranks: Ranks, *, trust: bool = False) -> None:
        self.path, self.ranks, self.trust = path, ranks, trust
        self.records: list[dict[str, Any]] = []
        self._journal: Journal | None = None
        self._lock: FolderLock | None = None
        self._hashes: dict[str, str] = {}  # of files that the next line of the journal names

    def begins(self, *, overwrite: bool = False) -> bool:
        """Whether a run would begin here, not go on.

        Raises:
            ValueError: the folder is somebody else's.
        """

        def look() -> bool:
            check_ours(self.path)
            return overwrite or not (self.path / "journal.jsonl").is_file()

        return self.ranks.on_zero(look)

    def open(
        self,
        config: Mapping[str, Any],
        start: Mapping[str, Any],
        *,
        plan: RunPlan,
        usual: Mapping[str, Any] | None = None,
        stock: Stock | None = None,
    ) -> None:
        """Open for writing: make it, or read back what a run of the same configuration did.

        Args:
            config: plain values that ``config.yaml`` shows.
            start: of the first journal line: what the run starts from; its ``identity`` must be
                the same too.
            plan: the options of the run: whether it may change, and what an earlier run left is
                removed.
            usual: values of ``config`` at which an older run that lacks the key is the same.
            stock: the items of the data, where they may grow.

        Raises:
            JournalError: it holds another configuration, or a damaged journal.
            FolderBusy: another process is at work in it.
        """
        try:
            self.records = self.ranks.on_zero(
                lambda: self._open(dict(config), start, usual or {}, plan, stock or Stock())
            )
        except BaseException:
            self.close()
            raise

    def _open(
        self,
        config: dict[str, Any],
        start: Mapping[str, Any],
        usual: Mapping[str, Any],
        plan: RunPlan,
        stock: Stock,
    ) -> list[dict[str, Any]]:
        check_ours(self.path)
        with disk_errors(f"cannot make the run folder {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        self._clear(OURS if plan.overwrite else ())
        journal = self._journal = Journal(self.path / "journal.jsonl")
        if plan.overwrite:
            journal.clear()
        if not journal.records:
            journal.append("start", format=FORMAT, config=config, **start)
            sync_folder(self.path.parent)
        check_order(journal.records, self.path)
        self._amend(journal, config, start, usual, plan, stock)
        return journal.records

    def _amend(
        self,
        journal: Journal,
        config: Mapping[str, Any],
        start: Mapping[str, Any],
        usual: Mapping[str, Any],
        plan: RunPlan,
        stock: Stock,
    ) -> None:
        """Refuse another run; write down what changed of this one, where it may."""
        first, now = journal.records[0], in_force(journal.records)
        lines, unsaid = changes(now, config, plan)
        said = {line["option"] for line in lines} - set(unsaid)
        old = {k: v for k, v in now.items() if k not in said}
        new = {k: v for k, v in config.items() if k not in said}
        mend = CHANGED.format(", ".join(unsaid)) if unsaid else OTHERWISE
        check_same_run({**first, "config": old}, new, start, self.path, usual=usual, mend=mend)
        committed = sum(record["event"] == "committed" for record in journal.records)
        for line in lines:
            names = (
                {"names": _names(journal.records, start)} if line["option"] == "strategy" else {}
            )
            journal.append("changed", round=committed, **line, **names, time=utc())
        stock.check(journal.records, self.path)
        stock.keep(self.path)
        if stock.joining is not None:
            journal.append("extended", round=committed, **stock.joining, time=utc())
        amended = any(record["event"] == "changed" for record in journal.records)
        self._show(in_force(journal.records), anew=amended)

    def _show(self, config: Mapping[str, Any], *, anew: bool) -> None:
        """Write the file ``config.yaml`` for people where it is not there yet, or no more true."""
        place = self.path / "config.yaml"
        if place.exists() and not anew:
            return
        try:
            with replacing(place) as file:
                file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        except OSError as error:
            if not read_only(error):
                raise

    def _clear(self, names: Collection[str]) -> None:
        for name in names:
            remove(self.path / name)
        try:
            for pattern in LEFT:
                for left in self.path.glob(pattern):
                    left.unlink()
        except OSError as error:
            if not read_only(error):  # a run on a disk that takes nothing is only read back
                raise

    def close(self) -> None:
        """Give the folder free."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one journal record (rank 0); a file that it names is tied to it by its hash."""
        assert self._journal is not None
        for field in ("checkpoint", "memory"):
            if (name := fields.get(field)) in self._hashes:
                fields[f"{field}_hash"] = self._hashes.pop(name)
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
            self._write(target, checkpoint_of(trainer, task, datamodule), "the checkpoint")
            self._hashes[name] = file_hash(target)

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
        self._write(target, dict(memory), "the memory of the strategy")
        self._hashes[name] = file_hash(target)
        return name

    def _write(self, target: Path, state: Mapping[str, Any], what: str) -> None:
        """One file of tensors, durable."""
        size = size_of(state)
        with disk_errors(f"cannot write {what} {target}", target.parent, size):
            target.parent.mkdir(exist_ok=True)
            with replacing(target) as temporary, open(temporary, "wb") as file:
                # into a file object: of a path, torch.save's errors do not tell a full disk
                torch.save(state, file)
            sync_folder(target.parent)

    def hash_of(self, name: str) -> str:
        """What a file holds that was just written (rank 0); no line names it yet."""
        return self._hashes.pop(name)

    def trouble(self, name: str, expected: str) -> str:
        """Why a file is not the one that the journal names; empty where it is; on all ranks."""
        return self.ranks.on_zero(lambda: trouble_of(self.path / name, expected))

    def memory(self, name: str, expected: str = "") -> dict[str, Any]:
        """What :meth:`remember` wrote: tensors and plain values; rank 0 reads, all get it.

        Args:
            name: relative to the folder.
            expected: its hash.

        Raises:
            JournalError: it is gone, or another file.
        """
        if why := self.trouble(name, expected):
            raise JournalError(
                f"{self.path}: the memory of the strategy {name} {why}, and the run needs it to go "
                "on; bring it back, or start anew with --overwrite"
            )
        return self.ranks.on_zero(lambda: read_checkpoint(self.path, name))

    def checkpoint(self, name: str) -> dict[str, Any]:
        """A round's checkpoint on the CPU; rank 0 reads, all get it.

        Raises:
            JournalError: it is gone.
        """
        return self.ranks.on_zero(lambda: read_checkpoint(self.path, name, trust=self.trust))

    def tidy(self, rounds: Sequence[Round], keep: str) -> None:
        """Remove the checkpoints that nobody needs any more; ``keep`` is "all" or "last"."""
        if keep == "last" and rounds and self.ranks.rank == 0:
            last = f"round-{rounds[-1].round:03d}"
            for old in (self.path / "checkpoints").glob("round-*.*"):
                if old.stem < last:
                    try:
                        old.unlink()
                    except OSError as error:
                        if not read_only(error):
                            raise


def _names(records: Sequence[Mapping[str, Any]], start: Mapping[str, Any]) -> list[str]:
    """What the strategies before and after a change are called."""
    before = [record["names"][1] for record in records if "names" in record]
    return [before[-1] if before else records[0].get("strategy", ""), start["strategy"]]
