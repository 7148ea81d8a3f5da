"""``python ddp_checks.py FOLDER``: runs on two processes, writes what it found to found.json."""

import copy
import faulthandler
import json
import logging
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import Dataset

from helpers import ddp_parts as parts
from helpers.ddp_parts import C, F
from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.fits.lightning import Recipe, fit_round
from lightning_al.fits.workbench import Workbench
from lightning_al.journal.journal import read_journal
from lightning_al.oracles import DelayedOracle, FileOracle, NoisyOracle, SimulatedOracle
from lightning_al.posteriors import MCDropout
from lightning_al.randomness import generator
from lightning_al.ranks.ranks import join
from lightning_al.records import Acquisition
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import build, names
from lightning_al.tasks import Adapter, Classification
from lightning_al.testing import Bandit, kind_of, rehearsed

folder = Path(sys.argv[1])


def scorer(task, datamodule, world=None, **more):
    more = {"posterior": MCDropout(4)} | more | ({} if world is None else {"ranks": world})
    return Scorer(task, datamodule, Adapter.for_task(task), make_bench=Workbench, **more)


def made(name):
    return rehearsed(build(name))


def same(strategy, two, one, k=5, seed=0):
    """What two processes and one process choose from their pools."""
    k = getattr(strategy, "most", k)
    chosen = [
        chooser.choose(pool, min(k, len(pool)), generator(seed, 0, "choose")).index.tolist()
        for chooser, pool in ((copy.deepcopy(strategy), two), (strategy, one))  # some learn
    ]
    apart = 0.0
    if one.scores is not None and len(one):
        apart = float((two.scores - one.scores).abs().max() / one.scores.abs().max().clamp_min(1))
    return {"two": sorted(chosen[0]), "one": sorted(chosen[1]), "apart": apart}


def each_round(world, learner, wanted):
    """Every strategy on the weights of every round, by two processes and by one."""
    history = learner.run()
    records, _ = read_journal(Path(history.run_dir) / "journal.jsonl")
    found = []
    learner.datamodule.start(learner.seed)
    for done in history.rounds:
        r = done.round
        learner.datamodule.round = r
        task = learner.task()
        weights = torch.load(Path(history.run_dir) / done.checkpoint, weights_only=False)
        task.load_state_dict(weights["state_dict"])
        facts = {"round": r, "seed": learner.seed, "remaining": 20}
        for name in wanted:
            two = scorer(task, learner.datamodule, world, **facts).pool(made(name))
            if world.rank == 0:
                one = scorer(task, learner.datamodule, **facts).pool(made(name))
                found.append({"round": r, "name": name} | same(made(name), two, one))
        if world.rank == 0 and done.acquired:
            strategy = build(learner.strategy)
            one = scorer(task, learner.datamodule, **facts).pool(strategy)
            again = strategy.choose(one, learner.query_size, generator(learner.seed, r, "choose"))
            row = {"two": sorted(done.acquired), "one": sorted(again.index.tolist()), "apart": 0.0}
            found.append({"round": r, "name": f"the run by {learner.strategy}"} | row)
        for record in records:
            if record.get("round") == r:
                learner.datamodule.apply(record)
    return found


def check_rounds(world):
    kinds = {name: kind_of(build(name)) for name in names()}
    of_classes = [n for n, kind in kinds.items() if kind in ("classification", "either")]
    free = {n for n, kind in kinds.items() if kind == "either" and not build(n).needs}
    of_numbers = [n for n, kind in kinds.items() if kind == "regression" or n in free]
    of_densities = [n for n, kind in kinds.items() if kind == "density"]
    of_measures = [n for n, kind in kinds.items() if kind == "safe"]
    found = each_round(world, parts.bald_run(folder / "bald"), of_classes)
    found += each_round(world, parts.variance_run(folder / "variance"), of_numbers)
    found += each_round(world, parts.density_run(folder / "density"), of_densities)
    found += each_round(world, parts.safe_run(folder / "safe"), of_measures)
    left = sorted(set(kinds) - {*of_classes, *of_numbers, *of_densities, *of_measures})
    return {"found": found, "left out": left}


