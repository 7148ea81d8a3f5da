"""The PFN: who may look at whom, and its loss; and as a task."""

import math

import pytest
import torch
from helpers.surrogates import checkpoint_of

from lightning_al import measures
from lightning_al.cli import main
from lightning_al.policies.streams import Streams
from lightning_al.posteriors import Deterministic
from lightning_al.surrogates import PFN, FunctionPrior, shipped
from lightning_al.tasks import PFNRegression
from lightning_al.tasks.metrics import gaussian_nll

TINY = {"width": 16, "heads": 2, "layers": 2, "bars": 12}


def network(seed=0, dimension=2):
    torch.manual_seed(seed)
    made = PFN(dimension, **TINY).double().eval()
    for parameter in made.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return made


def problems(dimension=2, n=6, batch=3, ahead=5):
    law = FunctionPrior(dimension, (n, n), ahead, batch)
    return law(Streams.of(0, 0, "functions"))


def parts():
    b = problems()
    return (*b.given, b.asked[0])


def test_points_that_are_asked_for_see_neither_each_other_nor_are_they_seen():
    net, (x, y, asked) = network(), parts()
    logits, noise = net(x, y, asked)
    some, same = net(x, y, asked[:, [3]])
    torch.testing.assert_close(some, logits[:, [3]])
    torch.testing.assert_close(same, noise)  # the context knows nothing of them
    moved = asked.clone()
    moved[:, 0] += 0.3
    torch.testing.assert_close(net(x, y, moved)[0][:, 1:], logits[:, 1:])
    assert float((net(x, y, moved)[0][:, 0] - logits[:, 0]).detach().abs().max()) > 1e-6


def test_the_order_of_the_context_does_not_matter_and_that_of_questions_is_kept():
    net, (x, y, asked) = network(), parts()
    logits, noise = net(x, y, asked)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    other, same = net(x[:, order], y[:, order], asked.flip(1))
    torch.testing.assert_close(other, logits.flip(1))
    torch.testing.assert_close(same, noise)


def test_every_point_of_the_context_counts():
    net, (x, y, asked) = network(), parts()
    logits = net(x, y, asked)[0].detach()
    for i in range(x.shape[1]):
        changed = y.clone()
        changed[:, i] += 1.0
        assert float((net(x, changed, asked)[0].detach() - logits).abs().max()) > 1e-6


def test_the_loss_is_the_density_of_the_answers_and_the_noise():
    net, b = network(), problems()
    bars, noise = net.predict(*b.given, b.asked[0])
    net.edges = net.edges.double()
    density = -bars.log_density(b.asked[1]).mean()
    known = b.hyper.noise
    own = torch.stack([v.log() + k / v for v, k in zip(noise, known, strict=True)]).mean()
    torch.testing.assert_close(net.loss(b), density + 0.1 * own, rtol=1e-5, atol=1e-5)
    net.loss(b).backward()
    assert not [
        n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]


def test_the_noise_that_is_least_in_the_loss_is_its_mean():
    known = torch.tensor([0.1, 0.3, 0.8], dtype=torch.float64)
    grid = torch.linspace(0.05, 2, 4000, dtype=torch.float64)
    loss = grid.log() + (known[:, None] / grid).mean(0)
    assert float(grid[loss.argmin()]) == pytest.approx(0.4, abs=1e-3)


# --- the task ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(checkpoint_of(PFN(2, **TINY), tmp_path_factory.mktemp("pfn") / "pfn.ckpt"))


def data(n=9, outputs=1, seed=0):
    it = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=it, dtype=torch.float64)
    y = torch.stack([torch.sin(5 * x.sum(1) + k) for k in range(outputs)], 1)
    return x, y.squeeze(1) if outputs == 1 else y


def learnt(path, outputs=1, **settings):
    task = PFNRegression(outputs, path, **settings)
    task.learn(*data(outputs=outputs))
    return task


@pytest.mark.parametrize("outputs", [1, 2])
def test_moments_are_those_of_the_bars_in_target_units(path, outputs):
    task = learnt(path, outputs)
    points = data(40, seed=1)[0]
    mean, latent, noise, total = task.moments(points)
    for d in range(outputs):
        bars, own = task._network(2).predict(
            task.x.float()[None], task.y[None, :, d].float(), points.float()[None]
        )
        unit = float(task.target_std[d])
        torch.testing.assert_close(mean[:, d], bars.mean()[0].double() * unit + task.target_mean[d])
        torch.testing.assert_close(total[:, d], bars.variance()[0].double() * unit**2)
        wanted = torch.minimum(own.double(), 0.999 * bars.variance()[0].double()) * unit**2
        torch.testing.assert_close(noise[:, d], wanted)
    torch.testing.assert_close(latent + noise, total)  # the law of total variance
    assert bool((latent > 0).all())


def test_members_have_the_moments_and_the_noise(path):
    task, points = learnt(path), data(7, seed=1)[0]
    mean, latent, _, total = task.moments(points)
    session = task.posterior.start(0, 0)
    raw = session.members(task, task.adapter, points, 7).raw
    fields = task.adapter.reading.fields(raw, ["mean", "variance"])
    torch.testing.assert_close(fields["mean"].mean(1), mean)
    torch.testing.assert_close(measures.variance(fields["mean"]), latent[:, 0])
    torch.testing.assert_close(measures.variance(fields["mean"], fields["variance"]), total[:, 0])
    alone = Deterministic().start(0, 0).members(task, task.adapter, points, 7).raw
    torch.testing.assert_close(task.adapter.reading.fields(alone, ["mean"])["mean"][:, 0], mean)


