"""Gaussian processes whose last output is the safety measurement; metrics, and zero means."""

import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from helpers.reading import plain

from lightning_al import ActiveLearner
from lightning_al.assembly.building import fill_sizes
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.gp.safety import SafeProcess
from lightning_al.records import Outcomes
from lightning_al.tasks import GPRegression, MarginalGPRegression, SparseGPRegression

QUIET = small.TRAINER | {
    "max_epochs": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
EACH = pytest.mark.parametrize("kind", [GPRegression, SparseGPRegression, MarginalGPRegression])


def safe_data(n=20, seed=0):
    """Inputs [n, 2], targets [n, 2]: y, and z that is mostly above 0."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=drawn)
    y = torch.sin(5 * x.sum(1)) + 0.1 * torch.randn(n, generator=drawn)
    z = 3.0 - 4 * (x - 0.5).square().sum(1) + 0.1 * torch.randn(n, generator=drawn)
    return x, torch.stack([y, z], 1)


def fast(kind, *args, **kwargs):
    more = {"samples": 4, "warm_up": 5} if kind is MarginalGPRegression else {}
    return kind(*args, **kwargs, **more)


def run_test(task, train, test):
    def loader(data):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), len(data[1]))

    trainer = pl.Trainer(**QUIET)
    trainer.fit(task, loader(train))
    (metrics,) = trainer.test(task, loader(test), verbose=False)
    return metrics


@EACH
def test_metrics_look_at_the_other_outputs_only(kind):
    (x, both), (points, truth) = safe_data(), safe_data(15, 1)
    safe = fast(kind, 2, safety=True, hyperparameters="gamma", starts=1)
    alone = fast(kind, 1, hyperparameters="gamma", starts=1)
    open_ = fast(kind, 2, hyperparameters="gamma", starts=1)
    said = run_test(safe, (x, both), (points, truth))
    wanted = run_test(alone, (x, both[:, :1]), (points, truth[:, :1]))
    mixed = run_test(open_, (x, both), (points, truth))
    assert set(said) == {"test/mse", "test/rmse", "test/mae", "test/nll"}
    for name, value in wanted.items():
        assert said[name] == pytest.approx(value, rel=1e-5)
        assert mixed[name] != pytest.approx(value, rel=1e-3)
    # what is predicted holds both, in order, each by a process of its own
    mean, variance = safe.moments(points)
    torch.testing.assert_close(mean[:, :1], alone.moments(points)[0])
    torch.testing.assert_close(variance[:, :1], alone.moments(points)[1])
    assert float((mean[:, 1] - truth[:, 1]).abs().mean()) < 0.3
    reader = plain(safe, points, ["mean", "variance"])
    assert reader.mean.shape[2] == reader.variance.shape[2] == 2
    torch.testing.assert_close(reader.mean.mean(1), mean)
    assert safe.joint(points).mean.shape == (2, 15)


def test_nll_is_the_density_of_noisy_targets():
    (x, y), (points, truth) = safe_data(), safe_data(7, 1)
    task = GPRegression(hyperparameters="gamma")
    found = run_test(task, (x, y[:, 0]), (points, truth[:, 0]))
    mean, latent = (part[:, 0].tolist() for part in task.moments(points))
    noise = float(task.noise_variance())
    assert noise > 1e-4
    total = 0.0
    for m, v, t in zip(mean, latent, truth[:, 0].tolist(), strict=True):
        s2 = v + noise
        total += 0.5 * math.log(2 * math.pi * s2) + (t - m) ** 2 / (2 * s2)
    assert found["test/nll"] == pytest.approx(total / 7, rel=1e-5)
    assert found["test/rmse"] == pytest.approx(
        math.sqrt(sum((m - t) ** 2 for m, t in zip(mean, truth[:, 0].tolist(), strict=True)) / 7),
        rel=1e-5,
    )


@EACH
def test_what_the_mean_is_far_away(kind):
    """That of the labels for y; for z 0, where its limit stays, or below it: caution."""
    x, both = safe_data()
    far = torch.full((1, 2), 1e4)
    z = -float(both[:, 1].double().square().mean().sqrt()) if kind is MarginalGPRegression else 0.0
    raw = fast(kind, 2, safety=True, standardize=False)
    raw.learn(x, both)
    torch.testing.assert_close(raw(far), torch.tensor([[0.0, z]]).double())
    scaled = fast(kind, 2, safety=True)
    scaled.learn(x, both)
    torch.testing.assert_close(scaled(far), torch.tensor([[float(both[:, 0].mean()), z]]).double())
    # in target units either way: the threshold 0 keeps its meaning
    for task in (raw, scaled):
        assert float((task(x)[:, 1] - both[:, 1]).abs().mean()) < 0.3
    open_ = fast(kind, 2)
    open_.learn(x, both)
    torch.testing.assert_close(open_(far), both.double().mean(0, keepdim=True))


@pytest.mark.parametrize("hyperparameters", ["map", "gamma"])
def test_a_cautious_model_of_z_is_the_filters(hyperparameters):
    x, both = safe_data()
    settings = {"samples": 16, "hyperparameters": hyperparameters, "standardize": False}
    task = MarginalGPRegression(2, safety=True, **settings)
    task.learn(x, both)
    process = SafeProcess.given(x, both[:, 1], count=16)
    points = safe_data(40, 3)[0].double()
    mean, deviation = process.answers(points)
    said = task.raw(points)
    torch.testing.assert_close(said[:, 1], mean.mean(0))
    noise = float(task.noise_variance()[1])
    total = deviation.square().mean(0) + mean.var(0, correction=0)
    torch.testing.assert_close(said[:, 3], total)
    assert noise == pytest.approx(
        float(process.mixture.members.noise.mean()) * process.unit**2, rel=1e-9
    )
    assert task.drawn.shape == (2, 16, 4)
    again = MarginalGPRegression(2, safety=True, **settings)
    again.load_state_dict(task.state_dict())
    torch.testing.assert_close(again.raw(points), said)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1e3])
def test_the_unit_of_inputs_is_nothing_once_they_are_standardised(scale):
    x, both = safe_data()
    points = safe_data(40, 3)[0]
    one, two = (fast(MarginalGPRegression, 2, safety=True) for _ in range(2))
    one.learn(x, both)
    two.learn(scale * x, both)
    torch.testing.assert_close(
        two.raw(scale * points)[:, 1::2], one.raw(points)[:, 1::2], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("outcomes", "safety"),
    [
        (Outcomes(("y", "z"), safety="z"), True),
        (Outcomes(("pressure", "margin"), safety="margin"), True),
        (Outcomes(("y", "z")), False),
        (Outcomes(), False),
    ],
)
def test_the_command_line_reads_it_off_the_data(outcomes, safety):
    data = SimpleNamespace(outputs=2, outcomes=outcomes)
    spec = {"class_path": "GPRegression", "init_args": {"outputs": None, "safety": None}}
    fill_sizes(spec, data)
    assert spec["init_args"] == {"outputs": 2, "safety": safety}
    said = {"init_args": {"safety": not safety}}
    fill_sizes(said, data)
    assert said == {"init_args": {"safety": not safety}}


@EACH
def test_one_output_cannot_be_the_safety_measurement(kind):
    with pytest.raises(ValueError, match="2 outputs or more"):
        kind(1, safety=True)


class Safe(ActiveDataModule):
    outputs = 2
    outcomes = Outcomes(("y", "z"), safety="z")


def test_rounds_with_a_safety_measurement(tmp_path):
    train, test = (TensorItems(*safe_data(n, s)) for n, s in ((40, 0), (20, 1)))
    history = ActiveLearner(
        lambda: GPRegression(2, safety=True, hyperparameters="gamma", starts=2),
        Safe(train, test, initial=5),
        "variance",
        3,
        6,
        trainer=small.TRAINER | {"max_epochs": 1},
        run_dir=tmp_path / "run",
    ).run()
    assert [r.n_labelled for r in history.rounds] == [5, 8, 11]
    task = GPRegression.load_from_checkpoint(history.final_checkpoint)
    assert task.safety is True
    assert task.outputs == 2
    x, y = safe_data(20, 1)
    error = (task(x)[:, 0] - y[:, 0]).square().mean().sqrt()
    assert history.rounds[-1].metrics["test/rmse"] == pytest.approx(float(error), rel=1e-4)