def check_buffers(world):
    """Batch statistics differ between ranks in a fit; after it all hold rank 0's."""
    inside = []

    class Watch(pl.Callback):
        def on_train_end(self, trainer, module):
            inside.append(module.network[1].running_mean.tolist())

    datamodule = parts.classes()
    datamodule.start(0)
    recipe = Recipe(parts.classifier, parts.arguments())
    trainer = recipe.build_trainer([Watch()])
    module = recipe.build_task(0, 0, None)
    fit_round(module, recipe, datamodule, trainer, seed=0, round=0, ranks=world)
    state = {k: v.tolist() for k, v in module.state_dict().items()}
    before, after = world.all_gather(inside[0]), world.all_gather(state)
    return {
        "before": before,
        "after equal": after[0] == after[1],
        "rank 0's": after[1]["network.1.running_mean"] == before[0],
    }


def check_dtypes(world):
    """Anything a state may hold comes over whole."""
    kinds = (torch.bool, torch.int64, torch.bfloat16, torch.complex64, torch.float64, torch.uint8)

    class Odd(pl.LightningModule):
        def __init__(self):
            super().__init__()
            value = 1 + world.rank
            for name, kind in enumerate(kinds):
                self.register_buffer(f"b{name}", torch.full((2, 3), value).to(kind))
            self.register_buffer("scalar", torch.tensor(value))
            self.register_buffer("none", torch.zeros(0, 4))
            self.register_buffer("view", torch.full((4, 2), value).t())

    task = Odd()
    world.sync_weights(task)
    return [bool((v == 1).all()) for v in task.state_dict().values()]


def check_without_padding(world):
    return [sorted(r.acquired) for r in parts.without_padding(2, folder / "even").run().rounds]


def check_odd_sizes(world):
    found = {}
    for test in (41, 1):
        history = parts.odd_run(2, folder / f"odd-{test}", test).run()
        found[str(test)] = {
            "metrics": [r.metrics for r in history.rounds],
            "pool": [r.n_pool for r in history.rounds],
            "stopped": history.stopped,
        }
    return found


def check_small_pools(world):
    """Fewer candidates than processes, and none."""
    found = {}
    task = parts.classifier()
    for left in (0, 1, 2, 3):
        datamodule = parts.classes(40, initial=list(range(20 - left)), test=list(range(20, 40)))
        datamodule.start(0)
        for name in ("margin", "bald", "random"):
            two = scorer(task, datamodule, world).pool(build(name))
            if world.rank == 0:
                one = scorer(task, datamodule).pool(build(name))
                found[f"{left} {name}"] = same(build(name), two, one)
    return found


class Kept:
    needs = keeps = ("embedding",)
    members = "one"
    privileged = False


def check_kept(world):
    """Embeddings of all ranks, in memory and in a file."""
    task = Classification(parts.MLP(F, (16,), C), classes=C)
    datamodule = parts.classes(101)
    datamodule.start(0)
    found = {}
    for budget in (2**30, 0):
        place = folder / f"kept-{budget}"
        if world.rank == 0:
            place.mkdir()
        world.broadcast(None)
        two = scorer(task, datamodule, world, memory_budget=budget, folder=place).pool(Kept())
        if world.rank == 0:
            one = scorer(task, datamodule).pool(Kept())
            found[str(budget)] = {
                "equal": torch.allclose(two.embedding, one.embedding, atol=1e-6),
                "mapped": f"{place}/" in Path("/proc/self/maps").read_text(),
                "files": [str(p) for p in place.iterdir()],
            }
    return found


def check_blocks(world):
    """Rows travel in blocks of any size."""
    from lightning_al.ranks import ranks as module

    old, module.BLOCK = module.BLOCK, 64
    every = torch.arange(23 * 6, dtype=torch.float64).reshape(23, 2, 3)
    whole = torch.empty_like(every) if world.rank == 0 else None
    world.gather_rows(every[world.rank :: world.size], whole)
    module.BLOCK = old
    return None if whole is None else torch.equal(whole, every)


