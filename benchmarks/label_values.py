"""Planted wrong labels, found by label values, leave-one-out losses and confident learning.

    python benchmarks/label_values.py digits --seeds 5 --cpu 120

Of 200 labelled items a tenth is given another class, drawn evenly. Each way ranks the items, the
average precision says how well the wrong ones come last (0.1 by chance). Label values are shown
over the number of refits, as far as they come in so many CPU seconds: judged by a clean validation
set of 100 items, and by the labelled items in turns, wrong labels among them. What does without
refits on multisets sees no clean label: the loss of an item under a fit without it; its effect on
the clean validation loss; and the margin of its label out of fold (confident learning, Northcutt,
Jiang and Chuang 2021; by cleanlab where it is installed, and by hand).
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from importlib.util import find_spec

import torch
from sklearn.metrics import average_precision_score

from lightning_al.datamodules import DigitsDataModule, NamedDataModule
from lightning_al.fits.recipe import Recipe
from lightning_al.networks import MLP
from lightning_al.randomness import generator
from lightning_al.tasks import Classification
from lightning_al.tuning.judges import folds_of
from lightning_al.valuing import Multisets, values_by_means
from lightning_al.valuing.refitted import AT_ONCE, losses_of, valued
from lightning_al.valuing.valuation import bench_of, parts_of

LABELLED, WRONG, JUDGES = 200, 20, 100
SETS = {"digits": DigitsDataModule, "moons": partial(NamedDataModule, "moons")}
TRAINER = {"max_epochs": 30, "accelerator": "cpu", "devices": 1}
MARKS = tuple(AT_ONCE * 2**i for i in range(7))
FOLDS, REPEATS = 10, 4


def planted(name, seed, val):
    """Data with 200 labels, and which of them are wrong [200]."""
    data = SETS[name](initial=0, val=JUDGES if val else None)
    data.start(seed)
    drawn = generator(seed, 0, "plant")
    index = data.pool[torch.randperm(len(data.pool), generator=drawn)[:LABELLED]].sort().values
    labels, wrong = data.labels(index), torch.zeros(LABELLED, dtype=torch.bool)
    wrong[torch.randperm(LABELLED, generator=drawn)[:WRONG]] = True
    away = torch.randint(1, data.classes, (WRONG,), generator=drawn)
    labels = labels.clone()
    labels[wrong] = (labels[wrong] + away) % data.classes
    data.acquire(index, labels)
    return data, wrong


def bench(data, seed):
    def task():
        network = MLP(in_features=data.in_features, hidden=[64], outputs=data.classes)
        return Classification(network, data.classes, lr=0.003)

    return bench_of(Recipe(task, TRAINER), data, "stacked", None, seed, 1)


def precision(wrong, values):
    return average_precision_score(wrong, -torch.as_tensor(values))


def curve(name, seed, val, cpu):
    """(refits, CPU seconds, precision by ridge, by means, R2) while the CPU seconds last."""
    clock = time.process_time()
    data, wrong = planted(name, seed, val)
    room, losses = bench(data, seed), []
    design = Multisets(data.labelled, parts_of(data, data.labelled, 5, seed), seed)
    while True:
        losses += losses_of(room, design, len(losses), len(losses) + AT_ONCE)
        spent, n = time.process_time() - clock, len(losses)
        if n in MARKS or spent > cpu:
            part = torch.tensor([design.part(t) for t in range(n)])
            ridge = valued(design, losses)
            means = values_by_means(design.centred(n), torch.tensor(losses), part).values
            yield n, spent, precision(wrong, ridge.values), precision(wrong, means), ridge.r2
        if spent > cpu:
            return


def without(name, seed):
    """Precisions of what takes no multisets, by name."""
    data, wrong = planted(name, seed, True)
    room, index, labels = bench(data, seed), data.labelled, data.labelled_targets()
    others = [index[index != i] for i in index.tolist()]
    modules = [
        m
        for k in range(0, LABELLED, 50)
        for m in room.refits([(some, None) for some in others[k : k + 50]])
    ]
    left = [float(room.loss(m, on=index[i : i + 1])) for i, m in enumerate(modules)]
    effect = [float(room.loss(m).mean()) for m in modules]
    probs = torch.zeros(LABELLED, data.classes, dtype=torch.float64)
    for repeat in range(REPEATS):
        fold = folds_of(LABELLED, labels, FOLDS, generator(seed, repeat, "folds"))
        for k, module in enumerate(room.refits([(index[fold != k], None) for k in range(FOLDS)])):
            out = room.predict(index[fold == k], ["probs"], module=module).tensors()["probs"]
            probs[fold == k] += out.double().mean(1) / REPEATS
    rows = torch.arange(LABELLED)
    self_confidence = probs[rows, labels]
    rest = probs.clone()
    rest[rows, labels] = -1
    found = {
        "loss when left out": precision(wrong, -torch.tensor(left)),
        "effect on validation": precision(wrong, effect),
        "margin out of fold": precision(wrong, self_confidence - rest.max(1).values),
    }
    if find_spec("cleanlab"):
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        quality = get_label_quality_scores(labels.numpy(), probs.numpy())
        issue = find_label_issues(labels.numpy(), probs.numpy())
        found["cleanlab"] = precision(wrong, torch.as_tensor(quality - 2.0 * issue))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cpu", type=float, default=120, help="CPU seconds of a curve")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in given.sets:
        for seed in range(given.seeds):
            for how, found in without(name, seed).items():
                print(f"{name} | {seed} | {how} | {found:.3f}", flush=True)
            for val in (True, False):
                judges = "clean validation" if val else "in turns"
                for n, spent, ridge, means, r2 in curve(name, seed, val, given.cpu):
                    print(
                        f"{name} | {seed} | {judges} | {n} refits | {spent:.0f} s | "
                        f"{ridge:.3f} | means {means:.3f} | R2 {r2:.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
