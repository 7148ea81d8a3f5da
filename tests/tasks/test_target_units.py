"""Targets in other units, y -> a y + b: what a strategy chooses is the same, its score follows.

Targets lie on a grid of 2^-10, and a and b are powers of two, so that the standardised targets are
the same numbers, bit for bit: what differs is what the units cost. An offset of 2^30 leaves a
deviation of 1 nine digits.
"""

import functools
import math

import pytest
import pytorch_lightning as pl
import torch
from helpers import small

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.fits.workbench import Workbench
from lightning_al.networks import MLP, Ensemble
from lightning_al.posteriors import MCDropout
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import kind_of, names, resolve
from lightning_al.tasks import (
    Adapter,
    DensityRegression,
    GPRegression,
    GPyTorchRegression,
    MarginalGPRegression,
    Regression,
    SklearnRegression,
    SparseGPRegression,
)
from lightning_al.tasks.standardisation import standardised

TASKS = {
    "exact": GPRegression,
    "evidence": functools.partial(GPRegression, hyperparameters="evidence", kernel="matern32"),
    "predictive": functools.partial(GPRegression, variance="predictive"),
    "sparse": functools.partial(SparseGPRegression, points=6),
    "marginal": functools.partial(MarginalGPRegression, samples=4, warm_up=5, thin=1),
    "gpytorch": functools.partial(GPyTorchRegression, kernel="matern52"),
    "gpytorch, sparse": functools.partial(GPyTorchRegression, points=6),
}
STANDARD = functools.partial(SklearnRegression, standardize_targets=True)
SKLEARN = {
    "forest": functools.partial(STANDARD, params={"n_estimators": 5}),
    "extra trees": functools.partial(
        STANDARD, "ExtraTreesRegressor", params={"n_estimators": 4, "max_depth": 4}
    ),
    "bagged": functools.partial(STANDARD, "BaggingRegressor"),
}
NETWORKS = {
    "dropout": lambda outputs: MLP(2, (32,), outputs, dropout=0.3),
    "ensemble": lambda outputs: Ensemble(MLP(2, (16,), outputs), members=3),
    "gaussian": lambda outputs: MLP(2, (32,), 2 * outputs, dropout=0.3),
}
DENSITIES = {
    "mixture": functools.partial(
        DensityRegression, head={"name": "mixture", "components": 2}, nodes=100
    ),
    "flow": functools.partial(DensityRegression, head="flow", nodes=50),
}
UNITS = [(1.0, 2.0**20), (1.0, -(2.0**24)), (1.0, 2.0**30), (2.0**-30, 0.0), (2.0**30, 0.0)]
UNITS += [(2.0**-30, 2.0**-10), (2.0**30, 2.0**54)]
LABELLED, POOL, K = 12, 40, 3
MEMBERS = {"form": "members"}


def same(score, a, b):
    return score


def squared(score, a, b):
    return a * a * score


def shifted(score, a, b):
    return a * score + b


def in_nats(score, a, b):
    return score + math.log(a)


def scaled(score, a, b):
    return a * score


LAWS = {  # of every strategy for numbers; None: it gives no score, or one without a law
    "variance": squared,
    "bald-naive": scaled,
    "greedy": shifted,
    "ucb": shifted,
    "expected-improvement": in_nats,
    "probability-of-improvement": same,
    "regression-bald": None,  # its noise is 1 in squared target units: the order alone is the same
    "regression-epig": same,
    "regression-batch-epig": None,
    "thompson": shifted,
    "thompson-per-item": shifted,
    "epsilon-greedy": shifted,
    "safe-variance": in_nats,
    "safe-random": same,
    "min-unsafe-entropy": in_nats,
    "policy": None,
    "sobol": None,
    "regression-auto-al": None,
}
ARGUMENTS = {"policy": {"standardise": True}}
OF_DENSITIES = {
    **{name: same for name in names() if name.startswith("balsa-")},
    **dict.fromkeys(("balsa-emd", "balsa-bald-std", "density-std"), scaled),
    **dict.fromkeys(("density-entropy", "density-least-confidence"), in_nats),
    "density-spread": same,
}
CASES = {name: ({"name": name, **ARGUMENTS.get(name, {})}, law) for name, law in LAWS.items()}
DENSITY_CASES = {name: ({"name": name}, law) for name, law in OF_DENSITIES.items()}
DENSITY_CASES |= {
    f"{name}, {variant}": ({"name": name, "variant": variant}, OF_DENSITIES[name])
    for name, variant in (
        ("balsa-kl-pairs", "samples"),
        ("balsa-kl-all-pairs", "samples"),
        ("balsa-kl-anomaly", "samples"),
        ("balsa-emd", "all-pairs"),
        ("density-entropy", "samples"),
    )
}
CASES |= {
    "lowest ucb": ({"name": "ucb", "kappa": 2.0, "maximize": False}, None),
    "ei of members": ({"name": "expected-improvement", **MEMBERS}, lambda s, a, b: a * s),
    "pi of members": ({"name": "probability-of-improvement", **MEMBERS}, same),
    "variance with noise": ({"name": "variance", "aleatoric": True}, squared),
    "bald with noise": ({"name": "regression-bald", "aleatoric": True}, same),
    "epig with noise": ({"name": "regression-epig", "aleatoric": True}, same),
    "power of variance": ({"name": "power", "score": "variance"}, squared),
    "ranks of ucb": ({"name": "soft-rank", "score": "ucb"}, shifted),
    "weighted": ({"name": "weighted-sum", "parts": ["ucb", "variance"]}, same),
    "weighted, raw": (
        {"name": "weighted-sum", "parts": ["ucb", "greedy"], "normalise": "none"},
        lambda s, a, b: a * s + 2 * b,
    ),
}


