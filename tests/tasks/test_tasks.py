"""Tasks: losses, metrics and predictions against mathematics done by hand."""

import math

import pytest
import pytorch_lightning as pl
import torch
from helpers.reading import embeddings, plain
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_al.networks import MLP, Ensemble
from lightning_al.tasks import Adapter, Classification, PlaceClassification, Regression, Task
from lightning_al.tasks.classification import balanced_weights
from lightning_al.tasks.metrics import CLASSIFICATION, REGRESSION

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


class Labelled(pl.LightningDataModule):
    """A datamodule that offers its labelled targets."""

    def __init__(self, x, y, size=16):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def labelled_targets(self):
        return self.y

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x, self.y), batch_size=self.size)

    val_dataloader = test_dataloader = train_dataloader


def trainer(tmp_path, **more):
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "max_epochs": 3,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**settings | more)


@pytest.fixture
def classes():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=g)
    return x, (x @ torch.randn(4, 3, generator=g)).argmax(1)


@pytest.fixture
def values():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=g)
    y = (x @ torch.randn(4, 2, generator=g)).sin() + 0.1 * torch.randn(60, 2, generator=g)
    return x, y


# --- classification ----------------------------------------------------------------------------


def test_metrics_are_logged_under_their_names(tmp_path, classes):
    task = Classification(MLP(4, (8,), 3), 3)
    run = trainer(tmp_path)
    run.fit(task, datamodule=Labelled(*classes))
    names = {f"val/{n}" for n in CLASSIFICATION.names()} | {"train/loss"}
    assert set(run.callback_metrics) == names
    run.test(task, datamodule=Labelled(*classes), verbose=False)
    logits = task(classes[0]).detach()
    got = run.callback_metrics
    assert got["test/nll"] == pytest.approx(F.cross_entropy(logits, classes[1]).item(), rel=1e-5)
    assert got["test/accuracy"] == pytest.approx(
        (logits.argmax(1) == classes[1]).float().mean().item()
    )
    assert set(got) == {f"test/{n}" for n in CLASSIFICATION.names()}


def test_training_loss_is_the_mean_over_items(tmp_path, classes):
    task = Classification(MLP(4, (8,), 3), 3, lr=0.0, metrics=["nll"])
    run = trainer(tmp_path, max_epochs=1)
    run.fit(task, datamodule=Labelled(*classes, size=50))  # batches of 50 and 10
    wanted = F.cross_entropy(task(classes[0]), classes[1]).item()
    assert run.callback_metrics["train/loss"] == pytest.approx(wanted, rel=1e-5)
    assert set(run.callback_metrics) == {"train/loss", "val/nll"}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0]])
def test_training_members_together_is_training_each_alone(tmp_path, classes, optimizer, weights):
    torch.manual_seed(0)
    ensemble = Ensemble(MLP(4, (8,), 3), 3)
    starts = [{k: v.clone() for k, v in m.state_dict().items()} for m in ensemble.members]
    settings = {"lr": 0.02, "optimizer": optimizer, "class_weights": weights, "weight_decay": 0.01}
    together = Classification(ensemble, 3, **settings)
    trainer(tmp_path).fit(together, datamodule=Labelled(*classes))
    probs = []
    for member, start in zip(ensemble.members, starts, strict=True):
        alone = Classification(MLP(4, (8,), 3), 3, **settings)
        alone.network.load_state_dict(start)
        trainer(tmp_path).fit(alone, datamodule=Labelled(*classes))
        torch.testing.assert_close(member(classes[0]), alone(classes[0]), rtol=1e-4, atol=1e-5)
        probs.append(alone(classes[0]).softmax(1))
    mixed = together.log_probs(together(classes[0]), classes[1]).exp()
    torch.testing.assert_close(mixed, torch.stack(probs).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.predict_step(classes[0], 0), mixed)


