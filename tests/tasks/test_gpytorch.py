"""Processes of GPyTorch as a task, against our own and against mathematics."""

import copy
import functools
import math

import gpytorch
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from gpytorch import kernels
from helpers import small
from helpers.configured import configured
from helpers.user_processes import Pairs, Plain, Variational
from torch import nn

from lightning_al import ActiveLearner, replay
from lightning_al.cli import main
from lightning_al.datamodules import ActiveDataModule, DiabetesDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.gp.kernels import SHAPES
from lightning_al.gp.sparse import collapsed_bound
from lightning_al.networks import MLP
from lightning_al.oracles import SimulatedOracle
from lightning_al.posteriors import LatentQuantiles
from lightning_al.posteriors.quantiles import normal_quantiles
from lightning_al.tasks import GPRegression, GPyTorchRegression, SparseGPRegression
from lightning_al.tasks.gpytorch_fit import ModelSearch, fit_model
from lightning_al.tasks.gpytorch_models import quietly

SCALE, OUT, NOISE = [0.7, 1.1, 1.9, 3.0], 1.7, 0.05
K = "gpytorch.kernels"
QUIET = small.TRAINER | {
    "max_epochs": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def line(n=40, seed=0):
    x, y = small.line(n, seed)[torch.arange(n)]
    return x, 100 * y + 50 * x[:, 0].square() + 1000


def learnt(task, data=None):
    task.learn(*(line() if data is None else data))
    return task


def scaled(shape="rbf"):
    """The kernel with known hyper-parameters."""
    smooth = {"matern12": 0.5, "matern32": 1.5, "matern52": 2.5}
    base = (
        kernels.RBFKernel(ard_num_dims=4)
        if shape == "rbf"
        else kernels.MaternKernel(smooth[shape], ard_num_dims=4)
    )
    kernel = kernels.ScaleKernel(base).double()
    base.lengthscale, kernel.outputscale = torch.tensor([SCALE], dtype=torch.float64), OUT
    return kernel


def ours(kind=GPRegression, shape="rbf", **more):
    known = {"lengthscale": SCALE, "outputscale": OUT, "noise": NOISE}
    return kind(kernel=shape, hyperparameters="fixed", **known, **more)


def theirs(**more):
    return GPyTorchRegression(hyperparameters="fixed", noise=NOISE, **more)


def same_predictions(a, b, x, **tolerance):
    tolerance = {"rtol": 1e-5, "atol": 1e-5} | tolerance
    for one, other in zip(a.moments(x), b.moments(x), strict=True):
        torch.testing.assert_close(one, other, **tolerance)
    torch.testing.assert_close(a.noise_variance(), b.noise_variance(), **tolerance)
    torch.testing.assert_close(a.raw(x), b.raw(x), **tolerance)


# --- the same as ours ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_given_kernel_and_noise_it_is_our_exact_process(shape):
    x = line(30, 1)[0]
    a, b = learnt(ours(shape=shape)), learnt(theirs(kernel=scaled(shape)))
    same_predictions(a, b, x)
    one, other = a.joint(x), b.joint(x)
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-6, atol=1e-6)
    covariances = one.covariance_matrix, other.covariance_matrix
    torch.testing.assert_close(*covariances, rtol=1e-5, atol=1e-5)
    z = normal_quantiles(5, 1, 0, 0)
    members = [t.at_quantiles(x, z) for t in (a, b)]
    torch.testing.assert_close(*members, rtol=1e-5, atol=1e-4)
    assert members[1].shape == (30, 5, 2)


def test_it_predicts_what_gpytorch_predicts():
    for kernel in (scaled(), f"{K}.RQKernel", "matern32"):
        task = learnt(GPyTorchRegression(kernel=kernel, steps=20))
        x = line(30, 1)[0]
        model, unit = task.models[0].model.eval(), task.target_std
        with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
            said = model(task.scaled(x))
        mean, variance = task.moments(x)
        torch.testing.assert_close(said.mean * unit + task.target_mean, mean[:, 0])
        spread = said.variance * unit**2
        torch.testing.assert_close(spread, variance[:, 0], rtol=1e-5, atol=1e-5)


