"""Density of inputs: what is unlike the labelled items comes first."""

import pytest
import torch
from helpers import small

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.workbench import Workbench
from lightning_al.networks import MLP
from lightning_al.posteriors import MCDropout
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import InputDensity, build
from lightning_al.tasks import Regression
from lightning_al.testing import check_strategy

QUICK = {"transforms": 1, "width": 16, "epochs": 15}


def pool_of(inputs, initial, strategy):
    module = ActiveDataModule(
        TensorItems(inputs, torch.zeros(len(inputs))),
        TensorItems(inputs[:3], torch.zeros(3)),
        initial=initial,
        eval_batch_size=7,
    )
    module.start(0)
    task = Regression(MLP(inputs[0].numel(), (4,), 1))
    return Scorer(
        task, module, task.adapter, make_bench=lambda bound: Workbench(bound, None, False)
    ).pool(strategy)


def cloud():
    """40 labelled items and 40 candidates of one cloud, and 5 candidates far from it."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(85, 3, generator=draw)
    inputs[80:] += 6.0
    return inputs * torch.tensor([1.0, 100.0, 0.01]) + 50.0


def test_items_far_from_the_labelled_ones_come_first():
    strategy = InputDensity(**QUICK)
    pool = pool_of(cloud(), list(range(40)), strategy)
    chosen = strategy.choose(pool, 5, torch.Generator().manual_seed(0))
    assert set(chosen.index.tolist()) == set(range(80, 85))
    assert chosen.scores.tolist() == sorted(chosen.scores.tolist(), reverse=True)


def test_the_likelihood_of_a_gaussian_is_learnt():
    """The score of new items is near their negative log-density under the truth."""
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(500, 2, generator=draw)
    strategy = InputDensity(transforms=1, width=32, epochs=15)
    pool = pool_of(inputs, list(range(400)), strategy)
    found = strategy.late_scores(pool)
    normal = torch.distributions.Normal(0.0, 1.0)
    exact = -normal.log_prob(inputs[pool.index]).sum(1).double()
    assert float((found - exact).abs().median()) < 0.3
    assert float(torch.corrcoef(torch.stack([found, exact]))[0, 1]) > 0.9


def test_scores_are_the_same_whenever_they_are_asked_for():
    strategy = InputDensity(**QUICK)
    pool = pool_of(cloud(), list(range(40)), strategy)
    torch.manual_seed(1)
    one = strategy.late_scores(pool)
    torch.manual_seed(2)
    assert torch.equal(one, strategy.late_scores(pool))
    part = pool.subset(torch.tensor([3, 1, 30]))
    torch.testing.assert_close(strategy.late_scores(part), one[[3, 1, 30]])


def test_the_unit_of_an_input_does_not_matter():
    strategy = InputDensity(**QUICK)
    one = strategy.late_scores(pool_of(cloud(), list(range(40)), strategy))
    scaled = cloud() * torch.tensor([2.0**20, 1.0, 2.0**-20])
    other = strategy.late_scores(pool_of(scaled, list(range(40)), strategy))
    torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_without_labelled_items_candidates_are_drawn():
    strategy = InputDensity(**QUICK)
    pool = pool_of(cloud(), 0, strategy)
    drawn = {
        tuple(sorted(strategy.choose(pool, 5, torch.Generator().manual_seed(s)).index.tolist()))
        for s in range(4)
    }
    assert len(drawn) == 4


def test_constant_inputs_and_a_few_labelled_items():
    inputs = cloud()
    inputs[:, 1] = 3.0
    strategy = InputDensity(**QUICK)
    assert bool(strategy.late_scores(pool_of(inputs, list(range(3)), strategy)).isfinite().all())


def test_items_of_too_many_numbers_are_refused():
    strategy = InputDensity(**QUICK)
    pool = pool_of(torch.randn(10, 40, 40), list(range(4)), strategy)
    with pytest.raises(ValueError, match=r"at most 1024 numbers an item, got 1600.*k-center"):
        strategy.choose(pool, 1, torch.Generator())


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"width": 0}, {"lr": 0.0}, {"patience": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"of at least 1, and lr above 0, got InputDensity"):
        InputDensity(**wrong)


def test_compositions_take_it_as_a_score():
    part = {"name": "input-density", **QUICK, "epochs": 1, "width": 8}
    check_strategy({"name": "softmax", "score": part})


def test_a_run_may_ask_for_them_beside_another_score(tmp_path):
    strategy = {"name": "weighted-sum", "parts": ["variance", {"name": "input-density", **QUICK}]}
    module = small.datamodule(small.line(), small.line(20))
    module.classes = None
    history = small.learner(
        tmp_path,
        task=small.regression_task,
        datamodule=module,
        strategy=strategy,
        posterior=MCDropout(3),
    ).run()
    assert [len(r.acquired) for r in history.rounds[:2]] == [5, 5]
    assert build("input-density") == InputDensity()
