"""A linear layer on frozen features: one embedding for everybody, and nothing else that learns."""

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from helpers.reading import embeddings
from torch import nn

from lightning_al import ActiveLearner
from lightning_al.datamodules import DigitsDataModule
from lightning_al.fits.workbench import Workbench
from lightning_al.networks import MLP, Ensemble
from lightning_al.records import Acquisition
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import ScoreStrategy, build
from lightning_al.tasks import Adapter, LinearProbe, find_head

F, C, E = small.FEATURES, small.CLASSES, 6
READS_THE_HEAD = ["alfa-mix", "badge", "bait", "drop-query", "lcmd", "max-det"]
QUIET = small.TRAINER | {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


class Frozen(nn.Module):
    """Features with everything that a fit could change: weights, statistics and dropout."""

    width = E

    def __init__(self):
        super().__init__()
        drawn = torch.Generator().manual_seed(3)
        self.layer = nn.Linear(F, E)
        with torch.no_grad():
            for parameter in self.layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=drawn))
        self.norm, self.drop = nn.BatchNorm1d(E), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.layer(x))).tanh()


def probe(features=None, **more):
    torch.manual_seed(0)
    return LinearProbe(Frozen() if features is None else features, C, lr=0.05, **more)


def fitted(task, epochs=3, **more):
    data = small.datamodule(initial=30, **more)
    data.start(0)
    pl.Trainer(**(QUIET | {"max_epochs": epochs})).fit(task, datamodule=data)
    return task.eval(), data


# --- what is learnt ------------------------------------------------------------------------------


def test_it_is_the_linear_layer_on_the_features():
    task, features, x = probe().eval(), Frozen().eval(), torch.randn(5, F)
    torch.testing.assert_close(task(x), task.network.head(features(x)))
    torch.testing.assert_close(embeddings(task, x), features(x))


def test_without_features_it_is_on_the_inputs_flattened():
    task, x = LinearProbe(classes=C, in_features=6), torch.randn(5, 2, 3)
    torch.testing.assert_close(task(x), task.network.head(x.reshape(5, 6)))
    torch.testing.assert_close(embeddings(task, x), x.reshape(5, 6))


def test_a_fit_changes_the_head_alone():
    task = probe(weight_decay=0.1, optimizer="adamw")
    before = {name: value.clone() for name, value in task.state_dict().items()}
    task, _ = fitted(task)
    after = task.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"network.head.weight", "network.head.bias"}
    assert [n for n, p in task.named_parameters() if p.requires_grad] == sorted(moved)[::-1]


def test_the_features_are_those_of_eval_mode_in_training_too():
    task, x = probe(), torch.randn(5, F)
    quiet = task.eval()(x)
    task.train()
    assert task.network.training
    assert not any(part.training for part in task.network.features.modules())
    torch.testing.assert_close(task(x), quiet)


