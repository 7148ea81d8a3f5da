"""``python policy_ranks.py FOLDER WORLD CASE ...``: gradients of three steps, saved by rank 0.

A case is "safe" or "plain" and a precision: "safe-float64". FOLDER gets CASE.pt and CASE.ckpt.
"""

import sys

import torch
from pytorch_lightning import Trainer

from lightning_al.policies import (
    Batch,
    PolicyModule,
    SafetyPrior,
    SetPolicy,
    Simulator,
    SimulatorDataModule,
)


class Recorder(PolicyModule):
    """Keeps each step's gradient, before and after it is clipped."""

    def __init__(self, safe=True, dtype=torch.float64):
        torch.manual_seed(0)
        network = SetPolicy(2, safe=safe, width=8, heads=2, hidden=8).to(dtype)
        objective = "MinUnsafeGPEntropy2" if safe else "GPMI2"
        super().__init__(network, objective, lr=1e-2, clip=1e-3)
        self.seen = []

    def flat(self):
        return torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None])

    def configure_gradient_clipping(self, optimizer, *args, **kwargs):
        raw = self.flat().clone()
        super().configure_gradient_clipping(optimizer, *args, **kwargs)
        self.seen.append((raw, self.flat().clone()))


def main(folder, world, case):
    kind, precision = case.split("-")
    safety = SafetyPrior() if kind == "safe" else None
    simulator = Simulator(2, 4, 2, Batch(kernels=3, functions=1, replicates=2), safety=safety)
    module = Recorder(kind == "safe", getattr(torch, precision))
    data = SimulatorDataModule(simulator, steps=3, validate=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        strategy="ddp" if world > 1 else "auto",
        enable_progress_bar=False,
        precision="64-true" if precision == "float64" else "32-true",
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    trainer.save_checkpoint(f"{folder}/{case}.ckpt")
    if trainer.global_rank == 0:
        loss = trainer.callback_metrics["train/loss"].item()
        torch.save({"seen": module.seen, "loss": loss}, f"{folder}/{case}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[3:]:
        main(sys.argv[1], int(sys.argv[2]), each)
