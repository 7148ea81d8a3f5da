"""``python candidate_ranks.py FOLDER WORLD CASE ...``: weights after some steps, saved by rank 0.

A case is "safe", "plain" or "flexible". FOLDER gets CASE.pt and CASE.ckpt.
"""

import sys

import torch
from pytorch_lightning import Trainer

from lightning_al.policies import (
    Batch,
    CandidateModule,
    CandidatePolicy,
    SafetyPrior,
    Simulator,
    SimulatorDataModule,
)

CASES = {"plain": {}, "safe": {"safe": True}, "flexible": {"flexible": True}}
STEPS = 5


def law(safe=False, flexible=False, rows=5, dimension=2):
    return Simulator(
        dimension,
        4,
        2,
        Batch(rows, 1, 1),
        safety=SafetyPrior() if safe else None,
        draws="exact",
        flexible=flexible,
    )


def module(dtype=torch.float64, seed=0, **form):
    torch.manual_seed(seed)
    network = CandidatePolicy(2, width=8, heads=2, candidates=9, **form).to(dtype)
    return CandidateModule(network, reuse=3, candidates=4, warmup=1, lr=1e-2, near=0.5)


def main(folder, world, case):
    model, data = module(**CASES[case]), SimulatorDataModule(law(**CASES[case]), steps=STEPS)
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        strategy="ddp" if world > 1 else "auto",
        enable_progress_bar=False,
        precision="64-true",
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data)
    trainer.save_checkpoint(f"{folder}/{case}.ckpt")
    if trainer.global_rank == 0:
        found = {k: float(v) for k, v in trainer.callback_metrics.items()}
        torch.save({"state": model.state_dict(), "found": found}, f"{folder}/{case}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[3:]:
        main(sys.argv[1], int(sys.argv[2]), each)
