"""CPU microseconds that a step of a fit takes: Lightning, lean, stacked, and bare torch.

    python benchmarks/fit_steps.py [--replicas 32] [--epochs 5] [--repeat 3] [--only mlp flow]

256 rows in batches of 32, Adam, one thread, whole fits without validation (a last row: an MLP with
dropout, validated each epoch, that stops early). The four contenders are measured in turn in one
process, and a step is that of one replica. The stacks are asked for even where stacking loses:
what `fits: stacked` does there, by the count of operations, stands beside them. Asked: Lightning
over stacked at least 4 for the Gaussian density and 3 for the flow.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import EarlyStopping
from timing import interleaved, medians, one_thread, seconds
from torch import nn

from lightning_al.compat import family_of
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.lean import lean_fit
from lightning_al.fits.lightning import fit_round
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.recorder import NotPlain
from lightning_al.fits.stacked import Member, fit_stack
from lightning_al.fits.stacked.engine import fit_together
from lightning_al.networks import MLP, SmallCNN
from lightning_al.tasks import Classification, DensityRegression

ROWS, BATCH, CONTEXT = 256, 32, 64
FLOW = {"name": "flow", "context": CONTEXT, "arguments": {"hidden_features": [64, 64]}}
ASKED = {"gaussian": 4.0, "flow": 3.0}  # Lightning over stacked
SHARES = 8  # of the replicas, that Lightning and the bare loops fit


@dataclass(frozen=True)
class Case:
    """A module, its data, and the same by hand."""

    task: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int  # 0 for numbers
    loss: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor] | None
    stops: bool = False


def cross_entropy(task: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of the task's network."""
    return F.cross_entropy(task.network(x), y)


def gaussian(task: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Negative log-density of a normal whose log-variance is predicted."""
    mean, log_variance = task.network(x).unbind(1)
    return 0.5 * (log_variance + (y - mean).square() * (-log_variance).exp()).mean()


def flow(task: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Negative log-density of zuko's flow."""
    return -task.head.flows[0](task.network(x)).log_prob(y[:, None]).mean()


def classifier(dropout: float) -> nn.Module:
    """Two hidden layers on digits."""
    return Classification(MLP(in_features=64, hidden=[64, 64], outputs=10, dropout=dropout), 10)


def density(head: object, outputs: int) -> nn.Module:
    """Three hidden layers on eight numbers."""
    network = MLP(in_features=8, hidden=[32, 64, 128], outputs=outputs)
    return DensityRegression(network, head=head)


def images() -> nn.Module:
    """Two convolutions."""
    return Classification(SmallCNN(in_channels=1, outputs=10, image_size=28, width=16), 10)


CASES = {
    "mlp": Case(partial(classifier, 0.25), (64,), 10, cross_entropy),
    "mlp, no dropout": Case(partial(classifier, 0.0), (64,), 10, cross_entropy),
    "gaussian": Case(partial(density, "gaussian", 2), (8,), 0, gaussian),
    "flow": Case(partial(density, FLOW, CONTEXT), (8,), 0, flow),
    "cnn": Case(images, (1, 28, 28), 10, cross_entropy),
    "mlp, stops early": Case(partial(classifier, 0.25), (64,), 10, None, stops=True),
}


def data(case: Case, seed: int) -> ActiveDataModule:
    """Noise, with classes or a plane."""
    drawn = torch.Generator().manual_seed(seed)
    rows = 2 * ROWS
    x = torch.randn(rows, *case.shape, generator=drawn)
    flat = x.flatten(1)
    y = flat[:, : case.classes].argmax(1) if case.classes else flat.sum(1)
    items = TensorItems(x, y)
    made = ActiveDataModule(
        items, val=100 if case.stops else None, test=0.1, initial=ROWS, batch_size=BATCH
    )
    made.prepare_data()
    made.start(seed)
    made.round = 0
    return made


def members(case: Case, count: int, epochs: int) -> list[Member]:
    """Replicas, ready to be fitted."""
    made = []
    for seed in range(count):
        more = {"callbacks": [EarlyStopping("val/nll", patience=3)]} if case.stops else {}
        trainer = {
            **{"accelerator": "cpu", "devices": 1, "logger": False},
            **{"max_epochs": 10 * epochs if case.stops else epochs},
            **more,
        }
        recipe = Recipe(case.task, trainer)
        module = recipe.build_task(seed, 0, None)
        built = recipe.build_trainer((), None, family_of(module))
        made.append(Member(module, recipe, data(case, seed), built, seed, 0))
    return made


def one_by_one(fit: Callable[..., object], some: list[Member]) -> int:
    """Fit each by itself; the steps of all."""
    return sum(
        fit(m.module, m.recipe, m.datamodule, m.trainer, seed=m.seed, round=0).global_step
        for m in some
    )


def bare(case: Case, some: list[Member], epochs: int) -> int:
    """The same by hand; the steps of all."""
    steps = 0
    for m in some:
        batch = m.datamodule.train_dataloader().view[torch.arange(ROWS)]
        x, y = batch
        y = y if case.classes else (y - y.mean()) / y.std()
        optimizer = torch.optim.Adam(m.module.parameters(), lr=1e-3, fused=True)
        for _ in range(epochs):
            for rows in torch.randperm(ROWS).split(BATCH):
                optimizer.zero_grad()
                case.loss(m.module, x[rows], y[rows]).backward()
                optimizer.step()
                steps += 1
    return steps


def a_step(case: Case, engine: str, replicas: int, epochs: int) -> float:
    """Microseconds a step of one replica."""
    some = members(case, replicas if engine == "stacked" else SHARES, epochs)
    steps = [0]

    def work() -> None:
        if engine == "stacked":
            steps[0] = sum(fit.global_step for fit in fit_together(some))
        elif engine == "bare":
            steps[0] = bare(case, some, epochs)
        else:
            steps[0] = one_by_one(lean_fit if engine == "lean" else fit_round, some)

    taken = seconds(work)
    return taken / steps[0] * 1e6


def verdict(case: Case) -> str:
    """Whether `fits: stacked` stacks these."""
    try:
        fit_stack(members(case, 4, 1))
    except NotPlain as reason:
        return f"left to lean: {reason}"
    return "stacked"


def table(replicas: int, epochs: int, repeat: int, only: list[str] | None = None) -> bool:
    """Measure and print; whether what was asked is there."""
    met = True
    print(f"\nCPU us a step of one replica, {replicas} in a stack")
    print(f"{'':18}{'Lightning':>10}{'lean':>8}{'bare':>8}{'stacked':>9}  bare / stacked")
    for name, case in CASES.items():
        if only and name not in only:
            continue
        engines = ["lightning", "lean", "stacked", *([] if case.loss is None else ["bare"])]
        calls = {e: partial(a_step, case, e, replicas, epochs) for e in engines}
        found = medians(interleaved(calls, repeat))
        by_hand = found.get("bare")
        shown = f"{'':>8}" if by_hand is None else f"{by_hand:8.0f}"
        gain = "" if by_hand is None else f"{by_hand / found['stacked']:.2f}"
        print(
            f"{name:18}{found['lightning']:10.0f}{found['lean']:8.0f}{shown}"
            f"{found['stacked']:9.0f}  {gain:6} {verdict(case)}",
            flush=True,
        )
        met &= found["lightning"] / found["stacked"] >= ASKED.get(name, 0)
    return met


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CASES)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    one_thread()
    sys.exit(not table(args.replicas, args.epochs, args.repeat, args.only))


if __name__ == "__main__":
    main()
