"""Strategies of predictive densities: every variant conforms, agrees, and meets its task."""

import pytest
import torch
from helpers import small

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.networks import MLP
from lightning_al.posteriors import MCDropout
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import build, kind_of, names, power, softmax
from lightning_al.strategies.uncertainty import densities
from lightning_al.tasks import DensityRegression
from lightning_al.testing import World, check_strategy

OTHERS = {  # than by default
    "balsa-kl-pairs": ("samples", "gaussian", "published"),
    "balsa-kl-all-pairs": ("samples", "gaussian"),
    "balsa-kl-grid": ("published", "published-normalised"),
    "balsa-emd": ("all-pairs", "gaussian", "published"),
    "balsa-kl-anomaly": ("samples", "published"),
    "balsa-kl-diff": ("published",),
    "balsa-mi": (),
    "balsa-bald-entropy": ("published", "published-geometric"),
    "balsa-bald-std": ("published",),
    "balsa-bald-lc": ("published",),
    "balsa-nflows-out": ("published",),
    "density-std": ("published",),
    "density-least-confidence": ("samples",),
    "density-entropy": ("samples", "gaussian", "published"),
    "density-spread": ("samples",),
    "bald-naive": ("median", "published"),
}
VARIANTS = [(name, variant) for name, variants in OTHERS.items() for variant in variants]
STOCHASTIC = [
    power("balsa-kl-grid"),
    softmax("density-entropy"),
    {"name": "filter-then-choose", "filter": "balsa-kl-grid", "then": "k-center", "keep": 2.0},
    {"name": "weighted-sum", "parts": ["balsa-emd", "balsa-kl-pairs"]},
]


def test_all_variants_are_tried():
    assert set(OTHERS) == {n for n in names() if kind_of(n) == "density"} | {"bald-naive"}


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_variant_conforms(name, variant):
    """But that published scores of narrow densities are infinite, which the kit refuses."""
    strategy = build(name, variant=variant)
    pool = World.make("density", samples=4).pool(strategy)
    if bool(pool.scores.isfinite().all()):
        check_strategy(strategy)
    else:
        assert variant.startswith("published")
    for seed in range(3):
        chosen = strategy.choose(pool, 6, torch.Generator().manual_seed(seed)).index.tolist()
        assert len(set(chosen)) == 6
        assert set(chosen) <= set(pool.index.tolist())


@pytest.mark.parametrize("spec", STOCHASTIC, ids=str)
def test_batches_on_top_conform(spec):
    check_strategy(spec)


def test_an_unknown_variant_is_refused_with_those_that_there_are():
    for name, variants in OTHERS.items():
        if variants:
            with pytest.raises(ValueError, match=f"{variants[-1]}, got 'gausian'"):
                build(name, variant="gausian")


def test_every_score_that_the_library_calls_its_own_is_used_by_a_strategy():
    """Published ones too; moments are what a user makes of a grid."""
    made = {build(name).function for name in OTHERS}
    made |= {build(name, variant=variant).function for name, variant in VARIANTS}
    for module in (
        densities.density,
        densities.density_samples,
        densities.density_gaussian,
        densities.density_published,
    ):
        named = {getattr(module, name) for name in module.__all__} - {
            densities.density.moments,
            densities.density_samples.sample_moments,
        }
        assert named <= made, sorted(f.__name__ for f in named - made)


# --- on a task ---------------------------------------------------------------------------------


def scored(strategy, outputs=1, head="gaussian", dropout=0.3, members=25, seed=0, **task):
    """Scores of 40 items under an untrained task."""
    torch.manual_seed(seed)
    inputs = torch.randn(60, 4)
    targets = torch.randn(60, outputs)
    module = ActiveDataModule(
        TensorItems(inputs, targets), TensorItems(inputs[:5], targets[:5]), initial=20
    )
    module.start(0)
    read = DensityRegression.network_outputs(outputs, {"head": head})
    network = MLP(4, (32,), read, dropout=dropout)
    made = DensityRegression(network, outputs=outputs, head=head, **task)
    posterior = MCDropout(members) if strategy.members == "many" else None
    return Scorer(made, module, made.adapter, posterior=posterior).pool(strategy).scores


