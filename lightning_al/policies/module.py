"""Training of a policy as an ordinary Lightning fit: the module, and the data it is fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from lightning_al.compat import set_step
from lightning_al.networks import build, spec_of
from lightning_al.values import number

from .likelihood import Given
from .networks import FlexiblePolicy, PolicyNetwork
from .objectives import Curriculum, Objective, Stage
from .rollouts import Trajectory, roll_out
from .simulators import Batch, Episode, Simulator
from .streams import Streams
from .training_progress import Progress, plain, simulator_of

__all__ = ["PolicyModule", "SimulatorDataModule", "Trial"]

MOST = 10  # kernels, functions and replicates of a validation
TEST_POINTS = 200


@dataclass
class Trial:
    """An episode of full length, and points to test a model of it at."""

    episode: Episode
    x: Tensor  # [R, M, D]
    noise: Tensor  # [R, M]


class _Steps:
    """Numbers 0..n-1: what is drawn at each is decided when it is drawn."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


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

    def train_dataloader(self) -> _Steps:
        """One number a step."""
        return _Steps(self.steps)

    def val_dataloader(self) -> _Steps | list[Any]:
        """One batch of trials."""
        return _Steps(1) if self.validate else []

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Episode | Trial | Any:
        """The episodes of this step, drawn on the device of the module."""
        if not isinstance(batch, int) or self.trainer is None:
            return batch
        module, trainer = self.trainer.lightning_module, self.trainer
        where: dict[str, Any] = {
            "rank": trainer.global_rank,
            "world": trainer.world_size,
            "device": module.device,
        }
        step = trainer.global_step
        if not trainer.training:
            return self.trial(step, **where)
        micro = self._asked[1] + 1 if self._asked[0] == step else 0
        self._asked = (step, micro)
        purpose = f"simulate/{micro}" if micro else "simulate"  # accumulated gradients
        streams = Streams.of(self.seed, step, purpose)
        needs: Any = module.needs
        return self.simulator(streams, **needs(self.simulator), **where)

    def trial(self, step: int, **where: Any) -> Trial:
        """Episodes of full length, at most 10 kernels, functions and replicates."""
        batch = self.simulator.batch
        few = Batch(*(min(MOST, n) for n in vars(batch).values()))
        simulator = replace(self.simulator, batch=few, random_budget=False)
        streams = Streams.of(self.seed, step, "validate")
        episode = simulator(streams, **where)
        x = streams.uniform("test", episode.index, TEST_POINTS, simulator.dimension)
        noise = streams.normal("test/noise", episode.index, TEST_POINTS)
        return Trial(
            episode, x * episode.active[:, None], noise * episode.y.hyper.noise.sqrt()[:, None]
        )


class PolicyModule(LightningModule):
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
        super().__init__()
        built = build(network)
        if not isinstance(built, PolicyNetwork):
            raise TypeError(
                f"a policy's network is a PolicyNetwork such as SetPolicy, got "
                f"{type(built).__name__}"
            )
        self.network = built
        stages = [s if isinstance(s, Stage) else Stage(**s) for s in curriculum]
        self.curriculum = Curriculum(stages or [Stage(objective, arguments=arguments)])
        self.lr, self.decay, self.clip = number(0)("lr", lr), decay, clip
        self.detach, self.pack = detach, pack
        self.progress = Progress()
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

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The next queries; see :meth:`PolicyNetwork.forward`."""
        return self.network(*args, **kwargs)

    def objective(self) -> Objective:
        """What is trained in this epoch."""
        return self.curriculum.at(self.current_epoch)

    def needs(self, simulator: Simulator) -> dict[str, int]:
        """What the simulator has to draw in this epoch."""
        return self.objective().needs(simulator.dimension)

    def on_fit_start(self) -> None:
        """See whether network, objective and simulator go together.

        Raises:
            ValueError: they do not.
        """
        simulator = getattr(getattr(self.trainer, "datamodule", None), "simulator", None)
        if not isinstance(simulator, Simulator):
            return
        network = self.network
        if network.dimension != simulator.dimension:
            raise ValueError(
                f"the network takes {network.dimension} inputs, the simulator has "
                f"{simulator.dimension}; give both the same dimension"
            )
        if network.safe != (simulator.safety is not None):
            raise ValueError(
                "network.safe and the simulator's safety go together: set safe: true and a "
                "safety prior, or neither"
            )
        if simulator.flexible and not isinstance(network, FlexiblePolicy):
            raise ValueError("a simulator with flexible inputs needs a FlexiblePolicy")

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

    def training_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The loss of this process's share of the episodes."""
        trajectory = roll_out(self.network, batch, detach=self.detach, pack=self.pack)
        if not bool(trajectory.x.isfinite().all()):
            raise FloatingPointError(
                f"the policy asks at NaN at step {self.global_step}: its weights have diverged; "
                "go on from an earlier checkpoint with a lower lr"
            )
        loss = self.objective()(trajectory).mean() * batch.share
        size = len(batch.index)
        self.progress.losses.append(loss.detach())
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: Trial, batch_idx: int) -> None:
        """Error of the process given the queries, with the true hyper-parameters."""
        trajectory = roll_out(self.network, batch.episode, pack=self.pack)
        size = len(batch.episode.index)
        options: dict[str, Any] = {"batch_size": size, "sync_dist": True}
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