@functools.cache
def data():
    """Inputs [n, 2] in [0, 1] and targets [n, 2] (y, z) on their grids; float64."""
    draw = torch.Generator().manual_seed(4)
    x = torch.rand(LABELLED + POOL, 2, generator=draw, dtype=torch.float64)
    y = torch.sin(6 * x[:, 0]) + x[:, 1] + 0.1 * torch.randn(len(x), generator=draw)
    z = 0.5 + torch.cos(3 * x[:, 0]) * x[:, 1]
    targets = (torch.stack([y, z], 1) * 1024).round() / 1024
    return (x * 1024).round() / 1024, targets


def datamodule(x, safe, a, b):
    """y in units of its own, beside z where that is measured."""
    _, targets = data()
    targets = torch.stack([a * targets[:, 0] + b, targets[:, 1]], 1)
    goal = targets if safe else targets[:, 0]
    test = TensorItems(x[-20:], goal[-20:])
    module = ActiveDataModule(TensorItems(x, goal), test, initial=list(range(LABELLED)))
    module.start(0)
    return module


@functools.cache
def fitted(task, safe, a=1.0, b=0.0):
    """A task that has learnt in these units, its data, and its posterior."""
    outputs = 2 if safe else 1
    torch.manual_seed(0)
    if task in TASKS or task in SKLEARN:
        module = datamodule(data()[0], safe, a, b)
        made = (TASKS | SKLEARN)[task](outputs=outputs)
        with torch.no_grad():
            made.learn(module.items.inputs(module.labelled), module.labelled_targets())
        return made, module, None
    module = datamodule(data()[0].float(), safe, a, b)
    gaussian = {"likelihood": "gaussian"} if task == "gaussian" else {}
    if task in DENSITIES:
        made = DENSITIES[task]
        read = DensityRegression.network_outputs(1, made.keywords)
        made = made(MLP(2, (16,), read, dropout=0.3), lr=0.02)
        trainer(5).fit(made, datamodule=module)
        return made, module, MCDropout(5)
    made = Regression(NETWORKS[task](outputs), outputs=outputs, lr=0.02, **gaussian)
    trainer(5).fit(made, datamodule=module)
    return made, module, None if task == "ensemble" else MCDropout(5)


def trainer(epochs=1):
    quiet = dict.fromkeys(("checkpointing", "progress_bar", "model_summary"), False)
    quiet = {f"enable_{name}": value for name, value in quiet.items()}
    return pl.Trainer(**small.TRAINER | quiet | {"max_epochs": epochs, "num_sanity_val_steps": 0})


def chosen(task, spec, a=1.0, b=0.0):
    strategy = resolve(spec)
    made, module, posterior = fitted(task, kind_of(spec["name"]) == "safe", a, b)
    scorer = Scorer(
        made,
        module,
        Adapter.for_task(made),
        posterior=posterior,
        remaining=5,
        make_bench=lambda bound: Workbench(bound, None, False),
    )
    pool = scorer.pool(strategy)
    k = 1 if spec["name"] == "policy" else K
    return strategy.choose(pool, k, torch.Generator().manual_seed(3))


