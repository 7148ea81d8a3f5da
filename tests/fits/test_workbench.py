"""What a strategy is given that needs more of a model: its head, and runs of other modules."""

import copy
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch import nn

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.workbench import Workbench, adapter_for
from lightning_al.networks import MLP, Ensemble, SmallCNN
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import build
from lightning_al.tasks import Adapter, Classification, Regression, find_head

F, C, N = 4, 3, 40


def data(n=N, shape=(F,), targets=None, **more):
    drawn = torch.Generator().manual_seed(0)
    y = torch.arange(n) % C if targets is None else targets
    items = TensorItems(torch.randn(n, *shape, generator=drawn), y)
    module = ActiveDataModule(items, **({"test": 5, "initial": 7, "eval_batch_size": 6} | more))
    module.start(0)
    return module


def pool_of(task, module=None, adapter=None, strategy="max-det", **more):
    module = data() if module is None else module
    adapter = Adapter.for_task(task) if adapter is None else adapter
    bench = more.pop("bench", Workbench)
    return Scorer(task, module, adapter, make_bench=bench, **more).pool(build(strategy))


def regression(likelihood="mse"):
    outputs = 2 if likelihood == "mse" else 4
    task = Regression(MLP(F, [8], outputs, dropout=0.4), 2, likelihood)
    task.target_mean.fill_(3.0)
    task.target_std.fill_(0.5)
    return task


class Own(pl.LightningModule):
    """A network of one's own: features, a gate, a readout."""

    def __init__(self, after=nn.Identity):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(F, 6), nn.Tanh())
        self.readout, self.after = nn.Linear(6, C), after()

    def features(self, x):
        return self.body(x)

    def decide(self, z):
        return self.after(self.readout(z))

    def forward(self, x):
        return self.decide(self.features(x))


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


# --- the head --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Classification(MLP(F, [8, 5], C, dropout=0.5), C), (F,)),
        (
            Classification(nn.Sequential(nn.Linear(F, 6), nn.BatchNorm1d(6), nn.Linear(6, C)), C),
            (F,),
        ),
        (Classification(MLP(F, [], C), C), (F,)),
        (Classification(SmallCNN(1, C, 9, width=3, hidden=7), C), (1, 9, 9)),
        (Classification(Ensemble(MLP(F, [8], C), 3), C), (F,)),
        (regression(), (F,)),
        (regression("gaussian"), (F,)),
        (Regression(Ensemble(MLP(F, [8], 2), 3), 2), (F,)),
    ],
    ids=["mlp", "norm", "linear", "cnn", "ensemble", "mse", "gaussian", "members of two"],
)
def test_the_head_of_the_embedding_is_the_model(task, shape):
    module = data(shape=shape)
    pool = pool_of(task, module)
    field = "mean" if isinstance(task, Regression) else "logits"
    whole = pool.predict(torch.arange(len(pool)), [field]).tensors()[field]
    torch.testing.assert_close(pool.bench.head(pool.head_input), whole)
    labelled = pool.bench.predict(pool.labelled.index, [field], task).tensors()[field]
    torch.testing.assert_close(pool.bench.head(pool.labelled.head_input), labelled)


def test_the_head_has_a_gradient_and_leaves_the_task_alone():
    task = Classification(MLP(F, [8], C, dropout=0.5), C)
    task.train()
    pool = pool_of(task)
    head, weight = pool.bench.head, task.network[-1].weight
    z = pool.head_input.clone().requires_grad_()
    with torch.enable_grad():
        head(z)[:, 0, 1].sum().backward()
    torch.testing.assert_close(z.grad, weight[1].detach().expand_as(z))
    assert all(p.grad is None and p.requires_grad for p in task.parameters())
    assert all(m.training for m in task.modules())
    before = head(pool.head_input)
    with torch.no_grad():
        weight.zero_()  # what is trained on later is not the head of this round
    torch.testing.assert_close(head(pool.head_input), before)
    assert pool.bench.head is head