def test_places_are_items_of_their_own():
    task = PlaceClassification(nn.Conv2d(2, 3, 1), 3, metrics=["nll", "accuracy"])
    x, y = torch.randn(4, 2, 5, 6), torch.randint(3, (4, 5, 6))
    y[0, :2] = -100
    logits = task.raw(x)
    torch.testing.assert_close(task.loss(logits, y), F.cross_entropy(logits, y))
    task.measure(list(task.val_metrics.values()), logits, y)
    torch.testing.assert_close(task.val_metrics["nll"].compute(), F.cross_entropy(logits, y))
    fields = plain(task, x, ["probs"])
    torch.testing.assert_close(fields.probs, logits.softmax(1)[:, None])


def test_members_of_a_foreign_network_are_known_by_its_word():
    network = nn.Unflatten(1, (5, 3))
    x, y = torch.randn(7, 15), torch.randint(3, (7,))
    with pytest.raises(ValueError, match=r"3 classes .* logits \[7, 5, 3\]"):
        Classification(network, 3).loss(network(x), y)
    network.gives_members = True
    task = Classification(network, 3)
    each = [F.cross_entropy(x.view(7, 5, 3)[:, s], y) for s in range(5)]
    torch.testing.assert_close(task.loss(task(x), y), torch.stack(each).sum())


def test_balanced_weights_are_those_of_the_definition(tmp_path):
    labels = torch.tensor([0] * 30 + [1] * 10 + [2] * 20)
    weights = balanced_weights(labels, 4)
    torch.testing.assert_close(weights, torch.tensor([60 / 90, 60 / 30, 60 / 60, 1.0]))
    assert weights[labels].mean() == pytest.approx(1)
    task = Classification(MLP(4, (8,), 4), 4, class_weights="balanced")
    trainer(tmp_path, max_epochs=1).fit(task, datamodule=Labelled(torch.randn(60, 4), labels))
    torch.testing.assert_close(task.class_weights, weights)
    x = torch.randn(60, 4)
    each = F.cross_entropy(task(x), labels, reduction="none")
    expected = (each * weights[labels]).sum() / weights[labels].sum()
    torch.testing.assert_close(task.loss(task(x), labels), expected)


def test_balanced_weights_need_a_datamodule_that_knows(tmp_path, classes):
    task = Classification(MLP(4, (8,), 3), 3, class_weights="balanced")
    with pytest.raises(ValueError, match="labelled_targets"):
        trainer(tmp_path).fit(task, DataLoader(TensorDataset(*classes), batch_size=9))


@pytest.mark.parametrize("label", [-1, 3])
@pytest.mark.parametrize("offered", [True, False])
def test_a_label_that_is_no_class_is_named(tmp_path, classes, label, offered):
    x, y = classes
    y[5] = label
    task, data = Classification(MLP(4, (8,), 3), 3), Labelled(x, y)
    given = {"datamodule": data} if offered else {"train_dataloaders": data.train_dataloader()}
    with pytest.raises(ValueError, match=f"label {label} is none of the 3 classes 0 to 2"):
        trainer(tmp_path).fit(task, **given)
    with pytest.raises(ValueError, match=f"label {label} "):
        trainer(tmp_path).test(task, data.train_dataloader(), verbose=False)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Classification(MLP(4, (8,), 3), 1), ValueError, "2 classes"),
        (
            lambda: Classification(MLP(4, (8,), 3), 3, metrics=["acc"]),
            LookupError,
            "accuracy, auroc, balanced_accuracy, ece, nll",
        ),
        (lambda: Classification(MLP(4, (), 3), 3, class_weights=[1, 2]), ValueError, "3 numbers"),
        (lambda: Classification(MLP(4, (), 3), 3, optimizer="adma"), LookupError, "adam"),
        (lambda: Regression(MLP(4, (), 1), 0), ValueError, "1 output"),
        (lambda: Regression(MLP(4, (), 1), likelihood="huber"), ValueError, "huber"),
        (lambda: Regression(MLP(4, (), 1), metrics=["mse"]), LookupError, "mae, nll, rmse"),
        (lambda: Classification("mlp", 3), ValueError, "class_path"),
    ],
)
def test_mistakes_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_outputs_that_do_not_fit_are_named():
    task = Classification(MLP(4, (8,), 5), 3)
    with pytest.raises(ValueError, match="3 classes"):
        task.loss(task(torch.randn(2, 4)), torch.tensor([0, 1]))
    task = Regression(MLP(4, (8,), 2), outputs=2, likelihood="gaussian")
    with pytest.raises(ValueError, match="4 outputs"):
        task(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"\[n, 2\]"):
        Regression(MLP(4, (8,), 2), 2).loss(torch.randn(2, 2), torch.randn(2))