def test_outputs_are_processes_of_their_own():
    x, y = line()
    y = torch.stack([y, y.sin(), x[:, 1]], 1)
    a, b = learnt(ours(outputs=3), (x, y)), learnt(theirs(kernel=scaled(), outputs=3), (x, y))
    same_predictions(a, b, line(30, 1)[0])
    assert b.joint(x[:7]).mean.shape == (3, 7)


@pytest.mark.parametrize("points", [12, 40, 90])
def test_given_kernel_and_noise_it_is_our_sparse_process(points):
    a = learnt(ours(SparseGPRegression, points=points))
    b = learnt(theirs(kernel=scaled(), points=points))
    same_predictions(a, b, line(30, 1)[0], rtol=1e-4, atol=1e-4)  # jitter there, none here
    x = line(15, 1)[0]
    one, other = (t.joint(x).covariance_matrix for t in (a, b))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    for task in (a, b):  # other items: other points
        learnt(task, line(70, 5))
    same_predictions(a, b, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hyperparameters", ["map", "evidence"])
def test_the_search_ends_where_ours_does(hyperparameters):
    a = learnt(GPRegression(hyperparameters=hyperparameters))
    b = learnt(GPyTorchRegression(hyperparameters=hyperparameters, steps=1000))
    kernel = b.models[0].model.kernel
    found = [*kernel.base_kernel.lengthscale[0].log(), kernel.outputscale.log(), *b.noise.log()]
    wanted = [*a.lengthscale[0].log(), *a.outputscale.log(), *a.noise.log()]
    evidence = [
        float(t.processes()[0].log_evidence())
        for t in (a, learnt(_with(found, hyperparameters="fixed")))
    ]
    assert evidence[1] == pytest.approx(evidence[0], abs=0.02)  # of nats; flat directions differ
    if hyperparameters == "map":
        assert [float(v) for v in found] == pytest.approx([float(v) for v in wanted], abs=0.02)


def _with(logs, **more):
    scale, outputscale, noise = logs[:-2], logs[-2], logs[-1]
    return GPRegression(
        lengthscale=[float(v.exp()) for v in scale],
        outputscale=float(outputscale.exp()),
        noise=float(noise.exp()),
        **more,
    )


def test_the_sparse_objective_is_the_collapsed_bound():
    task = learnt(GPyTorchRegression(points=9, hyperparameters="evidence", steps=60))
    (process,) = task.models
    kernel = process.model.kernel
    base = kernel.base_kernel
    logs = [*base.base_kernel.lengthscale[0], base.outputscale, process.likelihood.noise[0]]
    theta = np.array([math.log(float(v)) for v in logs])
    z, x, y = (v.detach().numpy() for v in (kernel.inducing_points, task.x, task.y[:, 0]))
    bound = collapsed_bound("rbf", z, x, y, theta)[0]
    process.train()
    goal = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process.model)
    with quietly(), torch.no_grad():
        said = goal(process.model(task.x), task.y[:, 0]) * 40
    assert float(said) == pytest.approx(bound, abs=1e-3)
    again = fit_model(process, task.x, task.y[:, 0], ModelSearch("lbfgs", 20, 1.0)) * 40
    assert again >= bound - 1e-3  # a search never ends below its start
    start = learnt(SparseGPRegression(points=9, hyperparameters="fixed", noise=0.1))
    z = start.inducing[0].numpy()
    before = collapsed_bound("rbf", z, x, y, np.log([1.0, 1.0, 1.0, 1.0, 1.0, 0.1]))[0]
    assert bound > before + 1.0  # points and hyper-parameters were searched for
    assert not np.isin(z, task.x).all() or not np.isin(kernel.inducing_points.detach(), z).all()


# --- deep kernels --------------------------------------------------------------------------------


def test_a_network_that_changes_nothing_is_none():
    network = nn.Linear(4, 4, bias=False)
    nn.init.eye_(network.weight)
    same_predictions(
        learnt(theirs(kernel=scaled())),
        learnt(theirs(kernel=scaled(), network=network)),
        line(30, 1)[0],
    )


