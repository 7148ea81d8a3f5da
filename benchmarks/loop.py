"""The whole loop on digits: 20 rounds of 20 queries, beside 20 plain Lightning fits and the peers.

    python benchmarks/loop.py [--quick] [--profile FILE]

20 epochs, batches of 32, an MLP 64-64-10, margin sampling, rounds reset. The yardstick is the same
20 fits (20, 40, ..., 400 labels) by Lightning with a stock DataLoader and nothing else: no test,
no scores, no journal, no checkpoint. CPU seconds on one thread, the median of 5. Each fit of the
yardstick runs right after our round of the same size (its time is not ours), and the peers in turn,
so that slow moments of the machine strike all alike. Asked: ours at most 1.10 times the yardstick.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from peers import quiet, with_peers
from timing import interleaved, medians, one_thread, seconds, show
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

if TYPE_CHECKING:
    from lightning_al.history.history import History
    from lightning_al.history.records import Round

ROUNDS, QUERY, EPOCHS, BATCH, ASK = 20, 20, 20, 32, 1.10
SIZES = [QUERY * (i + 1) for i in range(ROUNDS)]
STEPS = EPOCHS * sum(-(-size // BATCH) for size in SIZES)
BARE = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
FOLDER = tempfile.TemporaryDirectory()  # removed at the end, which is no part of the loop
TRAINER = {"accelerator": "cpu", "devices": 1, "max_epochs": EPOCHS}


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Training and test part of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    data = TensorDataset((x / 16).float(), y.long())
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return TensorDataset(*data[order[360:]]), TensorDataset(*data[order[:360]])


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def adam(parameters) -> torch.optim.Optimizer:
    """What our tasks use: one fused kernel a step, for everybody alike."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


class Plain(pl.LightningModule):
    """What one writes without us."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def training_step(self, batch, index: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def test_step(self, batch, index: int) -> None:
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return adam(self.parameters())


def margins(logits: Tensor) -> Tensor:
    best = logits.softmax(1).topk(2, 1).values
    return best[:, 1] - best[:, 0]


def fit_alone(train: TensorDataset, order: list[int]) -> None:
    """The yardstick: Lightning and a stock DataLoader, nothing else."""
    loader = DataLoader(Subset(train, order), BATCH, shuffle=True)
    pl.Trainer(**TRAINER, **BARE).fit(Plain(), loader)


class Beside:
    """Observer of our run that fits the yardstick after each round, and keeps both times."""

    def __init__(self, train: TensorDataset) -> None:
        self.train, self.ours, self.alone = train, 0.0, 0.0
        self.order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1)).tolist()
        self.since = time.process_time()

    def stop(self) -> None:
        """Count what went by since the last look as ours."""
        self.ours += time.process_time() - self.since

    def run_started(self, plan: Mapping, rounds: Sequence) -> None: ...

    def stage_started(self, round: int, stage: str) -> None: ...

    def round_ended(self, round: Round, datamodule: Any) -> None:
        self.stop()
        self.alone += seconds(partial(fit_alone, self.train, self.order[: round.n_labelled]))
        self.since = time.process_time()

    def run_ended(self, history: History) -> None: ...


def ours(train: TensorDataset, test: TensorDataset, *observers: Any) -> None:
    """Everything that a run does, with the default metrics, the journal and all checkpoints."""
    from lightning_al import ActiveLearner
    from lightning_al.datamodules import ActiveDataModule
    from lightning_al.tasks import Classification

    history = ActiveLearner(
        lambda: Classification(network(), classes=10),
        ActiveDataModule(train, test, initial=QUERY, batch_size=BATCH),
        "margin",
        query_size=QUERY,
        budget=QUERY * (ROUNDS - 1),
        trainer=TRAINER,
        run_dir=tempfile.mkdtemp(dir=FOLDER.name),
        observers=observers,
        files=False,  # as its yardstick, which draws no picture
    ).run()
    fitted = [r.n_labelled for r in history.rounds]
    if fitted != SIZES or sum(r.batches for r in history.rounds) > STEPS:
        raise RuntimeError(f"other fits than planned: {fitted}")


class Pair:
    """Our run and the yardstick measured together, their figures handed out apart."""

    def __init__(self, train: TensorDataset, test: TensorDataset) -> None:
        self.data, self.waiting = (train, test), {"ours": [], "alone": []}

    def figure(self, name: str) -> float:
        """The next figure of one of them; measures both when none is waiting."""
        if not self.waiting[name]:
            gc.collect()
            beside = Beside(self.data[0])
            ours(*self.data, beside)
            beside.stop()
            self.waiting["ours"].append(beside.ours)
            self.waiting["alone"].append(beside.alone)
        return self.waiting[name].pop()


def bare(train: TensorDataset, test: TensorDataset) -> None:
    """The loop by hand: tensors, no loader, no framework."""
    (x, y), free = train.tensors, torch.randperm(len(train))
    chosen, free = free[:QUERY], free[QUERY:]
    for size in SIZES:
        model = network()
        optimizer = adam(model.parameters())
        for _ in range(EPOCHS):
            for rows in chosen[torch.randperm(size)].split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            model(test.tensors[0]).argmax(1).eq(test.tensors[1]).float().mean().item()
            best = margins(model(x[free])).topk(QUERY).indices
        chosen = torch.cat([chosen, free[best]])
        free = free[~torch.isin(torch.arange(len(free)), best)]


def baal(train: TensorDataset, test: TensorDataset) -> None:
    """BaaL's ModelWrapper, ActiveLearningDataset and ActiveLearningLoop."""
    from baal import ModelWrapper
    from baal.active import ActiveLearningDataset, ActiveLearningLoop
    from baal.active.heuristics import Margin
    from baal.modelwrapper import TrainingArgs

    active = ActiveLearningDataset(train)
    active.can_label = False
    active.label_randomly(QUERY)
    model = network()
    settings = TrainingArgs(
        batch_size=BATCH, epoch=EPOCHS, workers=0, use_cuda=False, criterion=nn.CrossEntropyLoss()
    )
    wrapper = ModelWrapper(model, settings)
    loop = ActiveLearningLoop(
        active, wrapper.predict_on_dataset, Margin(), QUERY, iterations=1, verbose=False
    )
    for _ in SIZES:
        wrapper.reset_all()
        settings.optimizer = adam(model.parameters())
        wrapper.train_on_dataset(active)
        wrapper.test_on_dataset(test)
        loop.step()


