"""One pass over the pool, on one process: what survives it, and what it refuses."""

import copy
import gc
import tracemalloc
import weakref
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, TensorDataset

from lightning_al import suggest
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.workbench import Workbench
from lightning_al.networks import MLP, Ensemble
from lightning_al.posteriors import Deterministic, MCDropout
from lightning_al.records import Acquisition
from lightning_al.scoring.cold import Banks
from lightning_al.scoring.extractors import Raw
from lightning_al.scoring.scorer import Scorer
from lightning_al.scoring.store import Room, Store
from lightning_al.strategies import ScoreStrategy, build, names
from lightning_al.tasks import Adapter, Classification, DensityRegression, Regression
from lightning_al.testing import kind_of, rehearsed

N, F, C = 50, 6, 3


@dataclass
class Plan:
    """A strategy as a list of facts; ``seen`` records what it was handed."""

    needs: tuple = ("probs",)
    keeps: tuple = ()
    members: str = "one"
    privileged: bool = False
    seen: list = field(default_factory=list)

    def choose(self, candidates, k, generator):
        return Acquisition(index=candidates.index[:k])


class Scoring(Plan):
    def score(self, batch, context):
        self.seen.append(batch)
        return batch.probs.mean(1).amax(-1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def data(items=None, n=N, **kwargs):
    if items is None:
        items = TensorItems(torch.randn(n, F), torch.arange(n) % C)
    kwargs = {"test": 0.2, "initial": 6, "eval_batch_size": 16} | kwargs
    module = ActiveDataModule(items, **kwargs)
    module.setup()
    return module


def classifier(dropout=0.0, hidden=(16,)):
    return Classification(MLP(F, hidden, C, dropout=dropout), classes=C)


def scorer(task=None, module=None, **kwargs):
    task = classifier() if task is None else task
    return Scorer(task, data() if module is None else module, Adapter.for_task(task), **kwargs)


# --- streaming -------------------------------------------------------------------------------


def test_scores_are_those_of_the_network_on_the_pool_in_its_order():
    task, module = classifier(), data()
    pool = scorer(task, module).pool(build("least-confidence"))
    probs = task.eval()(module.items.inputs(module.pool)).softmax(1)
    torch.testing.assert_close(pool.scores, 1 - probs.amax(1))
    assert torch.equal(pool.index, module.pool)
    assert pool.kept is None
    assert pool.scores.dtype == torch.float32


def test_only_the_scores_survive_a_batch():
    alive = []

    class Spy(Plan):
        def score(self, batch, context):
            gc.collect()
            alive.append(sum(ref() is not None for ref in self.seen))
            self.seen.append(weakref.ref(batch.probs))
            return batch.probs.mean(1).amax(-1)

    gc.freeze()  # what other tests have left is no matter of the collector's now
    try:
        scorer(module=data(eval_batch_size=4)).pool(Spy())
    finally:
        gc.unfreeze()
    assert len(alive) == 9
    assert max(alive) <= 1  # the one before, until the loop hands out the next


@pytest.mark.parametrize("name", names())
def test_the_batch_size_does_not_change_scores(name):
    strategy = rehearsed(build(name))
    posterior = MCDropout(4) if strategy.members == "many" else None
    kind = kind_of(strategy)
    outputs = {"classification": 0, "either": 0, "regression": 1, "density": 1, "safe": 2}[kind]
    task = classifier(dropout=0.3)
    if outputs:
        many = outputs * (1 + ("variance" in strategy.needs))
        likelihood = "gaussian" if many > outputs else "mse"
        network = MLP(F, (16,), many, dropout=0.3)
        task = Regression(network, outputs=outputs, likelihood=likelihood)
    if kind == "density":
        task = DensityRegression(MLP(F, (16,), 15, dropout=0.3), head="mixture")
    results = []
    for size in (1, 7, 500):
        torch.manual_seed(0)
        targets = torch.randn(N, outputs) if outputs else torch.arange(N) % C
        module = data(TensorItems(torch.randn(N, F), targets), eval_batch_size=size)
        made = scorer(task, module, posterior=posterior, remaining=20, make_bench=Workbench).pool(
            strategy
        )
        results.append(made)
    k = getattr(strategy, "most", 5)
    for other in results[1:]:
        if results[0].scores is None:
            assert other.scores is None
        else:
            close = (
                {"atol": 1e-5, "rtol": 1e-4} if kind == "density" else {"atol": 1e-6, "rtol": 1e-5}
            )
            torch.testing.assert_close(results[0].scores, other.scores, **close)
    fresh = [copy.deepcopy(strategy) for _ in results]  # some remember what they chose
    drawn = [
        p and chooser.choose(p, k, torch.Generator().manual_seed(1))
        for chooser, p in zip(fresh, results, strict=True)
    ]
    assert len({tuple(sorted(a.index.tolist())) for a in drawn}) == 1


def test_the_order_of_the_pool_is_fixed():
    class Noted(Scoring):
        def score(self, batch, context):
            self.seen += batch.index.tolist()
            return batch.probs[:, 0, 0]

    module, first, second = data(), Noted(), Noted()
    for strategy in (first, second):
        scorer(module=module).pool(strategy)
    assert first.seen == second.seen == module.pool.tolist() == sorted(first.seen)


class Large(TorchDispatchMode):
    """Bytes of all storages at least this large that come up inside."""

    def __init__(self, least):
        super().__init__()
        self.least, self.seen = least, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().nbytes() >= self.least:
                storage = leaf.untyped_storage()
                self.seen[storage.data_ptr()] = storage.nbytes()
        return out


def test_a_pass_over_many_items_costs_a_score_each():
    n = 200_000
    items = TensorItems(torch.zeros(n, 2), torch.zeros(n).long())
    module = data(items, eval_batch_size=1000, test=10)
    index = module.pool
    it = scorer(Classification(nn.Linear(2, C), classes=C), module)
    with Large(n // 2) as large:
        pool = it.pool(build("margin"))
    for old in (items.inputs[0], items.targets, index, module.state._status):
        large.seen.pop(old.untyped_storage().data_ptr(), None)
    assert pool.scores.untyped_storage().nbytes() == 4 * len(pool)
    assert sum(large.seen.values()) <= 5 * n  # the scores, and a byte each to look for NaN
    tracemalloc.start()
    it.pool(build("margin"))
    _, peak = tracemalloc.get_traced_memory()  # of Python objects
    tracemalloc.stop()
    assert peak < n


def test_several_columns_of_scores():
    class Two(Plan):
        def score(self, batch, context):
            return batch.probs.mean(1)[:, :2]

    assert scorer().pool(Two()).scores.shape == (34, 2)


def test_scores_of_another_shape_are_refused():
    class Wrong(Plan):
        def score(self, batch, context):
            return batch.probs.sum()

    with pytest.raises(ValueError, match=r"one score per item, \[16\] or \[16, m\], got \[\]"):
        scorer().pool(Wrong())


def test_without_needs_the_model_is_not_run():
    class Broken(pl.LightningModule):
        def forward(self, x):
            raise AssertionError("was run")

    pool = scorer(Broken()).pool(build("random"))
    assert pool.scores is None
    assert len(pool) == 34


def test_an_empty_pool_is_scored():
    module = data(initial=list(range(10)), test=list(range(10, N)))
    pool = scorer(module=module).pool(build("margin"))
    assert len(pool) == 0
    assert pool.scores.shape == (0,)


def test_one_item_left():
    module = data(initial=list(range(9)), test=list(range(10, N)))
    pool = scorer(module=module).pool(build("margin"))
    assert pool.index.tolist() == [9]
    assert pool.scores.shape == (1,)


# --- what is kept ----------------------------------------------------------------------------


def test_kept_embeddings_are_those_of_the_layer():
    task, module = classifier(), data()
    pool = scorer(task, module).pool(Plan(needs=("embedding",), keeps=("embedding",)))
    hidden = nn.Sequential(*list(task.network)[:-1])
    x = module.items.inputs(module.pool)
    torch.testing.assert_close(pool.embedding, hidden(x))
    labelled = pool.labelled
    assert torch.equal(labelled.index, module.labelled)
    x = module.items.inputs(module.labelled)
    torch.testing.assert_close(labelled.embedding, hidden(x))
    with pytest.raises(LookupError, match="no probs"):
        pool.probs  # noqa: B018


def test_scores_and_kept_fields_together():
    class Both(Scoring):
        pass

    plan = Both(needs=("probs", "embedding"), keeps=("embedding",))
    pool = scorer().pool(plan)
    assert pool.scores.shape == (34,)
    assert pool.embedding.shape == (34, 16)


def test_above_the_memory_budget_kept_fields_lie_in_a_file_without_a_name(tmp_path):
    plan, task, module = Plan(("embedding",), ("embedding",)), classifier(), data()
    small = scorer(task, module, memory_budget=100, folder=tmp_path).pool(plan)
    large = scorer(task, module).pool(plan)
    mapped = Path("/proc/self/maps").read_text()
    assert f"{tmp_path}/" in mapped
    torch.testing.assert_close(small.embedding, large.embedding)
    assert list(tmp_path.iterdir()) == []  # nothing to be left behind by a kill
    del small
    gc.collect()
    assert f"{tmp_path}/" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("budget", [0, 150, 1000, 2300, 2400, 2500, 2600, 3000, 10**6])
@pytest.mark.parametrize("banked", [False, True])
def test_what_all_stores_hold_in_memory_stays_within_the_budget(budget, banked, monkeypatch):
    """Scores, kept fields, features of the pool and of the bank together; the rest is mapped."""
    held, mapped, both = [], [], ("probs", "embedding")
    allocate, to_file = Store.allocate, np.memmap

    def counted(self, name, dtype, item):
        held.append(self.n * item.numel() * dtype.itemsize)
        return allocate(self, name, dtype, item)

    def counted_file(*args, shape, **more):
        mapped.append(shape[0])
        return to_file(*args, shape=shape, **more)

    monkeypatch.setattr(Store, "allocate", counted)
    monkeypatch.setattr(np, "memmap", counted_file)
    plan, task, module = Scoring(both, both), classifier(), data()
    bank = Banks(Raw() if banked else None, module, budget).now(None)
    pool = scorer(task, module, memory_budget=budget, bank=bank).pool(plan)
    assert sum(held) >= pool.scores.nbytes + pool.embedding.nbytes + pool.probs.nbytes
    assert sum(held) - sum(mapped) <= budget
    if budget == 10**6:
        assert not mapped


def test_a_folder_that_is_not_there_is_no_error(tmp_path):
    plan = Plan(("embedding",), ("embedding",))
    pool = scorer(memory_budget=0, folder=tmp_path / "none").pool(plan)
    assert pool.embedding.shape == (34, 16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.bool])
def test_any_dtype_can_lie_in_a_file(dtype, tmp_path):
    store = Store(5, Room(0), tmp_path)
    values = (torch.randn(5, 2, 3) * 4).to(dtype)
    store.add({"a": values[:3]}, 3)
    store.add({"a": values[3:]}, 2)
    assert torch.equal(store.fields["a"], values)


def test_the_network_gives_no_embedding_unless_it_is_named():
    class Mine(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(F, C)

        def forward(self, x):
            return self.net(x)

    plan = Plan(("embedding",), ("embedding",))
    with pytest.raises(LookupError, match=r"names none; name a layer, for instance Adapter\("):
        scorer(Mine()).pool(plan)


def test_kept_items_of_several_shapes_are_refused():
    class Spread(pl.LightningModule):
        adapter = Adapter(output="forward", embedding="spread")

        def spread(self, x):
            return x

        def forward(self, x):
            return x.mean((1, 2, 3))[:, None].expand(-1, C)

    module = uneven()
    with pytest.raises(ValueError, match=r"shape .* an item in one batch and .* in another"):
        scorer(Spread(), module).pool(Plan(("embedding",), ("embedding",)))


# --- refusals --------------------------------------------------------------------------------


def test_nan_scores_name_the_items():
    class Holes(Plan):
        def score(self, batch, context):
            scores = batch.probs[:, 0, 0].clone()
            scores[batch.index % 7 == 0] = torch.nan
            return scores

    module = data()
    bad = module.pool[module.pool % 7 == 0].tolist()
    with pytest.raises(
        ValueError, match=rf"{len(bad)} of 34 scores are NaN, first: .*\[{bad[0]}, "
    ):
        scorer(module=module).pool(Holes())


def test_members_that_agree_bit_for_bit_are_refused():
    class Functional(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(F, C)
            self.unused = nn.Dropout(0.5)

        def forward(self, x):
            return nn.functional.dropout(self.net(x), 0.5, self.training)

    with pytest.raises(ValueError, match=r"agree bit for bit.*use nn\.Dropout layers"):
        scorer(Functional(), posterior=MCDropout(3)).pool(build("bald"))


def compares(strategy):
    """Whether members alone tell it anything; with a variance one member may do."""
    return strategy.members == "many" and "variance" not in strategy.needs


@pytest.mark.parametrize("name", [n for n in names() if compares(build(n))])
@pytest.mark.parametrize("posterior", [None, Deterministic(), MCDropout(1)], ids=str)
def test_strategies_that_compare_members_refuse_a_single_one(name, posterior):
    strategy = build(name)
    task = classifier(dropout=0.5)
    if "mean" in strategy.needs:
        task = Regression(MLP(F, (16,), 1, dropout=0.5))
    if kind_of(strategy) == "density":
        task = DensityRegression(MLP(F, (16,), 2, dropout=0.5), head="gaussian")
    with pytest.raises(ValueError, match=r"members of a posterior.*pass MCDropout.*an Ensemble"):
        scorer(task, posterior=posterior).pool(strategy)


def test_the_variance_that_one_network_predicts_needs_no_members():
    task = Regression(MLP(F, (16,), 2), likelihood="gaussian")
    assert scorer(task).pool(build("variance", aleatoric=True)).scores.min() > 0


def test_an_ensemble_has_members_of_its_own():
    task = Classification(Ensemble(MLP(F, (8,), C), 4), classes=C)
    assert scorer(task).pool(build("bald")).scores.min() > 0


def test_a_field_that_the_model_cannot_give():
    with pytest.raises(LookupError, match=r"needs \['mean'\]"):
        scorer().pool(build("greedy"))


def test_hooks_that_the_pool_does_not_pass_through_are_named():
    class Hooked(Classification):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch

    with pytest.warns(UserWarning, match=r"Hooked.on_after_batch_transfer is not called"):
        scorer(Hooked(MLP(F, (4,), C), classes=C)).pool(build("margin"))


# --- members ---------------------------------------------------------------------------------


class Uneven(Dataset):
    """Images of 6 x 6, and (from item 40 on) 8 x 8."""

    targets = torch.arange(80) % C

    def __len__(self):
        return 80

    def __getitem__(self, i):
        drawn = torch.Generator().manual_seed(i)
        side = 6 if i < 40 else 8
        return torch.randn(2, side, side, generator=drawn), self.targets[i]


def convolution():
    layers = (nn.Conv2d(2, 4, 3), nn.Dropout(0.4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classification(nn.Sequential(*layers, nn.Linear(4, C)), classes=C)


def uneven(**kwargs):
    return data(Uneven(), **({"eval_batch_size": 1, "initial": [0, 1], "test": [2, 79]} | kwargs))


def test_items_of_several_shapes_are_scored_by_masks_a_channel():
    task = convolution()
    plan = Scoring(members="many")
    pool = scorer(task, uneven(), posterior=MCDropout(3)).pool(plan)
    channel = MCDropout(3, per_channel=True)
    expected = scorer(task, uneven(), posterior=channel).pool(Scoring())
    assert not torch.allclose(pool.scores, expected.scores)  # "one" ignores the posterior
    expected = scorer(task, uneven(), posterior=channel).pool(Scoring(members="many"))
    torch.testing.assert_close(pool.scores, expected.scores)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_other_inputs_meet_the_members_that_scored(size):
    """Inputs of the pool's own items give the pool's predictions, however they are batched."""
    task = Classification(MLP(F, (8,), C, dropout=0.4), C)
    it = scorer(task, posterior=MCDropout(5), make_bench=Workbench)
    pool = it.pool(build("batch-bald"))
    inputs = torch.cat([x for _, x in it.datamodule.bare_batches(pool.index)])
    got = pool.bench.predict_inputs(inputs.split(size), ["probs"])
    torch.testing.assert_close(got.probs, pool.probs)
    assert got.index.tolist() == list(range(len(pool)))
    strangers = pool.bench.predict_inputs([inputs[:3] + 1], ["probs"]).probs
    assert strangers.shape == (3, *pool.probs.shape[1:])
    assert not torch.allclose(strangers, pool.probs[:3])


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, F)]])
def test_no_inputs_to_predict(batches):
    bench = scorer(make_bench=Workbench).pool(build("margin")).bench
    with pytest.raises(ValueError, match="no inputs to predict"):
        bench.predict_inputs(batches, ["probs"])


def test_predictions_come_from_the_members_that_scored():
    task = convolution()
    plan = Plan(("probs",), ("probs",), "many")
    for module in (
        uneven(),
        data(TensorItems(torch.randn(N, 2, 6, 6), Uneven.targets[:N])),
    ):
        pool = scorer(task, module, posterior=MCDropout(3)).pool(plan)
        rows = torch.tensor([3, 1, 0])  # all of one shape
        torch.testing.assert_close(pool.predict(rows, ["probs"]).probs, pool.probs[rows])
        assert pool.predict(rows, ["probs"]).index.tolist() == pool.index[rows].tolist()


def test_labelled_items_of_other_shapes_than_the_pool_are_refused():
    module = uneven(initial=[50, 51], test=list(range(52, 80)) + list(range(40, 50)))
    pool = scorer(convolution(), module, posterior=MCDropout(3)).pool(
        Plan(("probs",), ("probs",), "many")
    )
    with pytest.raises(ValueError, match=r"labelled items differ in shape.*per_channel=True"):
        pool.labelled  # noqa: B018


def test_plain_strategies_see_no_dropout():
    task, module = classifier(dropout=0.9).train(), data()
    plan = Scoring()
    pool = scorer(task, module, posterior=MCDropout(5)).pool(plan)
    assert all(batch.probs.shape[1] == 1 for batch in plan.seen)
    probs = task.eval()(module.items.inputs(module.pool)).softmax(1)
    torch.testing.assert_close(pool.scores, probs.amax(1))


# --- the model, before and after -------------------------------------------------------------


def test_modes_and_gradients_are_put_back():
    task = Classification(
        nn.Sequential(nn.BatchNorm1d(F), nn.Linear(F, C), nn.Dropout()), classes=C
    )
    task.train()
    task.network[0].eval()  # somebody's frozen layer
    before = {name: value.clone() for name, value in task.state_dict().items()}
    modes = [m.training for m in task.modules()]
    for posterior in (None, MCDropout(3)):
        scorer(task, posterior=posterior).pool(build("bald" if posterior else "margin"))
        assert [m.training for m in task.modules()] == modes
        assert torch.is_grad_enabled()
        assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())
    with pytest.raises(ValueError, match="members"):
        scorer(task).pool(build("bald"))
    assert [m.training for m in task.modules()] == modes


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_the_precision_of_the_trainer_is_that_of_scoring(precision):
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=precision,
        logger=False,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task, module = classifier(), data()
    trainer.fit(task, datamodule=module)
    inside = []
    plan = Scoring()
    task.network[1].register_forward_hook(lambda *a: inside.append(a[2].dtype))
    pool = scorer(task, module, trainer=trainer).pool(plan)
    assert inside[0] == (torch.float64 if precision == "64-true" else torch.bfloat16)
    assert pool.scores.dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32
    fresh = classifier()  # as after a resume: built in float32
    fresh.load_state_dict(task.state_dict())
    again = scorer(fresh, module, trainer=trainer).pool(plan)
    torch.testing.assert_close(pool.scores, again.scores)


