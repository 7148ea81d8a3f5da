"""Last-layer Laplace against Bayesian linear regression and dense Hessians; SWAG by brute force."""

import itertools
import math

import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from helpers.reading import embeddings, plain, read
from torch import nn
from torch.func import functional_call, hessian

from lightning_al import ActiveLearner, measures, replay
from lightning_al.callbacks import CollectSWAG
from lightning_al.networks import MLP, Ensemble
from lightning_al.posteriors import SWAG, LastLayerLaplace, Posterior, Session, SWAGNetwork
from lightning_al.posteriors.curvature import Full, Kronecker, best_precision
from lightning_al.randomness import generator
from lightning_al.tasks import Adapter, Classification, Regression

SEED, ROUND = 3, 1
QUIET = small.TRAINER | {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def line(n, seed=0):
    return small.line(n, seed)[torch.arange(n)]


def blobs(n, seed=0):
    return small.blobs(n, seed)[torch.arange(n)]


def taught(posterior, task, *batches):
    session = posterior.start(SEED, ROUND)
    session.learn(task, task.adapter, lambda: list(batches))
    return session


def predict(session, task, x, needs):
    return read(session, task, x, needs)


def linear_regression(noise=0.25, bias=True):
    """A regression whose network is one linear layer, at the ridge solution."""
    x, y = line(40)
    network = MLP(4, [], 1)
    if not bias:
        network[-1] = nn.Linear(4, 1, bias=False)
    task = Regression(network, standardize_targets=False)
    task.noise.fill_(noise)
    return task, x, y


# --- Laplace -------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["full", "kronecker"])
@pytest.mark.parametrize("bias", [True, False])
def test_laplace_of_a_linear_model_is_bayesian_linear_regression(structure, bias):
    noise, precision = 0.25, 2.0
    task, x, _ = linear_regression(noise, bias)
    points = line(15, 1)[0]

    def ones(values):
        one = torch.ones(len(values), 1)
        return (torch.cat([values, one], 1) if bias else values).double()

    posterior = ones(x).T @ ones(x) / noise + precision * torch.eye(4 + bias).double()
    wanted = (ones(points) @ posterior.inverse() * ones(points)).sum(1)
    exact = LastLayerLaplace(8, structure, precision, closed_form=True)
    said = predict(taught(exact, task, x[:25], x[25:]), task, points, ["mean", "variance"])
    assert said.mean.shape == said.variance.shape == (15, 8, 1)
    torch.testing.assert_close(measures.variance(said.mean), wanted, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(said.mean.mean(1).float(), task(points).detach())
    torch.testing.assert_close(said.variance.float(), torch.full((15, 8, 1), noise))
    drawn = LastLayerLaplace(4000, structure, precision)
    mean = predict(taught(drawn, task, x), task, points, ["mean"]).mean
    torch.testing.assert_close(mean.var(1)[:, 0], wanted, rtol=0.12, atol=0)
    covariance = torch.cov(mean[..., 0])
    dense = ones(points) @ posterior.inverse() @ ones(points).T
    torch.testing.assert_close(covariance.double(), dense, rtol=0, atol=0.15 * float(dense.max()))


def classifier(hidden=(6,)):
    torch.manual_seed(0)
    return Classification(MLP(4, list(hidden), 3), 3)


def test_the_full_hessian_is_that_of_the_loss():
    task, (x, y) = classifier(), blobs(20)
    session = taught(LastLayerLaplace(2, "full", 1.0), task, x[:13], x[13:])
    layer = task.network[-1].double()
    features = embeddings(task.float(), x).double()
    layer.double()

    def loss(weight, bias):
        logits = features @ weight.T + bias
        return nn.functional.cross_entropy(logits, y, reduction="sum")

    weight, bias = layer.weight.detach(), layer.bias.detach()

    def of_all(flat):  # [R, E + 1], as the posterior orders them
        return loss(flat[:, :-1], flat[:, -1])

    dense = hessian(of_all)(torch.cat([weight, bias[:, None]], 1)).reshape(21, 21)
    torch.testing.assert_close(session.posterior.hessian, dense, rtol=1e-4, atol=1e-5)


def test_kronecker_is_exact_where_the_curvature_is_constant():
    drawn = torch.Generator().manual_seed(0)
    features = torch.randn(30, 5, generator=drawn).double()
    root = torch.randn(3, 3, generator=drawn).double().expand(30, -1, -1)
    points = torch.randn(7, 5, generator=drawn).double()
    parts = [kind.zeros(3, 5).plus(features, root).spectrum() for kind in (Full, Kronecker)]
    a, b = (part.values.sort().values for part in parts)
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    full, kronecker = (part.variance(points, 0.7) for part in parts)
    torch.testing.assert_close(full, kronecker)
    dense = parts[0].hessian + 0.7 * torch.eye(15)
    for part in parts:  # draws are L z with L L^T the inverse
        basis = torch.eye(15).double().reshape(15, 3, 5)
        columns = torch.stack([part.draw(z, 0.7).flatten() for z in basis], dim=1)
        torch.testing.assert_close(columns @ columns.T, dense.inverse())


def test_the_prior_precision_is_where_the_evidence_is_greatest():
    values = torch.tensor([0.0, 0.3, 2.0, 50.0]).double()

    def evidence(t, squared):
        return 0.5 * (4 * math.log(t) - t * squared - float((values + t).log().sum()))

    for squared in (0.5, 3.0, 20.0):
        best = best_precision(values, squared)
        top = evidence(best, squared)
        assert all(evidence(best * f, squared) < top for f in (0.7, 0.98, 1.02, 1.5))
    assert best_precision(torch.zeros(4), 3.0) == 1.0


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_laplace_members_are_functions(structure):
    task, (x, _) = classifier(), blobs(30)
    posterior = LastLayerLaplace(6, structure)
    assert isinstance(posterior, Posterior)
    session = taught(posterior, task, x)
    assert isinstance(session, Session)
    points = blobs(12, 4)[0]
    said = predict(session, task, points, ["probs", "logits", "embedding"])
    assert said.probs.shape == (12, 6, 3)
    assert said.embedding.shape == (12, 6)
    torch.testing.assert_close(said.logits.softmax(2), said.probs)
    order = torch.randperm(12)
    again = taught(posterior, task, x)
    rows = torch.cat([predict(again, task, points[r : r + 1], ["probs"]).probs for r in order])
    torch.testing.assert_close(rows, said.probs[order])
    assert float(said.probs.std(1).min()) > 0
    # each is its weights' function: solve for them from its logits
    features = torch.cat([said.embedding, torch.ones(12, 1)], 1).double()
    for s in range(6):
        fitted = features @ session._weights[s].T
        torch.testing.assert_close(fitted.float(), said.logits[:, s], rtol=1e-4, atol=1e-4)


def test_more_labels_shrink_the_spread():
    task = classifier()
    x, points = blobs(200)[0], blobs(10, 2)[0]
    spreads = [
        float(
            predict(
                taught(LastLayerLaplace(200, "full", 1.0), task, x[:n]), task, points, ["logits"]
            )
            .logits.var(1)
            .mean()
        )
        for n in (5, 50, 200)
    ]
    assert spreads == sorted(spreads, reverse=True)


def test_without_labels_it_is_the_prior():
    task, _, _ = linear_regression()
    points = line(9)[0]
    said = predict(
        taught(LastLayerLaplace(4, "full", 2.0, closed_form=True), task), task, points, ["mean"]
    )
    wanted = (points.square().sum(1) + 1) / 2.0
    torch.testing.assert_close(measures.variance(said.mean).float(), wanted)


def test_a_gaussian_likelihood_keeps_its_noise():
    x, _ = line(30)
    torch.manual_seed(0)
    task = Regression(MLP(4, [5], 2), likelihood="gaussian")
    session = taught(LastLayerLaplace(5, prior_precision=1.0), task, x)
    said = predict(session, task, x, ["mean", "variance"])
    alone = plain(task, x, ["variance"]).variance
    torch.testing.assert_close(said.variance, alone.expand(-1, 5, -1), rtol=1e-4, atol=1e-5)
    assert float(said.mean.std(1).min()) > 0


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: LastLayerLaplace(1), ValueError, "2 members"),
        (lambda: LastLayerLaplace(structure="diagonal"), ValueError, "auto, full"),
        (lambda: LastLayerLaplace(prior_precision=0.0), ValueError, "above 0"),
        (lambda: LastLayerLaplace(noise=-1.0), ValueError, "above 0"),
        (lambda: SWAG(1), ValueError, "2 members"),
        (lambda: SWAG(scale=0.0), ValueError, "scale"),
        (lambda: SWAGNetwork(MLP(4, [], 2), rank=1), ValueError, "rank 2"),
        (lambda: CollectSWAG(-1), ValueError, "start"),
    ],
)
def test_settings_that_make_no_sense(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_what_laplace_cannot_serve():
    x = blobs(10)[0]
    with pytest.raises(RuntimeError, match="learn"):
        predict(LastLayerLaplace().start(0, 0), classifier(), x, ["probs"])
    ensemble = Classification(Ensemble(MLP(4, [5], 3), 2), 3)
    with pytest.raises(LookupError, match="ensemble"):
        taught(LastLayerLaplace(), ensemble, x)
    with pytest.raises(ValueError, match="closed_form"):
        taught(LastLayerLaplace(closed_form=True), classifier(), x)

    class Scaled(Classification):
        def forward(self, inputs):
            return 2 * self.network(inputs)

    with pytest.raises(ValueError, match="something follows"):
        taught(LastLayerLaplace(), Scaled(MLP(4, [5], 3), 3), x)

    class Own(pl.LightningModule):
        adapter = Adapter(kind="regression", embedding="net:input")

        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)

        def forward(self, inputs):
            return self.net(inputs)

    with pytest.raises(LookupError, match="noise"):
        taught(LastLayerLaplace(), Own(), x)
    taught(LastLayerLaplace(noise=0.1), Own(), x)