def test_batches_of_all_forms():
    task = Classification(MLP(4, (8,), 3), 3)
    a, b, y = torch.randn(3, 2, 4), torch.randn(2, 4), torch.tensor([0, 1])
    assert task.split([a, y])[0] is a
    assert task.split((a, b, y))[0] == (a, b)
    inputs, targets = task.split({"pixels": a, "label": y})
    assert list(inputs) == ["pixels"]
    assert targets is y
    for batch in ({"pixels": a}, a, [a]):
        with pytest.raises(ValueError, match=r"batch"):
            task.split(batch)


# --- regression --------------------------------------------------------------------------------


def fitted(tmp_path, x, y, **settings):
    torch.manual_seed(0)
    width = 4 if settings.get("likelihood") == "gaussian" else 2
    network = settings.pop("network", None) or MLP(4, (8,), width, activation="tanh")
    task = Regression(network, outputs=2, lr=0.02, **settings)
    trainer(tmp_path).fit(task, datamodule=Labelled(x, y))
    return task.eval()


@pytest.mark.parametrize("likelihood", ["mse", "gaussian"])
def test_an_affine_change_of_the_targets_changes_predictions_alike(tmp_path, values, likelihood):
    x, y = values
    scale, shift = torch.tensor([1e3, 0.01]), torch.tensor([-500.0, 7.0])
    a = fitted(tmp_path, x, y, likelihood=likelihood)
    b = fitted(tmp_path, x, y * scale + shift, likelihood=likelihood)
    (mean, variance), (mean_b, variance_b) = (t.predict_step(x, 0).values() for t in (a, b))
    torch.testing.assert_close(mean_b, mean * scale + shift, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(variance_b, variance * scale**2, rtol=1e-2, atol=0)
    torch.testing.assert_close(b.target_std, y.std(0, unbiased=False) * scale)


def test_standardisation_can_be_left_out(tmp_path, values):
    task = fitted(tmp_path, *values, standardize_targets=False)
    assert torch.equal(task.target_std, torch.ones(2))
    torch.testing.assert_close(task(values[0]), task.network(values[0]))


def test_constant_targets_are_left_alone(tmp_path):
    task = fitted(tmp_path, torch.randn(20, 4), torch.full((20, 2), 3.0))
    assert torch.equal(task.target_std, torch.ones(2))
    assert torch.equal(task.target_mean, torch.full((2,), 3.0))


def test_regression_metrics_by_hand(tmp_path, values):
    x, y = values
    task = fitted(tmp_path, x, y, likelihood="gaussian", network=Ensemble(MLP(4, (8,), 4), 3))
    run = trainer(tmp_path)
    run.test(task, datamodule=Labelled(x, y), verbose=False)
    got = run.callback_metrics
    assert set(got) == {f"test/{n}" for n in REGRESSION.names()}
    means, variances = task.moments(task.network(x))
    assert means.shape == (60, 3, 2)
    mean = means.mean(1)
    second = (variances + means**2).mean(1)  # moments of the mixture
    nll = -torch.distributions.Normal(mean, (second - mean**2).sqrt()).log_prob(y).sum(1).mean()
    assert got["test/mae"] == pytest.approx((mean - y).abs().mean().item(), rel=1e-4)
    assert got["test/rmse"] == pytest.approx((mean - y).square().mean().sqrt().item(), rel=1e-4)
    assert got["test/nll"] == pytest.approx(nll.item(), rel=1e-4)
    torch.testing.assert_close(task(x), mean.float())


def test_gaussian_loss_is_the_likelihood_up_to_a_constant():
    task = Regression(MLP(4, (8,), 4), outputs=2, likelihood="gaussian")
    raw, y = torch.randn(9, 4), torch.randn(9, 2)
    mean, variance = task.moments(raw)
    density = -torch.distributions.Normal(mean, variance.sqrt()).log_prob(y).mean()
    torch.testing.assert_close(task.loss(raw, y).double(), density - 0.5 * math.log(2 * math.pi))


def test_noise_is_the_residual_of_the_last_epoch(tmp_path, values):
    x, y = values
    torch.manual_seed(0)
    task = Regression(MLP(4, (8,), 2), outputs=2, lr=0.0)
    trainer(tmp_path, max_epochs=2).fit(task, datamodule=Labelled(x, y))
    mean, variance = task.predict_step(x, 0).values()
    residual = (mean - y).square().mean(0)
    torch.testing.assert_close(variance, residual.expand(60, 2), rtol=1e-4, atol=0)
    before = task.noise.clone()
    trainer(tmp_path).validate(task, datamodule=Labelled(x, y), verbose=False)
    assert torch.equal(task.noise, before)


def test_members_of_a_regression_train_alone(tmp_path, values):
    torch.manual_seed(0)
    ensemble = Ensemble(MLP(4, (8,), 2), 2)
    starts = [{k: v.clone() for k, v in m.state_dict().items()} for m in ensemble.members]
    fitted(tmp_path, *values, network=ensemble)
    for member, start in zip(ensemble.members, starts, strict=True):
        network = MLP(4, (8,), 2)
        network.load_state_dict(start)
        alone = fitted(tmp_path, *values, network=network)
        torch.testing.assert_close(
            member(values[0]), alone.network(values[0]), rtol=1e-4, atol=1e-5
        )


# --- checkpoints -------------------------------------------------------------------------------


TASKS = {
    "classification": lambda: Classification(MLP(4, (8,), 3, 0.1), 3, class_weights="balanced"),
    "ensemble": lambda: Classification(Ensemble(MLP(4, (8,), 3), 2), 3, metrics=["nll"]),
    "from a spec": lambda: Classification(
        {
            "class_path": "lightning_al.networks.MLP",
            "init_args": {"in_features": 4, "outputs": 3},
        },
        classes=3,
        optimizer="sgd",
    ),
    "regression": lambda: Regression(MLP(4, (8,), 1), likelihood="mse"),
    "gaussian": lambda: Regression(MLP(4, (8,), 2), likelihood="gaussian", metrics=["mae"]),
}


@pytest.mark.parametrize("name", TASKS)
def test_checkpoints_load_with_plain_lightning(name, tmp_path, classes):
    task, (x, y) = TASKS[name](), classes
    y = y.float() * 10 if isinstance(task, Regression) else y
    run = trainer(tmp_path)
    run.fit(task, datamodule=Labelled(x, y))
    run.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = type(task).load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True).eval()
    assert again.hparams == task.hparams
    assert again.network.spec == task.network.spec
    torch.testing.assert_close(again(x), task.eval()(x))
    assert again.state_dict().keys() == task.state_dict().keys()
    for key, value in task.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    assert list(again.val_metrics) == list(task.val_metrics)