def test_suggest_leaves_the_model_as_it_was():
    task = classifier(dropout=0.5).train()
    got = suggest(task, data(), "bald", 5, posterior=MCDropout(4))
    assert len(got) == 5
    assert task.training
    assert all(m.training for m in task.modules())


# --- data ------------------------------------------------------------------------------------


def test_the_pool_is_scored_under_the_test_transform():
    x, y = torch.randn(N, F), torch.arange(N) % C
    noisy = TensorItems(x, y, transform=lambda v: v + torch.randn_like(v))
    clean = TensorItems(x, y, transform=lambda v: 2 * v)
    module = data(noisy, pool=clean)
    task = classifier()
    plan = Plan(("probs", "embedding"), ("probs", "embedding"))
    pool = scorer(task, module).pool(plan)
    expected = task.eval()(2 * x[module.pool]).softmax(1)
    torch.testing.assert_close(pool.probs[:, 0], expected)
    torch.testing.assert_close(pool.labelled.probs[:, 0], task(2 * x[module.labelled]).softmax(1))
    torch.testing.assert_close(
        pool.predict(torch.tensor([4, 2]), ["probs"]).probs[:, 0], expected[[4, 2]]
    )


class Bytes(pl.LightningModule):
    """Takes uint8 images, a pair, or a mapping."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(12, C)

    def forward(self, image, other=None):
        if isinstance(image, dict):
            image, other = image["image"], image.get("other")
        assert image.dtype == torch.uint8
        x = image.flatten(1).float() / 255
        return self.net(x if other is None else x + other)


class Mappings(Dataset):
    def __init__(self, images, other):
        self.images, self.other = images, other

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": self.images[i], "other": self.other[i], "y": i % C}


def test_uint8_images_pairs_and_mappings_give_the_same_scores():
    images = torch.randint(0, 256, (N, 3, 2, 2), dtype=torch.uint8)
    zero, y = torch.zeros(N, 12), torch.arange(N) % C
    task = Bytes()
    results = []
    for items, more in (
        (TensorItems(images, y), {}),
        (TensorDataset(images, zero, y), {"label": 2}),
        ([(images[i], zero[i], int(y[i])) for i in range(N)], {"label": -1}),
        (Mappings(images, zero), {"label": "y"}),
    ):
        results.append(scorer(task, data(items, **more)).pool(build("entropy")).scores)
    assert all(torch.allclose(results[0], other) for other in results[1:])


def test_the_context_knows_the_answers_bought_so_far():
    class Asks(Plan):
        def score(self, batch, context):
            self.seen.append(context)
            return batch.probs[:, 0, 0]

    module, plan = data(), Asks()
    module.acquire(module.pool[:4], torch.tensor([2, 1, 0, 2]))
    pool = scorer(module=module, round=3).pool(plan)
    context = plan.seen[0]
    assert (context.round, context.n_labelled, context.n_pool, context.classes) == (3, 10, 30, C)
    assert torch.equal(context.targets, module.labelled_targets())
    theirs = pool.context
    assert torch.equal(theirs.targets, context.targets)
    assert replace(theirs, targets=None) == replace(context, targets=None)


# --- beyond one pass -------------------------------------------------------------------------


class Gauss(Classification):
    """A joint posterior: covariance X X' + 1."""

    def joint(self, x):
        assert not self.training
        assert not torch.is_grad_enabled()
        covariance = x @ x.T + torch.eye(len(x))
        return torch.distributions.MultivariateNormal(x[:, 0], covariance)