@pytest.mark.parametrize("points", [None, 20])
def test_a_deep_kernel_learns_its_features(points):
    drawn = torch.Generator().manual_seed(0)
    x = 4 * torch.rand(120, 3, generator=drawn) - 2
    y = torch.sign((3 * x[:, 0]).sin()) + 0.05 * torch.randn(120, generator=drawn)
    torch.manual_seed(0)
    network = MLP(3, (16,), 2, activation="tanh")
    task = GPyTorchRegression(network=network, points=points, steps=150)
    task.learn(x[:80], y[:80])
    inner = task.models[0].model.network
    assert inner is not network  # a copy: the one given stays as it is
    fresh, fitted = network[1].weight.double(), inner[1].weight
    assert float((fresh - fitted).abs().max()) > 0.1
    assert task.adapter.embedding == "embedding"  # what strategies are given
    features = task.embedding(x)
    torch.testing.assert_close(features, inner(task.scaled(x)))
    assert features.shape == (120, 2)
    plain = GPyTorchRegression(points=points)
    plain.learn(x[:80], y[:80])
    torch.testing.assert_close(plain.embedding(x), plain.scaled(x))
    error = [float((t(x[80:])[:, 0] - y[80:]).square().mean()) for t in (task, plain)]
    assert error[0] < 0.9  # 1 is to know nothing
    held = GPyTorchRegression(network=network, points=points, steps=150, weight_decay=3.0)
    held.learn(x[:80], y[:80])
    assert held.models[0].model.network[1].weight.norm() < fitted.norm()


def test_a_network_with_dropout_predicts_without_it():
    torch.manual_seed(0)
    task = learnt(GPyTorchRegression(network=MLP(4, (8,), 2, dropout=0.5), steps=5))
    x = line(30, 1)[0]
    torch.testing.assert_close(task.moments(x)[0], task.moments(x)[0])
    task.train()
    torch.testing.assert_close(task.embedding(x), task.embedding(x))


# --- kernels -------------------------------------------------------------------------------------


def scale_of(base):
    return {"name": "ScaleKernel", "base_kernel": base}


def test_kernels_by_name_are_given_one_length_scale_a_feature():
    total = {
        "class_path": f"{K}.AdditiveKernel",
        "init_args": {
            "kernels": [
                scale_of({"name": "MaternKernel", "nu": 1.5}),
                {"class_path": f"{K}.RBFKernel", "init_args": {"active_dims": [0, 2]}},
                {"name": f"{K}.RBFKernel", "ard_num_dims": 1},
                {"name": "LinearKernel"},
            ]
        },
    }
    task = learnt(GPyTorchRegression(kernel=total, steps=5))
    a, b, c, d = task.models[0].model.kernel.kernels
    assert isinstance(a, kernels.ScaleKernel)
    assert a.base_kernel.nu == 1.5
    assert [len(k.lengthscale[0]) for k in (a.base_kernel, b, c)] == [4, 2, 1]
    assert isinstance(d, kernels.LinearKernel)
    shared = learnt(GPyTorchRegression(kernel=scale_of({"name": "RBFKernel"}), ard=False, steps=5))
    assert shared.models[0].model.kernel.base_kernel.lengthscale.shape == (1, 1)
    for short in ("RQKernel", f"{K}.RQKernel"):
        task = learnt(GPyTorchRegression(kernel=short, steps=5))
        assert task.models[0].model.kernel.lengthscale.shape == (1, 4)


@pytest.mark.parametrize(
    "spec",
    [
        scale_of({"name": "MaternKernel", "nu": 0.5}),
        {
            "class_path": f"{K}.ScaleKernel",
            "init_args": {
                "base_kernel": {"class_path": f"{K}.MaternKernel", "init_args": {"nu": 0.5}}
            },
        },
    ],
)
def test_a_kernel_by_name_is_the_same_as_the_module(spec):
    module = kernels.ScaleKernel(kernels.MaternKernel(0.5, ard_num_dims=4))
    a, b = (learnt(GPyTorchRegression(kernel=k, steps=20)) for k in (spec, module))
    same_predictions(a, b, line(30, 1)[0], rtol=1e-9, atol=1e-9)
    assert a.hparams["kernel"] == spec
    assert module.outputscale.item() == pytest.approx(math.log(2), abs=1e-6)  # as it was given


def test_a_configuration_names_kernels_inside_kernels():
    spec = {
        "class_path": "lightning_al.tasks.GPyTorchRegression",
        "init_args": {"kernel": scale_of({"name": "MaternKernel", "nu": 0.5}), "steps": 5},
    }
    task = learnt(configured(spec))
    assert task.hparams["kernel"] == spec["init_args"]["kernel"]
    assert task.models[0].model.kernel.base_kernel.lengthscale.shape == (1, 4)