def test_a_foreign_network_is_given_again(tmp_path, classes):
    task = Classification(nn.Linear(4, 3), 3)
    run = trainer(tmp_path)
    run.fit(task, datamodule=Labelled(*classes))
    run.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(TypeError, match="network"):
        Classification.load_from_checkpoint(tmp_path / "a.ckpt")
    again = Classification.load_from_checkpoint(tmp_path / "a.ckpt", network=nn.Linear(4, 3))
    torch.testing.assert_close(again(classes[0]), task(classes[0]))


# --- adapters ----------------------------------------------------------------------------------


class Foreign(pl.LightningModule):
    """Nothing inherited, nothing registered."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def features(self, x):
        return self.backbone(x).mean((2, 3))

    def forward(self, x):
        return {"logits": self.logits(x)}

    def logits(self, x):
        return self.head(self.features(x))

    def probabilities(self, x):
        return self.logits(x).softmax(1)

    def scalar(self, x):
        return self.logits(x).sum()


def test_any_lightning_module_can_be_read():
    module, x = Foreign().eval(), torch.randn(5, 1, 8, 8)
    assert Adapter.for_task(module) == Adapter()
    for embedding, shape in (
        ("features", (5, 4)),
        ("head:input", (5, 4)),
        ("head", (5, 3)),
        ("backbone", (5, 4 * 36)),
        (("features", "head"), (5, 7)),
    ):
        adapter = Adapter(output="logits", embedding=embedding)
        raw, found = adapter.run(module, x, embedding=True)
        assert found.shape == shape
        torch.testing.assert_close(raw, module.logits(x))
    torch.testing.assert_close(
        embeddings(module, x, Adapter("logits", "features")),
        embeddings(module, x, Adapter("logits", "head:input")),
    )
    assert not any(m._forward_hooks for m in module.modules())


def test_readings_of_the_output_agree():
    module, x = Foreign().eval(), torch.randn(5, 1, 8, 8)
    both = ["probs", "logits"]
    a = plain(module, x, both, Adapter("logits"))
    b = plain(module, x, both, Adapter("probabilities", output_is="probs"))
    assert a.probs.shape == (5, 1, 3)
    torch.testing.assert_close(a.probs, b.probs)
    torch.testing.assert_close(b.logits.softmax(2), a.probs)


def fields(adapter, raw, needs):
    return adapter.reading.fields(adapter.sampled(raw), needs)


def test_half_precision_outputs_become_float32():
    got = fields(Adapter(), torch.randn(4, 3).bfloat16(), ["probs", "logits"])
    assert {v.dtype for v in got.values()} == {torch.float32}


def test_regression_outputs_are_split():
    raw = torch.randn(5, 4)
    plain = Adapter(kind="regression")
    assert fields(plain, raw, ["mean"])["mean"].shape == (5, 1, 4)
    gaussian = Adapter(kind="regression", output_is="gaussian")
    got = fields(gaussian, raw, ["mean", "variance"])
    torch.testing.assert_close(got["variance"][:, 0], raw[:, 2:].exp())
    own = Adapter(kind="regression", output_is=lambda out: (out[..., :1], out[..., 1:2].abs()))
    torch.testing.assert_close(fields(own, raw, ["variance"])["variance"][:, 0], raw[:, 1:2].abs())
    assert fields(plain, raw[:, 0], ["mean"])["mean"].shape == (5, 1, 1)
    with pytest.raises(LookupError, match="gaussian"):
        fields(plain, raw, ["variance"])


@pytest.mark.parametrize(
    ("adapter", "error", "words"),
    [
        (Adapter("logit"), LookupError, "logits"),
        (Adapter("logits", "haed:input"), LookupError, "head"),
        (Adapter("logits"), LookupError, "Adapter.embedding="),
        (Adapter("features", "head"), LookupError, "never calls"),
        (Adapter("forward", "head"), ValueError, "got dict"),
        (Adapter("scalar", "head"), ValueError, r"tensor \[n, \.\.\.\], got \[\]"),
        (Adapter("logits", "scalar"), ValueError, "one row an item"),
    ],
)
def test_adapters_that_do_not_fit_say_so(adapter, error, words):
    module = Foreign().eval()
    with pytest.raises(error, match=words):
        adapter.run(module, torch.randn(5, 1, 8, 8), embedding=True)
    assert not any(m._forward_hooks for m in module.modules())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "ranking"}, "kind must be classification or regression, got 'ranking'"),
        ({"output_is": "mean"}, "given is one of logits, probs, log_probs, got 'mean'"),
        ({"kind": "regression", "output_is": "logits"}, "given is 'mean', 'gaussian' or a funct"),
        ({"kind": "classification", "output_is": lambda out: out}, "for kind='regression' only"),
        ({"reading": "classes", "kind": "classification"}, "short for a reading; give either"),
        ({"pool": "median"}, "pool is 'flatten' or 'mean', got 'median'"),
    ],
)
def test_adapters_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Adapter(**arguments)


def test_the_adapter_of_a_subclass_calls_its_forward():
    class Scaled(Classification):
        def forward(self, x):
            return super().forward(x) * 2

    task, x = Scaled(MLP(4, (8,), 3), 3), torch.randn(5, 4)
    torch.testing.assert_close(task.adapter.outputs(task, x), 2 * task.network(x))
    assert embeddings(task, x).shape == (5, 8)


def test_facts_of_a_task():
    assert issubclass(Classification, Task)
    for cls in (Classification, Regression):
        assert cls.full_batch is False
        assert cls.uses_unlabelled is False