class Uneven(Dataset):
    """Images of 6 x 6 or 8 x 8."""

    targets = torch.arange(40) % C

    def __init__(self, large):
        self.large = large

    def __len__(self):
        return 40

    def __getitem__(self, i):
        drawn = torch.Generator().manual_seed(i)
        side = 8 if i in self.large else 6
        return torch.randn(2, side, side, generator=drawn), self.targets[i]


def check_shapes(world):
    """Members are one function on all ranks, also where shapes vary on one rank only."""
    layers = (nn.Conv2d(2, 4, 3), nn.Dropout(0.4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    task = Classification(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, C)), classes=C)
    world.sync_weights(task)
    found = {}
    held = [0, 1, 2, 3]  # then rank 0 has the even ones of the rest
    for what, large in (
        ("uniform", ()),
        ("vary on rank 1", range(21, 40, 2)),
        ("vary on rank 0", range(20, 40, 2)),
        ("differ between ranks", range(5, 40, 2)),
        ("vary on both", range(20, 40)),
    ):
        datamodule = ActiveDataModule(
            Uneven(set(large)), test=held[:2], initial=held[2:], eval_batch_size=1
        )
        datamodule.start(0)
        two = scorer(task, datamodule, world).pool(build("bald"))
        if world.rank == 0:
            one = scorer(task, datamodule).pool(build("bald"))
            found[what] = same(build("bald"), two, one)
            rows = torch.tensor([0, 2])
            both = [p.predict(rows, ["probs"]).probs for p in (two, one)]
            found[what]["predict"] = torch.allclose(*both, atol=1e-6)
    return found


def check_full_batch(world):
    learner = parts.neighbour_run(2, folder / "neighbour")
    history = learner.run()
    return [[sorted(r.acquired), r.metrics["test/accuracy"]] for r in history.rounds]


def check_box(world):
    history = parts.box_run(2, folder / "box").run()
    return [[r["x"] for r in _chosen(history)], history.rounds[-1].metrics["test/rmse"]]


def _chosen(history):
    records, _ = read_journal(Path(history.run_dir) / "journal.jsonl")
    return [r for r in records if r["event"] == "chosen"]