def test_a_mapping_holds_no_live_kernels():
    with pytest.raises(ValueError, match=r"write them \{name: …, \*\*arguments\}"):
        GPyTorchRegression(kernel=scale_of(kernels.RBFKernel()))


def test_a_run_of_the_command_line_can_be_loaded(tmp_path):
    short = ["--budget", "10", "--run_dir", str(tmp_path / "run"), "--progress", "false"]
    (history,) = main(["run", "--config", "gpytorch", *short])
    task = GPyTorchRegression.load_from_checkpoint(history.final_checkpoint, weights_only=True)
    assert task.x.shape == (30, 10)
    assert history.rounds[-1].metrics["test/r2_score"] > 0.2
    data = DiabetesDataModule(initial=20)
    data.start(0)
    (found,) = pl.Trainer(**QUIET).test(task, datamodule=data, verbose=False)
    last = history.rounds[-1].metrics
    assert found == pytest.approx({k: last[k] for k in found}, rel=1e-5)


def test_priors_that_are_registered_with_a_kernel_count():
    prior = {"name": "NormalPrior", "loc": 9.0, "scale": 0.01}
    spec = {"name": "RBFKernel", "lengthscale_prior": prior}
    task = learnt(GPyTorchRegression(kernel=scale_of(spec), hyperparameters="evidence"))
    scale = task.models[0].model.kernel.base_kernel.lengthscale
    torch.testing.assert_close(scale, torch.full_like(scale, 9.0), rtol=0.02, atol=0)


# --- models of a user's own ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "gp",
    [
        Plain,
        "helpers.user_processes.Plain",
        {"class_path": "helpers.user_processes.Plain", "init_args": {"nu": 0.5}},
        Plain(None, None, gpytorch.likelihoods.GaussianLikelihood()),
    ],
)
def test_an_exact_model_of_ones_own(gp):
    task = learnt(GPyTorchRegression(gp=gp, steps=50))
    (process,) = task.models
    assert type(process.model) is Plain
    assert process.model.covar_module.base_kernel.nu == (0.5 if isinstance(gp, dict) else 2.5)
    assert process.model is not gp
    x = line(30, 1)[0]
    mean, covariance = by_hand(process, task, x)
    torch.testing.assert_close(task.moments(x)[0][:, 0], mean, rtol=1e-6, atol=1e-6)
    unit = float(task.target_std) ** 2  # what is left of a prior variance of its size
    variances = task.moments(x)[1][:, 0] / unit, covariance.diagonal() / unit
    torch.testing.assert_close(*variances, rtol=1e-5, atol=1e-7)
    covariances = task.joint(x).covariance_matrix / unit, covariance / unit
    torch.testing.assert_close(*covariances, rtol=1e-5, atol=1e-7)
    assert float(task.noise_variance()) == pytest.approx(
        float(process.likelihood.noise * task.target_std**2)
    )


@torch.no_grad()
def by_hand(process, task, x):
    """The textbook's formulas with dense inverses, in target units."""
    kernel, mean = process.model.covar_module, process.model.mean_module.constant
    known, points = task.x, task.scaled(x)
    k = kernel(known).to_dense() + process.likelihood.noise * torch.eye(len(known)).double()
    cross = kernel(points, known).to_dense()
    weights = cross @ torch.linalg.inv(k)
    posterior = kernel(points).to_dense() - weights @ cross.T
    centre = mean + weights @ (task.y[:, 0] - mean)
    return centre * task.target_std + task.target_mean, posterior * task.target_std**2


