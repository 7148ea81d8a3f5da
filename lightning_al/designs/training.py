"""Training of a designer as an ordinary Lightning fit: the module, and simulated experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lightning_al.compat import set_step
from lightning_al.networks import build, spec_of
from lightning_al.policies.stepped import HELD_OUT, SteppedDataModule
from lightning_al.policies.streams import Streams
from lightning_al.values import number, whole

from .bounds import contrast, perform
from .experiments import Experiment
from .networks import Designer

__all__ = ["DesignDataModule", "DesignModule", "Drawn", "lower_bound"]


@dataclass(frozen=True)
class Drawn:
    """What a step is computed from."""

    experiment: Experiment
    latent: Tensor  # [N, P]
    others: Tensor  # [L, P]
    u: Tensor  # [N, T]


class DesignDataModule(SteppedDataModule):
    """Simulated experiments, new ones at each step.

    Draws depend on the seed and the number of the step alone; with several processes, process r
    takes the histories r, r + world, ...; the others are the same for all.

    Args:
        experiment: what is found out.
        steps: of an epoch.
        histories: N, of a step.
        others: L, latents that each history is told apart from.
        seed: of the draws.
        validation: histories held out; 0 for none.
    """

    def __init__(
        self,
        experiment: Experiment,
        steps: int = 1000,
        histories: int = 500,
        others: int = 500,
        seed: int = 0,
        validation: int = 2000,
    ) -> None:
        super().__init__(steps, seed, min(1, whole(0)("validation", validation)))
        self.experiment, self.validation = experiment, validation
        self.histories, self.others = whole(1)("histories", histories), whole(1)("others", others)
        law: Any = experiment
        kind = type(experiment)
        self.save_hyperparameters(
            {
                "experiment": {"class": f"{kind.__module__}.{kind.__qualname__}", **asdict(law)},
                **{"steps": steps, "histories": histories, "others": others, "seed": seed},
                "validation": validation,
            }
        )

    def drawn(self, step: int, *, rank: int, world: int, device: Any) -> Drawn:
        """The draws of a step, or of all histories held out."""
        training, streams = step < HELD_OUT, Streams.of(self.seed, step, "designs")
        count = self.histories if training else self.validation
        mine = torch.arange(rank, count, world, device=device)
        many = self.others if training else max(self.others, self.validation)
        return Drawn(
            self.experiment,
            self.experiment.latent(streams, "latent", mine),
            self.experiment.latent(streams, "others", torch.arange(many, device=device)),
            streams.uniform("outcomes", mine, self.experiment.horizon),
        )


def lower_bound(designer: Designer, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """The bound of each history [N] in nats (sPCE), and a loss [] with its gradient.

    Outcomes that are continuous pass gradients on, and the loss is minus the mean bound. Others do
    not: there the gradient is that of the expectation, ``E[(bound - mean bound) d log p(h | own)]
    + E[d bound]``, with the mean over the other histories taken away, which changes no expectation
    (Foster et al. 2021, section 4.3; the mean is ours).
    """
    histories = perform(drawn.experiment, designer, drawn.latent, drawn.u)
    own, apart = contrast(drawn.experiment, histories, drawn.others)
    whole = torch.cat([own.unsqueeze(1), apart], 1).logsumexp(1)
    bound = own - whole + math.log(apart.shape[1] + 1)
    if drawn.experiment.continuous:
        return bound.detach(), -bound.mean()
    reward = bound.detach()
    count = len(reward)
    if count > 1:
        reward = reward - (reward.sum() - reward) / (count - 1)
    return bound.detach(), (whole - reward * own).mean()


class DesignModule(LightningModule):
    """A designer that learns by gradients of the contrastive lower bound (sPCE).

    Adam; the learning rate times ``decay`` after each 1,000 steps, the first time after the first
    step; gradients scaled so that the largest entry is at most ``clip``.

    Args:
        network: a :class:`Designer`, or its spec ``{"class_path": ..., "init_args": {...}}``.
        lr: learning rate.
        betas: of Adam.
        decay: of the learning rate.
        clip: the largest entry of the gradient.

    Raises:
        TypeError: a network that is no designer.
    """

    def __init__(
        self,
        network: Designer | dict[str, Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        decay: float = 0.96,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        built = build(network)
        if not isinstance(built, Designer):
            raise TypeError(f"a designer is wanted, such as Adaptive, got {type(built).__name__}")
        self.network = built
        self.lr, self.decay, self.clip = number(0)("lr", lr), number(0)("decay", decay), clip
        self.betas = (float(betas[0]), float(betas[1]))
        spec = spec_of(built)
        self.save_hyperparameters(
            {
                **({} if not isinstance(spec, Mapping) else {"network": spec}),
                **{"lr": lr, "betas": list(self.betas), "decay": decay, "clip": clip},
            }
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Logs count the optimiser's steps; resumed for max_steps, Lightning is one ahead."""
        set_step(self.trainer, self.trainer.global_step)

    def training_step(self, batch: Drawn, batch_idx: int) -> Tensor:
        """The loss of this process's histories."""
        bound, loss = lower_bound(self.network, batch)
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the bound is {float(bound.mean())} at step {self.global_step}: the weights have "
                "diverged; go on from an earlier checkpoint with a lower lr"
            )
        size = len(bound)
        self.log("train/spce", bound.mean(), prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Drawn, batch_idx: int) -> None:
        """The bound on histories held out."""
        bound, _ = lower_bound(self.network, batch)
        size = len(bound)
        self.log("val/spce", bound.mean(), prog_bar=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam and a falling staircase."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr, betas=self.betas)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.decay ** math.ceil(step / 1000)
        )
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
        """By the largest entry of the whole gradient."""
        most = self.clip if gradient_clip_val is None else gradient_clip_val
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), most, norm_type=float("inf"))