def test_every_strategy_for_numbers_has_a_law():
    assert set(LAWS) == {name for name in names() if kind_of(name) in ("regression", "safe")}
    assert set(OF_DENSITIES) == {name for name in names() if kind_of(name) == "density"}


SIMPLE = ["variance", "greedy", "ucb", "expected-improvement", "probability-of-improvement"]
SIMPLE += ["regression-epig", "regression-batch-epig", "thompson", "epsilon-greedy", "weighted"]
PAIRS = [(task, case) for task in (*TASKS, *NETWORKS) for case in CASES]
PAIRS += [(task, case) for task in SKLEARN for case in SIMPLE]
PAIRS += [("mixture", case) for case in DENSITY_CASES]
OF_FLOWS = ("balsa-kl-grid", "balsa-emd", "balsa-mi", "balsa-bald-std", "density-least-confidence")
PAIRS += [("flow", case) for case in OF_FLOWS]


@pytest.mark.parametrize(("task", "case"), PAIRS)
def test_units_do_not_decide(task, case):
    spec, law = (CASES | DENSITY_CASES)[case]
    usual = chosen(task, spec)
    for a, b in UNITS[2::2] if task in DENSITIES else UNITS:
        found = chosen(task, spec, a, b)
        assert found.index.tolist() == usual.index.tolist(), (a, b)
        proposed = usual.notes.get("proposed", 0)  # by a policy, before the nearest is taken
        assert found.notes.get("proposed", 0) == pytest.approx(proposed, abs=1e-5)
        if law is not None:
            wanted = law(usual.scores.double(), a, b)
            unit = a if law is shifted else float(wanted.abs().max())
            slack = 1e-4 * unit
            if task in DENSITIES and law is same:  # a log-density of another unit has fewer digits
                slack += 2e-5
            torch.testing.assert_close(
                found.scores.double(), wanted, rtol=1e-4, atol=slack, msg=f"{a}, {b}"
            )


@pytest.mark.parametrize("task", TASKS)
def test_what_a_task_says_is_in_the_unit_of_the_target(task):
    x, _ = data()
    points = x[LABELLED:]
    one = fitted(task, False)[0]
    mean, variance = one.moments(points)
    joint = one.joint(points)
    for a, b in UNITS:
        other = fitted(task, False, a, b)[0]
        moved, wider = other.moments(points)
        torch.testing.assert_close((moved - b) / a, mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(wider / a**2, variance, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(
            other.noise_variance() / a**2, one.noise_variance(), rtol=1e-9, atol=0.0
        )
        torch.testing.assert_close(
            other.joint(points).scale_tril / a, joint.scale_tril, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("task", [*TASKS, *NETWORKS, *SKLEARN])
def test_metrics_are_in_the_unit_of_the_target(task):
    def tested(*units):
        made, module, _ = fitted(task, False, *units)
        return trainer().test(made, datamodule=module, verbose=False)[0]

    usual = tested()
    for a, b in UNITS:
        found = tested(a, b)
        assert found["test/rmse"] / a == pytest.approx(usual["test/rmse"], rel=1e-4)
        assert found["test/mae"] / a == pytest.approx(usual["test/mae"], rel=1e-4)
        assert found["test/nll"] == pytest.approx(usual["test/nll"] + math.log(a), abs=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.1, -1e6 / 3, 1e9 + 0.1, 1e-9])
@pytest.mark.parametrize("n", [1, 3, 7, 50])
def test_a_constant_is_one_wherever_it_lies(level, n):
    values = torch.full((n, 1), level, dtype=torch.float64)
    mean, deviation, standard = standardised(values)
    assert mean.item() == level
    assert deviation.item() == 1
    assert torch.equal(standard, torch.zeros_like(values))
    noisy = values * (1 + 2e-16 * torch.arange(n)[:, None])  # differs by rounding alone
    assert standardised(noisy)[1].item() == 1


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), *UNITS])
def test_standardised_values_have_mean_0_and_deviation_1(a, b):
    values = data()[1]
    mean, deviation, standard = standardised(a * values + b)
    torch.testing.assert_close(standard.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(2).double())
    assert torch.equal(standard, standardised(values)[2])
    torch.testing.assert_close(mean + deviation * standard, a * values + b, rtol=1e-15, atol=0)


def test_nothing_at_all_is_left_alone():
    mean, deviation, standard = standardised(torch.zeros(0, 2))
    assert mean.tolist() == [0, 0]
    assert deviation.tolist() == [1, 1]
    assert standard.shape == (0, 2)
