"""Training of a policy by gradients through rollouts, as an ordinary Lightning fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lightning_al.networks import build, spec_of
from lightning_al.values import number

from .likelihood import Given
from .networks import FlexiblePolicy, PolicyNetwork
from .objectives import Curriculum, Objective, Stage
from .rollouts import Trajectory, roll_out
from .simulators import Batch, Episode, Simulator
from .training import PolicyTraining, Turn

__all__ = ["PolicyModule", "Trial"]

MOST = 10  # kernels, functions and replicates of a validation
TEST_POINTS = 200


@dataclass
class Trial:
    """An episode of full length, and points to test a model of it at."""

    episode: Episode
    x: Tensor  # [R, M, D]
    noise: Tensor  # [R, M]


class PolicyModule(PolicyTraining):
    """A policy that learns by gradients through simulated rollouts.

    RAdam, the learning rate times `decay` after each epoch, gradients scaled so that the largest
    is at most `clip`, after the processes have averaged theirs.

    Args:
        network: a PolicyNetwork, or its spec ``{"class_path": ..., "init_args": {...}}``.
        objective: name of a registered one.
        arguments: of the objective, such as ``{"gamma": 0.05}``.
        curriculum: stages, instead of the one objective.
        lr: learning rate at the start.
        decay: of the learning rate, each epoch.
        clip: the largest entry of the gradient.
        detach: the history is a constant to the policy; cheaper, and no longer the gradient of
            the objective.
        pack: leave out rollouts whose budget is spent; without it all shapes are static.

    Raises:
        LookupError: no objective of that name.
        TypeError: a network that is no PolicyNetwork.
    """

    def __init__(
        self,
        network: PolicyNetwork | dict[str, Any],
        objective: str = "GPMI2",
        arguments: Mapping[str, Any] | None = None,
        curriculum: Sequence[Stage] = (),
        lr: float = 1e-4,
        decay: float = 0.98,
        clip: float = 1.0,
        detach: bool = False,
        pack: bool = True,
    ) -> None:
        built = build(network)
        if not isinstance(built, PolicyNetwork):
            raise TypeError(
                f"a policy's network is a PolicyNetwork such as SetPolicy, got "
                f"{type(built).__name__}"
            )
        super().__init__(built)
        stages = [s if isinstance(s, Stage) else Stage(**s) for s in curriculum]
        self.curriculum = Curriculum(stages or [Stage(objective, arguments=arguments)])
        self.lr, self.decay, self.clip = number(0)("lr", lr), decay, clip
        self.detach, self.pack = detach, pack
        spec = spec_of(built)
        self.save_hyperparameters(
            {
                **({} if spec is None else {"network": spec}),
                "objective": objective,
                "arguments": None if arguments is None else dict(arguments),
                "curriculum": [
                    {**vars(s), "arguments": None if s.arguments is None else dict(s.arguments)}
                    for s in stages
                ],
                "lr": lr,
                "decay": decay,
                "clip": clip,
                "detach": detach,
                "pack": pack,
            }
        )

    def objective(self) -> Objective:
        """What is trained in this epoch."""
        return self.curriculum.at(self.current_epoch)

    def needs(self, simulator: Simulator) -> dict[str, int]:
        """What the simulator has to draw in this epoch."""
        return self.objective().needs(simulator.dimension)

    def drawn(self, turn: Turn) -> Episode | Trial:
        """The episodes of a step, or some of full length with points to test a model at."""
        simulator = turn.simulator
        if not turn.validates:
            wanted: dict[str, Any] = self.needs(simulator)
            return simulator(turn.streams(), **wanted, **turn.where)
        few = Batch(*(min(MOST, n) for n in vars(simulator.batch).values()))
        simulator = replace(simulator, batch=few, random_budget=False)
        streams = turn.streams()
        episode = simulator(streams, **turn.where)
        x = streams.uniform("test", episode.index, TEST_POINTS, simulator.dimension)
        noise = streams.normal("test/noise", episode.index, TEST_POINTS)
        return Trial(
            episode, x * episode.active[:, None], noise * episode.y.hyper.noise.sqrt()[:, None]
        )

    def fits(self, simulator: Simulator) -> None:
        """See whether network and simulator go together.

        Raises:
            ValueError: they do not.
        """
        super().fits(simulator)
        if simulator.flexible and not isinstance(self.network, FlexiblePolicy):
            raise ValueError("a simulator with flexible inputs needs a FlexiblePolicy")

    def training_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The loss of this process's share of the episodes."""
        trajectory = roll_out(
            cast(PolicyNetwork, self.network), batch, detach=self.detach, pack=self.pack
        )
        if not bool(trajectory.x.isfinite().all()):
            raise FloatingPointError(
                f"the policy asks at NaN at step {self.global_step}: its weights have diverged; "
                "go on from an earlier checkpoint with a lower lr"
            )
        loss = self.objective()(trajectory).mean() * batch.share
        return self.learned_from(loss, len(batch.index))

    def validation_step(self, batch: Trial, batch_idx: int) -> None:
        """Error of the process given the queries, with the true hyper-parameters."""
        trajectory = roll_out(cast(PolicyNetwork, self.network), batch.episode, pack=self.pack)
        options: dict[str, Any] = {"batch_size": 1, "sync_dist": True}  # its share is in `share`
        error = _rmse(trajectory, batch).mean() * batch.episode.share
        self.log("val/rmse", error, prog_bar=True, **options)
        if trajectory.z is not None:
            safe = (trajectory.z >= 0).double().mean() * batch.episode.share
            self.log("val/safe", safe, prog_bar=True, **options)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """RAdam and an exponential schedule."""
        learned = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.RAdam(learned, lr=self.lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the largest entry of the whole gradient, once it is that of all processes."""
        most = self.clip if gradient_clip_val is None else gradient_clip_val
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), most, norm_type=float("inf"))


def _rmse(trajectory: Trajectory, trial: Trial) -> Tensor:
    """Root mean squared error [R] at noisy test points."""
    episode, hyper = trial.episode, trial.episode.y.hyper
    x = torch.cat([episode.x, trajectory.x], 1)
    y = torch.cat([episode.y.initial, trajectory.y], 1)
    valid = None
    if episode.valid is not None:
        valid = torch.cat([episode.valid, trajectory.counts], 1)
    given = Given.of(hyper, x, y, valid)
    cross = hyper.covariance(x, trial.x)
    if valid is not None:
        cross = cross * valid.unsqueeze(-1)
    side = torch.linalg.solve_triangular(given.factor, cross, upper=False)
    mean = hyper.mean_at(trial.x) + (given.white.unsqueeze(-2) @ side).squeeze(-2)
    truth = episode.y.paths(trial.x) + trial.noise
    return (mean - truth).square().mean(-1).sqrt()
