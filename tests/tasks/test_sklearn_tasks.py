"""Scikit-learn estimators as tasks: members, missing classes, checkpoints without pickles."""

import functools
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from helpers.reading import plain
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_al import ActiveLearner, replay
from lightning_al.tasks import SklearnClassification, SklearnRegression
from lightning_al.tasks.sklearn import find_estimator

TRAINER = small.TRAINER | {"max_epochs": 1}
QUIET = TRAINER | {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
FEW = {"n_estimators": 7}


def line(n, seed=0):
    return small.line(n, seed)[torch.arange(n)]


def blobs(n, seed=0, noise=0.7):
    return small.blobs(n, seed, noise)[torch.arange(n)]


def fitted(task, data):
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), len(data[1]))
    torch.manual_seed(0)
    pl.Trainer(**QUIET).fit(task, loader)
    return task


def predict(task, x, needs):
    return plain(task, x, needs)


def learner(run_dir, task, strategy, regression=False):
    items = small.line(), small.line(30, 1)
    datamodule = small.datamodule(*items) if regression else small.datamodule()
    datamodule.classes = None if regression else small.CLASSES
    return ActiveLearner(task, datamodule, strategy, 5, 10, trainer=TRAINER, run_dir=run_dir)


@pytest.mark.parametrize(
    ("task", "strategy", "regression"),
    [
        (functools.partial(SklearnClassification, classes=3, params=FEW), "bald", False),
        (functools.partial(SklearnClassification, "LogisticRegression", 3), "entropy", False),
        (functools.partial(SklearnRegression, params=FEW), "variance", True),
        (
            functools.partial(SklearnRegression, "GaussianProcessRegressor"),
            {"name": "variance", "aleatoric": True},
            True,
        ),
    ],
)
def test_rounds_a_replay_and_a_checkpoint(tmp_path, task, strategy, regression):
    run = learner(tmp_path / "run", task, strategy, regression)
    history = run.run()
    assert [r.batches for r in history.rounds] == [1, 1, 1]
    metrics = history.rounds[-1].metrics
    assert ("test/mse" if regression else "test/accuracy") in metrics
    again = replay(tmp_path / "run", 1, run)
    saved = small.weights(tmp_path / "run" / "checkpoints" / "round-001.ckpt")
    assert small.same_weights(dict(again.state_dict()), saved)
    loaded = task.func.load_from_checkpoint(tmp_path / "run" / "checkpoints" / "round-001.ckpt")
    x = line(20, 3)[0]
    torch.testing.assert_close(loaded(x), again(x), rtol=0, atol=0)
    # the same run again gives the same acquisitions: the seeds are the run's
    other = learner(tmp_path / "other", task, strategy, regression).run()
    assert other.acquired == history.acquired


def test_a_checkpoint_holds_tensors_and_plain_values_only(tmp_path):
    task = functools.partial(SklearnClassification, classes=3, params=FEW)
    history = learner(tmp_path / "run", task, "bald").run()
    state = torch.load(history.final_checkpoint, weights_only=True)
    assert set(state["state_dict"]) == {"x", "y", "random_state"}
    assert state["hyper_parameters"]["params"] == FEW


# --- members -------------------------------------------------------------------------------------


def forests():
    scaled = make_pipeline(StandardScaler(), RandomForestClassifier(5))
    bagged = BaggingClassifier(LogisticRegression(), 5, max_features=2)
    voted = VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft")
    return {
        "forest": (RandomForestClassifier(5), 5),
        "pipeline": (scaled, 5),
        "bagging": (bagged, 5),
        "voting": (voted, 2),
    }


@pytest.mark.parametrize("name", forests())
@pytest.mark.parametrize("present", [[0, 1, 2], [0, 2], [1, 2]])
def test_members_average_to_the_ensemble_with_columns_for_all_classes(name, present):
    estimator, members = forests()[name]
    x, y = blobs(40)
    keep = torch.isin(y, torch.tensor(present))
    task = fitted(SklearnClassification(estimator, 4), (x[keep], y[keep]))
    points = blobs(25, 1, noise=2.0)[0]
    probs = predict(task, points, ["probs"]).probs
    assert probs.shape == (25, members, 4)
    torch.testing.assert_close(probs.sum(2), torch.ones(25, members))
    wanted = np.zeros((25, 4))
    wanted[:, present] = task.estimator().predict_proba(points.double().numpy())
    np.testing.assert_allclose(probs.mean(1).numpy(), wanted, atol=1e-6)


def test_members_of_a_regression_forest_are_its_trees():
    for outputs in (1, 2):
        x, y = line(40)
        y = y if outputs == 1 else torch.stack([y, 2 - y], 1)
        task = fitted(SklearnRegression(ExtraTreesRegressor(6), outputs), (x, y))
        points = line(20, 1)[0]
        mean = predict(task, points, ["mean"]).mean
        assert mean.shape == (20, 6, outputs)
        for s, tree in enumerate(task.estimator().estimators_):
            told = tree.predict(points.double().numpy()).reshape(20, outputs)
            np.testing.assert_allclose(mean[:, s].numpy(), told, atol=1e-5)
        assert task(points).shape == (20, outputs)