@pytest.mark.parametrize("after", [nn.Identity, Twice, nn.Softplus])
@pytest.mark.parametrize("embedding", ["features", "body", "readout:input"])
def test_an_adapter_may_name_the_head(after, embedding):
    task = Own(after)
    pool = pool_of(task, adapter=Adapter(embedding=embedding, head="decide"))
    whole = pool.predict(torch.arange(len(pool)), ["logits"]).logits
    torch.testing.assert_close(pool.bench.head(pool.head_input), whole)


def test_probabilities_become_logits():
    task = Own(lambda: nn.Softmax(1))
    pool = pool_of(task, adapter=Adapter(embedding="features", output_is="probs", head="decide"))
    whole = pool.predict(torch.arange(len(pool)), ["probs"]).probs
    torch.testing.assert_close(pool.bench.head(pool.head_input).exp(), whole)


@pytest.mark.parametrize(
    ("after", "adapter", "said"),
    [
        (nn.Identity, {"embedding": "features"}, "'features' cannot be told, only what follows"),
        (nn.Identity, {"embedding": "body"}, "Adapter\\(head="),
        (Twice, {"embedding": "readout:input"}, "does not give its outputs .*come out .* apart"),
        (nn.ReLU, {"embedding": "readout:input"}, "other layers or inputs take part"),
        (nn.Identity, {"embedding": "features", "head": "body"}, "does not give its outputs"),
        (nn.Identity, {"embedding": "features", "head": "dcide"}, "adapter's head; close: decide"),
        (nn.Identity, {"embedding": ("body", "readout:input"), "head": "readout"}, "not give"),
    ],
)
def test_a_head_that_cannot_be_told_says_so_when_it_is_used(after, adapter, said):
    torch.manual_seed(0)  # a ReLU over outputs that happen to be positive takes no part
    task = Own(after)
    bench = pool_of(task, adapter=Adapter(**adapter)).bench
    with pytest.raises(LookupError, match=said):
        _ = bench.head
    pool = pool_of(task, adapter=Adapter(**adapter), strategy="alfa-mix")
    with pytest.raises(LookupError, match=said):
        build("alfa-mix").choose(pool, 3, torch.Generator())


def test_items_that_are_not_finite_do_not_hide_the_head():
    task, x = Classification(MLP(F, [8], C), C).eval(), torch.randn(5, F)
    x[1] = torch.nan
    for some in (x, x[1:2]):
        assert find_head(task, task.adapter, some)(torch.randn(2, 8)).shape == (2, 1, C)


# --- other modules ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 6, 100])
def test_another_module_is_run_in_the_order_asked_for(size):
    task = Classification(MLP(F, [8], C, dropout=0.5), C)
    module = data(eval_batch_size=size)
    bench = pool_of(task, module).bench
    other = copy.deepcopy(task)
    with torch.no_grad():
        other.network[-1].bias.add_(torch.tensor([0.0, 1.0, 2.0]))
    other.train()
    got = bench.predict(module.pool, ["probs", "embedding"], other)
    other.eval()
    x = module.items.inputs(module.pool)
    torch.testing.assert_close(got.probs[:, 0], other.network(x).softmax(1))
    assert torch.equal(got.index, module.pool)
    told = bench.predict(bench.labelled, ["logits"], task)
    assert torch.equal(told.index, module.labelled)
    task.eval()
    torch.testing.assert_close(told.logits[:, 0], task.network(module.items.inputs(told.index)))
    some = bench.predict(module.pool[[5, 0, 2]], ["probs"], other)
    assert torch.equal(some.index, module.pool[[5, 0, 2]])
    torch.testing.assert_close(some.probs, got.probs[[5, 0, 2]])


def test_a_module_is_left_in_its_modes():
    task = Classification(MLP(F, [8], C, dropout=0.5), C)
    pool, other = pool_of(task), copy.deepcopy(task)
    other.train()
    other.network[1].eval()
    modes = [m.training for m in other.modules()]
    pool.bench.predict(pool.index, ["probs"], other)
    assert [m.training for m in other.modules()] == modes