class Steps(pl.LightningModule):
    """Talks to the other ranks in each test step, as with dist_sync_on_step."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(F, C)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.log("test/n", float(len(batch[1])), on_step=True, sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def check_steps(world):
    """All ranks take the same number of test steps: 33 items in batches of 8."""
    datamodule = parts.classes(80, test=33, eval_batch_size=8)
    learner = ActiveLearner(
        Steps, datamodule, "random", 5, 5, trainer=parts.arguments(), run_dir=folder / "steps"
    )
    return len(learner.run().rounds)


# --- errors that every rank must see -----------------------------------------------------------


class Choosing(parts.Troubled):
    error: ClassVar = ValueError("cannot choose today")

    def choose(self, candidates, k, generator):
        raise self.error


class Local(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Unsendable(Choosing):
    error: ClassVar = Local(1, 2)  # cannot be built again from its arguments


class Scoring(parts.Troubled):
    def score(self, batch, context):
        if parts.RANK == 1:
            raise ValueError("rank 1 cannot score")
        return super().score(batch, context)


class Holes(parts.Troubled):
    def score(self, batch, context):
        return super().score(batch, context).masked_fill(batch.index == 30, torch.nan)


class Ragged(parts.Troubled):
    keeps = ("probs",)
    needs = ("probs",)

    def score(self, batch, context):
        return batch.probs.mean(1)[:, : 1 + parts.RANK]


class Lambda(parts.Troubled):
    def choose(self, candidates, k, generator):
        return Acquisition(candidates.index[:k], notes={"f": lambda: 0})


class Oracle:
    def ask(self, index, datamodule, round):
        raise ValueError("nobody is at home")


class Failing(parts.Neighbour):
    def training_step(self, batch, batch_idx):
        raise ValueError("cannot be fitted")


def by_rank(datamodule, drawn):
    return [20 + parts.RANK, 22, 23]


def on_rank_one(datamodule, drawn):
    if parts.RANK == 1:
        raise ValueError("no initial set here")
    return [20, 21, 22]


def check_errors(world):
    found = {}
    cases = {
        "choose": {"strategy": Choosing()},
        "odd error": {"strategy": Unsendable()},
        "score on rank 1": {"strategy": Scoring()},
        "nan": {"strategy": Holes()},
        "ragged": {"strategy": Ragged()},
        "unpicklable": {"strategy": Lambda()},
        "oracle": {"oracle": Oracle()},
        "full batch": {"task": Failing},
        "best without a checkpoint": {"restore": "best"},
        "disagree": {"datamodule": parts.classes(initial=by_rank, test=list(range(90, 120)))},
        "initial on rank 1": {
            "datamodule": parts.classes(initial=on_rank_one, test=list(range(90, 120)))
        },
    }
    for name, changes in cases.items():
        learner = parts.long_run(folder / f"error-{name}".replace(" ", "-")).with_(**changes)
        try:
            learner.run()
            said = "nothing"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        found[name] = world.all_gather(said)
    return found


def check_file_oracle(world):
    """A person answers rank 0; the noise on late answers is one on both ranks."""
    place, said = folder / "asked", []
    learner = parts.long_run(place).with_(strategy="random", budget=8, oracle=FileOracle())
    for r in range(2):
        history = learner.run()
        said.append((history.waiting, len(history), learner.datamodule.fingerprint()))
        if world.rank == 0:
            question = place / "queries" / f"round-{r:03d}.csv"
            question.write_text(question.read_text().replace(",\n", ",1\n"))
    history = learner.run()
    said.append((history.waiting, len(history), learner.datamodule.fingerprint()))
    late = NoisyOracle(confusion=[[1 / C] * C] * C, oracle=DelayedOracle(1))
    learner = parts.long_run(folder / "late").with_(
        strategy="random", budget=8, oracle=late, cost_budget=7.0
    )
    history = learner.run()
    said.append((history.stopped, history.acquired, learner.datamodule.fingerprint()))
    return world.all_gather(said)


class Leaves:
    """Fails once in the middle of some rounds, on rank 0, after the choice was written down."""

    def __init__(self, *rounds):
        self.left = list(rounds)

    def ask(self, index, datamodule, round):
        if round in self.left:
            self.left.remove(round)
            raise ConnectionError("the power went")
        return SimulatedOracle().ask(index, datamodule, round)


class Torn(Bandit):
    """Fails in the middle of a choice, when it has learnt already."""

    fails: ClassVar = [2]

    def choose(self, candidates, k, generator):
        chosen = super().choose(candidates, k, generator)
        if candidates.context.round in Torn.fails:
            Torn.fails.remove(candidates.context.round)
            raise ConnectionError("the power went")
        return chosen


def check_memory(world):
    """A strategy that learns: straight on, and left and gone on with several times."""

    def go(name, strategy, oracle):
        learner = parts.long_run(folder / name)
        plain = {"config": {"name": "bandit"}, "rehearse": False, "budget": 20}
        return learner.with_(strategy=strategy, oracle=oracle, **plain).run()

    straight = go("bandit", Bandit(), SimulatedOracle())
    oracle, left = Leaves(1, 3), 0
    while left < 3:
        try:
            go("left", Torn(), oracle)
        except ConnectionError:
            left += 1
    again = go("left", Torn(), oracle)
    memories = [
        torch.load(folder / name / "checkpoints" / f"round-{r:03d}.memory", weights_only=True)
        for name in ("bandit", "left")
        for r in range(4)
    ]
    shown = [json.dumps(m, default=lambda t: t.tolist(), sort_keys=True) for m in memories]
    return {
        "straight": [r.acquired for r in straight.rounds],
        "again": [r.acquired for r in again.rounds],
        "memories": [shown[:4], shown[4:]],
    }


def check_long_run(world):
    history = parts.long_run(folder / "long").run()
    return history.stopped


def main():
    faulthandler.dump_traceback_later(300, exit=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    parts.mark(folder, "checks")
    world = join(pl.Trainer(**parts.arguments()))
    torch.manual_seed(0)
    found = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            clock = time.perf_counter()
            found[name.removeprefix("check_")] = check(world)
            if world.rank == 0:
                print(f"{name}: {time.perf_counter() - clock:.1f} s", flush=True)
    if world.rank == 0:
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
