"""Data that are simulated step by step: what is drawn at a step follows from its number alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytorch_lightning import LightningDataModule

from lightning_al.values import whole

__all__ = ["HELD_OUT", "SteppedDataModule", "Steps"]

HELD_OUT = 2**31  # the first step whose draws are those of validations


class Steps:
    """Numbers 0..n-1: what is drawn at each is decided when it is drawn."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


class SteppedDataModule(LightningDataModule):
    """New draws at each step of training, and the same ones after each epoch to validate by.

    So a training that was stopped goes on with what one never stopped would see.

    Args:
        steps: of an epoch.
        seed: of the draws.
        batches: of a validation; 0 for none.
    """

    def __init__(self, steps: int, seed: int, batches: int) -> None:
        super().__init__()
        self.steps, self.seed, self.batches = whole(1)("steps", steps), seed, batches

    def drawn(self, step: int, *, rank: int, world: int, device: Any) -> Any:
        """What is drawn at a step, this process's share of it; from ``HELD_OUT`` on to validate."""
        raise NotImplementedError

    def train_dataloader(self) -> Steps:
        """One number a step."""
        return Steps(self.steps)

    def val_dataloader(self) -> Steps | list[Any]:
        """One number a batch."""
        return Steps(self.batches) if self.batches else []

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The draws of this step, on the device of the module."""
        if not isinstance(batch, int) or self.trainer is None:
            return batch
        trainer = self.trainer
        return self.drawn(
            trainer.global_step if trainer.training else HELD_OUT + batch,
            rank=trainer.global_rank,
            world=trainer.world_size,
            device=trainer.lightning_module.device,
        )
