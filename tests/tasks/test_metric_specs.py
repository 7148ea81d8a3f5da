"""Metrics that users name: any torchmetrics class, or their own, through tasks and checkpoints."""

import copy
import doctest
import functools
import math
import pickle

import pytest
import pytorch_lightning as pl
import torch
import torchmetrics
from helpers import small
from helpers.configured import configured
from helpers.user_metrics import Brier, Spread, no_metric
from scipy import stats
from sklearn import metrics as sk
from torch.utils.data import DataLoader, TensorDataset

from lightning_al.cli import main
from lightning_al.networks import MLP
from lightning_al.tasks import (
    Classification,
    GPClassification,
    GPRegression,
    Regression,
    SklearnRegression,
    metric_specs,
    plain_values,
)
from lightning_al.tasks.metric_specs import ChosenMetrics
from lightning_al.tasks.metrics import CLASSIFICATION, MULTILABEL, REGRESSION

F1 = "torchmetrics.classification.MulticlassF1Score"
FBETA = "torchmetrics.classification.MulticlassFBetaScore"
QUIET = small.TRAINER | {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def classifier(metrics, classes=3):
    return Classification(MLP(4, (8,), classes), classes, metrics=metrics)


def blobs(n=60):
    return small.blobs(n)[torch.arange(n)]


def outcome(task, x, y):
    """What the test logs, and what the task predicts."""
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    trainer = pl.Trainer(**QUIET)
    (found,) = trainer.test(task, loader, verbose=False)
    with torch.no_grad():
        return found, task.eval().predict_step(x, 0)


# --- figures -------------------------------------------------------------------------------------


def test_every_way_to_name_one_gives_what_scikit_learn_gives():
    x, y = blobs()
    own_name = {"name": "f2", "class_path": FBETA, "init_args": {"beta": 2.0}}
    half = {"class_path": FBETA, "init_args": {"beta": 0.5, "average": "micro"}}
    task = classifier(
        [
            "accuracy",
            F1,
            "torchmetrics.CohenKappa",
            own_name,
            half,
            {"name": "ece", "bins": 5},
            torchmetrics.classification.MulticlassMatthewsCorrCoef(3),
            torchmetrics.classification.MulticlassJaccardIndex,
            functools.partial(torchmetrics.classification.MulticlassRecall, average="weighted"),
            lambda: Brier(2.0),
        ]
    )
    found, probs = outcome(task, x, y)
    said = probs.argmax(1)
    wanted = {
        "accuracy": sk.accuracy_score(y, said),
        "multiclass_f1_score": sk.f1_score(y, said, average="macro"),
        "cohen_kappa": sk.cohen_kappa_score(y, said),
        "f2": sk.fbeta_score(y, said, beta=2.0, average="macro"),
        "multiclass_f_beta_score": sk.fbeta_score(y, said, beta=0.5, average="micro"),
        "multiclass_matthews_corr_coef": sk.matthews_corrcoef(y, said),
        "multiclass_jaccard_index": sk.jaccard_score(y, said, average="macro"),
        "multiclass_recall": sk.recall_score(y, said, average="weighted"),
        "brier": 2 * (probs - torch.eye(3)[y]).square().sum(1).mean().item(),
    }
    assert {f"test/{name}" for name in wanted} | {"test/ece"} == set(found)
    for name, value in wanted.items():
        assert found[f"test/{name}"] == pytest.approx(value, abs=1e-5), name
    assert 0 <= found["test/ece"] <= 1


def test_metrics_of_two_classes_are_fed_the_probability_of_the_second():
    x, y = blobs()
    y = y % 2
    named = [f"torchmetrics.classification.Binary{name}" for name in ("AUROC", "AveragePrecision")]
    named.append({"class_path": "torchmetrics.F1Score", "init_args": {"task": "binary"}})
    found, probs = outcome(classifier(named, 2), x, y)
    assert found["test/binary_auroc"] == pytest.approx(sk.roc_auc_score(y, probs[:, 1]), abs=1e-5)
    wanted = sk.average_precision_score(y, probs[:, 1])
    assert found["test/binary_average_precision"] == pytest.approx(wanted, abs=1e-5)
    assert found["test/f1_score"] == pytest.approx(sk.f1_score(y, probs.argmax(1)), abs=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_metrics_of_numbers_over_one_output_and_the_mean_over_several(outputs):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 4, generator=g), torch.randn(50, outputs, generator=g)
    task = Regression(
        MLP(4, (8,), outputs),
        outputs,
        metrics=[
            "torchmetrics.R2Score",
            "torchmetrics.PearsonCorrCoef",
            "torchmetrics.MeanAbsoluteError",
            Spread,
        ],
    )
    found, said = outcome(task, x, y)
    mean, variance = said["mean"], said["variance"]
    columns = range(outputs)
    r2 = sum(sk.r2_score(y[:, d], mean[:, d]) for d in columns) / outputs
    r = sum(stats.pearsonr(y[:, d], mean[:, d]).statistic for d in columns) / outputs
    assert found["test/r2_score"] == pytest.approx(r2, rel=1e-4)
    assert found["test/pearson_corr_coef"] == pytest.approx(r, rel=1e-3, abs=1e-5)
    error = (mean - y).abs().mean().item()
    assert found["test/mean_absolute_error"] == pytest.approx(error, rel=1e-5)
    spread = ((mean - y).square() / variance).mean()
    assert found["test/spread"] == pytest.approx(float(spread), rel=1e-4)


def test_metrics_of_labels_are_given_how_many_there_are():
    g = torch.Generator().manual_seed(0)
    probs, targets = torch.rand(40, 3, generator=g), torch.randint(2, (40, 3), generator=g)
    named = [
        "torchmetrics.classification.MultilabelRankingAveragePrecision",
        "torchmetrics.HammingDistance",
        "nll",
    ]
    metrics = ChosenMetrics.of(MULTILABEL, named, {"labels": 3})()
    for rows in torch.arange(40).split(16):
        for metric in metrics.values():
            metric.update(probs[rows], targets[rows])
    wanted = {
        "multilabel_ranking_average_precision": sk.label_ranking_average_precision_score(
            targets, probs
        ),
        "hamming_distance": sk.hamming_loss(targets, probs > 0.5),
        "nll": torch.nn.functional.binary_cross_entropy(probs, targets.float()).item() * 3,
    }
    got = {name: float(metric.compute()) for name, metric in metrics.items()}
    assert got == pytest.approx(wanted, rel=1e-4)


def test_full_batch_tasks_take_them_too():
    x, y = blobs()
    task = GPClassification(3, metrics=["nll", F1])
    task.learn(x, y)
    found, probs = outcome(task, x, y)
    wanted = sk.f1_score(y, probs.argmax(1), average="macro")
    assert found["test/multiclass_f1_score"] == pytest.approx(wanted, abs=1e-5)
    for task in (
        GPRegression(metrics=["mse", "torchmetrics.ExplainedVariance"]),
        SklearnRegression("Ridge", metrics=["mse", "torchmetrics.ExplainedVariance"]),
    ):
        task.learn(x, x.sum(1))
        found, said = outcome(task, x, x.sum(1))
        wanted = sk.explained_variance_score(x.sum(1), said["mean"][:, 0])
        assert found["test/explained_variance"] == pytest.approx(wanted, abs=1e-4)


def test_the_safety_measurement_is_left_out_of_them_as_well():
    x, _ = blobs()
    y = torch.stack([x.sum(1), 100 * x[:, 0].sin()], 1)
    task = GPRegression(2, safety=True, metrics=["torchmetrics.MeanAbsoluteError", "mae"])
    task.learn(x, y)
    found, _ = outcome(task, x, y)
    assert found["test/mean_absolute_error"] == pytest.approx(found["test/mae"], rel=1e-6)


def test_probabilities_that_rounding_takes_above_one_stay_probabilities():
    """torchmetrics would take them for logits."""
    (metric,) = ChosenMetrics.of(CLASSIFICATION, [Brier], {"classes": 2})().values()
    metric.update(torch.tensor([[1e-7, -30.0]]), torch.tensor([0]))
    assert float(metric.compute()) == pytest.approx(0.0, abs=1e-12)


def test_a_batch_without_items_is_passed_over():
    metrics = ChosenMetrics.of(CLASSIFICATION, [F1, "accuracy"], {"classes": 3})()
    for metric in metrics.values():
        metric.update(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
        metric.update(torch.eye(3).log(), torch.arange(3))
        assert float(metric.compute()) == 1.0
        metric.reset()
        metric.update(torch.eye(3).log(), torch.tensor([1, 2, 0]))
        assert float(metric.compute()) == 0.0


def test_metrics_are_fresh_each_time_and_can_be_copied():
    given = Brier()
    given.update(torch.eye(3), torch.tensor([1, 2, 0]))
    chosen = ChosenMetrics.of(CLASSIFICATION, [given, F1], {"classes": 3})
    a, b = chosen(), copy.deepcopy(pickle.loads(pickle.dumps(chosen)))()
    for metrics in (a, b):
        for metric in metrics.values():
            metric.update(torch.eye(3).log(), torch.arange(3))
        assert float(metrics["brier"].compute()) == 0.0  # not what the given one was fed
    copied = copy.deepcopy(a)
    copied["brier"].update(torch.eye(3).log(), torch.tensor([1, 2, 0]))
    assert float(copied["brier"].compute()) == pytest.approx(1.0)
    assert float(a["brier"].compute()) == 0.0


def test_a_trial_leaves_the_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ChosenMetrics.of(REGRESSION, ["torchmetrics.SpearmanCorrCoef", Spread], {"outputs": 2})
    assert torch.equal(torch.get_rng_state(), before)


# --- checkpoints and the command line ------------------------------------------------------------


def test_hyper_parameters_stay_plain_values(tmp_path):
    kept = [
        "accuracy",
        F1,
        {"name": "f2", "class_path": FBETA, "init_args": {"beta": 2.0}},
        {"name": "ece", "bins": 5},
    ]
    classes = [torchmetrics.CohenKappa, functools.partial(Brier, scale=3.0)]
    objects = [torchmetrics.classification.MulticlassMatthewsCorrCoef(3), lambda: Spread()]
    task = Regression(MLP(4, (8,), 1), 1, metrics=["mae", *objects[1:]])
    assert task.hparams["metrics"] == ["mae"]
    task = classifier([*kept, *classes, *objects[:1]])
    paths = [
        "torchmetrics.classification.cohen_kappa.CohenKappa",
        {"class_path": "helpers.user_metrics.Brier", "init_args": {"scale": 3.0}},
    ]
    assert task.hparams["metrics"] == [*kept, *paths]
    x, y = blobs()
    trainer = pl.Trainer(**QUIET)
    trainer.fit(task, DataLoader(TensorDataset(x, y), 16))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    again = Classification.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    before, after = outcome(task, x, y)[0], outcome(again, x, y)[0]
    assert set(before) - set(after) == {"test/multiclass_matthews_corr_coef"}
    assert after == pytest.approx({name: before[name] for name in after}, abs=1e-6)
    given = Classification.load_from_checkpoint(tmp_path / "a.ckpt", metrics=objects[:1])
    assert set(outcome(given, x, y)[0]) == {"test/multiclass_matthews_corr_coef"}


def test_a_configuration_names_them():
    spec = {
        "class_path": "lightning_al.tasks.Classification",
        "init_args": {
            "network": {
                "class_path": "lightning_al.networks.MLP",
                "init_args": {"in_features": 4, "outputs": 3},
            },
            "classes": 3,
            "metrics": ["nll", F1, {"class_path": FBETA, "init_args": {"beta": 2.0}}],
        },
    }
    task = configured(spec)
    assert list(task.val_metrics) == ["nll", "multiclass_f1_score", "multiclass_f_beta_score"]
    assert task.val_metrics["multiclass_f_beta_score"].metric.beta == 2.0


def test_a_run_of_the_command_line_records_them_and_goes_on(tmp_path):
    named = f"[accuracy, {F1}, {{name: f2, class_path: {FBETA}, init_args: {{beta: 2.0}}}}]"
    run = tmp_path / "run"
    settings = ["--model.metrics", named, "--trainer.max_epochs", "1", "--progress", "false"]
    short = ["--query_size", "5", "--budget", "5", "--run_dir", str(run)]
    (history,) = main(["run", "--config", "quickstart", *settings, *short])
    names = {"test/accuracy", "test/multiclass_f1_score", "test/f2"}
    assert {m for m in history.rounds[-1].metrics if m.startswith("test/")} == names
    assert all(math.isfinite(history.rounds[-1].metrics[name]) for name in names)
    (again,) = main(["run", "--config", str(run / "config.yaml"), "--progress", "false"])
    assert again.rounds == history.rounds
    task = Classification.load_from_checkpoint(history.final_checkpoint)
    assert list(task.test_metrics) == ["accuracy", "multiclass_f1_score", "f2"]


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "error", "words"),
    [
        (
            ["acuracy"],
            LookupError,
            "did you mean 'accuracy'.*choose one of accuracy, .*by its path",
        ),
        ([F1[:-1]], LookupError, r"did you mean torchmetrics.classification.MulticlassF1Score\?"),
        (["no.such.Metric"], LookupError, "no classification metric at 'no.such.Metric'; give the"),
        (
            ["torch.nn.Linear"],
            ValueError,
            "torch.nn.Linear is no torchmetrics.Metric class; derive",
        ),
        (["torch.argmax"], ValueError, "no torchmetrics.Metric class"),
        ([{"class_path": F1, "beta": 1}], ValueError, "got beta too; put arguments into init_args"),
        ([{"class_path": F1, "init_args": {"beta": 1}}], ValueError, "beta.*it takes num_classes"),
        ([{"class_path": FBETA}], ValueError, "beta"),
        ([{"class_path": F1, "init_args": {"average": "m"}}], ValueError, "average.*it takes"),
        ([{"name": "ece", "bin": 5}], ValueError, "'bin'.*; it takes classes, bins=15"),
        ([{"bins": 5}], ValueError, "needs a name or a class_path"),
        ([{"name": "a.b", "class_path": F1}], ValueError, "cannot be called 'a.b'"),
        ([{"name": "train", "class_path": F1}], ValueError, "cannot be called 'train'"),
        ([F1, F1], ValueError, r"are called 'multiclass_f1_score'; give one a name of its own"),
        ([{"name": "nll", "class_path": F1}, "nll"], ValueError, "two .* are called 'nll'"),
        (["torchmetrics.ConfusionMatrix"], ValueError, r"a tensor \[3, 3\], and .* one number"),
        (
            [{"class_path": F1, "init_args": {"average": "none"}}],
            ValueError,
            r"a tensor \[3\].*set its average",
        ),
        (["torchmetrics.PearsonCorrCoef"], ValueError, r"cannot be fed probabilities \[n, C\]"),
        (["helpers.user_metrics.Picky"], ValueError, "only integers, please. Nothing else"),
        (
            ["torchmetrics.classification.BinaryAUROC"],
            ValueError,
            "for 2 classes, and the task has 3; take MulticlassAUROC",
        ),
        ([no_metric], ValueError, r"a torchmetrics.Metric, got float from no_metric\(\)"),
        ([7], ValueError, "is a name, a class path, .* got int 7"),
        ("accuracy", ValueError, r"metrics is a list, got 'accuracy'; write \[accuracy\]"),
    ],
)
def test_mistakes_are_said_at_once_in_one_sentence(metrics, error, words):
    with pytest.raises(error, match=words) as raised:
        classifier(metrics)
    assert "\n" not in str(raised.value.args[0])
    assert len(str(raised.value.args[0])) < 500


def test_regression_says_what_it_feeds():
    with pytest.raises(ValueError, match="cannot be fed mean and targets"):
        Regression(MLP(4, (8,), 1), 1, metrics=["torchmetrics.CosineSimilarity"])


def test_doctests():
    assert doctest.testmod(metric_specs).failed == 0
    assert doctest.testmod(plain_values).failed == 0
