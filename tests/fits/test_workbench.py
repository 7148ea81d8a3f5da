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
from lightning_al.fits.workbench import adapter_for
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


def pool_of(task, module=None, adapter=None, strategy="k-center", **more):
    module = data() if module is None else module
    adapter = Adapter.for_task(task) if adapter is None else adapter
    return Scorer(task, module, adapter, **more).pool(build(strategy))


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
    torch.testing.assert_close(pool.learner.head(pool.embedding), whole)
    labelled = pool.labelled.learner.predict(task, [field]).tensors()[field]
    torch.testing.assert_close(pool.learner.head(pool.labelled.embedding), labelled)


def test_the_head_has_a_gradient_and_leaves_the_task_alone():
    task = Classification(MLP(F, [8], C, dropout=0.5), C)
    task.train()
    pool = pool_of(task)
    head, weight = pool.learner.head, task.network[-1].weight
    z = pool.embedding.clone().requires_grad_()
    with torch.enable_grad():
        head(z)[:, 0, 1].sum().backward()
    torch.testing.assert_close(z.grad, weight[1].detach().expand_as(z))
    assert all(p.grad is None and p.requires_grad for p in task.parameters())
    assert all(m.training for m in task.modules())
    before = head(pool.embedding)
    with torch.no_grad():
        weight.zero_()  # what is trained on later is not the head of this round
    assert torch.equal(head(pool.embedding), before)
    assert pool.learner.head is head


@pytest.mark.parametrize("after", [nn.Identity, Twice, nn.Softplus])
@pytest.mark.parametrize("embedding", ["features", "body", "readout:input"])
def test_an_adapter_may_name_the_head(after, embedding):
    task = Own(after)
    pool = pool_of(task, adapter=Adapter(embedding=embedding, head="decide"))
    whole = pool.predict(torch.arange(len(pool)), ["logits"]).logits
    torch.testing.assert_close(pool.learner.head(pool.embedding), whole)


def test_probabilities_become_logits():
    task = Own(lambda: nn.Softmax(1))
    pool = pool_of(task, adapter=Adapter(embedding="features", output_is="probs", head="decide"))
    whole = pool.predict(torch.arange(len(pool)), ["probs"]).probs
    torch.testing.assert_close(pool.learner.head(pool.embedding).exp(), whole)


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
    task = Own(after)
    learner = pool_of(task, adapter=Adapter(**adapter)).learner
    with pytest.raises(LookupError, match=said):
        _ = learner.head
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
def test_another_module_is_run_in_the_order_of_the_pool(size):
    task = Classification(MLP(F, [8], C, dropout=0.5), C)
    module = data(eval_batch_size=size)
    learner = pool_of(task, module).learner
    other = copy.deepcopy(task)
    with torch.no_grad():
        other.network[-1].bias.add_(torch.tensor([0.0, 1.0, 2.0]))
    other.train()
    got = learner.predict(other, ["probs", "embedding"])
    other.eval()
    x = module.items.inputs(module.pool)
    torch.testing.assert_close(got.probs[:, 0], other.network(x).softmax(1))
    assert torch.equal(got.index, module.pool)
    told = learner.predict_labelled(task, ["logits"])
    assert torch.equal(told.index, module.labelled)
    task.eval()
    torch.testing.assert_close(told.logits[:, 0], task.network(module.items.inputs(told.index)))
    some = learner.predict(other, ["probs"], torch.tensor([5, 0, 2]))
    assert torch.equal(some.index, module.pool[[5, 0, 2]])
    torch.testing.assert_close(some.probs, got.probs[[5, 0, 2]])


def test_a_module_is_left_in_its_modes():
    task = Classification(MLP(F, [8], C, dropout=0.5), C)
    learner, other = pool_of(task).learner, copy.deepcopy(task)
    other.train()
    other.network[1].eval()
    modes = [m.training for m in other.modules()]
    learner.predict(other, ["probs"])
    assert [m.training for m in other.modules()] == modes


def test_a_copy_of_a_regression_speaks_in_its_own_units():
    task = regression()
    learner, other = pool_of(task).learner, copy.deepcopy(task)
    other.target_mean.fill_(100.0)
    mine, theirs = (learner.predict(t, ["mean"]).mean for t in (task, other))
    torch.testing.assert_close(theirs, mine + 97.0)


def test_which_adapter_reads_a_module():
    task, own = Classification(MLP(F, [8], C), C), Adapter(output="raw")
    copied, other = copy.deepcopy(task), regression()
    assert adapter_for(copied, task, task.adapter) == copied.adapter
    assert adapter_for(copied, task, own) is own
    assert adapter_for(other, task, own).kind == "regression"
    assert adapter_for(nn.Linear(F, C), task, own) is own


def test_a_plain_module_is_read_too():
    network = nn.Linear(F, C)
    task, module = Own(), data()
    learner = pool_of(task, module, adapter=Adapter(embedding="features")).learner
    got = learner.predict(network, ["logits"]).logits[:, 0]
    torch.testing.assert_close(got, network(module.items.inputs(module.pool)))


def test_a_part_of_the_pool_keeps_its_learner():
    module = data()
    pool = pool_of(Classification(MLP(F, [8], C), C), module)
    rows = torch.tensor([9, 3, 14, 0])
    part = pool.subset(rows).subset(torch.tensor([2, 0]))
    learner = part.learner
    assert torch.equal(learner.predict(learner.task, ["probs"]).index, pool.index[[14, 9]])
    one = learner.predict(learner.task, ["probs"], torch.tensor([1]))
    assert one.index.tolist() == [int(pool.index[9])]
    inputs = torch.cat(list(learner.unlabelled_loader()))
    assert torch.equal(inputs, module.items.inputs(part.index))
    assert learner.head is pool.learner.head
    assert torch.equal(learner.predict_labelled(learner.task, ["probs"]).index, module.labelled)


def test_inputs_of_the_pool_come_again_and_again():
    module = data()
    loader = pool_of(Classification(MLP(F, [8], C), C), module).learner.unlabelled_loader()
    first, second = (torch.cat(list(loader)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, module.items.inputs(module.pool))
    assert len(loader) == len(list(loader))


def test_nothing_labelled():
    learner = pool_of(Classification(MLP(F, [8], C), C), data(initial=0)).learner
    told = learner.predict_labelled(learner.task, ["probs"])
    assert len(told) == 0
    assert told.probs is None


def test_what_a_module_says_may_lie_in_a_file(tmp_path):
    task = Classification(MLP(F, [8], C), C)
    learner = pool_of(task, memory_budget=0, folder=tmp_path).learner
    plain = pool_of(task).learner.predict(task, ["embedding"]).embedding
    got = learner.predict(task, ["embedding"]).embedding
    assert torch.equal(got, plain)
    if Path("/proc/self/maps").exists():
        assert f"{tmp_path}/" in Path("/proc/self/maps").read_text()


def test_features_that_are_no_part_of_the_task_have_no_head():
    from lightning_al.scoring.bank import Bank

    module = data()
    bank = Bank(lambda x: x[:, :2], module)
    pool = pool_of(Classification(MLP(F, [8], C), C), module, bank=bank)
    assert pool.embedding.shape[1] == 2
    with pytest.raises(LookupError, match="features it was given"):
        _ = pool.learner.head


def test_a_run_by_a_strategy_that_looks_inside(learner):
    run = learner(strategy="alfa-mix", task=small.dropout_task).run()
    assert [len(r.acquired) for r in run.rounds] == [5, 5, 0]