def test_its_optimum_is_that_of_ridged_logistic_regression():
    """The weight decay of Adam is a penalty of half of it times the squared weights."""
    decay, data = 0.05, small.datamodule(initial=40, batch_size=40)
    data.start(0)
    task = probe(weight_decay=decay)
    pl.Trainer(**(QUIET | {"max_epochs": 200})).fit(task, datamodule=data)
    features = embeddings(task.eval(), data.items.inputs(data.labelled)).double()
    weight = torch.zeros(C, E + 1, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.LBFGS([weight], max_iter=500, line_search_fn="strong_wolfe")

    def penalised():
        theirs.zero_grad()
        logits = features @ weight[:, :E].T + weight[:, E]
        loss = nn.functional.cross_entropy(logits, data.labelled_targets())
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    theirs.step(penalised)
    head = task.network.head
    ours = torch.cat([head.weight, head.bias[:, None]], 1).double()
    torch.testing.assert_close(ours, weight, rtol=0, atol=1e-2)


def test_it_learns_digits(tmp_path):
    def task():
        return LinearProbe(classes=10, in_features=64)

    run = ActiveLearner(
        task, DigitsDataModule(initial=100), "margin", 100, 100, trainer=TEN, run_dir=tmp_path
    )
    first, last = (r.metrics["test/accuracy"] for r in run.run().rounds)
    assert first > 0.6  # a tenth by chance
    assert last > first + 0.03


TEN = QUIET | {"max_epochs": 15}


# --- who looks at its embedding ------------------------------------------------------------------


class Looks:
    """Holds the embeddings and what the last layer reads, of the pool and of the labelled set."""

    needs = keeps = ("embedding", "head_input")
    members = "one"
    privileged = False

    def __init__(self):
        self.seen = []

    def choose(self, candidates, k, generator):
        self.seen += [candidates, candidates.labelled]
        return Acquisition(index=candidates.index[:k])


@pytest.mark.parametrize("banked", [False, True], ids=["task alone", "features of the run"])
def test_the_embedding_is_what_the_head_reads(learner, banked):
    looks, features = Looks(), Frozen().eval()
    more = {"features": Frozen().eval()} if banked else {}
    run = learner(task=probe, strategy=looks, budget=5, rehearse=False, **more)
    run.run()
    assert [len(pool) for pool in looks.seen] == [54, 6]
    for pool in looks.seen:
        with torch.no_grad():
            wanted = features(run.datamodule.items.inputs(pool.index))
        torch.testing.assert_close(pool.embedding, wanted)
        torch.testing.assert_close(pool.head_input, wanted)


def test_the_head_is_the_linear_layer():
    task, data = fitted(probe())
    head = find_head(task, task.adapter, data.items.inputs(data.pool[:8]))
    points = torch.randn(7, E)
    torch.testing.assert_close(head(points)[:, 0], task.network.head(points))


@pytest.mark.parametrize("name", READS_THE_HEAD)
def test_choices_are_those_of_the_layer_on_the_features_alone(name):
    """Every strategy of the head chooses as on a data set whose items are the features."""
    task, data = fitted(probe(), epochs=10)
    everything = torch.arange(60)
    seen = embeddings(task, data.items.inputs(everything))
    posed = small.datamodule(
        small.TensorItems(seen, data.items.labels(everything)),
        small.TensorItems(torch.zeros(3, E), torch.arange(3)),
        initial=data.labelled.tolist(),
    )
    posed.start(0)
    bare = LinearProbe(classes=C, in_features=E)
    bare.network.head.load_state_dict(task.network.head.state_dict())
    chosen = []
    for module, items in ((task, data), (bare, posed)):
        strategy = build(name)
        assert "head_input" in strategy.needs
        scorer = Scorer(module, items, module.adapter, make_bench=Workbench)
        pool = scorer.pool(strategy)
        acquired = strategy.choose(pool, 5, torch.Generator().manual_seed(0))
        chosen.append(sorted(acquired.index.tolist()))
    assert len(set(chosen[0])) == 5
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("name", READS_THE_HEAD)
def test_every_strategy_of_the_head_runs_on_digits(name, tmp_path):
    def task():
        return LinearProbe(classes=10, in_features=64)

    run = ActiveLearner(
        *(task, DigitsDataModule(initial=50), name, 10, 10),
        trainer=QUIET | {"max_epochs": 5},
        run_dir=tmp_path,
    )
    history = run.run()
    assert len(set(history.acquired)) == 10


def test_features_of_the_run_are_computed_once(learner):
    class Counted(Frozen):
        count = 0

        def forward(self, x):
            Counted.count += len(x)
            return super().forward(x)

    features = Counted().eval()
    by_both = ScoreStrategy(lambda probs, e: e.sum(1), ("probs", "embedding"))
    learner(strategy=by_both, features=features, rehearse=False).run()
    assert Counted.count == 54  # each item of the first pool, once in two queries


# --- checkpoints and mistakes --------------------------------------------------------------------


@pytest.mark.parametrize("given", ["spec", "module", "none"])
def test_a_checkpoint_brings_it_back(tmp_path, given):
    features = {"spec": MLP(F, [5], E), "module": Frozen(), "none": None}[given]
    task = LinearProbe(features, C, in_features=F if given == "none" else E)
    data = small.datamodule(initial=30)
    data.start(0)
    trainer = pl.Trainer(**QUIET)
    trainer.fit(task, datamodule=data)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    torch.load(tmp_path / "it.ckpt", weights_only=True)
    more = {"features": Frozen()} if given == "module" else {}
    again = LinearProbe.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True, **more)
    x = torch.randn(5, F)
    torch.testing.assert_close(again.eval()(x), task.eval()(x))
    assert again.hparams == task.hparams
    assert not any(p.requires_grad for p in again.network.features.parameters())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"classes": C}, "give in_features, or features with an attribute `width`"),
        ({"classes": 1, "in_features": F}, "2 classes or more, got 1"),
        ({"features": nn.Linear(F, E), "classes": C}, "give in_features"),
    ],
)
def test_what_cannot_be_built(arguments, said):
    with pytest.raises(ValueError, match=said):
        LinearProbe(**arguments)


def test_members_are_those_of_several_heads():
    ensemble = Ensemble(probe().network, 3)
    adapter = Adapter(output="forward", embedding=ensemble.embedding_layer, members=True)
    raw, seen = adapter.run(ensemble.eval(), torch.randn(5, F), embedding=True)
    assert raw.shape == (5, 3, C)
    assert seen.shape == (5, 3 * E)
