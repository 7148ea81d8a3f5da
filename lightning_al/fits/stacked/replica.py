"""One member of a running stack: its own trainer, hooks and records."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from lightning_al.files import replacing
from lightning_al.fits.lean_hooks import Hooks
from lightning_al.fits.lean_trainer import LeanStrategy, LeanTrainer
from lightning_al.fits.recorder import Recorder
from lightning_al.journal.checkpoints import checkpoint_of

from .fields import rebuilt
from .member import Member

__all__ = ["Replica", "StackedTrainer"]


class Held(LeanStrategy):
    """Where the fit runs; checkpoints that it forgets leave memory too.

    Args:
        held: checkpoints by path.
    """

    def __init__(self, held: dict[str, Any]) -> None:
        self._held = held

    def remove_checkpoint(self, filepath: str | Path) -> None:
        """Forget a checkpoint."""
        self._held.pop(str(filepath), None)
        super().remove_checkpoint(filepath)


class StackedTrainer(LeanTrainer):
    """What a module and its callbacks see of a fit inside a stack.

    Checkpoints stay in memory until the fit ends, and those that are left then are written.
    """

    def __init__(self, trainer: Any, module: Any, datamodule: Any) -> None:
        super().__init__(trainer, module, datamodule)
        self.held: dict[str, Any] = {}
        self.strategy = Held(self.held)
        self.bring_states: Any = None  # gives optimisers and schedules the state of now

    def save_checkpoint(self, filepath: str | Path, weights_only: bool | None = None) -> None:
        """Keep a checkpoint, under its path.

        Args:
            filepath: where it will be written; the file is there at once, and empty.
            weights_only: leave out what a fit would go on with.
        """
        state = checkpoint_of(self, self.lightning_module, self.datamodule)
        state["state_dict"] = {k: v.detach().clone() for k, v in state["state_dict"].items()}
        if not weights_only:
            self.bring_states()
            state |= {
                "optimizer_states": [_copied(each.state_dict()) for each in self.optimizers],
                "lr_schedulers": [c.scheduler.state_dict() for c in self.lr_scheduler_configs],
                "callbacks": {c.state_key: s for c in self.callbacks if (s := c.state_dict())},
            }
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()  # a name that is taken
        self.held[str(filepath)] = state

    def write_held(self) -> None:
        """Write the checkpoints that the fit has kept."""
        for path, state in self.held.items():
            with replacing(Path(path)) as temporary:
                torch.save(state, temporary)


def _copied(state: Any) -> Any:
    return rebuilt(state, lambda t: t.clone())


class Replica:
    """A member with what its fit needs of its own.

    Args:
        member: see there.
    """

    def __init__(self, member: Member) -> None:
        self.member, self.module = member, member.module
        self.trainer = StackedTrainer(member.trainer, member.module, member.datamodule)
        self.hooks = Hooks(self.trainer)
        self.train = Recorder(training=True)  # of what hooks log
        self.leaving = ExitStack()
        self.error: Exception | None = None  # its own, by which it leaves the stack

    def call(self, name: str) -> None:
        """Call a hook that is between steps."""
        self.hooks(name)