def test_a_variational_model_with_all_items_is_the_exact_process():
    """Hyper-parameters fixed, inducing points the items: the best distribution is the posterior."""
    gp = {"class_path": "helpers.user_processes.Variational"}
    torch.manual_seed(0)
    settings = {"gp": gp, "points": 40, "optimizer": "lbfgs", "steps": 1500}
    task = learnt(theirs(**settings))
    log2 = math.log(2)  # where GPyTorch's kernels begin
    exact = GPRegression(
        hyperparameters="fixed", lengthscale=log2, outputscale=log2, noise=NOISE, ard=False
    )
    learnt(exact)
    x = line(30, 1)[0]
    (mean, variance), (wanted, spread) = task.moments(x), exact.moments(x)
    unit = float(exact.target_std)
    torch.testing.assert_close(mean / unit, wanted / unit, rtol=0, atol=5e-3)
    torch.testing.assert_close(variance / unit**2, spread / unit**2, rtol=0, atol=5e-3)
    assert task.models[0].model.covar_module.outputscale.item() == pytest.approx(log2, abs=1e-6)


@pytest.mark.parametrize("given", ["class", "module"])
def test_a_variational_model_of_ones_own_is_fitted_by_its_bound(given):
    torch.manual_seed(0)
    settings = {"gp": Variational, "points": 10}
    if given == "module":
        settings = {"gp": Variational(torch.randn(10, 4), learn=True)}
    before, after = (learnt(GPyTorchRegression(**settings, steps=s)) for s in (1, 150))
    x, y = line(60, 1)
    error = [float((t(x)[:, 0] - y).square().mean().sqrt()) for t in (before, after)]
    assert error[1] < 0.7 * error[0]
    moved = after.models[0].model.variational_strategy.inducing_points
    assert isinstance(moved, nn.Parameter) is (given == "module")
    assert after.search.optimizer == "adam"


# --- runs ----------------------------------------------------------------------------------------


def datamodule():
    data = [TensorItems(*line(n, seed)) for n, seed in ((60, 0), (30, 1))]
    return ActiveDataModule(*data, initial=8)


def learner(run_dir, task=GPyTorchRegression, strategy="variance", **changes):
    settings = {"trainer": small.TRAINER | {"max_epochs": 1}, "run_dir": run_dir} | changes
    return ActiveLearner(task, datamodule(), strategy, 4, 8, **settings)


class Stop(Exception):
    """The power fails."""


class Gone:
    """Answers in the first round alone."""

    def ask(self, index, datamodule, round):
        if round == 1:
            raise Stop
        return SimulatedOracle().ask(index, datamodule, round)


TASKS = {
    "exact": functools.partial(GPyTorchRegression, steps=40),
    "sparse": functools.partial(GPyTorchRegression, points=10, steps=20),  # exact in round 0
    "deep": functools.partial(
        GPyTorchRegression,
        network={
            "class_path": "lightning_al.networks.MLP",
            "init_args": {"in_features": 4, "hidden": [8], "outputs": 2},
        },
        steps=20,
    ),
    "kernel": functools.partial(GPyTorchRegression, kernel=f"{K}.RQKernel", steps=20),
    "model": functools.partial(GPyTorchRegression, gp=Plain, steps=20),
    "variational": functools.partial(GPyTorchRegression, gp=Variational, points=6, steps=20),
}


