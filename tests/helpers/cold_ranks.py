"""``python cold_ranks.py FOLDER``: cold starts on two processes; writes found.json there."""

import json
import logging
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from helpers.ddp_parts import RANK, F, arguments, classes, plain_classifier
from lightning_al import ActiveLearner
from lightning_al.ranks.ranks import join
from lightning_al.scoring.extractors import Raw
from lightning_al.strategies import ScoreStrategy


class Counted(nn.Module):
    """A network whose weights differ between processes, until they are made one."""

    def __init__(self, rank=RANK):
        super().__init__()
        drawn = torch.Generator().manual_seed(rank)
        self.layer = nn.Linear(F, 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=drawn))
        self.count = 0

    def forward(self, x):
        self.count += len(x)
        return self.layer(x).tanh()


def length(embedding):
    return embedding.norm(dim=1)


BY_LENGTH = ScoreStrategy(length, needs="embedding")
STRATEGIES = {
    "k-center": ("k-center", None),
    "typiclust, then by length": (BY_LENGTH, "typiclust"),
    "by length, then k-center": ("k-center", BY_LENGTH),
}


def cold(devices, run_dir, **changes):
    """Three queries that depend on nothing but features; an odd number of items."""
    default = {
        "task": plain_classifier,
        "datamodule": classes(83, test=20, initial=0, eval_batch_size=9),
        "strategy": "k-center",
        "query_size": 5,
        "budget": 15,
        "trainer": arguments(devices, max_epochs=1),
        "run_dir": run_dir,
        "rehearse": False,  # items are counted
    }
    return ActiveLearner(**(default | changes))


def acquired(devices, folder, name, features):
    strategy, first = STRATEGIES[name]
    facts = {"strategy": strategy, "first": first, "features": features}
    history = cold(devices, folder / name.replace(" ", "-"), **facts).run()
    return [list(r.acquired) for r in history.rounds]


class Holes:
    """One item's features are not a number."""

    def __call__(self, x):
        return x.masked_fill(x == x.max(), torch.nan)


def main(folder):
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    world = join(pl.Trainer(**arguments()))
    found = {"raw": acquired(2, folder / "raw", "k-center", None), "by": {}, "count": {}}
    for name in STRATEGIES:
        features = Counted()
        found["by"][name] = acquired(2, folder / "net", name, features)
        found["count"][name] = world.all_gather(features.count)
    said = []
    for features in (Holes(), lambda x: x[: 9 - RANK], lambda x: x[:, : F - RANK]):
        try:
            cold(2, folder / f"error-{len(said)}", features=features).run()
            said.append("nothing")
        except Exception as error:
            said.append(world.all_gather(f"{type(error).__name__}: {error}"))
    found["errors"] = said
    small_budget = cold(2, folder / "file", features=Raw(), memory_budget=0).run()
    found["file"] = [list(r.acquired) for r in small_budget.rounds]
    if world.rank == 0:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