# --- SWAG ----------------------------------------------------------------------------------------


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def walked(rank=4, steps=9):
    network = SWAGNetwork(MLP(4, [3], 2), rank)
    path, drawn = [], torch.Generator().manual_seed(0)
    for _ in range(steps):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn(p.shape, generator=drawn))
        network.collect()
        path.append(flat(network))
    return network, torch.stack(path)


def test_moments_are_those_of_the_path():
    network, path = walked()
    torch.testing.assert_close(network.mean, path.mean(0))
    torch.testing.assert_close(network.square, path.square().mean(0))
    running = [path[: i + 1].mean(0) for i in range(len(path))]
    wanted = {i: path[i] - running[i] for i in range(5, 9)}
    got = sorted(network.deviations.tolist())
    torch.testing.assert_close(
        torch.tensor(got), torch.tensor(sorted(v.tolist() for v in wanted.values()))
    )


def test_draws_have_the_gaussians_moments():
    network, path = walked()
    draws = torch.stack([network.draw(torch.Generator().manual_seed(s), 1.0) for s in range(20000)])
    low = network.deviations.T @ network.deviations / (2 * 3)
    covariance = torch.diag(path.var(0, unbiased=False)) / 2 + low
    scale = covariance.diagonal().sqrt()
    torch.testing.assert_close(draws.mean(0) / scale, path.mean(0) / scale, rtol=0, atol=0.04)
    error = (torch.cov(draws.T) - covariance) / torch.outer(scale, scale)
    assert float(error.abs().max()) < 0.05
    half = network.draw(torch.Generator().manual_seed(7), 0.25) - network.mean
    torch.testing.assert_close(half * 2, draws[7] - network.mean)