@pytest.mark.parametrize(
    ("offset", "scale", "warned"),
    [(0, 1, 0), (1e3, 1, 0), (-1e6, 1, 1), (1e9, 1, 1), (0, 1e-9, 1), (0, 1e9, 0), (1e9, 1e9, 0)],
)
def test_targets_that_cost_digits_are_spoken_of(offset, scale, warned):
    x, y = line(20)
    goal = offset + scale * y.double()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        SklearnRegression("Ridge", standardize_targets=True).learn(x, goal)
        assert not said
        SklearnRegression("Ridge").learn(x, goal)
    assert len(said) == warned
    assert all("pass standardize_targets=True" in str(one.message) for one in said)


@pytest.mark.parametrize("estimator", [GaussianProcessRegressor(alpha=0.1), BayesianRidge()])
def test_estimators_that_know_their_deviation_give_a_variance(estimator):
    x, y = line(30)
    task = fitted(SklearnRegression(estimator), (x, y))
    points = line(20, 1)[0]
    said = predict(task, points, ["mean", "variance"])
    estimator.fit(x.double().numpy(), y.double().numpy())
    mean, std = estimator.predict(points.double().numpy(), return_std=True)
    np.testing.assert_allclose(said.mean[:, 0, 0].numpy(), mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(said.variance[:, 0, 0].numpy(), std**2, rtol=1e-4, atol=1e-5)


def test_an_estimator_without_a_variance_says_so():
    task = fitted(SklearnRegression("Ridge"), line(20))
    with pytest.raises(LookupError, match="variance"):
        predict(task, line(5)[0], ["variance"])


# --- states and seeds ----------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["RandomForestClassifier", "LogisticRegression"])
def test_one_class_and_none(estimator):
    x = blobs(10)[0]
    task = SklearnClassification(estimator, 3)
    torch.testing.assert_close(task(x).mean(1), torch.full((10, 3), 1 / 3).double())
    fitted(task, (x, torch.full((10,), 2)))
    torch.testing.assert_close(task(x).mean(1), torch.tensor([[0.0, 0.0, 1.0]] * 10).double())


def test_seeds_that_are_set_stay_and_others_are_drawn():
    data = blobs(40, noise=3.0)
    set_, free = (
        SklearnClassification("RandomForestClassifier", 3, {**FEW, **more})
        for more in ({"random_state": 5}, {})
    )
    fitted(set_, data), fitted(free, data)
    theirs = RandomForestClassifier(**FEW, random_state=5)
    theirs.fit(data[0].double().numpy(), data[1].numpy())
    points = blobs(30, 1, noise=3.0)[0]
    wanted = theirs.predict_proba(points.double().numpy())
    np.testing.assert_allclose(set_(points).mean(1), wanted)
    assert free.estimator().random_state == int(free.random_state)
    first = free(points)
    free.forget()
    torch.testing.assert_close(free(points), first, rtol=0, atol=0)
    nested = make_pipeline(StandardScaler(), RandomForestClassifier(5))
    task = fitted(SklearnClassification(nested, 3), data)
    assert task.estimator()[-1].random_state == int(task.random_state)


def test_moving_the_task_does_not_fit_it_again():
    task = fitted(SklearnRegression(params=FEW), line(20))
    before = task.estimator()
    assert task.cpu().double().estimator() is before


def test_an_instance_is_rebuilt_where_its_arguments_are_plain(tmp_path):
    plain = SklearnClassification(RandomForestClassifier(5, max_depth=2), 3)
    assert plain.hparams["params"]["max_depth"] == 2
    held = SklearnClassification(forests()["bagging"][0], 3)
    assert "estimator" not in held.hparams
    given = RandomForestRegressor(5)
    task = SklearnRegression(given, params={"max_depth": 3})
    assert task.recipe.max_depth == 3
    assert given.max_depth is None  # a copy was taken


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: SklearnClassification(), ValueError, "2 classes"),
        (lambda: SklearnClassification("SVC", 3), ValueError, "CalibratedClassifierCV"),
        (lambda: SklearnClassification("RandomForestClasifier", 3), LookupError, "did you mean"),
        (
            lambda: SklearnClassification("no.such.Thing", 3),
            LookupError,
            "no estimator at 'no.such.Thing'",
        ),
        (
            lambda: SklearnRegression("sklearn.svm.SVRR"),
            LookupError,
            r"no estimator at 'sklearn\.svm\.SVRR' \(did you mean 'SVR'\?\)",
        ),
        (lambda: SklearnRegression(outputs=0), ValueError, "1 output"),
        (lambda: SklearnRegression("StandardScaler"), ValueError, "no predict"),
    ],
)
def test_settings_that_make_no_sense(build, error, words):
    with pytest.raises(error, match=words):
        build()


def test_estimators_are_found_by_name_and_by_path():
    assert find_estimator("RandomForestClassifier") is RandomForestClassifier
    assert find_estimator("sklearn.preprocessing.StandardScaler") is StandardScaler


def test_inputs_of_several_tensors_are_refused():
    task = SklearnRegression()
    with pytest.raises(ValueError, match="one tensor of features"):
        task.features((torch.ones(3, 2), torch.ones(3, 2)))
