"""The modules that ``learning-loss`` runs and fits: a task's own head, and one on embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from lightning_al.tasks import Adapter
from lightning_al.tasks.loss_head import ranking_loss

__all__ = ["Batches", "LossRanker", "Told"]


class Told(LightningModule):
    """A task that gives the losses its own head predicts."""

    def __init__(self, task: LightningModule) -> None:
        super().__init__()
        self.task, self.adapter = task, Adapter(kind="regression")

    def forward(self, *inputs: Any) -> Tensor:
        """Predicted losses [n]."""
        return self.task.predicted_losses(*inputs)  # type: ignore[operator,no-any-return]


class LossRanker(LightningModule):
    """A head on embeddings [n, E], which it standardises by those of the labelled items."""

    origin: Tensor
    scale: Tensor

    def __init__(self, known: Tensor, width: int, lr: float, margin: float) -> None:
        super().__init__()
        self.lr, self.margin = lr, margin
        std = known.std(0, unbiased=False)
        self.register_buffer("origin", known.mean(0))
        self.register_buffer("scale", torch.where(std > 0, std, torch.ones_like(std)))
        self.layers = nn.Sequential(
            nn.Linear(known.shape[1], width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Predicted losses [n]."""
        return self.layers((points.float() - self.origin) / self.scale).squeeze(1)  # type: ignore[no-any-return]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Ranking loss of one batch."""
        points, losses = batch
        return ranking_loss(self(points), losses, self.margin)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


@dataclass(frozen=True)
class Batches:
    """So many random batches (points, losses); the same in each pass."""

    points: Tensor  # [L, E]
    losses: Tensor  # [L]
    size: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        draw = torch.Generator().manual_seed(self.seed)
        for _ in range(self.steps):
            rows = torch.randperm(len(self.points), generator=draw)[: self.size]
            yield self.points[rows], self.losses[rows]
