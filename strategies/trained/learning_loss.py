"""Items of the largest predicted loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_al.randomness import generator, seeded
from lightning_al.records import Pool

from ..selection import relative_resolution, top_k
from ..sets import BLOCK, Picked, SetStrategy, drawn_rows
from ..strategy_registry import STRATEGIES

if TYPE_CHECKING:
    from .loss_ranker import LossRanker

__all__ = ["LearningLoss", "labelled_losses"]

IGNORED = -100  # PyTorch's mark for places without a label


@STRATEGIES.register(
    "learning-loss",
    example=[],  # the task trains a head; those here are for tasks without one
    settings={"model": {"init_args": {"loss_head": {"width": 128, "weight": 1.0, "margin": 1.0}}}},
)
@dataclass(frozen=True, repr=False, eq=False)
class LearningLoss(SetStrategy):
    """Learning loss: largest loss, as a second head predicts it (Yoo and Kweon 2019).

    The head is trained to rank items by their loss. Items are chosen among a random ``subset`` of
    the pool, so that a batch is not made of near copies of one item.
    A task with such a head (``Classification(..., loss_head=LossHead())``; any task with a method
    ``predicted_losses(*inputs) -> [n]``) has trained it beside itself, which is the paper's method.
    For other tasks a head of one hidden layer is trained here, on the embeddings of the labelled
    items as they are, to rank their losses under the fitted task; after a fit those are training
    losses, which say less the closer the fit. With fewer than two labelled items no head has
    learned an order, nor can one be learned from equal losses: k items are drawn.

    Compositions take it as a strategy that scores: the predicted losses are known once the whole
    pool has been looked at (:class:`lightning_al.protocols.ScoresLate`).

    Source: Yoo and Kweon, Learning Loss for Active Learning (2019), section 4.1 for the subset:
    10,000 items for 1,000 picks.

    Args:
        subset: candidates that are looked at: a float is a factor of k, an int a count (never less
            than k).
        width: of the hidden layer; this and the rest for a head that is trained here.
        steps: of Adam.
        batch_size: labelled items a step, half of it pairs.
        lr: learning rate.
        margin: of the ranking loss.
    """

    subset: int | float = 10.0
    width: int = 128
    steps: int = 200
    batch_size: int = 64
    lr: float = 1e-2
    margin: float = 1.0

    def __post_init__(self) -> None:
        counts = (self.width >= 1, self.steps >= 1, self.batch_size >= 2)
        if not (all(counts) and self.lr > 0 and self.margin > 0):
            raise ValueError(
                "learning-loss needs width and steps of at least 1, batch_size of at least 2, and "
                f"lr and margin above 0, got {self!r}"
            )
        if not self.subset >= 1:
            raise ValueError(
                "learning-loss needs a subset of at least 1, a factor of k (float) or a count "
                f"(int), got {self.subset}"
            )

    def pick(self, pool: Pool, k: int, generator: torch.Generator) -> Picked:
        """The k largest predicted losses of a random part of the pool."""
        count = math.ceil(self.subset * k) if isinstance(self.subset, float) else self.subset
        rows = drawn_rows(len(pool), max(k, count), generator, pool.index.device)
        part = pool.subset(rows)
        expected = self.late_scores(part) if part.scores is None else part.scores
        best = top_k(expected, k, generator, resolution=relative_resolution(expected))
        return Picked(rows[best.to(rows.device)], {"looked at": len(rows)})

    def late_scores(self, pool: Pool) -> Tensor:
        """Predicted losses [N] of the candidates, on a scale of their own.

        The same whenever they are asked for: a head that is trained here draws by round and
        labelled items.
        """
        targets = pool.context.targets
        if targets is None or len(targets) < 2:
            return torch.zeros(len(pool))
        task = pool.bench.task
        ready = callable(getattr(task, "predicted_losses", None))
        if ready and getattr(task, "loss_head", self) is not None:
            from .loss_ranker import Told  # inside: Lightning loads slowly

            mean = pool.bench.predict(pool.index, ["mean"], module=Told(task)).mean
            assert mean is not None  # asked for in the line above
            return mean.reshape(len(pool))
        known, losses = _finite(pool)
        if len(losses) < 2 or bool((losses == losses[0]).all()):
            return torch.zeros(len(pool))
        key = int(pool.bench.labelled.sort().values @ torch.arange(1, len(targets) + 1))
        draw = generator(key % 2**31, pool.context.round, "loss-head")
        head = self._trained(pool, known, losses, draw)
        with torch.no_grad():
            size = max(1, BLOCK // max(self.width, known.shape[1]))
            device = head.origin.device
            return torch.cat([head(part.to(device)).cpu() for part in pool.embedding.split(size)])

    def _trained(
        self, pool: Pool, known: Tensor, losses: Tensor, draw: torch.Generator
    ) -> LossRanker:
        from .loss_ranker import Batches, LossRanker

        first, second = torch.randint(2**31 - 1, (2,), generator=draw).tolist()
        with seeded(first, 0, "loss-head"):
            head = LossRanker(known, self.width, self.lr, self.margin)
        batches = Batches(known, losses, self.batch_size, self.steps, second)
        fitted: LossRanker = pool.bench.fit(head, batches, max_epochs=1)
        return fitted.eval()


def _finite(pool: Pool) -> tuple[Tensor, Tensor]:
    """Embeddings [L, E] and losses [L] of the labelled items where both are finite."""
    known, losses = pool.labelled.embedding.float(), labelled_losses(pool)
    fine = known.isfinite().all(1) & losses.isfinite()
    return known[fine], losses[fine]


def labelled_losses(pool: Pool) -> Tensor:
    """Loss of each labelled item under the fitted task [L], from its outputs.

    Minus the log of the members' mean probability of the label, averaged over the places that have
    one; for targets that are no whole numbers the squared error of the members' mean, over the
    variance of each target, averaged over the outputs.
    """
    targets, bench = pool.context.targets, pool.bench
    assert targets is not None  # the caller looked
    field = "mean" if bench.reading.kind == "regression" else "probs"
    said = bench.predict(bench.labelled, [field], module=bench.task).tensors()[field].mean(1)
    targets = targets.to(said.device)
    if field == "mean":
        goal = targets.reshape(len(said), -1).to(said.dtype)
        spread = goal.var(0, unbiased=False)
        return ((said - goal).square() / torch.where(spread > 0, spread, 1.0)).mean(1)
    targets = targets.long().reshape(len(said), 1, *said.shape[2:])  # one class a place
    told = targets != IGNORED
    right = said.gather(1, targets.clamp_min(0))
    losses = -right.clamp_min(math.exp(-80)).log() * told
    return losses.flatten(1).sum(1) / told.flatten(1).sum(1).clamp_min(1)
