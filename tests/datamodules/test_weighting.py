"""A part of the labelled items, weighed: whole weights are repeated rows, others are odds."""

import pytest
import torch
from helpers import small

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.datamodules.views import drawn_rows
from lightning_al.datamodules.weighting import repeated, require_labelled, share_of
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.workbench import Workbench
from lightning_al.networks import MLP
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import build
from lightning_al.tasks import Adapter, Classification, Regression


def data(**more):
    module = small.datamodule(**({"initial": 12} | more))
    module.start(0)
    return module


# --- weights as repetition -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_whole_weights_repeat_each_item_in_its_place(dtype):
    index, weights = torch.tensor([5, 7, 2, 9]), torch.tensor([2, 0, 1, 3])
    rows, odds = repeated(index, weights.to(dtype))
    assert rows.tolist() == [i for i, w in zip(index, weights, strict=True) for _ in range(w)]
    assert odds is None


def test_other_weights_are_kept_as_odds():
    index, weights = torch.tensor([5, 7, 2]), torch.tensor([0.5, 0.0, 2.0])
    rows, odds = repeated(index, weights)
    assert torch.equal(rows, index)
    assert odds.dtype == torch.float64
    assert odds.tolist() == [0.5, 0.0, 2.0]


def test_without_weights_each_item_counts_once():
    index = torch.tensor([5, 7, 2])
    assert repeated(index, None) == (index, None)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0], r"one an item, \[2\], got \[1\]"),
        ([1.0, -1.0], "not negative"),
        ([1.0, float("inf")], "finite"),
        ([1.0, float("nan")], "finite"),
        ([0, 0], "all weights are 0"),
    ],
)
def test_weights_that_are_none_are_refused(weights, said):
    with pytest.raises(ValueError, match=said):
        repeated(torch.tensor([3, 4]), torch.tensor(weights))


def test_draws_by_odds_have_their_shares_and_never_a_zero():
    odds = torch.tensor([0.0, 0.3, 0.0, 2.0, 0.7, 0.0])
    count = torch.zeros(6)
    drawn = torch.Generator().manual_seed(0)
    for _ in range(2000):
        count += drawn_rows(odds, drawn).bincount(minlength=6)
    total, share = count.sum(), odds / odds.sum()
    assert total == 12_000
    assert bool((count[odds == 0] == 0).all())
    error = (share * (1 - share) / total).sqrt()
    assert bool(((count / total - share).abs() <= 4 * error).all())


# --- shares of a data module ---------------------------------------------------------------------


def test_a_share_of_nothing_said_is_the_labelled_set_and_the_pool():
    module = data()
    share = share_of(module, None, None, None, None)
    assert torch.equal(share.labelled, module.labelled)
    assert torch.equal(share.pool, module.pool)
    assert share.weights is None


def test_a_share_of_some_items_leaves_the_pool_alone():
    module = data()
    some = module.labelled[[4, 1, 1]]
    share = share_of(module, some, None, None, None)
    assert torch.equal(share.labelled, some)
    assert torch.equal(share.pool, module.pool)
    other = share_of(module, some, None, None, module.pool[:3])
    assert torch.equal(other.pool, module.pool[:3])


def test_labels_of_the_pool_are_out_of_reach():
    module = data()
    with pytest.raises(ValueError, match=f"first: item {int(module.pool[2])}; labels of the pool"):
        share_of(module, module.pool[2:4], None, None, None)
    with pytest.raises(ValueError, match="1 of 2 items are not labelled"):
        require_labelled(module, torch.cat([module.labelled[:1], module.pool[:1]]))


def test_answers_of_the_pool_stand_as_they_would_were_they_labelled():
    module, other = data(), data()
    answers = module.pool[[9, 0, 4]]
    share = share_of(module, None, None, answers, None)
    other.acquire(answers)
    assert torch.equal(share.labelled, other.labelled)
    assert torch.equal(share.pool, other.pool)
    odds = torch.rand(12, generator=torch.Generator().manual_seed(0)) + 0.1
    weighed = share_of(module, None, odds, answers, None)
    by_item = dict(zip(weighed.labelled.tolist(), weighed.weights.tolist(), strict=True))
    for item, weight in zip(module.labelled.tolist(), odds.tolist(), strict=True):
        assert by_item[item] == pytest.approx(weight)
    assert all(by_item[item] == 1 for item in answers.tolist())