def batch_normed():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.parametrize("norm", [False, True])
def test_members_are_the_network_under_drawn_weights(norm):
    torch.manual_seed(0)
    network = SWAGNetwork(batch_normed() if norm else MLP(4, [5], 3), 3)
    task, (x, _), points = Classification(network, 3), blobs(30), blobs(8, 2)[0]
    for _ in range(4):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.3 * torch.randn_like(p))
        network.collect()
    before = {k: v.clone() for k, v in task.state_dict().items()}
    session = taught(SWAG(3), task, x[:10], x[10:])
    assert isinstance(SWAG(3), Posterior)
    assert isinstance(session, Session)
    said = predict(session, task, points, ["logits"]).logits
    assert small.same_weights(before, dict(task.state_dict()))
    names = [name for name, _ in network.network.named_parameters()]
    for s in range(3):
        weights = network.draw(generator(SEED, ROUND, "swag", s), 1.0)
        sizes = [p.numel() for p in network.network.parameters()]
        shapes = [p.shape for p in network.network.parameters()]
        parts = [w.view(shape) for w, shape in zip(weights.split(sizes), shapes, strict=True)]
        values = dict(zip(names, parts, strict=True))
        if norm:
            hidden = [
                values["0.weight"] @ b.T + values["0.bias"][:, None] for b in (x[:10], x[10:])
            ]
            values["1.running_mean"] = sum(h.mean(1) for h in hidden) / 2
            values["1.running_var"] = sum(h.var(1) for h in hidden) / 2
            inner = batch_normed().eval()
        else:
            inner = network.network.eval()
        wanted = functional_call(inner, values, points)
        torch.testing.assert_close(said[:, s], wanted, rtol=1e-4, atol=1e-4)