def test_the_joint_posterior_of_some_rows():
    module = data(eval_batch_size=2)
    pool = scorer(Gauss(MLP(F, (4,), C), classes=C), module).pool(build("margin"))
    rows = torch.tensor([5, 0, 9, 3, 4])
    x = module.items.inputs(module.pool[rows])
    torch.testing.assert_close(pool.joint(rows).mean, x[:, 0])
    torch.testing.assert_close(pool.joint(rows).covariance_matrix, x @ x.T + torch.eye(5))
    with pytest.raises(ValueError, match="5 rows needs a 5 x 5 covariance, the limit is 4"):
        pool.joint(rows, limit=4)
    with pytest.raises(ValueError, match="empty"):
        pool.joint(rows[:0])


def test_a_task_without_a_joint_posterior_says_so():
    with pytest.raises(LookupError, match="Classification has no joint"):
        scorer().pool(build("margin")).joint(torch.tensor([0]))


def test_no_rows_to_predict():
    with pytest.raises(ValueError, match="empty"):
        scorer().pool(build("margin")).predict(torch.tensor([], dtype=torch.int64), ["probs"])


def bench_of(module=None, **kwargs):
    """What the strategies of a run without a recipe are given."""
    return scorer(module=module, make_bench=Workbench, **kwargs).pool(build("margin")).bench