@pytest.mark.parametrize("name", TASKS)
def test_rounds_a_resume_a_replay_and_a_checkpoint_of_plain_values(name, tmp_path):
    task = TASKS[name]
    whole = learner(tmp_path / "whole", task, config={"it": name})
    history = whole.run()
    assert [r.n_labelled for r in history.rounds] == [8, 12, 16]
    assert all(math.isfinite(r.metrics["test/nll"]) for r in history.rounds)
    again = replay(tmp_path / "whole", 1, whole)
    saved = small.weights(tmp_path / "whole" / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(dict(again.state_dict()), saved)

    with pytest.raises(Stop):
        learner(tmp_path / "cut", task, config={"it": name}, oracle=Gone()).run()
    resumed = learner(tmp_path / "cut", task, config={"it": name}).run()
    assert resumed.acquired == history.acquired
    for a, b in zip(resumed.rounds, history.rounds, strict=True):
        assert dict(a.metrics) == dict(b.metrics)
    path = history.final_checkpoint
    torch.load(path, map_location="cpu", weights_only=True)
    loaded = GPyTorchRegression.load_from_checkpoint(path, weights_only=True)
    trainer = pl.Trainer(**QUIET)
    data = datamodule()
    data.start(0)
    (found,) = trainer.test(loaded, datamodule=data, verbose=False)
    last = history.rounds[-1].metrics
    assert found == pytest.approx({k: last[k] for k in found}, rel=1e-6)


@pytest.mark.parametrize("strategy", ["ucb", "regression-bald", "expected-improvement", "k-center"])
def test_strategies_choose_by_it(strategy, tmp_path):
    history = learner(tmp_path / "run", TASKS["deep"], strategy).run()
    assert [len(r.acquired) for r in history.rounds] == [4, 4, 0]


def test_variance_asks_where_the_process_knows_least(tmp_path):
    history = learner(tmp_path / "run", TASKS["exact"]).run()
    task = GPyTorchRegression.load_from_checkpoint(
        history.run_dir / history.rounds[0].checkpoint, weights_only=True
    )
    data = datamodule()
    data.start(0)
    best = task.moments(data.items.inputs(data.pool))[1][:, 0].topk(4).indices
    assert set(data.pool[best].tolist()) == set(history.rounds[0].acquired)


def test_a_module_given_in_python_starts_afresh_each_round_and_is_given_again(tmp_path):
    kernel = kernels.ScaleKernel(kernels.RBFKernel(ard_num_dims=4))
    task = functools.partial(GPyTorchRegression, kernel=kernel, steps=20)
    history = learner(tmp_path / "run", task).run()
    assert [r.n_labelled for r in history.rounds] == [8, 12, 16]
    assert kernel.outputscale.item() == pytest.approx(math.log(2), abs=1e-6)
    path = history.final_checkpoint
    loaded = GPyTorchRegression.load_from_checkpoint(path, kernel=kernel, weights_only=True)
    assert "kernel" not in loaded.hparams
    x, y = line(30, 1)
    error = float((loaded(x)[:, 0] - y).square().mean().sqrt())
    assert error == pytest.approx(history.rounds[-1].metrics["test/rmse"], rel=1e-5)


@pytest.mark.parametrize("name", ["exact", "sparse", "variational"])
def test_warm_rounds_go_on_from_the_last_one(name, tmp_path):
    history = learner(tmp_path / "run", TASKS[name], weights="warm").run()
    assert [r.n_labelled for r in history.rounds] == [8, 12, 16]
    task = GPyTorchRegression.load_from_checkpoint(history.final_checkpoint, weights_only=True)
    assert task.x.shape == (16, 4)


# --- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_copies_and_loaded_states_predict_and_learn_alike(name):
    torch.manual_seed(0)
    task = learnt(TASKS[name]())
    x = line(30, 1)[0]
    task.moments(x)  # what GPyTorch remembers must not be in the way
    copied, loaded = copy.deepcopy(task), TASKS[name]()
    loaded.load_state_dict(task.state_dict())
    for other in (copied, loaded):
        assert other.training
        same_predictions(task, other, x, rtol=1e-8, atol=1e-8)
    more = line(50, 2)
    for each in (task, copied, loaded):  # on from where they are, each by itself
        torch.manual_seed(1)
        learnt(each, more)
    for other in (copied, loaded):
        same_predictions(task, other, x, rtol=1e-5, atol=1e-4)
    before = task.moments(x)[0]
    learnt(copied, line(45, 3))
    torch.testing.assert_close(task.moments(x)[0], before)
    assert task.half().x.dtype == torch.float64
    torch.testing.assert_close(task.moments(x)[0], before)  # no precision of a Trainer may round it


def test_the_joint_prediction_has_the_marginals():
    for name in TASKS:
        task = learnt(TASKS[name]())
        x = line(12, 1)[0]
        joint, (mean, variance) = task.joint(x), task.moments(x)
        torch.testing.assert_close(joint.mean, mean[:, 0])
        torch.testing.assert_close(joint.variance, variance[:, 0], rtol=1e-5, atol=1e-4)
        own = TASKS[name](variance="predictive")
        own.load_state_dict(task.state_dict())
        noisy = own.joint(x).variance - joint.variance
        torch.testing.assert_close(noisy, task.noise_variance().expand(12), rtol=1e-4, atol=1e-3)


def test_before_any_label_it_is_the_prior():
    task, x = GPyTorchRegression(), torch.randn(5, 3)
    assert isinstance(task.posterior, LatentQuantiles)
    mean, variance = task.predictions(x).chunk(2, dim=1)
    torch.testing.assert_close(mean, torch.zeros(5, 1).double())
    torch.testing.assert_close(variance, torch.ones(5, 1).double())
    assert task.embedding(x).shape == (5, 3)
    with pytest.raises(LookupError, match="labelled"):
        task.joint(x)


def test_many_points_at_a_time_are_what_few_are(monkeypatch):
    task = learnt(TASKS["model"]())
    x = line(50, 1)[0]
    whole = task.moments(x)
    monkeypatch.setattr("lightning_al.tasks.gpytorch_posterior.BLOCK", 7)
    for a, b in zip(whole, task.moments(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_the_safety_measurement_is_predicted_and_not_measured():
    x, y = line()
    task = GPyTorchRegression(2, safety=True, metrics=["mae"], steps=20)
    task.learn(x, torch.stack([y, 5 * x[:, 0]], 1))
    metric = task.test_metrics["mae"]
    task.measure([metric], task.raw(x), torch.stack([y, x[:, 0] + 1e6], 1))
    assert float(metric.compute()) == pytest.approx(
        float((task(x)[:, 0] - y).abs().mean()), rel=1e-5
    )


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"outputs": 0}, ValueError, "1 output or more"),
        ({"kernel": "cubic"}, LookupError, "no kernel named 'cubic'.*choose one of rbf.*RQKernel"),
        ({"kernel": "RBFKernl"}, LookupError, r"did you mean RBFKernel\?"),
        ({"kernel": f"{K}.Cubic"}, LookupError, "no class at 'gpytorch.kernels.Cubic'"),
        ({"kernel": "torch.nn.Linear"}, ValueError, "Linear: .*it takes .*in_features"),
        ({"kernel": nn.Linear(1, 1)}, ValueError, "kernel must be a gpytorch.kernels.Kernel"),
        (
            {"kernel": {"class_path": f"{K}.RBFKernel", "nu": 1}},
            ValueError,
            "class_path, init_args",
        ),
        (
            {"kernel": {"class_path": f"{K}.MaternKernel", "init_args": {"nu": 2.0}}},
            (ValueError, RuntimeError),
            "nu",
        ),
        ({"kernel": f"{K}.ScaleKernel"}, ValueError, "ScaleKernel: .*base_kernel"),
        ({"points": 0}, ValueError, "1 inducing point or more"),
        ({"hyperparameters": "gamma"}, ValueError, "map, evidence, fixed, got 'gamma'"),
        ({"optimizer": "sgd"}, ValueError, "'lbfgs' or 'adam'"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"lr": 0.0}, ValueError, "lr above 0"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay at least 0"),
        ({"gp": "torch.nn.Linear"}, ValueError, "ExactGP or ApproximateGP, got Linear; a kernel"),
        ({"gp": Variational}, ValueError, "Variational needs inducing points; say how many"),
        ({"gp": Plain, "points": 5}, ValueError, "takes no inducing_points.*leave out points=5"),
        ({"gp": Plain, "network": nn.Linear(4, 2)}, ValueError, "leave them out here"),
        ({"noise": 0.0}, ValueError, "noise"),
        ({"metrics": ["f1"]}, LookupError, "mse"),
    ],
)
def test_settings_that_make_no_sense(settings, error, words):
    with pytest.raises(error, match=words):
        GPyTorchRegression(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network": nn.Linear(3, 2)}, "shapes"),
        ({"network": nn.Unflatten(1, (2, 2))}, r"must turn \[40, 4\] into \[40, E\]"),
        ({"gp": Pairs, "hyperparameters": "fixed"}, "predict|size|shape"),
    ],
)
def test_parts_that_do_not_fit_together(settings, words):
    with pytest.raises((ValueError, RuntimeError), match=words):
        learnt(GPyTorchRegression(**settings)).moments(line(30, 1)[0])


def test_data_that_make_no_sense():
    x, y = line(20)
    with pytest.raises(ValueError, match="targets"):
        learnt(GPyTorchRegression(), (x, torch.full((20,), math.nan)))
    with pytest.raises(ValueError, match="features"):
        learnt(GPyTorchRegression(), (torch.full((20, 4), math.inf), y))
    same = learnt(GPyTorchRegression(points=3, steps=20), (torch.ones(6, 2), torch.arange(6.0)))
    assert float(same(torch.ones(1, 2))) == pytest.approx(2.5, abs=0.3)