CLOSED = {"balsa-kl-pairs": "grid", "balsa-kl-all-pairs": "grid"}


@pytest.mark.parametrize("name", CLOSED)
def test_variants_are_one_number_for_gaussians(name):
    grid, closed = (scored(build(name, variant=v)) for v in (CLOSED[name], "gaussian"))
    torch.testing.assert_close(grid, closed.float(), rtol=0.02, atol=1e-4)
    near = scored(build(name, variant="samples"), samples=512)
    torch.testing.assert_close(near, closed.float(), rtol=0.1, atol=0.02)


def test_entropy_of_one_network_is_one_number_in_every_variant():
    closed = scored(build("density-entropy", variant="gaussian")).float()
    torch.testing.assert_close(scored(build("density-entropy")), closed, rtol=0, atol=1e-3)
    near = scored(build("density-entropy", variant="samples"), samples=512)
    torch.testing.assert_close(near, closed, rtol=0, atol=0.01)


@pytest.mark.parametrize("head", ["mixture", "flow"])
def test_information_on_the_grid_is_that_of_samples(head):
    grid = scored(build("balsa-bald-entropy"), head=head, members=6)
    drawn = scored(build("balsa-mi"), head=head, members=6, samples=512)
    torch.testing.assert_close(drawn, grid, rtol=0.1, atol=5e-3)
    torch.testing.assert_close(scored(build("balsa-kl-grid"), head=head, members=6), 6 * grid)


def test_information_on_the_published_window_is_no_more_than_all_of_it():
    """A window that covers everything gives what the adaptive nodes give."""
    adaptive = scored(build("balsa-bald-entropy"))
    wide = scored(build("balsa-bald-entropy"), window=(-8.0, 8.0), nodes=800)
    torch.testing.assert_close(wide, adaptive, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
def test_several_outputs_are_served_or_refused_by_name(name):
    strategy = build(name)
    if {"log_density", "quantiles"} & set(strategy.needs):
        with pytest.raises(LookupError, match=r"density of one output.*cross_log_density"):
            scored(strategy, outputs=2)
        return
    assert bool(scored(strategy, outputs=2).isfinite().all())


@pytest.mark.parametrize("name", [n for n, v in OTHERS.items() if "samples" in v])
def test_samples_serve_several_outputs(name):
    found = scored(build(name, variant="samples"), outputs=3, members=4)
    assert bool(found.isfinite().all())


def test_dual_agents_ask_with_more_dropout_than_was_trained_with():
    strategy = build("balsa-kl-grid")
    torch.manual_seed(0)
    network = MLP(4, (32,), 2, dropout=0.01)
    made = DensityRegression(network, head="gaussian")
    module = small.datamodule(small.line(), small.line(10))
    module.start(0)
    scores = [
        Scorer(made, module, made.adapter, posterior=MCDropout(25, least=least)).pool(strategy)
        for least in (0.0, 0.05)
    ]
    assert float(scores[1].scores.mean()) > 2 * float(scores[0].scores.mean())


def test_a_plain_regressor_is_told_what_it_lacks():
    module = small.datamodule(small.line(), small.line(10))
    module.start(0)
    made = small.regression_task()
    with pytest.raises(LookupError, match=r"whole densities come from DensityRegression"):
        Scorer(made, module, made.adapter, posterior=MCDropout(3)).pool(build("balsa-kl-grid"))


def test_closed_forms_serve_an_ordinary_gaussian_regression():
    module = small.datamodule(small.line(), small.line(10))
    module.start(0)
    made = small.regression_task()
    for name in ("balsa-kl-all-pairs", "balsa-emd"):
        strategy = build(name, variant="gaussian")
        pool = Scorer(made, module, made.adapter, posterior=MCDropout(5)).pool(strategy)
        assert float(pool.scores.min()) >= 0
        assert float(pool.scores.max()) > 0


def test_the_world_of_densities_is_one():
    world = World.make("density", samples=3)
    seen = world.predictions
    mass = (seen.log_density.double().exp() * seen.weights.double()[:, None]).sum(-1)
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=0.1)
    assert bool((seen.quantiles.diff(dim=-1) > 0).all())