def test_by_entropy_the_variance_is_that_of_a_normal_of_the_same_entropy(path):
    task, points = learnt(path, variance="entropy"), data(30, seed=1)[0]
    told = task.ask(0, points)[0].entropy().double()
    _, spread, noise, total = task.moments(points)
    unit = task.target_std[0].square()
    exact = 0.5 * (2 * math.pi * math.e * spread[:, 0] / unit).log()
    torch.testing.assert_close(exact, told, atol=1e-6, rtol=1e-5)
    assert float(noise.abs().max()) == 0
    torch.testing.assert_close(total, learnt(path).moments(points)[3])
    predictive = learnt(path, variance="predictive").moments(points)
    torch.testing.assert_close(predictive[1], total)


def test_features_are_taken_to_the_box(path):
    task = learnt(path)
    other = PFNRegression(1, path, low=[-10.0, 0.0], high=[10.0, 2.0])
    (x, y), (points, _) = data(), data(5, seed=1)
    scale, shift = torch.tensor([20.0, 2.0]), torch.tensor([-10.0, 0.0])
    other.learn(x * scale + shift, y)
    moments = other.moments(points * scale + shift)
    for mine, its in zip(moments, task.moments(points), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_a_pool_of_any_size_gives_what_its_parts_do(path, monkeypatch):
    task, points = learnt(path), data(50, seed=1)[0]
    whole = task.moments(points)
    monkeypatch.setattr("lightning_al.tasks.in_context.BLOCK", 7)
    for mine, its in zip(task.moments(points), whole, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)


def test_one_label_equal_labels_and_none(path):
    points = data(4, seed=1)[0]
    for n in (1, 3):
        task = PFNRegression(1, path)
        task.learn(data(n)[0], torch.full((n,), 5.0))
        mean, *variances = task.moments(points)
        assert bool(mean.isfinite().all())
        assert all(bool((v > 0).all()) for v in (variances[0], variances[2]))
    mean, latent, _, _ = PFNRegression(1, path).moments(points)
    assert mean.shape == latent.shape == (4, 1)


def test_metrics_are_of_the_normal_with_the_moments(path):
    task, (x, y) = learnt(path), data(12, seed=2)
    mean, _, _, total = task.moments(x)
    own = task.predict_step((x, y), 0)
    torch.testing.assert_close(own["mean"], mean)
    torch.testing.assert_close(own["variance"], total)
    assert gaussian_nll(mean, total, y[:, None]).isfinite().all()


def test_state_survives_a_checkpoint(path):
    task, points = learnt(path), data(4, seed=1)[0]
    fresh = PFNRegression(1, path)
    fresh.load_state_dict(task.state_dict())
    torch.testing.assert_close(fresh.moments(points)[0], task.moments(points)[0])


@pytest.mark.parametrize("strategy", ["variance", "expected-improvement", "ucb", "regression-bald"])
def test_strategies_of_regression_run_on_it(strategy, path, tmp_path):
    words = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--progress", "false"]
    (history,) = main(
        [
            *("run", "--config", "branin", "--model", "lightning_al.tasks.PFNRegression"),
            *("--model.surrogate", path, "--data.initial", "4", "--data.candidates", "40"),
            *("--query_size", "1"),
            *("--budget", "2", "--strategy", strategy, "--run_dir", str(tmp_path / "run"), *words),
        ]
    )
    assert [r.n_labelled for r in history.rounds] == [4, 5, 6]
    assert math.isfinite(history.rounds[-1].metrics["test/nll"])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"outputs": 0}, "1 output or more"),
        ({"variance": "noise"}, "variance is one of latent, predictive, entropy"),
        ({"low": 1.0}, "low must be below high"),
    ],
)
def test_settings_that_make_no_sense(settings, wanted, path):
    with pytest.raises(ValueError, match=wanted):
        PFNRegression(**{"surrogate": path, **settings})


def test_data_that_do_not_fit_the_network(path):
    task = PFNRegression(1, path)
    with pytest.raises(ValueError, match="takes 2 features, the data have 3; train one with"):
        task.learn(torch.rand(4, 3), torch.rand(4))
    with pytest.raises(ValueError, match=r"lie outside .* give low and high of all items"):
        task.learn(torch.rand(4, 2) * 3 + 1, torch.rand(4))
    with pytest.raises(ValueError, match="NaN or infinities"):
        task.learn(torch.rand(4, 2), torch.full((4,), float("nan")))
    with pytest.raises(ValueError, match=r"targets must be \[n, 1\]"):
        task.learn(torch.rand(4, 2), torch.rand(4, 2))
    with pytest.raises(LookupError, match="no surrogate named 'pfn-9d'"):
        PFNRegression(1).learn(torch.rand(4, 9), torch.rand(4))
    with pytest.raises(ValueError, match="one number or 2, one a feature, got 3"):
        PFNRegression(1, path, low=[0.0, 0.0, 0.0]).learn(torch.rand(4, 2), torch.rand(4))


@pytest.mark.skipif("pfn-1d" not in shipped(), reason="no trained network is shipped")
def test_the_shipped_one_follows_a_function():
    x = torch.linspace(0, 1, 20, dtype=torch.float64).unsqueeze(1)
    y = 10 + 3 * torch.sin(7 * x[:, 0])
    task = PFNRegression()
    task.learn(x, y)
    points = torch.linspace(0.02, 0.98, 50, dtype=torch.float64).unsqueeze(1)
    mean, latent, noise, total = task.moments(points)
    error = (mean[:, 0] - 10 - 3 * torch.sin(7 * points[:, 0])).square().mean().sqrt()
    assert float(error) < 0.25 * float(y.std())
    assert float(total.mean()) < 0.5 * float(y.var())
    torch.testing.assert_close(latent + noise, total)