def test_batch_norm_wants_the_labelled_set():
    network = SWAGNetwork(batch_normed(), 2)
    for _ in range(2):
        network.collect()
    with pytest.raises(RuntimeError, match="learn"):
        predict(SWAG(2).start(0, 0), Classification(network, 3), blobs(5)[0], ["logits"])


class Path(pl.Callback):
    """Writes down the weights after each epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append(flat(pl_module.network))


@pytest.mark.parametrize(("start", "every", "taken"), [(0.5, 1, [3, 4, 5]), (1, 2, [1, 3, 5])])
def test_the_callback_takes_late_epochs_and_forgets_the_fit_before(start, every, taken):
    task = Classification(SWAGNetwork(MLP(4, [5], 3), 5), 3, lr=0.05)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*blobs(20)), 10)
    for _ in range(2):
        path = Path()
        trainer = pl.Trainer(
            **(QUIET | {"max_epochs": 6, "callbacks": [CollectSWAG(start, every), path]})
        )
        trainer.fit(task, loader)
    assert int(task.network.seen) == len(taken)
    torch.testing.assert_close(
        task.network.mean, torch.stack([path.epochs[i] for i in taken]).mean(0)
    )


def test_swag_through_a_run_its_checkpoint_and_a_replay(tmp_path):
    def task():
        return Classification(SWAGNetwork(MLP(4, [8], 3), rank=4), 3, lr=0.02)

    def learner(name):
        trainer = small.TRAINER | {"max_epochs": 6, "callbacks": [CollectSWAG()]}
        return small.learner(
            tmp_path / name, task=task, strategy="bald", posterior=SWAG(5), trainer=trainer
        )

    history = learner("a").run()
    saved = small.weights(history.final_checkpoint)
    assert int(saved["network.seen"]) == 3
    again = replay(tmp_path / "a", 2, learner("a"))
    assert small.same_weights(dict(again.state_dict()), saved)
    loaded = Classification.load_from_checkpoint(history.final_checkpoint)
    assert small.same_weights(dict(loaded.state_dict()), saved)
    assert learner("b").run().acquired == history.acquired


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_laplace_through_a_run(tmp_path, structure):
    posterior = LastLayerLaplace(8, structure)
    runs = [
        small.learner(tmp_path / name, strategy="bald", posterior=posterior).run() for name in "ab"
    ]
    assert runs[0].acquired == runs[1].acquired
    assert len(set(runs[0].acquired)) == 10


def test_regression_variance_by_laplace_picks_the_widest(tmp_path):
    datamodule = small.datamodule(small.line(), small.line(30, 1))
    datamodule.classes = None
    history = ActiveLearner(
        lambda: Regression(MLP(4, [], 1), lr=0.02),
        datamodule,
        "variance",
        5,
        5,
        posterior=LastLayerLaplace(closed_form=True),
        trainer=small.TRAINER | {"max_epochs": 20},
        run_dir=tmp_path / "run",
    ).run()
    x, _ = line(60)
    datamodule.start(0)
    known = torch.cat([x[datamodule.labelled], torch.ones(6, 1)], 1).double()
    pool = torch.cat([x[datamodule.pool], torch.ones(54, 1)], 1).double()
    # the ridge of any small prior orders the pool nearly alike: the extreme ones are taken
    spread = (pool @ (known.T @ known + 0.1 * torch.eye(5)).inverse() * pool).sum(1)
    chosen = set(history.rounds[0].acquired)
    top = set(datamodule.pool[spread.topk(15).indices].tolist())
    assert len(chosen & top) >= 4


def test_too_few_weights_are_refused():
    network = SWAGNetwork(MLP(4, [], 3), 2)
    with pytest.raises(ValueError, match="CollectSWAG"):
        network.draw(torch.Generator(), 1.0)
    with pytest.raises(LookupError, match="0 SWAGNetworks"):
        predict(SWAG(2).start(0, 0), classifier(), blobs(5)[0], ["logits"])
    task = Classification(network, 3)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*blobs(20)), 10)
    for epochs, collect in itertools.product([1, 2], [CollectSWAG(1.0), CollectSWAG(1)]):
        with pytest.raises(ValueError, match="train longer"):
            pl.Trainer(**(QUIET | {"max_epochs": epochs, "callbacks": [collect]})).fit(task, loader)
