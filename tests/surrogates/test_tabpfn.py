"""TabPFN as a task, by a fake with its interface: what is asked of it, and what becomes of it."""

import math
import sys
import types

import numpy as np
import pytest
import torch

from lightning_al.surrogates.bars import Bars
from lightning_al.tasks import TabPFNClassification, TabPFNRegression

EDGES = torch.linspace(-3, 3, 31)


class Criterion:
    borders = EDGES
    bucket_widths = EDGES.diff()

    def _probs(self, logits):
        assert logits.dtype == torch.float32  # the library's own: it multiplies with its borders
        return logits.softmax(-1)

    def mean(self, logits):
        return self._probs(logits) @ (EDGES[1:] + EDGES[:-1]).div(2)

    def variance(self, logits):
        middle = (EDGES[1:] + EDGES[:-1]) / 2
        return self._probs(logits) @ middle.square() - self.mean(logits).square()


class Regressor:
    fits = 0

    def __init__(self, *, n_estimators, random_state):
        assert (n_estimators, random_state) == (2, 0)

    def fit(self, x, y):
        assert len(y) >= 2
        assert len(set(y)) > 1
        type(self).fits += 1
        self.x, self.y = x, y
        return self

    def predict(self, x, *, output_type):
        assert output_type == "full"
        gap = ((x[:, None] - self.x[None]) ** 2).sum(-1)
        near, far = self.y[gap.argmin(1)], np.sqrt(gap.min(1))
        middle = (EDGES[1:] + EDGES[:-1]).numpy() / 2
        off = (middle - near[:, None]) / (0.3 + far[:, None])
        logits = torch.from_numpy(-0.5 * off**2).float()
        return {"criterion": Criterion(), "logits": logits}


class Classifier:
    def __init__(self, *, n_estimators, random_state):
        pass

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        count = len(self.classes_)
        probs = np.full((len(x), count), 0.1)
        probs[:, 0] = 1 - 0.1 * (count - 1)
        return probs


@pytest.fixture
def library(monkeypatch):
    fake = types.ModuleType("tabpfn")
    fake.TabPFNRegressor, fake.TabPFNClassifier = Regressor, Classifier
    monkeypatch.setitem(sys.modules, "tabpfn", fake)
    Regressor.fits = 0
    return fake


def data(n=8, seed=0):
    it = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, generator=it, dtype=torch.float64)
    return x, 40 + 5 * x.sum(1)


def learnt(**settings):
    task = TabPFNRegression(1, 2, **settings)
    task.learn(*data())
    return task


def test_moments_are_the_criterions_in_target_units(library):
    task, points = learnt(), data(5, 1)[0]
    mean, spread, noise, total = task.moments(points)
    told = Regressor(n_estimators=2, random_state=0).fit(task.x.numpy(), task.y[:, 0].numpy())
    out = told.predict(points.numpy(), output_type="full")
    unit = float(task.target_std)
    criterion, logits = out["criterion"], out["logits"]
    wanted = criterion.mean(logits).double() * unit + task.target_mean
    torch.testing.assert_close(mean[:, 0], wanted)
    torch.testing.assert_close(total[:, 0], criterion.variance(logits).double() * unit**2)
    torch.testing.assert_close(spread, total)
    assert float(noise.abs().max()) == 0


def test_the_context_is_read_once_for_a_pool(library):
    task = learnt()
    for _ in range(3):
        task.moments(data(5, 1)[0])
    assert Regressor.fits == 1
    task.learn(*data(9))
    task.moments(data(5, 1)[0])
    assert Regressor.fits == 2


def test_entropy_is_that_of_the_buckets(library):
    task, points = learnt(variance="entropy"), data(5, 1)[0]
    told, _ = task.ask(0, points)
    probs = told.logits.double().softmax(-1)
    exact = (probs * (EDGES.diff().double().log() - probs.log())).sum(-1)
    torch.testing.assert_close(told.entropy(), exact)
    spread = task.moments(points)[1][:, 0] / task.target_std.square()
    torch.testing.assert_close(0.5 * (2 * math.pi * math.e * spread).log(), exact)
    # ours without its tails is the same where hardly anything lies in them
    ours = Bars(EDGES.double(), told.logits.double()).entropy()
    torch.testing.assert_close(ours, exact, atol=0.15, rtol=0)


@pytest.mark.parametrize("n", [1, 3])
def test_labels_that_are_alike_never_reach_the_library(n, library):
    task = TabPFNRegression(1, 2)
    task.learn(data(n)[0], torch.full((n,), 7.0))
    mean, spread, _, _ = task.moments(data(4, 1)[0])
    torch.testing.assert_close(mean, torch.full((4, 1), 7.0, dtype=torch.float64))
    assert bool((spread > 0).all())
    assert Regressor.fits == 0


def test_members_have_the_variance_of_an_answer(library):
    task, points = learnt(), data(5, 1)[0]
    raw = task.posterior.start(0, 0).members(task, task.adapter, points, 5).raw
    mean = task.adapter.reading.fields(raw, ["mean"])["mean"]
    torch.testing.assert_close(mean.var(1, unbiased=False), task.moments(points)[1])


def test_classes_that_nobody_labelled_have_no_chance(library):
    task = TabPFNClassification(4)
    points = data(3, 1)[0]
    torch.testing.assert_close(task(points), torch.full((3, 4), 0.25).double())
    task.learn(data(5)[0], torch.full((5,), 2))
    assert task(points).argmax(1).tolist() == [2, 2, 2]
    task.learn(data(5)[0], torch.tensor([3, 1, 3, 1, 3]))
    torch.testing.assert_close(task(points), torch.tensor([[0, 0.9, 0, 0.1]] * 3).double())
    assert task.predict_step((points, None), 0).shape == (3, 4)
    with pytest.raises(ValueError, match="label"):
        task.learn(data(2)[0], torch.tensor([0, 4]))


@pytest.mark.parametrize("kind", [TabPFNRegression, TabPFNClassification])
def test_without_the_library_the_command_is_named(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "tabpfn", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-al\[tabpfn\]'"):
        kind(2)


def test_without_weights_their_file_and_folder_are_named(library, monkeypatch):
    def fail(self, x, y):
        raise RuntimeError("no connection")

    monkeypatch.setattr(Regressor, "fit", fail)
    task = learnt()
    with pytest.raises(LookupError, match=r"regressor.*\.ckpt file.*TABPFN_MODEL_CACHE_DIR"):
        task.moments(data(2)[0])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"estimators": 0}, "estimators must be at least 1"),
        ({"variance": "latent"}, "does not tell the noise"),
        ({"outputs": 0}, "1 output or more"),
    ],
)
def test_settings_that_make_no_sense(settings, wanted, library):
    with pytest.raises(ValueError, match=wanted):
        TabPFNRegression(**settings)
    with pytest.raises(ValueError, match="2 classes or more"):
        TabPFNClassification(1)
