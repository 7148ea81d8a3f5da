"""Training of a policy that scores candidates, as an ordinary Lightning fit.

Functions are drawn and asked by the policy as it is, without gradients; then, for some steps, it
learns what asking is worth after histories of several lengths. Nothing is differentiated through a
rollout.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional

from lightning_al.networks import build, spec_of
from lightning_al.values import number, whole

from ..simulators import Batch, Simulator
from ..streams import Streams
from ..training import PolicyTraining, Turn
from .asking import asking, error
from .network import CandidatePolicy, moved
from .places import scattered
from .targets import Target, Worth
from .worlds import Asked, World

__all__ = ["CandidateModule"]

RANDOM = (0.0, 0.1, 0.3, 1.0)  # shares of queries of a rollout that are random
JITTER = (0.0, 0.0, 0.03, 0.1)  # added to its other queries, a standard deviation
SHARP = 4.0  # of the weights of candidates
COLD = 20.0  # of the distributions that are compared
LEVEL = 0.1  # of the squared error that a state's scores have in common
FIRM, TENSE = 0.9999, 0.01  # moves are kept from the ends of their reach, where nothing is learned
SMOOTH = 0.98  # of the averaged weights
FLOOR = 0.02  # of the learning rate at the end
HELD_OUT, MOST = 31, 64  # the seed of the validation, and its functions at most


class CandidateModule(PolicyTraining):
    """A policy learns to score candidates and to move them.

    The network that is used, ``network``, is a running average of the one that learns. AdamW
    (Loshchilov, Hutter, 2019), a warm-up and a cosine over the whole training.

    Args:
        network: a CandidatePolicy, or its spec ``{"class_path": ..., "init_args": {...}}``.
        target: "entropy", "mutual" or "ivr"; see :class:`.targets.Target`.
        gamma: of a safe policy; stricter than what is to be promised.
        promised: probability of an unsafe query that the policy's card promises to keep.
        points: of the grid of "mutual", or over which "ivr" averages.
        reuse: steps on the functions of one rollout.
        lengths: of histories, a step.
        candidates: a history, that are learned from.
        near: share of these around points measured; the others are spread out.
        lr: the largest learning rate.
        warmup: steps until then.
        squares: weight of the squared error of the scores; for a safe policy Huber's.
        rank: weight of the cross-entropy of the scores' order.
        clip: largest norm of the gradient.

    Raises:
        TypeError: a network that is no CandidatePolicy.
        ValueError: numbers that make no sense.
    """

    def __init__(
        self,
        network: CandidatePolicy | dict[str, Any],
        target: str = "entropy",
        gamma: float = 0.01,
        promised: float = 0.05,
        points: int = 100,
        reuse: int = 12,
        lengths: int = 2,
        candidates: int = 16,
        near: float = 0.0,
        lr: float = 1e-3,
        warmup: int = 40,
        squares: float = 1.0,
        rank: float = 0.1,
        clip: float = 1.0,
    ) -> None:
        built = build(network)
        if not isinstance(built, CandidatePolicy):
            raise TypeError(f"this trains a CandidatePolicy, got {type(built).__name__}")
        super().__init__(built)
        kind: Any = target
        self.target = Target(kind, gamma, points)
        self.promised = number(0, 1)("promised", promised)
        self.reuse, self.lengths = whole(1)("reuse", reuse), whole(1)("lengths", lengths)
        self.candidates = whole(2)("candidates", candidates)
        self.near = number(0, 1)("near", near)
        self.lr, self.warmup = number(0)("lr", lr), whole(0)("warmup", warmup)
        self.squares, self.rank = number(0)("squares", squares), number(0)("rank", rank)
        self.clip = number(0)("clip", clip)
        self.learner = copy.deepcopy(built)
        self.asker = copy.deepcopy(built).requires_grad_(False)  # as it was at the last rollout
        self.network.requires_grad_(False)
        self._played: dict[str, tuple[int, World, Asked, Worth]] = {}
        spec = spec_of(built)
        self.save_hyperparameters(
            {
                **({} if spec is None else {"network": spec}),
                "target": target,
                "gamma": gamma,
                "promised": promised,
                "points": points,
                "reuse": reuse,
                "lengths": lengths,
                "candidates": candidates,
                "near": near,
                "lr": lr,
                "warmup": warmup,
                "squares": squares,
                "rank": rank,
                "clip": clip,
            }
        )

    def drawn(self, turn: Turn) -> Turn:
        """The functions of a step are asked by the network, so that is done by the step."""
        return turn

    def fits(self, simulator: Simulator) -> None:
        """See whether network and simulator go together.

        Raises:
            ValueError: they do not.
        """
        super().fits(simulator)
        if simulator.flexible != self.network.flexible:
            raise ValueError(
                "network.flexible and the simulator's flexible go together: set both or neither"
            )
        if simulator.draws != "exact" or simulator.batch.replicates != 1:
            raise ValueError(
                "candidates are learned from exact draws, each function asked once: set draws: "
                f"exact and batch.replicates: 1, got draws: {simulator.draws} and "
                f"{simulator.batch.replicates} replicates"
            )

    def training_step(self, batch: Turn, batch_idx: int) -> Tensor:
        """The loss of this process's share of the functions, after some lengths of history."""
        world, asked, worth = self._rollout(batch)
        now = replace(world, streams=batch.streams())
        least, most = batch.simulator.starts[0], len(asked) - 1
        shape = (self.candidates, 2 * batch.simulator.dimension + 2)
        found = []
        for i in range(self.lengths):
            count = now.streams.between(f"length/{i}", now.index, least, most)
            drawn = now.uniform(f"candidates/{i}", *shape)
            places = scattered(drawn, asked.x, count, self.near) * asked.active[:, None]
            found.append(self.loss(asked, worth, count, places))
        loss = torch.cat(found).mean() * asked.share
        if not bool(loss.isfinite()):
            raise FloatingPointError(
                f"the loss is {float(loss)} at step {self.global_step}: the weights have "
                "diverged; go on from an earlier checkpoint with a lower lr"
            )
        return self.learned_from(loss, len(world.index))

    def loss(self, asked: Asked, worth: Worth, count: Tensor, places: Tensor) -> Tensor:
        """Loss [R] after the first `count` [R] points of each, with candidates [R, A, D]."""
        kind, most = next(self.learner.parameters()).dtype, int(count.max())
        known = self.learner.encode(
            asked.x[:, :most].to(kind),
            asked.y[:, :most].to(kind),
            None if asked.z is None else asked.z[:, :most].to(kind),
            valid=torch.arange(most, device=count.device) < count[:, None],
            active=asked.active if self.learner.flexible else None,
        )
        found = self.learner.look(known, places.to(kind))
        value = worth.at(count, moved(places, found.moves.to(places))).to(kind)
        here = worth.at(count, places).to(kind)
        weight = _weight(value.detach())
        tension = torch.atanh((found.moves / self.learner.reach).clamp(-FIRM, FIRM)).square()
        each = TENSE / value.shape[-1] * tension.mean(-1) - weight * value
        scores = (found.score, value.detach()), (found.here, here)
        return each.sum(-1) + sum(self._off(*pair, safe=asked.z is not None) for pair in scores)

    def _off(self, score: Tensor, aim: Tensor, *, safe: bool) -> Tensor:
        """Loss [R] of scores [R, A] that are to be aims [R, A]."""
        weight = _weight(aim)
        compare = functional.huber_loss if safe else functional.mse_loss
        level = (weight * (score - aim)).sum(-1, keepdim=True)
        off = compare(score - level, aim, reduction="none") + LEVEL * level.square()
        order = -(torch.softmax(COLD * aim, -1) * torch.log_softmax(COLD * score, -1)).sum(-1)
        return self.squares * (weight * off).sum(-1) + self.rank * order

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """A step, after which the average follows, more slowly the longer the training goes on."""
        step = self.global_step
        super().optimizer_step(*args, **kwargs)
        keep = min(SMOOTH, (1 + step) / (10 + step))
        with torch.no_grad():
            pairs = zip(self.network.parameters(), self.learner.parameters(), strict=True)
            for average, now in pairs:
                average.lerp_(now, 1 - keep)

    def validation_step(self, batch: Turn, batch_idx: int) -> None:
        """Held-out functions, always the same: error, worth of the queries, their safety."""
        law = batch.simulator
        law = replace(law, batch=Batch(min(MOST, law.batch.size), 1, 1))
        if batch.rank >= law.batch.size:
            raise ValueError(f"{batch.world} processes share {law.batch.size} functions")
        world = World.of(law, Streams.of(HELD_OUT, 0, "validate"), **batch.where)
        asked = world.play(asking(cast(CandidatePolicy, self.network), self._active(world)))
        worth, first = self.target.of(world, asked), law.starts[1]
        gained = [worth.at(n, asked.x[:, n : n + 1]) for n in range(first, len(asked))]
        options: dict[str, Any] = {"batch_size": 1, "sync_dist": True}  # its share is in `share`
        found = {"loss": -torch.cat(gained, 1).mean(), "rmse": error(world, asked).mean()}
        if asked.z is not None:
            found["safe"] = (asked.z[:, first:] >= 0).double().mean()
        for name, value in found.items():
            self.log(f"val/{name}", value * asked.share, prog_bar=True, **options)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, a warm-up, half a cosine down to 2 %."""
        optimizer = torch.optim.AdamW(
            self.learner.parameters(), lr=self.lr, betas=(0.9, 0.98), weight_decay=1e-4
        )
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate(float(steps)))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, steps: float) -> Callable[[int], float]:
        def rate(step: int) -> float:
            rise = min(1.0, (step + 1) / (self.warmup + 1))
            if not math.isfinite(steps) or steps <= 0:
                return rise
            fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
            return rise * (FLOOR + (1 - FLOOR) * fall)

        return rate

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the 2-norm of the whole gradient, once it is that of all processes."""
        most = self.clip if gradient_clip_val is None else gradient_clip_val
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), most)

    def _active(self, world: World) -> Tensor | None:
        return world.active if self.network.flexible else None

    def _rollout(self, turn: Turn) -> tuple[World, Asked, Worth]:
        """Functions as they were asked at the last of every `reuse` steps."""
        begun = turn.step - turn.step % self.reuse
        if turn.purpose not in self._played or self._played[turn.purpose][0] != begun:
            if turn.step == begun:
                self.asker.load_state_dict(self.learner.state_dict())
            world = World.of(turn.simulator, turn.streams(begun), **turn.where)
            asked = world.play(_varied(world, asking(self.asker, self._active(world))))
            self._played[turn.purpose] = begun, world, asked, self.target.of(world, asked)
        return self._played[turn.purpose][1:]


def _weight(aim: Tensor) -> Tensor:
    """Weights [R, A] of candidates: half alike, half on those that are worth most."""
    return torch.softmax(SHARP * aim, -1) / 2 + 0.5 / aim.shape[-1]


def _varied(
    world: World, ask: Callable[[Tensor, Tensor, Tensor | None], Tensor]
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """Some rollouts ask at random, now and then or always, and others beside their query."""
    share = torch.tensor(RANDOM).to(world.active)[
        world.streams.between("share", world.index, 0, len(RANDOM) - 1)
    ]
    jitter = torch.tensor(JITTER).to(world.active)[
        world.streams.between("jitter", world.index, 0, len(JITTER) - 1)
    ]

    def varied(x: Tensor, y: Tensor, z: Tensor | None) -> Tensor:
        n, dim = x.shape[1:]
        beside = world.streams.normal(f"beside/{n}", world.index, dim) * jitter[:, None]
        query = ((ask(x, y, z) + beside).clamp(0, 1)) * world.active
        anywhere = world.places(f"anywhere/{n}", 1).squeeze(1)
        random = world.uniform(f"random/{n}") < share
        return torch.where(random[:, None], anywhere, query)

    return varied