def test_the_bench_trains_and_sees_no_labels_of_the_pool():
    module = data(batch_size=4)
    bench = bench_of(module)
    labelled = torch.cat([y for _, y in bench.loader()])
    assert sorted(labelled.tolist()) == sorted(module.labelled_targets().tolist())
    bare = list(bench.inputs(module.pool))
    assert all(isinstance(x, torch.Tensor) for x in bare)
    assert torch.equal(torch.cat(bare), module.items.inputs(module.pool))
    with pytest.raises(ValueError, match="label"):
        bench.loader(module.pool[:2])
    with pytest.raises(ValueError, match="label"):
        bench.loss(on=module.pool[:2])


def test_fits_of_the_bench_are_seeded():
    def weights(noise):
        torch.manual_seed(0)
        module = classifier(dropout=0.5)
        bench = bench_of(data(batch_size=4), task=module, seed=5, round=1)
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        fitted = bench.fit(module, bench.loader(), max_epochs=2)
        assert torch.equal(before, torch.get_rng_state())
        assert fitted is module
        return torch.nn.utils.parameters_to_vector(module.parameters())

    assert torch.equal(weights(1), weights(2))


def test_each_fit_of_a_bench_has_a_seed_of_its_own():
    drawn = []

    class Noted(pl.LightningModule):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            drawn.append(torch.rand(()).item())

        def configure_optimizers(self):
            return None

    bench = bench_of()
    for _ in range(2):
        bench.fit(Noted(), [torch.zeros(1)], max_epochs=1)
    assert drawn[0] != drawn[1]


def test_a_scoring_function_is_a_strategy():
    strategy = ScoreStrategy(lambda probs: probs[..., 0])
    pool = scorer().pool(strategy)
    best = strategy.choose(pool, 1, torch.Generator()).index
    assert best == pool.index[pool.scores.argmax()]
