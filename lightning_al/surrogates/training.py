"""Training of a surrogate as an ordinary Lightning fit: the module, and its simulated data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_al.compat import set_step
from lightning_al.networks import build, spec_of
from lightning_al.policies.stepped import SteppedDataModule
from lightning_al.policies.streams import Streams
from lightning_al.values import number, whole

from .functions import FunctionPrior, Problems
from .kinds import Surrogate

__all__ = ["FunctionDataModule", "SurrogateModule"]


class FunctionDataModule(SteppedDataModule):
    """Simulated functions, new ones at each step, drawn where they are used.

    A step's functions depend on the seed and on the number of the step alone, so that a training
    that was stopped goes on with those that one never stopped would see.

    Args:
        prior: the law of the functions, or its settings as a checkpoint keeps them.
        steps: of an epoch.
        seed: of the functions; the weights of the network have that of the command line.
        validation: batches of functions held out, the same after each epoch; 0 for none.
    """

    def __init__(
        self, prior: FunctionPrior, steps: int = 100, seed: int = 0, validation: int = 8
    ) -> None:
        super().__init__(steps, seed, whole(0)("validation", validation))
        given: Any = prior
        self.prior = FunctionPrior(**given) if isinstance(given, Mapping) else prior
        settings = {
            k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.prior).items()
        }
        self.save_hyperparameters(
            {"prior": settings, "steps": steps, "seed": seed, "validation": validation}
        )

    def drawn(self, step: int, **where: Any) -> Problems:
        """The problems of a step."""
        return self.prior(Streams.of(self.seed, step, "functions"), **where)


class SurrogateModule(LightningModule):
    """A network that learns from simulated problems.

    AdamW; the learning rate rises over the first steps, then falls as a half cosine to nothing at
    the last one.

    Args:
        network: a :class:`Surrogate`, or its spec ``{"class_path": ..., "init_args": {...}}``.
        lr: the largest learning rate.
        warm_up: steps until it is reached.
        decay: of the weights.
        clip: the largest norm of the gradient.

    Raises:
        TypeError: a network without a loss of its own.
    """

    def __init__(
        self,
        network: nn.Module | dict[str, Any],
        lr: float = 1e-3,
        warm_up: int = 100,
        decay: float = 0.01,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        built = build(network)
        if not isinstance(built, Surrogate):
            raise TypeError(
                "a surrogate is a network with loss(problems), such as AmortisedGP, got "
                f"{type(built).__name__}"
            )
        self.network: Any = built
        self.lr, self.decay, self.clip = number(0)("lr", lr), decay, clip
        self.warm_up = whole(0)("warm_up", warm_up)
        spec = spec_of(built)
        self.save_hyperparameters(
            {
                **({} if spec is None else {"network": spec}),
                **{"lr": lr, "warm_up": warm_up, "decay": decay, "clip": clip},
            }
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.network(*args, **kwargs)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Logs count the optimiser's steps; resumed for max_steps, Lightning is one ahead."""
        set_step(self.trainer, self.trainer.global_step)

    def training_step(self, batch: Problems, batch_idx: int) -> Tensor:
        """The loss of this process's share of the problems."""
        loss: Tensor = self.network.loss(batch)
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the loss is {float(loss)} at step {self.global_step}: the weights have "
                "diverged; go on from an earlier checkpoint with a lower lr"
            )
        size = len(batch.x)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Problems, batch_idx: int) -> None:
        """The same loss on functions held out."""
        self.log("val/loss", self.network.loss(batch), prog_bar=True, batch_size=1, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, warm-up and cosine over all steps of the training."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.decay)
        total = self.trainer.estimated_stepping_batches

        def share(step: int) -> float:
            if step < self.warm_up:
                return (step + 1) / self.warm_up
            if not math.isfinite(total):
                return 1.0
            done = min(1.0, (step - self.warm_up) / max(1, total - self.warm_up))
            return 0.5 * (1 + math.cos(math.pi * done))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm of the whole gradient."""
        most = self.clip if gradient_clip_val is None else gradient_clip_val
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), most)
