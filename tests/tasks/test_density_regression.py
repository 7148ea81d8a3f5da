"""Density regression: likelihoods, units, members, metrics, and what cannot be fitted."""

import functools
import math

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from torch.distributions import Normal
from torchmetrics.functional import r2_score

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.densities import GaussianDensity, MixtureDensity
from lightning_al.networks import MLP, DensityEncoder, Ensemble, build
from lightning_al.posteriors import Deterministic, LastLayerLaplace, MCDropout
from lightning_al.scoring.scorer import Scorer
from lightning_al.strategies import ScoreStrategy, resolve
from lightning_al.tasks import Adapter, DensityRegression
from lightning_al.tasks.density_heads import HEADS, FlowHead, GaussianHead, MixtureHead
from lightning_al.tasks.density_metrics import DENSITY

HEAD = pytest.mark.parametrize("head", HEADS.names())
GRID = ("log_density", "nodes", "weights")


def task(head="gaussian", d=1, dropout=0.2, members=None, seed=0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        needed = DensityRegression.network_outputs(d, {"head": head})
        network = MLP(4, (16,), needed, dropout=dropout)
        if members:
            network = Ensemble(network, members)
        return DensityRegression(network, d, head=head, lr=0.01, **more)


def inputs(n=12, seed=0):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


def datamodule(d=1, a=1.0, b=0.0, n=60):
    items = small.line(n)
    (x,) = items.inputs
    y = torch.stack([items.targets, x[:, 0].exp()], 1).double()[:, :d]
    y = a * (y * 1024).round() / 1024 + b
    y = y[:, 0] if d == 1 else y
    held = TensorItems(x[-20:], y[-20:])
    module = ActiveDataModule(TensorItems(x, y), held, initial=list(range(20)))
    module.start(0)
    return module


def trainer(epochs=3):
    quiet = dict.fromkeys(("checkpointing", "progress_bar", "model_summary"), False)
    quiet = {f"enable_{name}": value for name, value in quiet.items()}
    return pl.Trainer(**small.TRAINER | quiet | {"max_epochs": epochs, "num_sanity_val_steps": 0})


@functools.cache
def fitted(head, d=1, a=1.0, b=0.0, members=None):
    module, made = datamodule(d, a, b), task(head, d, members=members)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trainer().fit(made, datamodule=module)
    return made.eval(), module


# --- likelihood ----------------------------------------------------------------------------------


@HEAD
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("members", [None, 3])
def test_the_loss_is_the_mean_negative_log_density(head, d, members):
    made = task(head, d, members=members).eval()
    made.target_scale.fill_(2.0)
    made.target_shift.fill_(1.0)
    x, y = inputs(), inputs(seed=1)[:, :d]
    raw = made.raw(x)
    loss = made.loss(raw, y)
    each = y.unsqueeze(1) if members else y
    lost = -made.density_of(raw).log_prob(each) - d * math.log(2)  # per unit of the scaled target
    torch.testing.assert_close(loss, lost.mean(0).sum())
    torch.testing.assert_close(made.item_losses(raw, y), lost.reshape(12, -1).mean(1))


@HEAD
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("members", [None, 2])
def test_a_gradient_reaches_every_parameter(head, d, members):
    made = task(head, d, dropout=0.0, members=members)
    loss = made.loss(made.raw(inputs(64)), 2 * inputs(64, seed=1)[:, :d])
    loss.backward()
    assert bool(loss.isfinite())
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_heads_are_what_they_say():
    x, y = inputs(), inputs(seed=1)[:, :1]
    made = task("gaussian").eval()
    mean, scale = made.raw(x).chunk(2, 1)
    wanted = Normal(mean, torch.nn.functional.softplus(scale) + 1e-3).log_prob(y)
    torch.testing.assert_close(made.density_of(made.raw(x)).log_prob(y), wanted[:, 0])
    mixed = task({"name": "mixture", "components": 3}, 2)
    assert isinstance(mixed.density_of(mixed.raw(x)), MixtureDensity)
    assert mixed.settings.inputs(2) == 3 * 5
    flow = task({"name": "flow", "flow": "MAF", "context": 8, "arguments": {"transforms": 1}})
    assert type(flow.head.flows[0]).__name__ == "MAF"
    assert flow.settings.plain() == {
        "name": "flow",
        "flow": "MAF",
        "context": 8,
        "arguments": {"transforms": 1},
    }


@HEAD
def test_members_of_an_ensemble_learn_alone(head):
    both = task(head, dropout=0.0, members=2)
    x, y = inputs(), inputs(seed=1)[:, :1]
    both.loss(both.raw(x), y).backward()
    for i in range(2):
        alone = task(head, dropout=0.0)
        alone.network = both.network.members[i]
        if head == "flow":
            alone.head.flows[0] = both.head.flows[i]
        grads = [p.grad.clone() for p in alone.parameters()]
        alone.zero_grad()
        alone.loss(alone.raw(x), y).backward()
        for old, parameter in zip(grads, alone.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, old, rtol=1e-4, atol=1e-6)


@HEAD
def test_a_checkpoint_loads_with_plain_lightning(head, tmp_path):
    made, module = fitted(head)
    run = trainer(1)
    run.strategy.connect(made)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = DensityRegression.load_from_checkpoint(tmp_path / "a.ckpt").eval()
    x, y = module.items.inputs(module.pool), torch.zeros(len(module.pool), 1)
    torch.testing.assert_close(again.density(x).log_prob(y), made.density(x).log_prob(y))
    assert again.hparams == made.hparams


# --- units ---------------------------------------------------------------------------------------

UNITS = [(1.0, 2.0**20), (2.0**-20, 0.0), (2.0**20, 2.0**44)]


@HEAD
@pytest.mark.parametrize("scale", ["standard", "range"])
def test_the_labelled_targets_give_the_units(head, scale):
    module, made = datamodule(), task(head, scale=scale)
    trainer(1).fit(made, datamodule=module)
    y = module.labelled_targets().double()
    z = made.units.standard(y[:, None], torch.float64)[:, 0]
    low = (z.min(), z.max()) if scale == "range" else (z.mean(), z.std(correction=0))
    torch.testing.assert_close(
        torch.stack(low), torch.tensor([0.0, 1.0]).double(), rtol=0, atol=1e-5
    )


@HEAD
@pytest.mark.parametrize(("a", "b"), UNITS)
def test_other_units_change_nothing_but_units(head, a, b):
    one, module = fitted(head)
    other, _ = fitted(head, 1, a, b)
    x = module.items.inputs(module.pool)
    p, q = one.density(x), other.density(x)
    torch.testing.assert_close((q.median - b) / a, p.median, rtol=1e-4, atol=1e-4)
    y = p.median + 0.1
    torch.testing.assert_close(
        q.log_prob(a * y + b), p.log_prob(y) - math.log(a), rtol=1e-4, atol=1e-3
    )


@HEAD
@pytest.mark.parametrize(("a", "b"), UNITS)
def test_metrics_are_in_the_unit_of_the_target(head, a, b):
    def tested(*units):
        made, module = fitted(head, 1, *units)
        return trainer().test(made, datamodule=module, verbose=False)[0]

    usual, found = tested(), tested(a, b)
    assert {name.removeprefix("test/") for name in usual} == set(DENSITY.names())
    for name, value in usual.items():
        if name == "test/nll":
            assert found[name] == pytest.approx(value + math.log(a), abs=1e-3)
        elif name in ("test/coverage_50", "test/coverage_90", "test/pit"):
            assert found[name] == pytest.approx(value, abs=1e-6)
        else:
            assert found[name] / a == pytest.approx(value, rel=1e-3)


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_by_hand():
    g = torch.Generator().manual_seed(3)
    mean, std = torch.randn(200, 1, generator=g), 0.5 + torch.rand(200, 1, generator=g)
    y = mean + std * torch.randn(200, 1, generator=g)
    density = GaussianDensity(mean, std)
    found = {name: DENSITY.build(name, outputs=1) for name in DENSITY.names()}
    for metric in found.values():
        for rows in torch.arange(200).split([1, 150, 49]):
            metric.update(GaussianDensity(mean[rows], std[rows]), y[rows].double())
    values = {name: float(metric.compute()) for name, metric in found.items()}
    normal = Normal(mean, std)
    off, levels = (y - mean).abs(), normal.cdf(y)
    assert values["nll"] == pytest.approx(-float(normal.log_prob(y).mean()), rel=1e-5)
    assert values["mae"] == pytest.approx(float(off.mean()), rel=1e-5)
    assert values["rmse"] == pytest.approx(float(off.square().mean().sqrt()), rel=1e-5)
    assert values["crps"] == pytest.approx(float(density.crps(y).mean()), rel=1e-5)
    inside = {
        c: float((off / std < Normal(0, 1).icdf(torch.tensor(0.5 + c / 2))).float().mean())
        for c in (0.5, 0.9)
    }
    assert values["coverage_50"] == pytest.approx(inside[0.5])
    assert values["coverage_90"] == pytest.approx(inside[0.9])
    shares = torch.histc(levels, 10, 0, 1) / 200
    torch.testing.assert_close(found["pit"].histogram, shares)
    assert values["pit"] == pytest.approx(0.5 * float((shares - 0.1).abs().sum()), abs=1e-6)
    # the likeliest of 64 draws lies near the mode, which is the mean here
    assert values["mae_mode"] == pytest.approx(values["mae"], rel=0.05)
    assert values["rmse_mode"] == pytest.approx(values["rmse"], rel=0.05)


def test_calibrated_densities_cover_what_they_say_and_others_do_not():
    g = torch.Generator().manual_seed(5)
    y = torch.randn(4000, 1, generator=g).double()
    for std, signs in ((1.0, (0, 0)), (3.0, (1, 1)), (0.3, (-1, -1))):
        density = GaussianDensity(torch.zeros(4000, 1), torch.full((4000, 1), std))
        for name, level, sign in zip(
            ("coverage_50", "coverage_90"), (0.5, 0.9), signs, strict=True
        ):
            metric = DENSITY.build(name, outputs=1)
            metric.update(density, y)
            gap = float(metric.compute()) - level
            assert abs(gap) < 0.03 if sign == 0 else sign * gap > 0.05
        pit = DENSITY.build("pit", outputs=1)
        pit.update(density, y)
        assert float(pit.compute()) < 0.03 if std == 1 else float(pit.compute()) > 0.2


def test_other_metrics_are_fed_the_median():
    r2 = "torchmetrics.R2Score"
    for d in (1, 2):
        made = task("mixture", d, metrics=["nll", r2]).eval()
        y = inputs(seed=1)[:, :d]
        made.measure(list(made.test_metrics.values()), made.raw(inputs()), y)
        median = made.density(inputs()).median
        wanted = r2_score(median.detach(), y.double(), multioutput="raw_values").mean()
        assert float(made.test_metrics["r2_score"].compute()) == pytest.approx(
            float(wanted), rel=1e-4
        )


# --- members -------------------------------------------------------------------------------------


def scored(made, module, posterior, needs, size=7, seed=0):
    members = "one" if isinstance(posterior, Deterministic) else "many"
    keep = type("Keep", (), {"needs": needs, "keeps": needs, "members": members})()
    module.eval_batch_size = size
    scorer = Scorer(made, module, Adapter.for_task(made), posterior, seed=seed)
    return scorer.pool(keep).kept


@HEAD
def test_dropout_members_are_functions_of_the_conditioner(head):
    made, module = fitted(head)
    needs = (*GRID, "quantiles", "mean")
    one = scored(made, module, MCDropout(5), needs)
    other = scored(made, module, MCDropout(5), needs, size=40)
    for name in ("log_density", "nodes", "quantiles", "mean"):
        torch.testing.assert_close(one.tensors()[name], other.tensors()[name], rtol=1e-4, atol=1e-4)
    masses = [kept.weights * kept.log_density.exp().mean(1) for kept in (one, other)]
    torch.testing.assert_close(masses[0], masses[1], rtol=1e-4, atol=1e-6)
    assert bool((one.mean.std(1) > 0).all())
    x = module.items.inputs(module.pool)
    plain = scored(made, module, Deterministic(), ("mean",)).mean
    torch.testing.assert_close(plain[:, 0], made.density(x).mean, rtol=1e-4, atol=1e-5)


@HEAD
def test_members_of_a_network_are_members(head):
    made, module = fitted(head, members=3)
    mean = scored(made, module, None, ("mean",)).mean
    x = module.items.inputs(module.pool)
    assert mean.shape == (len(x), 3, 1)
    torch.testing.assert_close(mean.mean(1), made.density(x).mean, rtol=1e-4, atol=1e-4)
    several = scored(*fitted(head, members=3), MCDropout(4), ("mean",)).mean
    assert several.shape == (len(x), 12, 1)


def test_dual_members_drop_more_than_the_fit():
    made, module = fitted("gaussian")
    few = scored(made, module, MCDropout(40), ("mean",)).mean.var(1).mean()
    same = scored(made, module, MCDropout(40, least=0.2), ("mean",)).mean.var(1).mean()
    more = scored(made, module, MCDropout(40, least=0.6), ("mean",)).mean.var(1).mean()
    assert float(few) == float(same)
    assert float(more) > 2 * float(few)
    with pytest.raises(ValueError, match="from 0, below 1"):
        MCDropout(least=1.0)


@pytest.mark.parametrize("d", [1, 2])
def test_laplace_moves_the_means_of_a_gaussian_head(d):
    made, module = fitted("gaussian", d)
    kept = scored(made, module, LastLayerLaplace(200), ("mean", "variance"))
    density = made.density(module.items.inputs(module.pool))
    centre, spread = kept.mean.mean(1), kept.mean.std(1)
    assert bool((spread > 0).all())
    assert bool(((centre - density.mean).abs() < 5 * spread / 200**0.5 + 1e-5).all())
    wanted = density.variance[:, None].expand_as(kept.variance)
    torch.testing.assert_close(kept.variance, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["mixture", "flow"])
def test_laplace_is_for_the_gaussian_head(head):
    with pytest.raises(LookupError, match="those of the Gaussian head"):
        scored(*fitted(head), LastLayerLaplace(5), ("mean",))


@HEAD
@pytest.mark.parametrize("strategy", ["variance", "ucb", "lcmd", "regression-bald"])
def test_strategies_for_numbers_choose_by_densities(head, strategy):
    made, module = fitted(head)
    chosen = resolve(strategy)
    pool = Scorer(made, module, Adapter.for_task(made), MCDropout(4)).pool(chosen)
    index = chosen.choose(pool, 3, torch.Generator().manual_seed(0)).index
    assert len(set(index.tolist())) == 3


@HEAD
def test_a_run_goes_through(head, tmp_path):
    learner = ActiveLearner(
        task=functools.partial(task, head),
        datamodule=datamodule(),
        strategy="variance",
        posterior=MCDropout(4),
        query_size=5,
        budget=5,
        trainer=small.TRAINER,
        run_dir=tmp_path / "run",
        files=False,
    )
    history = learner.run()
    assert [round.n_labelled for round in history.rounds] == [20, 25]


# --- what cannot be fitted -----------------------------------------------------------------------


def fit(made, y, n=20):
    module = ActiveDataModule(
        TensorItems(inputs(len(y)), y), test=[0, 1], initial=list(range(2, 2 + n))
    )
    module.start(0)
    trainer(1).fit(made, datamodule=module)


@HEAD
def test_labelled_targets_that_say_nothing_are_refused(head):
    with pytest.raises(
        ValueError, match=r"all 20 labelled targets of output 0 are 3: .* scale='no"
    ):
        fit(task(head), torch.full((30,), 3.0))
    y = torch.randn(30)
    y[5] = math.inf
    with pytest.raises(ValueError, match=r"1 of 20 labelled targets are not finite, the first"):
        fit(task(head), y)
    with pytest.raises(ValueError, match=r"needs 2 labelled items or more .*, got 1"):
        fit(task(head), torch.randn(30), n=1)


def test_constant_targets_can_be_fitted_without_units():
    fit(task("gaussian", scale="none"), torch.full((30,), 3.0))


@HEAD
def test_a_log_density_that_is_nan_is_named(head):
    made, y = task(head), torch.randn(6, 1)
    x = inputs(6)
    x[3, 0] = math.nan
    with pytest.raises(
        ValueError, match=r"1 of 6 items of a batch is NaN, the first is row 3 .* inp"
    ):
        made.loss(made.raw(x), y)
    y[2] = math.nan
    with pytest.raises(
        ValueError, match=r"the first is row 2 with target \[nan\]: its target is NaN"
    ):
        made.loss(made.raw(inputs(6)), y)


def test_a_flow_that_diverged_is_named():
    made = task("flow")
    with torch.no_grad():
        made.head.flows[0].transform.transforms[0].hyper[-1].bias.fill_(math.nan)
    with pytest.raises(ValueError, match="the head itself has diverged"):
        made.loss(made.raw(inputs(6)), torch.randn(6, 1))


class Overflows(torch.nn.Module):
    def forward(self, x):
        return torch.where(x[:, 1:2] == 777, math.nan, x)


@HEAD
def test_items_without_a_density_are_named_when_scored(head):
    made, module = fitted(head)
    made, x = task(head), module.items.inputs(torch.arange(60)).clone()
    x[45, 1], y = 777.0, small.line().targets
    made.network = torch.nn.Sequential(Overflows(), made.network)
    broken = ActiveDataModule(TensorItems(x, y), test=[0, 1], initial=list(range(2, 20)))
    broken.start(0)
    spread = ScoreStrategy(
        lambda p, w: (w.unsqueeze(1) * p.exp() * p).sum(-1), needs=("log_density", "weights")
    )
    with pytest.raises(ValueError, match=r"1 of \d+ scores are NaN, first: item\(s\) \[45\]"):
        Scorer(made, broken, Adapter.for_task(made)).pool(spread)


def test_settings_that_make_no_sense_are_refused():
    net = MLP(4, (8,), 2)
    with pytest.raises(ValueError, match="1 output or more"):
        DensityRegression(net, 0)
    with pytest.raises(ValueError, match="scale is 'standard', 'range' or 'none'"):
        DensityRegression(net, head="gaussian", scale="minmax")
    with pytest.raises(LookupError, match=r"no density head named 'gausian' .did you mean 'gauss"):
        DensityRegression(net, head="gausian")
    with pytest.raises(LookupError, match=r"no flow of zuko named 'NFS' .did you mean 'NSF'"):
        DensityRegression(net, head={"name": "flow", "flow": "NFS"})
    with pytest.raises(ValueError, match=r"zuko\.flows\.NSF refuses the arguments {'bin': 4}"):
        DensityRegression(net, head=FlowHead(arguments={"bin": 4}))
    with pytest.raises(ValueError, match="it is for angles, not for all numbers"):
        DensityRegression(net, head=FlowHead("NCSF"))
    with pytest.raises(ValueError, match="components must be a whole number from 1"):
        MixtureHead(components=0)
    with pytest.raises(ValueError, match="floor must be"):
        GaussianHead(floor=-1.0)
    raw = net(inputs())
    with pytest.raises(ValueError, match="need a network with 15 outputs, got"):
        DensityRegression(net, head="mixture").loss(raw, torch.zeros(12))
    with pytest.raises(ValueError, match=r"targets must be \[n, 1\]"):
        DensityRegression(net, head="gaussian").loss(raw, torch.zeros(12, 2))


def test_the_command_line_fills_in_what_a_head_reads():
    for head, needed in (("gaussian", 4), ("mixture", 25), ("flow", 64), (None, 64)):
        assert DensityRegression.network_outputs(2, {"head": head}) == needed


# --- the published conditioner -------------------------------------------------------------------


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_the_published_networks_have_their_numbers_of_parameters():
    flow = {"name": "flow", "context": 128, "arguments": {"transforms": 2}}
    encoder = DensityEncoder(26, outputs=128, activation=None)
    assert count(encoder) == 12_352
    assert count(DensityRegression(encoder, head=flow)) == 40_174
    both = DensityEncoder(26, outputs=2, activation=None)
    assert count(DensityRegression(both, head={"name": "gaussian", "floor": 0.0})) == 12_610


def test_without_an_activation_the_conditioner_is_affine():
    x, y = inputs(), inputs(seed=1)
    for activation, affine in ((None, True), ("relu", False)):
        net = DensityEncoder(4, (8, 16), 16, activation=activation).eval()
        gap = net((x + y) / 2) - (net(x) + net(y)) / 2
        assert bool((gap.abs() < 1e-5).all()) == affine
    kinds = [type(layer).__name__ for layer in DensityEncoder(4, (8, 16), 2)]
    assert kinds == ["Flatten", "Linear", *["Linear", "ReLU", "Dropout"] * 2, "ReLU", "Linear"]


def test_a_conditioner_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="the outputs are the last width, 16, got 3"):
        DensityEncoder(4, (8, 16), 3, readout=False)
    with pytest.raises(ValueError, match="no activation named 'rulu'"):
        DensityEncoder(4, outputs=2, activation="rulu")
    with pytest.raises(ValueError, match="DensityEncoder needs a width in hidden"):
        DensityEncoder(4, (), 2)
    net = DensityEncoder(4, (8,), 8)
    again = build(net.spec)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(inputs()), net.eval()(inputs()))