def test_a_copy_of_a_regression_speaks_in_its_own_units():
    task = regression()
    pool, other = pool_of(task), copy.deepcopy(task)
    other.target_mean.fill_(100.0)
    mine, theirs = (pool.bench.predict(pool.index, ["mean"], t).mean for t in (task, other))
    torch.testing.assert_close(theirs, mine + 97.0)


def test_which_adapter_reads_a_module():
    task, own = Classification(MLP(F, [8], C), C), Adapter(output="raw")
    copied, other = copy.deepcopy(task), regression()
    assert adapter_for(copied, task, task.adapter) == copied.adapter
    assert adapter_for(copied, task, own) is own
    assert adapter_for(other, task, own).reading.kind == "regression"
    assert adapter_for(nn.Linear(F, C), task, own) is own


def test_a_plain_module_is_read_too():
    network = nn.Linear(F, C)
    task, module = Own(), data()
    bench = pool_of(task, module, adapter=Adapter(embedding="features")).bench
    got = bench.predict(module.pool, ["logits"], network).logits[:, 0]
    torch.testing.assert_close(got, network(module.items.inputs(module.pool)))


def test_a_part_of_the_pool_keeps_its_bench():
    module = data()
    pool = pool_of(Classification(MLP(F, [8], C), C), module)
    part = pool.subset(torch.tensor([9, 3, 14, 0])).subset(torch.tensor([2, 0]))
    assert torch.equal(part.index, pool.index[[14, 9]])
    assert part.bench is pool.bench
    inputs = torch.cat(list(part.bench.inputs(part.index)))
    assert torch.equal(inputs, module.items.inputs(part.index))