def test_answers_that_nobody_has_are_refused():
    bare = ActiveDataModule(
        TensorItems(torch.randn(20, 4)), test=small.blobs(6), initial=0, label=None
    )
    bare.start(0)
    with pytest.raises(ValueError, match="label"):
        share_of(bare, None, None, bare.pool[:2], None)


def test_a_view_weighs_and_the_data_do_not_change():
    module = data()
    before = module.fingerprint(), module.labelled.clone()
    weights = torch.tensor([3, 0, 1] + [1] * 9)
    view = module.restricted(None, weights=weights)
    assert view.labelled.tolist() == module.labelled.repeat_interleave(weights).tolist()
    assert torch.equal(view.labelled_targets(), module.labels(view.labelled))
    assert (module.fingerprint(), module.shares) == (before[0], None)
    assert torch.equal(module.labelled, before[1])
    odds = module.restricted(None, weights=weights + 0.5).shares
    assert odds.tolist() == (weights + 0.5).tolist()


@pytest.mark.parametrize("weights", [None, [2.0, 0, 1] * 4, [0.5, 0.0, 2.5] * 4])
def test_an_epoch_has_as_many_rows_as_the_weights_say(weights):
    module = data(batch_size=4)
    weights = None if weights is None else torch.tensor(weights)
    whole = weights is not None and bool((weights == weights.round()).all())
    rows = int(weights.sum()) if whole else 12
    view = module.restricted(None, weights=weights)
    assert sum(len(y) for _, y in view.train_dataloader()) == rows
    assert sum(len(y) for _, y in module.labelled_loader(None, weights)) == rows


# --- in fits -------------------------------------------------------------------------------------


def bench_of(make, train, **more):
    module = ActiveDataModule(train, test=small.blobs(6), **({"initial": 12} | more))
    module.classes = None
    module.start(0)
    recipe = Recipe(make, small.TRAINER | {"max_epochs": 6})
    task = recipe.build_task(0, 0, None)
    made = lambda bound: Workbench(bound, recipe)  # noqa: E731
    scorer = Scorer(task, module, Adapter.for_task(task), make_bench=made)
    return scorer.pool(build("random")).bench


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def classifier():
    return Classification(MLP(4, [6], 3), 3, lr=0.03)


def balanced():
    return Classification(MLP(4, [6], 3), 3, lr=0.03, class_weights="balanced")


def regression():
    return Regression(MLP(4, [6], 1), lr=0.03)


@pytest.mark.parametrize("make", [classifier, balanced, regression])
@pytest.mark.parametrize("size", [4, 50], ids=["batches", "whole"])
def test_a_refit_with_whole_weights_is_one_with_repeated_rows(make, size):
    """Standardisation, balanced weights and steps an epoch all see the repetitions."""
    weights = torch.tensor([3, 0, 1, 2, 0, 0, 1, 1, 4, 0, 1, 2])
    fits = []
    for repeats in (False, True):  # two benches: each counts its fits, which key their draws
        train = small.line() if make is regression else small.blobs()
        bench = bench_of(make, train, batch_size=size)
        index = bench.labelled
        given = (index.repeat_interleave(weights), None) if repeats else (index, weights)
        fits.append(bench.refit(*given))
    torch.testing.assert_close(flat(fits[0]), flat(fits[1]))
    if make is not classifier:
        name = "class_weights" if make is balanced else "target_mean"
        torch.testing.assert_close(getattr(fits[0], name), getattr(fits[1], name))
        plain = bench.refit()
        assert not torch.allclose(getattr(plain, name), getattr(fits[0], name))


def test_a_weight_of_zero_leaves_the_item_out():
    bench = bench_of(classifier, small.blobs())
    other = bench_of(classifier, small.blobs())
    weights = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0])
    a = bench.refit(bench.labelled, weights)
    b = other.refit(other.labelled[weights > 0])
    torch.testing.assert_close(flat(a), flat(b))


def test_equal_odds_are_a_bootstrap_of_the_same_law():
    """Halves are no whole numbers: an epoch draws with replacement, M rows of M."""
    bench = bench_of(classifier, small.blobs(), batch_size=50)
    loader = bench.loader(bench.labelled, torch.full((12,), 0.5))
    missed = 0
    for epoch in range(300):
        loader.sampler.set_epoch(epoch)
        (batch,) = list(loader)
        assert len(batch[1]) == 12
        missed += 12 - len(batch[0].unique(dim=0))
    wanted = 12 * (1 - 1 / 12) ** 12  # items that a bootstrap leaves out
    assert abs(missed / 300 - wanted) < 0.4
