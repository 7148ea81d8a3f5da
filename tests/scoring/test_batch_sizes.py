"""Small networks score data in memory in larger batches: the same scores, and only then."""

import pytest
import torch
from torch import nn

from lightning_al import suggest
from lightning_al.datamodules import ActiveDataModule, TensorItems
from lightning_al.networks import MLP, Ensemble, SmallCNN
from lightning_al.posteriors import MCDropout
from lightning_al.scoring.batch_sizes import BYTES, MOST, Footprint, growing
from lightning_al.tasks import Classification, GPClassification

N, F, C = 6000, 5, 3
FIRST = 512


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def module(inputs=None, kind=TensorItems, **more):
    inputs = drawn(N, F) if inputs is None else inputs
    items = kind(inputs, torch.arange(len(inputs)) % C)
    data = ActiveDataModule(items, **{"test": 10, "initial": 6} | more)
    data.classes = C
    data.setup()
    return data


def network(**more):
    torch.manual_seed(0)
    return MLP(F, outputs=C, **more)


def task(net=None):
    return Classification(network() if net is None else net, classes=C).eval()


def sizes(data, model):
    """Sizes of the batches when a model runs over the whole pool."""
    found = []
    for index, inputs in growing(data, data.pool, model):
        with torch.no_grad():
            model(inputs)
        found.append(len(index))
    return found


NETWORKS = {
    "linear": lambda: network(hidden=()),
    "deep": lambda: network(hidden=(64, 32, 16)),
    "ensemble": lambda: Ensemble(network(), members=3),
    "with dropout": lambda: network(dropout=0.3),
}


@pytest.mark.parametrize("strategy", ["margin", "entropy", "k-center", "badge"])
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_and_choices_are_those_of_small_batches(name, strategy):
    model = task(NETWORKS[name]())
    grown, fixed = module(), module(eval_batch_size=FIRST)
    assert max(sizes(grown, model)) > FIRST
    assert max(sizes(fixed, model)) == FIRST
    a, b = (suggest(model, data, strategy, 12) for data in (grown, fixed))
    assert a.index.tolist() == b.index.tolist()
    if a.scores is not None:
        torch.testing.assert_close(a.scores, b.scores)


@pytest.mark.parametrize("width", [4, 64, 700, 5000])
def test_every_item_comes_once_and_a_batch_holds_what_was_said(width):
    data, model = module(), task(network(hidden=(width,)))
    rows = torch.cat([index for index, _ in growing(data, data.pool, model)])
    assert torch.equal(rows, data.pool)
    found = sizes(data, model)
    an_item = 4 * (2 * F + 2 * width + C)  # inputs, flattened; a layer, its activation; outputs
    assert found[0] == FIRST
    assert found[1] == min(MOST, max(FIRST, BYTES // an_item), N - 16 - FIRST)


class Rows(torch.utils.data.Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


def transformed(inputs, targets):
    return TensorItems(inputs, targets, lambda x: x * 2)


class Attending(nn.Module):
    """Its weights lie in no plain layer, so what it holds on the way is not seen."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(F, 1, batch_first=True)
        self.last = nn.Linear(F, C)

    def forward(self, x):
        return self.last(self.attention(x[:, None], x[:, None], x[:, None])[0][:, 0])


class Bare(nn.Module):
    """A layer of the user's own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(drawn(F, C))

    def forward(self, x):
        return x @ self.weight


STAYS = {
    "the user's own size": (lambda: module(eval_batch_size=FIRST), task, FIRST),
    "a smaller one": (lambda: module(eval_batch_size=100), task, 100),
    "items read one by one": (lambda: module(kind=Rows), task, FIRST),
    "a transform": (lambda: module(kind=transformed), task, FIRST),
    "attention": (module, lambda: task(Attending()), FIRST),
    "a layer of the user's": (module, lambda: task(Bare()), FIRST),
    "pictures of many pixels": (
        lambda: module(drawn(1600, 3, 32, 32)),
        lambda: task(SmallCNN(3, outputs=C, image_size=32)),
        FIRST,
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_elsewhere_batches_stay(name):
    data, model, size = STAYS[name][0](), STAYS[name][1](), STAYS[name][2]
    found = sizes(data, model)
    assert {*found[:-1]} == {size}
    assert sum(found) == len(data.pool)


def test_a_size_that_is_set_later_counts():
    data = module()
    data.eval_batch_size = 64
    assert {*sizes(data, task())[:-1]} == {64}


def test_compiled_layers_and_tasks_without_layers_are_not_watched():
    compiled = network()
    compiled[1].compile()
    assert Footprint(task()).known
    assert not Footprint(task(compiled)).known
    footprint = Footprint(GPClassification(classes=C))
    assert not footprint.known
    assert footprint.size(FIRST, 4) == FIRST


def test_members_that_are_drawn_see_batches_of_the_usual_size():
    data, model = module(), task(network(dropout=0.5))
    seen = []
    model.network[0].register_forward_hook(lambda m, inputs, out: seen.append(len(inputs[0])))
    suggest(model, data, "bald", 5, posterior=MCDropout(3))
    assert max(seen) == FIRST


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_nothing_stays_on_the_model(stop):
    data, model = module(), task()
    batches = growing(data, data.pool, model)
    for _ in range(stop):
        next(batches)
    batches.close()
    assert not any(m._forward_hooks for m in model.modules())