def test_inputs_come_again_and_again():
    module = data()
    loader = pool_of(Classification(MLP(F, [8], C), C), module).bench.inputs(module.pool)
    first, second = (torch.cat(list(loader)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, module.items.inputs(module.pool))
    assert len(loader) == len(list(loader))


def test_nothing_labelled():
    bench = pool_of(Classification(MLP(F, [8], C), C), data(initial=0)).bench
    told = bench.predict(bench.labelled, ["probs"], bench.task)
    assert len(told) == 0
    assert told.probs is None


def test_what_a_module_says_may_lie_in_a_file(tmp_path):
    task = Classification(MLP(F, [8], C), C)
    pool = pool_of(task, memory_budget=0, folder=tmp_path)
    plain = pool_of(task).bench.predict(pool.index, ["embedding"], task).embedding
    got = pool.bench.predict(pool.index, ["embedding"], task).embedding
    torch.testing.assert_close(got, plain)
    if Path("/proc/self/maps").exists():
        assert f"{tmp_path}/" in Path("/proc/self/maps").read_text()


def test_features_are_one_thing_and_the_head_s_input_another():
    from lightning_al.scoring.bank import Bank

    module, task = data(), Classification(MLP(F, [8], C), C)
    bank = Bank(lambda x: x[:, :2], module)
    pool = pool_of(task, module, bank=bank, strategy="k-center")
    assert pool.embedding.shape[1] == 2
    own = pool_of(task, module, strategy="badge")
    given = pool_of(task, module, bank=bank, strategy="badge")
    assert given.head_input.shape[1] == 8
    torch.testing.assert_close(given.head_input, own.head_input)
    torch.testing.assert_close(given.bench.head(given.head_input).softmax(2), given.probs)


def test_a_run_by_a_strategy_that_looks_inside(learner):
    run = learner(strategy="alfa-mix", task=small.dropout_task).run()
    assert [len(r.acquired) for r in run.rounds] == [5, 5, 0]


def test_a_pool_made_by_hand_says_that_it_has_no_bench():
    from lightning_al.records import Pool

    with pytest.raises(LookupError, match="no workbench, of which 'refit' is wanted"):
        Pool(torch.arange(3)).bench.refit()


# --- fits inside a round ---------------------------------------------------------------------

TRAINER = {"accelerator": "cpu", "devices": 1, "max_epochs": 30}


def make():
    return Classification(MLP(F, [8], C), C, lr=0.05, metrics=["accuracy", "nll"])


def bench_of(make=make, *, privileged=False, trainer=TRAINER, **more):
    """A workbench as a run gives it, on separable data."""
    given = {"test": 9, "val": 9, "initial": 12, "batch_size": 4, **more}
    labels = torch.arange(60) % C
    shifts = 3 * torch.eye(C, F)[labels]
    noise = torch.randn(60, F, generator=torch.Generator().manual_seed(0))
    module = ActiveDataModule(TensorItems(shifts + noise, labels), **given)
    module.start(0)
    recipe = Recipe(make, trainer)
    task = recipe.build_task(0, 0, None)

    def bench(bound):
        return Workbench(bound, recipe, privileged)

    scorer = Scorer(task, module, Adapter.for_task(task), make_bench=bench)
    return scorer.pool(build("entropy")).bench, module


def weights_of(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_refit_is_the_fit_of_the_round():
    """On all labelled items with the weights of the round: what the run itself would fit."""
    from lightning_al.fits.lightning import fit_round

    bench, module = bench_of()
    again = bench.refit()
    recipe = Recipe(make, TRAINER)
    plain = recipe.build_task(0, 1, None)
    view = module.restricted()
    view.round = 1
    fit_round(plain, recipe, view, recipe.alone(), seed=0, round=1)
    ahead = bench.refit(ahead=1)
    torch.testing.assert_close(weights_of(ahead), weights_of(plain))
    assert not torch.allclose(weights_of(again), weights_of(ahead))


def test_twenty_refits_with_row_weights():
    """Bootstrap replicates: each item as often as it was drawn."""
    bench, module = bench_of(trainer=TRAINER | {"max_epochs": 12})
    labelled, drawn = bench.labelled, torch.Generator().manual_seed(1)
    counts = [
        torch.randint(len(labelled), (len(labelled),), generator=drawn).bincount(minlength=12)
        for _ in range(20)
    ]
    before = module.fingerprint(), torch.get_rng_state()
    replicas = bench.refits([(labelled, c) for c in counts])
    assert module.fingerprint() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert len(replicas) == 20
    flat = torch.stack([weights_of(r) for r in replicas])
    assert len(flat.unique(dim=0)) == 20
    probs = torch.stack(
        [bench.predict(module.pool, ["probs"], module=r).probs[:, 0] for r in replicas], 1
    )
    assert float((probs.mean(1).argmax(1) == module.labels(module.pool)).float().mean()) > 0.8


def test_whole_weights_are_repeated_items():
    bench, _ = bench_of()
    index = bench.labelled[:6]
    a = [x for x, _ in bench.loader(index, torch.tensor([2.0, 0, 1, 0, 0, 3]))]
    b = [x for x, _ in bench.loader(index[[0, 0, 2, 5, 5, 5]])]
    assert torch.equal(torch.cat(a), torch.cat(b))


def test_other_weights_are_odds():
    bench, module = bench_of(batch_size=50)
    index = bench.labelled
    odds = torch.linspace(0.1, 2.5, len(index))
    odds[3] = 0.0
    loader = bench.loader(index, odds)
    seen = torch.zeros(len(index))
    for epoch in range(400):
        loader.sampler.set_epoch(epoch)
        for x, _ in loader:
            at = (x[:, None] == module.items.inputs(index)[None]).all(2)
            seen += at.sum(0)
    share, wanted = seen / seen.sum(), odds / odds.sum()
    assert seen[3] == 0
    error = (wanted * (1 - wanted) / seen.sum()).sqrt()
    assert bool(((share - wanted).abs() <= 5 * error + 1e-9).all())


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (torch.ones(3), "one an item"),
        (-torch.ones(12), "not negative"),
        (torch.zeros(12), "all weights are 0"),
        (torch.full((12,), float("nan")), "finite"),
    ],
)
def test_weights_that_are_none_are_refused(weights, said):
    bench, _ = bench_of()
    with pytest.raises(ValueError, match=said):
        bench.refit(bench.labelled, weights)


