"""Training of ALINE: inference by likelihood, then acquisition by policy gradients beside it."""

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
from lightning_al.policies.stepped import SteppedDataModule
from lightning_al.policies.streams import Streams
from lightning_al.values import number, whole

from .aline import ALINE, Mixtures
from .aline_tasks import ALINETasks, Tasks

__all__ = ["ALINEDataModule", "ALINEModule", "Rollout", "credit", "log_beliefs", "roll_out"]

TINY = 1e-9


@dataclass(frozen=True)
class Rollout:
    """T choices of B tasks; values at t are of before the t-th choice."""

    selected: Tensor  # [B, T + 1], mean log belief of the selected targets
    everything: Tensor  # [B, T + 1], of all: mean over values plus mean over hyper-parameters
    log_chance: Tensor  # [B, T], of what was chosen


def log_beliefs(beliefs: Mixtures, tasks: Tasks) -> tuple[Tensor, Tensor]:
    """Mean log densities [B] of the true targets: of those selected, and of all (see Rollout)."""
    each = beliefs.log_density(torch.cat([tasks.target_y, tasks.theta], 1))
    values, theta = each.split([tasks.target_y.shape[1], tasks.theta.shape[1]], 1)
    return each[:, tasks.selected].mean(1), values.mean(1) + theta.mean(1)


def roll_out(
    network: ALINE, tasks: Tasks, horizon: int, u: Tensor | None, *, random: bool = False
) -> Rollout:
    """Choose, buy and look again, T times.

    Args:
        network: chooses and believes.
        tasks: with pools of T items at least.
        horizon: T.
        u: uniform numbers [B, T] by which choices are drawn; None takes the likeliest item.
        random: choose any item alike likely, by the same numbers.
    """
    chosen, everything, chances = [], [], []
    for step in range(horizon + 1):
        logits, beliefs = network(tasks)
        of_selected, of_all = log_beliefs(beliefs, tasks)
        chosen.append(of_selected)
        everything.append(of_all)
        if step == horizon:
            break
        logits = torch.zeros_like(logits) if random else logits
        log_chance = logits.log_softmax(-1)
        if u is None:
            rows = logits.argmax(-1)
        else:
            below = log_chance.detach().double().exp().cumsum(-1)
            rows = (below < u[:, step, None] * below[:, -1:]).sum(-1)
            rows = rows.clamp_max(logits.shape[1] - 1)
        chances.append(log_chance.gather(1, rows.unsqueeze(1)).squeeze(1))
        tasks = tasks.bought(rows)
    return Rollout(*(torch.stack(part, 1) for part in (chosen, everything, chances)))


def credit(selected: Tensor, published: bool, gamma: float = 1.0) -> Tensor:
    """What each choice is credited with [B, T], without gradient.

    Args:
        selected: mean log beliefs [B, T + 1] before and after each choice.
        published: as the authors' code: each choice has its own gain alone, losses count as 0, the
            last one has none, and each step's gains are taken to deviation 1 over the batch, so
            that gamma changes nothing. Else the sum of its own and all later gains, discounted, of
            which the batch's mean is taken away: the gradient of the return itself.
        gamma: discount a step.
    """
    gain = selected.detach().diff(dim=1)
    steps = torch.arange(gain.shape[1], device=gain.device)
    discounted = gain * gamma**steps
    if published:
        discounted = discounted.clamp_min(0.0)
        discounted = discounted - discounted.mean(0)
        discounted = discounted / (discounted.std(0, correction=0) + TINY)
        return torch.cat([discounted[:, :-1], torch.zeros_like(discounted[:, :1])], 1)
    to_go = discounted.flip(1).cumsum(1).flip(1)
    return to_go - to_go.mean(0)


class ALINEDataModule(SteppedDataModule):
    """Simulated tasks, new ones at each step, by the seed and the number of the step alone.

    Args:
        tasks: their law.
        steps: of an epoch.
        seed: of the tasks.
        validation: batches held out; 0 for none.
    """

    def __init__(
        self, tasks: ALINETasks, steps: int = 500, seed: int = 0, validation: int = 1
    ) -> None:
        super().__init__(steps, seed, whole(0)("validation", validation))
        given: Any = tasks
        self.tasks = ALINETasks(**given) if isinstance(given, Mapping) else tasks
        law = {**asdict(self.tasks), "scales": list(self.tasks.scales)}
        kept = {"tasks": law, "steps": steps, "seed": seed, "validation": validation}
        self.save_hyperparameters(kept)

    def drawn(self, step: int, **where: Any) -> tuple[Tasks, Streams]:
        """The tasks of a step, and its further random numbers."""
        streams = Streams.of(self.seed, step, "aline")
        return self.tasks(streams, **where), streams


