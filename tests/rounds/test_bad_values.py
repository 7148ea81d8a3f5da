"""Values that make no sense are refused where they are kept, before anything is fitted."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn

from lightning_al.datamodules import ActiveDataModule, ContinuousDataModule
from lightning_al.networks import MLP, Ensemble, FullyConvolutional, Probe, ResNet18, SmallCNN
from lightning_al.tasks import Classification

PLAN = [
    ("query_size", 2.5),
    ("query_size", "5"),
    ("query_size", True),
    ("budget", math.inf),
    ("budget", 20.0),
    ("budget", None),
    ("budget", 0),
    ("seed", "a"),
    ("seed", None),
    ("seed", 1.5),
    ("seed", -1),
    ("seed", 2**40),
    ("seed", False),
    ("run_dir", 5),
    ("run_dir", ""),
    ("run_dir", ["a"]),
    ("overwrite", "no"),
    ("overwrite", 1),
    ("restore", 1),
    ("restore", "first"),
    ("keep_checkpoints", None),
    ("memory_budget", -1),
    ("memory_budget", 1e9),
    ("cost_budget", -2.0),
    ("cost_budget", math.nan),
    ("cost_budget", "10"),
    ("hit_ratio_at", 0),
    ("hit_ratio_at", 1.0),
    ("hit_ratio_at", True),
    ("rehearse", "yes"),
    ("files", 0),
    ("trust", "true"),
    ("privileged", None),
]


@pytest.mark.parametrize(("name", "value"), PLAN)
def test_options_of_a_run(learner, name, value, tmp_path):
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be .*, got "):
        learner(**{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3).item()])
def test_whole_numbers_of_other_kinds_are_kept_as_plain_ones(learner, seed):
    made = learner(seed=seed, query_size=np.int32(5), budget=np.int64(10))
    assert (made.seed, made.query_size, made.budget) == (3, 5, 10)
    assert type(made.seed) is type(made.query_size) is int


@pytest.mark.parametrize("config", [{"a"}, ["a"], "a", object()])
def test_a_config_that_is_no_table(learner, config):
    with pytest.raises(TypeError, match="config must be plain values by name"):
        learner(config=config).run()


DATA = [
    ("batch_size", 0),
    ("batch_size", "8"),
    ("batch_size", 8.0),
    ("batch_size", None),
    ("eval_batch_size", -1),
    ("eval_batch_size", True),
    ("num_workers", -1),
    ("num_workers", 0.5),
    ("seed", "now"),
    ("seed", None),
    ("stratified", "yes"),
    ("check_repeatable", None),
]


@pytest.mark.parametrize(("name", "value"), DATA)
@pytest.mark.parametrize("kind", [small.Blobs, ActiveDataModule])
def test_arguments_of_data(name, value, kind):
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be .*, got "):
        kind(small.blobs(), 0.2, **{name: value})


@pytest.mark.parametrize("initial", [True, False])
def test_an_initial_that_only_counts_as_a_number(initial):
    with pytest.raises(TypeError, match="initial must be a count, a share, positions"):
        small.datamodule(initial=initial).setup()
    with pytest.raises(TypeError, match="initial and test are counts or data"):
        ContinuousDataModule([0.0], [1.0], lambda x: x.sum(1), initial=initial)


CONV = {"in_channels": 1, "outputs": 2}
NETWORKS = {
    "no inputs": (lambda: MLP(0, [3], 2), "MLP: in_features must be a whole number from 1, got 0"),
    "inputs in words": (lambda: MLP("4", [3], 2), "MLP: in_features must be .*, got '4'"),
    "no outputs": (lambda: MLP(4, [3], -2), "MLP: outputs must be a whole number from 1, got -2"),
    "outputs that are none": (lambda: MLP(4, [3], True), "MLP: outputs must be .*, got True"),
    "layers in words": (lambda: MLP(4, "64", 2), "MLP: hidden must be a list of whole numbers"),
    "a layer in words": (lambda: MLP(4, ["a"], 2), r"MLP: hidden\[0\] must be .*, got 'a'"),
    "half a layer": (lambda: MLP(4, [8, 2.5], 2), r"MLP: hidden\[1\] must be .*, got 2.5"),
    "one number for a list": (lambda: MLP(4, 64, 2), "MLP: hidden must be a list .*, got 64"),
    "a dropout of all": (lambda: MLP(4, [8], 2, dropout=1), "MLP: dropout must be .* below 1"),
    "a dropout in words": (lambda: MLP(4, [8], 2, dropout="a"), "MLP: dropout must be .*'a'"),
    "channels": (lambda: SmallCNN(0, 2, 28), "SmallCNN: in_channels must be .*, got 0"),
    "a width": (lambda: SmallCNN(1, 2, 28, width=0), "SmallCNN: width must be .*, got 0"),
    "a head": (lambda: SmallCNN(1, 2, 28, head_dropout=-1), "SmallCNN: head_dropout must be"),
    "a depth": (lambda: FullyConvolutional(**CONV, depth=0), "FullyConvolutional: depth must"),
    "a ResNet": (lambda: ResNet18(3, 2, dropout=2), "ResNet18: dropout must be .*, got 2"),
    "members": (lambda: Ensemble(MLP(4, [3], 2), 1.5), "Ensemble: members must be .*, got 1.5"),
    "a probe": (lambda: Probe(None, 0, 2), "Probe: in_features must be .*, got 0"),
    "a rate below 0": (lambda: Classification(MLP(4, [3], 3), 3, lr=-1), "lr must be .*, got -1"),
    "a rate in words": (lambda: Classification(MLP(4, [3], 3), 3, lr="x"), "lr must be .*, got 'x"),
    "a rate of nothing": (
        lambda: Classification(MLP(4, [3], 3), 3, lr=math.nan),
        "lr must be .*, got nan",
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_sizes_of_networks_and_rates_of_tasks(case):
    build, wanted = NETWORKS[case]
    with pytest.raises((TypeError, ValueError), match=f"^{wanted}"):
        build()


class Bare(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(small.FEATURES, small.CLASSES)

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


PARTS = {
    "a wider network": (
        {"task": lambda: Classification(MLP(9, [8], 3), 3)},
        r"takes 9 numbers an item, and gets 4; build it for these data \(their items are \[4\]\)",
    ),
    "a narrower network": (
        {"task": lambda: Classification(nn.Sequential(nn.Linear(2, 3)), 3)},
        r"takes 2 numbers an item, and gets 4",
    ),
    "no forward": ({"task": Bare}, r"no method forward.*write one, or name another"),
    "an argument of no Trainer": (
        {"trainer": {**small.TRAINER, "epochs": 3}},
        r"no Trainer can be made of .*epochs=3.*unexpected keyword argument 'epochs'",
    ),
    "devices of none": (
        {"trainer": {**small.TRAINER, "devices": 0}},
        r"no Trainer can be made of .*devices=0|devices",
    ),
    "a metric that nobody logs": (
        {
            "trainer": {
                **small.TRAINER,
                "callbacks": [pl.callbacks.EarlyStopping(monitor="validation/f1")],
            }
        },
        r"EarlyStopping waits for the metric 'validation/f1', which the fit never logs; "
        r"monitor one of .*validation set",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_that_do_not_fit(case, learner):
    changes, wanted = PARTS[case]
    made = learner(**changes)
    with pytest.raises(Exception, match=wanted):
        made.run()
    assert not made.run_dir.exists()


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), RuntimeError("mine"), KeyError("k")])
def test_an_error_of_the_users_own_code_stays_what_it_is(error, learner):
    class Broken(Bare):
        forward = Bare.training_step

        def training_step(self, batch, index):
            raise error

    with pytest.raises(type(error)) as raised:
        learner(task=Broken).run()
    assert raised.value is error