def test_half_of_the_labelled_items_as_a_scored_pool():
    bench, module = bench_of()
    labelled = bench.labelled
    half = labelled[::2]
    pool = bench.pool_of(half)
    assert torch.equal(pool.index, half)
    kept = labelled[~torch.isin(labelled, half)]
    assert torch.equal(pool.labelled.index, kept)
    assert torch.equal(pool.bench.labelled, kept)
    assert torch.equal(pool.context.targets, module.labels(kept))
    assert (pool.context.n_labelled, pool.context.n_pool) == (6, 6)
    probs = bench.predict(half, ["probs"]).probs[:, 0]
    torch.testing.assert_close(pool.scores, -(probs * probs.log()).sum(1), rtol=1e-4, atol=1e-5)
    chosen = build("entropy").choose(pool, 2, torch.Generator().manual_seed(0))
    assert set(chosen.index.tolist()) <= set(half.tolist())
    other = bench.pool_of(half, strategy=build("badge"))
    assert other.head_input.shape == (6, 8)
    assert torch.equal(module.labelled, labelled)


def test_the_loss_on_validation_data():
    bench, module = bench_of()
    task = bench.refit()
    losses = bench.loss(task)
    x, y = module.items.inputs(module.held["val"]), module.labels(module.held["val"])
    task.eval()
    with torch.no_grad():
        wanted = nn.functional.cross_entropy(task.network(x), y, reduction="none")
    torch.testing.assert_close(losses, wanted)
    metrics = bench.metrics(task)
    assert metrics["val/nll"] == pytest.approx(float(losses.mean()), rel=1e-4)
    some = bench.labelled[:5]
    assert bench.loss(task, some).shape == (5,)
    assert float(bench.loss(task).mean()) < float(bench.loss().mean())


def test_labels_of_the_pool_and_the_test_set_are_out_of_reach():
    bench, module = bench_of()
    task = bench.fresh()
    with pytest.raises(ValueError, match="out of reach"):
        bench.refit(module.pool[:2])
    with pytest.raises(ValueError, match="not labelled"):
        bench.loss(task, module.pool[:2])
    with pytest.raises(ValueError, match="privileged"):
        bench.refit(answers=module.pool[:2])
    with pytest.raises(ValueError, match="privileged"):
        bench.metrics(task, on="test")
    with pytest.raises(ValueError, match="val=…"):
        bench_of(val=None)[0].loss()


def test_a_privileged_strategy_may_look_ahead():
    bench, module = bench_of(privileged=True)
    more = module.pool[:6]
    task = bench.refit(answers=more, ahead=1)
    module.acquire(more)
    recipe = Recipe(make, TRAINER)
    real = recipe.build_task(0, 1, None)
    from lightning_al.fits.lightning import fit_round

    module.round = 1
    fit_round(real, recipe, module, recipe.alone(), seed=0, round=1)
    assert set(bench.metrics(task, on="test")) == {"test/accuracy", "test/nll"}
    torch.testing.assert_close(weights_of(task), weights_of(real))


def test_what_cannot_be_refitted_says_so():
    pool = pool_of(Classification(MLP(F, [8], C), C))
    with pytest.raises(LookupError, match="nothing can be refitted here"):
        pool.bench.refit()


def test_a_full_batch_task_is_refitted_too():
    from lightning_al.tasks import SklearnClassification

    def sk():
        return SklearnClassification("LogisticRegression", C)

    bench, module = bench_of(sk, trainer={**TRAINER, "max_epochs": 1})
    half = bench.labelled[:9]
    task = bench.refit(half, torch.tensor([1.0, 1, 1, 2, 1, 1, 1, 1, 1]))
    probs = bench.predict(module.pool, ["probs"], module=task).probs
    assert probs.shape == (len(module.pool), 1, C)
