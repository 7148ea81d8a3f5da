"""What trainings of policies share: problems drawn step by step, and the record of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from lightning_al.compat import set_step

from .simulators import Simulator
from .stepped import Steps
from .streams import Streams
from .training_progress import Progress, plain, simulator_of

__all__ = ["PolicyTraining", "SimulatorDataModule", "Turn"]


@dataclass(frozen=True)
class Turn:
    """A step of a training, or a validation at it, of one process."""

    simulator: Simulator
    seed: int  # of the problems
    step: int
    purpose: str  # "simulate", "validate", ...: what the random numbers are for
    rank: int
    world: int
    device: torch.device

    @property
    def validates(self) -> bool:
        """Whether nothing is learned from it."""
        return self.purpose == "validate"

    @property
    def where(self) -> dict[str, Any]:
        """Of this process, as simulators take it."""
        return {"rank": self.rank, "world": self.world, "device": self.device}

    def streams(self, step: int | None = None) -> Streams:
        """Random numbers of this step, or of another one."""
        return Streams.of(self.seed, self.step if step is None else step, self.purpose)


class SimulatorDataModule(LightningDataModule):
    """Simulated problems, new ones at each step of training, drawn where they are used.

    A step's functions depend on the seed and on the number of the step alone, so that a run that
    was stopped goes on with those that a run never stopped would see; with several processes,
    process r takes the functions r, r + world, ...

    Args:
        simulator: the law of the problems, or its settings as a checkpoint keeps them.
        steps: of an epoch.
        seed: of the problems; the weights of the network have that of the command line.
        validate: measure the models that the policy's queries lead to, at the end of an epoch.
    """

    def __init__(
        self, simulator: Simulator, steps: int = 50, seed: int = 0, validate: bool = True
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"an epoch has a step or more, got {steps}")
        given: Any = simulator
        self.simulator = simulator_of(given) if isinstance(given, Mapping) else simulator
        self.steps, self.seed, self.validate = steps, seed, validate
        self.save_hyperparameters(
            {
                "simulator": plain(self.simulator),
                "steps": steps,
                "seed": seed,
                "validate": validate,
            }
        )
        self._asked = (-1, 0)  # the optimiser's step, batches drawn at it

    def train_dataloader(self) -> Steps:
        """One number a step."""
        return Steps(self.steps)

    def val_dataloader(self) -> Steps | list[Any]:
        """One batch of trials."""
        return Steps(1) if self.validate else []

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """What the module learns from or is judged by, drawn on its device."""
        if not isinstance(batch, int) or self.trainer is None:
            return batch
        module, trainer = self.trainer.lightning_module, self.trainer
        step, purpose = trainer.global_step, "validate"
        if trainer.training:
            micro = self._asked[1] + 1 if self._asked[0] == step else 0
            self._asked = (step, micro)
            purpose = f"simulate/{micro}" if micro else "simulate"  # accumulated gradients
        where = trainer.global_rank, trainer.world_size, module.device
        drawn: Any = module.drawn
        return drawn(Turn(self.simulator, self.seed, step, purpose, *where))


class PolicyTraining(LightningModule):
    """A policy's network in training; what it learns from is said by those below.

    Args:
        network: the policy, as it will be used.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.progress = Progress()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network says."""
        return self.network(*args, **kwargs)

    def drawn(self, turn: Turn) -> Any:
        """What a step of training or validation is about, on the device of the module."""
        raise NotImplementedError

    def fits(self, simulator: Simulator) -> None:
        """See whether the network and a simulator go together.

        Raises:
            ValueError: they do not.
        """
        dimension, safe = self.network.dimension, self.network.safe
        if dimension != simulator.dimension:
            raise ValueError(
                f"the network takes {dimension} inputs, the simulator has "
                f"{simulator.dimension}; give both the same dimension"
            )
        if safe != (simulator.safety is not None):
            raise ValueError(
                "network.safe and the simulator's safety go together: set safe: true and a "
                "safety prior, or neither"
            )

    def on_fit_start(self) -> None:
        """See whether all parts go together.

        Raises:
            ValueError: they do not.
        """
        simulator = getattr(getattr(self.trainer, "datamodule", None), "simulator", None)
        if isinstance(simulator, Simulator):
            self.fits(simulator)

    def on_train_start(self) -> None:
        """The clock starts."""
        self.progress.begin(self.trainer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Logs count the optimiser's steps; resumed for max_steps, Lightning is one ahead."""
        set_step(self.trainer, self.trainer.global_step)

    def on_fit_end(self) -> None:
        """The clock stops."""
        self.progress.end()

    def on_validation_end(self) -> None:
        """Keep what was measured."""
        self.progress.validated(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """How far the training has come goes into its checkpoints, as plain values."""
        checkpoint["progress"] = self.progress.state(self.trainer, self.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there; a checkpoint of before this was kept has none of it."""
        if "progress" in checkpoint:
            self.progress.restore(checkpoint["progress"])

    def learned_from(self, loss: Tensor, size: int) -> Tensor:
        """Keep and log the loss of a step of this process's `size` rollouts."""
        self.progress.losses.append(loss.detach())
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        return loss
