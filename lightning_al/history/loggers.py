"""Lightning loggers of a run, built by name into its run folder."""

from __future__ import annotations

import netrc
import os
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from lightning_al.compat import experiment_of, is_a, name_wandb_run, wandb_run
from lightning_al.files import replacing
from lightning_al.registry import Registry

__all__ = ["LOGGERS", "build_loggers", "close_loggers", "part_runs"]

LOGGERS: Registry[Logger] = Registry("logger")


def build_loggers(
    names: Sequence[str],
    run_dir: str | Path,
    *,
    project: str = "lightning-al",
    name: str = "",
    config: Mapping[str, Any] | None = None,
) -> list[Logger]:
    """The loggers of one run; give the same objects to every round's Trainer.

    Nothing is written before the first value. Built again on the same run folder they go on where
    the killed run stopped: nothing of it is lost.

    Args:
        names: of "csv", "tensorboard", "wandb".
        run_dir: the run folder; everything is written inside it.
        project: W&B project.
        name: of the run in W&B, by default that of the folder.
        config: plain values stored with the W&B run.

    Raises:
        LookupError: no logger of that name; the message lists the valid ones.
        ModuleNotFoundError: "tensorboard" without the package.
    """
    run_dir = Path(run_dir)
    name = name or run_dir.resolve().name
    facts = {"run_dir": run_dir, "project": project, "name": name, "config": dict(config or {})}
    factories = [LOGGERS.factory(n) for n in names]  # all names are right before one is built
    return [factory(**facts) for factory in factories]


def close_loggers(loggers: Iterable[Logger], *, failed: bool = False) -> None:
    """End what the loggers hold open: W&B's run (else the next run would log into it), files."""
    for logger in loggers:
        status = "failed" if failed else "success"
        logger.close(status) if isinstance(logger, _OneFile) else logger.finalize(status)
        if isinstance(logger, WandbLogger):
            if (run := wandb_run(logger)) is not None:
                run.finish(exit_code=int(failed))
            if os.environ.get("WANDB_DATA_DIR") == _data_dir(logger.save_dir):
                del os.environ["WANDB_DATA_DIR"]


_began: list[Any] = []  # W&B loggers of this process's last run that found no run open


def part_runs(loggers: Iterable[Any]) -> None:
    """Let the W&B loggers of a run be runs of their own: end what an earlier run's loggers began.

    ``wandb.init`` gives the run that is open in this process, whichever logger asks. What the user
    has opened, as in a sweep, stays open.
    """
    mine = [logger for logger in loggers if is_a(logger, "loggers.WandbLogger")]
    if not mine:
        return
    for earlier in _began:
        if all(earlier is not logger for logger in mine) and (run := experiment_of(earlier)):
            run.finish()
    free = getattr(sys.modules.get("wandb"), "run", None) is None
    _began[:] = [
        logger
        for logger in mine
        if any(logger is known for known in _began) or (free and experiment_of(logger) is None)
    ]


@LOGGERS.register("csv")
def _csv(run_dir: Path, **_: Any) -> Logger:
    # Lightning's CSVLogger deletes what it finds in its folder, so each start gets its own one
    # (logs/csv/version_0, version_1, …); the step goes on over them.
    return CSVLogger(run_dir / "logs", name="csv")


@LOGGERS.register("tensorboard")
def _tensorboard(run_dir: Path, **_: Any) -> Logger:
    if find_spec("tensorboard") is None:
        raise ModuleNotFoundError(
            "the logger 'tensorboard' needs the package tensorboard; "
            "pip install 'lightning-al[tensorboard]', or leave that logger out"
        )
    folder = run_dir / "logs" / "tensorboard"
    return _OneFile(folder, name="", version="", default_hp_metric=False)


class _OneFile(TensorBoardLogger):
    """One event file a process: Lightning closes it after each fit and test.

    TensorBoard reads files in the order of their names, which end in a bare counter: the tenth
    of a second would come before the ninth, and what looks older is thrown away.
    """

    def finalize(self, status: str) -> None:
        """Write out what is logged; :func:`close_loggers` closes."""
        if (opened := experiment_of(self)) is not None:
            opened.flush()

    def close(self, status: str) -> None:
        """The end of the run."""
        super().finalize(status)


@LOGGERS.register("wandb")
def _wandb(run_dir: Path, project: str, name: str, config: Mapping[str, Any]) -> Logger:
    import wandb

    # Pictures of tables are staged in the user's data folder otherwise.
    os.environ.setdefault("WANDB_DATA_DIR", _data_dir(run_dir))
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_account() else "offline")
    return FolderWandbLogger(
        name=name,
        project=project,
        save_dir=run_dir,
        resume="allow",
        mode=mode,
        config=dict(config),
        settings=wandb.Settings(silent=True),
    )


class FolderWandbLogger(WandbLogger):
    """A W&B run whose id is kept in the run folder, so that a resume of this folder shares it.

    Derived from name and configuration alone, a second run in a fresh folder would be appended
    online to the first. The id is looked up at the first use: the folder may be emptied till then.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, started at the first use."""
        if experiment_of(self) is None:
            name_wandb_run(self, _run_id(Path(self.save_dir or ".")))
        return super().experiment


def _data_dir(run_dir: str | Path | None) -> str:
    return str(Path(run_dir or ".").resolve() / "wandb" / "data")


def _run_id(run_dir: Path) -> str:
    """The W&B id in a run folder; made at the first call."""
    file = run_dir / "logs" / "wandb_id"
    if not file.exists():
        run_dir.mkdir(parents=True, exist_ok=True)  # W&B logs to a temporary folder without it
        with replacing(file) as temporary:
            temporary.write_text(secrets.token_hex(6))
    return file.read_text().strip()


def _has_account() -> bool:
    """Whether this user is logged in to W&B: a key in the environment or a netrc entry."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    places = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    for place in (Path(p).expanduser() for p in places if p):
        try:
            if place.exists():
                return netrc.netrc(place).authenticators(host) is not None
        except (netrc.NetrcParseError, OSError):
            return False
    return False