class ALINEModule(LightningModule):
    """ALINE, trained to infer while it asks at random, then to infer and to ask.

    The loss is minus the mean log belief of all targets, and from ``burn_in`` steps on, the policy
    gradient beside it. AdamW; at ``burn_in`` its moments are forgotten and the learning rate of
    all but the acquisition head becomes a fifth; half a cosine in each of the two phases.

    Args:
        network: an ALINE, or its spec.
        horizon: T.
        burn_in: steps that only infer, with pools of T items.
        published: how choices are credited, see :func:`credit`.
        lr: learning rate.
        alpha: weight of the policy gradient.
        gamma: discount a step.
        clip: the largest entry of the gradient.

    Raises:
        TypeError: a network that is no ALINE.
    """

    def __init__(
        self,
        network: ALINE | dict[str, Any],
        horizon: int = 10,
        burn_in: int = 20_000,
        published: bool = False,
        lr: float = 1e-3,
        alpha: float = 1.0,
        gamma: float = 1.0,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        built = build(network)
        if not isinstance(built, ALINE):
            raise TypeError(f"ALINE's network is wanted, got {type(built).__name__}")
        self.network = built
        self.horizon, self.burn_in = whole(1)("horizon", horizon), whole(0)("burn_in", burn_in)
        self.published, self.lr = bool(published), number(0)("lr", lr)
        self.alpha, self.gamma, self.clip = alpha, number(0, 1)("gamma", gamma), clip
        spec = spec_of(built)
        kept = {"horizon": horizon, "burn_in": burn_in, "published": published, "lr": lr}
        self.save_hyperparameters(
            {
                **({} if spec is None else {"network": spec}),
                **{**kept, "alpha": alpha, "gamma": gamma, "clip": clip},
            }
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Logs count the optimiser's steps; at the end of the burn-in its moments are forgotten."""
        set_step(self.trainer, self.trainer.global_step)
        if self.global_step == self.burn_in:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def training_step(self, batch: tuple[Tasks, Streams], batch_idx: int) -> Tensor:
        """The loss of this process's tasks."""
        tasks, streams = batch
        burning = self.global_step < self.burn_in
        if burning:
            tasks = tasks.few(self.horizon)
        u = streams.uniform("choices", torch.arange(len(tasks.y)), self.horizon).to(tasks.y.device)
        done = roll_out(self.network, tasks, self.horizon, u, random=burning)
        loss = -done.everything[:, :-1].mean()
        size = len(tasks.y)
        told = done.everything[:, -2].mean().detach()
        self.log("train/log_belief", told, prog_bar=True, batch_size=size, sync_dist=True)
        if not burning:
            worth = credit(done.selected, self.published, self.gamma)
            loss = loss - self.alpha * (done.log_chance * worth).mean()
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the loss is {float(loss.detach())} at step {self.global_step}: the weights have "
                "diverged; go on from an earlier checkpoint with a lower lr"
            )
        return loss

    def validation_step(self, batch: tuple[Tasks, Streams], batch_idx: int) -> None:
        """Log belief of values after T own queries, and after T random ones of the same pools."""
        tasks, streams = batch
        values = torch.zeros_like(tasks.selected)
        values[: tasks.target_y.shape[1]] = True
        aimed = Tasks(**{**vars(tasks), "selected": values})
        u = streams.uniform("choices", torch.arange(len(tasks.y)), self.horizon).to(tasks.y.device)
        own = roll_out(self.network, aimed, self.horizon, None).selected[:, -1]
        other = roll_out(self.network, aimed, self.horizon, u, random=True).selected[:, -1]
        size = len(own)
        options: dict[str, Any] = {"prog_bar": True, "batch_size": size, "sync_dist": True}
        self.log("val/own", own.mean(), **options)
        self.log("val/random", other.mean(), **options)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on two groups, each phase with a cosine of its own."""
        head = list(self.network.acquire.parameters())
        known = {id(p) for p in head}
        trunk = [p for p in self.parameters() if id(p) not in known]
        optimizer = torch.optim.AdamW([{"params": trunk}, {"params": head}], lr=self.lr)
        total = self.trainer.estimated_stepping_batches

        def share(step: int, after: float) -> float:
            if not math.isfinite(total):
                return 1.0 if step < self.burn_in else after
            begin, end = (0, total) if step < self.burn_in else (self.burn_in, total)
            done = min(1.0, (step - begin) / max(1, end - begin))
            factor = 1.0 if step < self.burn_in else after
            return factor * 0.5 * (1 + math.cos(math.pi * done))

        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [lambda step: share(step, 0.2), lambda step: share(step, 1.0)]
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