def pyrelational(train: TensorDataset, test: TensorDataset) -> None:
    """PyRelationAL's Pipeline over its LightningModelManager."""
    from lightning.pytorch import LightningModule
    from pyrelational.data_managers import DataManager
    from pyrelational.model_managers import LightningModelManager
    from pyrelational.pipeline import Pipeline
    from pyrelational.strategies.classification import MarginalConfidenceStrategy

    class Same(LightningModule):
        __init__, forward, training_step = _init, Plain.forward, Plain.training_step
        test_step, configure_optimizers = Plain.test_step, Plain.configure_optimizers

    class One(LightningModelManager):
        def __call__(self, loader: DataLoader) -> Tensor:  # strategies want [members, n, C]
            return super().__call__(loader).unsqueeze(0)

    both = TensorDataset(
        *(torch.cat(pair) for pair in zip(train.tensors, test.tensors, strict=True))
    )
    both.y = both.tensors[1]
    rows = list(range(len(both)))
    manager = DataManager(
        both,
        train_indices=rows[: len(train)],
        test_indices=rows[len(train) :],
        labelled_indices=rows[:QUERY],
        loader_batch_size=BATCH,
    )
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        config = {"epochs": EPOCHS, "devices": 1, "monitor_metric_name": None}
        model = One(Same, {}, {**config, "checkpoints_dir": folder})
        pipeline = Pipeline(manager, model, MarginalConfidenceStrategy())
        os.chdir(folder)
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                pipeline.run(QUERY, ROUNDS - 1)
        finally:
            os.chdir(here)


def _init(self) -> None:
    super(type(self), self).__init__()
    self.network = network()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="ours and the yardstick only, median of 3"
    )
    parser.add_argument("--profile", metavar="FILE", help="write one profile of ours, and end")
    args = parser.parse_args()
    one_thread()
    quiet()
    np.random.seed(0)
    train, test = digits()

    def contender(loop: Callable[[TensorDataset, TensorDataset], None]) -> Callable[[], float]:
        return partial(seconds, partial(loop, train, test))

    if args.profile:
        import cProfile

        ours(train, test)
        cProfile.runctx("ours(train, test)", globals(), locals(), args.profile)
        return
    pair, mine = Pair(train, test), ("lightning-al, the whole loop", "Lightning, 20 fits alone")
    calls = {name: partial(pair.figure, key) for name, key in zip(mine, pair.waiting, strict=True)}
    if not args.quick:
        calls["bare torch, the whole loop"] = contender(bare)
    peers = {
        "BaaL, the whole loop": ("baal.active", lambda: contender(baal)),
        "PyRelationAL on Lightning": ("pyrelational.pipeline", lambda: contender(pyrelational)),
    }
    calls, absent = with_peers(calls, {} if args.quick else peers)
    figures = interleaved(calls, 3 if args.quick else 5)
    print(f"20 rounds of 20 on digits, {STEPS} steps, CPU, torch {torch.__version__}\n")
    each = {name: [v / STEPS for v in values] for name, values in figures.items()}
    show(each, "ms a step", 1e3, absent)
    middle = medians(figures)
    whole, alone = (middle[name] for name in mine)
    print(f"\nours {whole:.3f} s, the fits alone {alone:.3f} s")
    print(f"ours over the fits alone: {whole / alone:.3f}; asked: at most {ASK}")
    sys.exit(whole / alone > ASK)


if __name__ == "__main__":
    main()
