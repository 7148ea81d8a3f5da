"""Metrics against scikit-learn, SciPy, NumPy: batches of any size, ranks, ties, absent classes."""

import math
import warnings

import numpy as np
import pytest
import torch
import torchmetrics.functional as tm
from scipy import stats
from sklearn import metrics as sk
from torch.nn import functional as F

from lightning_al.tasks.metric_classes import gaussian_nll
from lightning_al.tasks.metric_feeding import MetricFamily
from lightning_al.tasks.metric_specs import ChosenMetrics
from lightning_al.tasks.metrics import (
    CLASSIFICATION,
    MULTILABEL,
    PLACES,
    REGRESSION,
    REGRESSION_METRICS,
    places_as_items,
)

C = 4


def classes(n=200, absent=()):
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(C, (n,), generator=g)
    for c in absent:
        labels[labels == c] = (c + 1) % C
    logits = 2 * torch.randn(n, C, generator=g) + F.one_hot(labels, C)
    return logits.log_softmax(1), labels


def coarse(n=200):
    """Probabilities in eighths: many ties, confidences of exactly 1, others off the bins' edges."""
    g = torch.Generator().manual_seed(2)
    cuts = torch.randint(0, 9, (n, C - 1), generator=g).sort(1).values.float() / 8
    edges = torch.cat([torch.zeros(n, 1), cuts, torch.ones(n, 1)], 1)
    return edges.diff(dim=1).log().clamp_min(-30.0), torch.randint(C, (n,), generator=g)


def labels_of_items(n=120, absent=()):
    g = torch.Generator().manual_seed(3)
    targets = (torch.rand(n, 5, generator=g) < 0.4).long()
    targets[:, list(absent)] = 0
    probs = (torch.randn(n, 5, generator=g) + 2 * targets - 1).sigmoid()
    return probs, targets


def numbers(n=90, outputs=2, dtype=torch.float32):
    g = torch.Generator().manual_seed(4)
    mean = 100 * torch.randn(n, outputs, generator=g, dtype=dtype)
    variance = torch.rand(n, outputs, generator=g, dtype=dtype) + 0.5
    return mean, variance, mean + torch.randn(n, outputs, generator=g, dtype=dtype)


# --- references ----------------------------------------------------------------------------------


def probabilities(log_probs):
    return log_probs.double().exp().numpy()


def reference_recall(log_probs, labels):
    said = log_probs.argmax(1).numpy()
    return sk.recall_score(labels, said, labels=np.unique(labels), average="macro")


def reference_auroc(scores, positives):
    areas = [
        sk.roc_auc_score(p, s)
        for s, p in zip(scores.T, positives.T, strict=True)
        if len(np.unique(p)) == 2
    ]
    return np.mean(areas)


def reference_class_auroc(log_probs, labels):
    return reference_auroc(log_probs.double().numpy(), np.eye(C)[labels.numpy()])


def reference_ece(log_probs, labels, bins=15):
    """By hand: bins (lower, upper]."""
    probs = log_probs.exp().numpy()
    top, right = probs.max(1), probs.argmax(1) == labels.numpy()
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(top)) if math.ceil(np.float32(top[i] * bins)) == b + 1]
        if inside:
            gap = abs(np.mean(right[inside]) - np.mean(top[inside].astype(float)))
            total += gap * len(inside) / len(top)
    return total


def reference_nll(log_probs, labels):
    return -np.mean([log_probs[i, y].item() for i, y in enumerate(labels)])


def reference_iou(log_probs, labels):
    said = log_probs.argmax(1).numpy()
    either = np.unique([*said, *labels.tolist()])
    return sk.jaccard_score(labels, said, labels=either, average="macro")


def reference_labels_nll(probs, targets):
    probs, targets = probs.double().numpy(), targets.numpy()
    return np.mean(-stats.bernoulli.logpmf(targets, probs).sum(1))


def reference_gaussian_nll(mean, variance, targets):
    mean, variance, targets = (v.double().numpy() for v in (mean, variance, targets))
    return np.mean(-stats.norm.logpdf(targets, mean, np.sqrt(variance)).sum(1))


OF_CLASSES = {
    "accuracy": lambda p, y: sk.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": reference_recall,
    "auroc": reference_class_auroc,
    "nll": reference_nll,
    "ece": reference_ece,
    "mean_iou": reference_iou,
}
OF_NUMBERS = {
    "mae": lambda m, _, t: sk.mean_absolute_error(t, m),
    "mse": lambda m, _, t: sk.mean_squared_error(t, m),
    "rmse": lambda m, _, t: math.sqrt(sk.mean_squared_error(t, m)),
    "nll": reference_gaussian_nll,
}
OF_LABELS = {
    "accuracy": lambda p, y: np.mean((p > 0.5).numpy() == y.numpy()),
    "exact_match": lambda p, y: sk.accuracy_score(y, p > 0.5),
    "macro_f1": lambda p, y: sk.f1_score(y, p > 0.5, average="macro", zero_division=0),
    "auroc": lambda p, y: reference_auroc(p.numpy(), y.numpy()),
    "nll": reference_labels_nll,
}
FAMILIES = {
    "classes": (CLASSIFICATION, {"classes": C}, OF_CLASSES),
    "places": (PLACES, {"classes": C}, OF_CLASSES),
    "labels": (MULTILABEL, {"labels": 5}, OF_LABELS),
    "numbers": (REGRESSION, {"outputs": 2}, OF_NUMBERS),
    "full batch": (REGRESSION_METRICS, {"outputs": 2}, OF_NUMBERS),
}
WORLDS = {
    "classes": classes(),
    "places": classes(),
    "labels": labels_of_items(),
    "numbers": numbers(),
    "full batch": numbers(),
}
ALL = [(kind, name) for kind, (family, _, _) in FAMILIES.items() for name in family]


def measured(kind, name, *batch, parts=3, **sizes):
    family, known, _ = FAMILIES[kind]
    metric = family.build(name, **{**known, **sizes})
    for rows in torch.arange(len(batch[0])).tensor_split(parts):
        metric.update(*(b[rows] for b in batch))
    return metric.compute()


def check(kind, name, *batch, **how):
    wanted = FAMILIES[kind][2][name](*batch)
    assert float(measured(kind, name, *batch, **how)) == pytest.approx(wanted, rel=2e-5, abs=2e-6)


@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize("parts", [1, 3, "ones", "some empty"])
def test_batches_of_any_size_give_what_an_independent_library_gives(kind, name, parts):
    batch = WORLDS[kind]
    n = len(batch[0])
    parts = {"ones": n, "some empty": n + 7}.get(parts, parts)
    check(kind, name, *batch, parts=parts)


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("absent", [(1,), (0, 3)])
def test_a_class_that_never_occurs_is_left_out_quietly(name, absent):
    log_probs, labels = classes(absent=absent)
    assert set(absent) & set(log_probs.argmax(1).tolist())  # it is taken for it all the same
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("classes", name, log_probs, labels)


@pytest.mark.parametrize("name", PLACES)
def test_mean_iou_and_the_rest_over_classes_that_do_not_occur(name):
    log_probs, labels = classes(absent=(1,))
    log_probs[:, 1] = -50.0  # and it is never taken for it
    check("places", name, log_probs, labels)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_ties_and_confidences_of_one(name):
    log_probs, labels = coarse()
    assert (log_probs == 0).any()
    check("classes", name, log_probs, labels)


@pytest.mark.parametrize("name", MULTILABEL)
def test_a_label_that_no_item_has(name):
    check("labels", name, *labels_of_items(absent=(2,)))


def test_where_torchmetrics_means_another_thing():
    """Why some metrics are ours; fails when torchmetrics changes, and then they can go."""
    log_probs, labels = classes(absent=(1,))
    probs, how = log_probs.exp(), {"task": "multiclass", "num_classes": C}
    theirs = tm.recall(probs, labels, average="macro", **how)
    assert float(theirs) < 0.8 * reference_recall(log_probs, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = tm.auroc(probs, labels, **how)
    assert float(theirs) < 0.8 * reference_class_auroc(log_probs, labels)
    sure = torch.tensor([[1.0, 0.0], [0.96, 0.04]]), torch.tensor([1, 0])
    theirs = tm.calibration_error(*sure, "multiclass", num_classes=2, n_bins=15)
    assert float(theirs) == pytest.approx((1.0 + 0.04) / 2)
    ours = measured("classes", "ece", sure[0].log(), sure[1], classes=2)
    assert float(ours) == pytest.approx(0.98 - 0.5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("accuracy", lambda p, y: tm.accuracy(p, y, "multiclass", num_classes=4)),
        (
            "balanced_accuracy",
            lambda p, y: tm.recall(p, y, "multiclass", average="macro", num_classes=4),
        ),
        ("auroc", lambda p, y: tm.auroc(p, y, "multiclass", num_classes=4)),
        ("nll", lambda p, y: F.nll_loss(p.log(), y)),
        (
            "ece",
            lambda p, y: tm.calibration_error(p, y, "multiclass", num_classes=4, n_bins=15),
        ),
    ],
)
def test_metrics_of_ours_agree_with_torchmetrics_where_both_mean_the_same(name, reference):
    log_probs, labels = classes()
    torch.testing.assert_close(
        measured("classes", name, log_probs, labels), reference(log_probs.exp(), labels)
    )


def test_every_metric_has_bounds_and_a_best_value():
    log_probs, labels = classes()
    perfect = F.one_hot(labels, 4).float().clamp_min(1e-30).log()
    probs, targets = labels_of_items()
    mean, variance, goal = numbers()
    worlds = {
        "classes": ((log_probs, labels), (perfect, labels)),
        "places": ((log_probs, labels), (perfect, labels)),
        "labels": ((probs, targets), (targets.float(), targets)),
        "numbers": ((mean, variance, goal), (goal, torch.full_like(goal, 0.5 / math.pi), goal)),
    }
    for kind, (some, best) in worlds.items():
        family, sizes, _ = FAMILIES[kind]
        for name in family:
            higher = family.build(name, **sizes).higher_is_better
            top, value = measured(kind, name, *best), measured(kind, name, *some)
            assert float(top) == pytest.approx(1.0 if higher else 0.0, abs=1e-6), (kind, name)
            assert (value < top) if higher else (value > top)


def test_calibration_error_by_hand():
    # two confident (0.9) and right or wrong, two at 0.6 and both right: |.9-.5|/2 + |.6-1|/2
    probs = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    labels = torch.tensor([0, 1, 1, 1])
    assert float(measured("classes", "ece", probs.log(), labels, classes=2)) == pytest.approx(0.4)
    assert float(measured("classes", "nll", probs.log(), labels, classes=2)) == pytest.approx(
        -(math.log(0.9) + math.log(0.1) + 2 * math.log(0.6)) / 4
    )
    coarser = CLASSIFICATION.build("ece", classes=2, bins=1)
    coarser.update(probs.log(), labels)
    assert float(coarser.compute()) == pytest.approx(0.75 - 0.75, abs=1e-6)


def test_auroc_counts_pairs_and_half_of_ties():
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8])
    labels = torch.tensor([0, 0, 1, 1])
    log_probs = torch.stack([1 - scores, scores], 1).log()
    area = measured("classes", "auroc", log_probs, labels, classes=2)
    assert float(area) == pytest.approx(3.5 / 4)
    fine = torch.tensor([[-1e-9], [-2e-9], [-3e-9]])  # probabilities that are all 1 in float32
    fine = torch.cat([torch.full_like(fine, -20.0), fine], 1)
    area = measured("classes", "auroc", fine, torch.tensor([1, 1, 0]), classes=2)
    assert float(area) == pytest.approx((1.0 + 0.5) / 2)


def test_absent_classes_are_left_out_quietly():
    log_probs = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.1, 0.3]]).log()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auroc = measured("classes", "auroc", log_probs, torch.tensor([0, 1, 0]), classes=3)
        recall = measured(
            "classes", "balanced_accuracy", log_probs, torch.tensor([0, 1, 2]), classes=3
        )
        one = measured("classes", "auroc", log_probs, torch.tensor([1, 1, 1]), classes=3)
    assert auroc == 1
    assert float(recall) == pytest.approx(2 / 3)
    assert one.isnan()


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_no_items_are_no_number(name):
    log_probs, labels = classes()
    assert measured("classes", name, log_probs[:0], labels[:0]).isnan()


def test_gaussian_nll_is_the_density():
    mean, variance, target = numbers(9, 3)
    density = torch.distributions.Normal(mean, variance.sqrt())
    torch.testing.assert_close(
        gaussian_nll(mean, variance, target), -density.log_prob(target).sum(-1)
    )


def test_squared_errors_of_full_batch_tasks_are_summed_in_float64():
    mean, variance, targets = numbers(1000, 1, torch.float64)
    shifted = mean + 1e6, variance, targets + 1e6
    wanted = float((mean - targets).square().mean())
    for parts in (1, 1000):
        got = measured("full batch", "mse", *shifted, parts=parts, outputs=1)
        assert got.dtype == torch.float64
        assert float(got) == pytest.approx(wanted, rel=1e-8)


def test_outputs_may_lie_side_by_side_in_memory():
    mean, variance, targets = numbers()
    joined = torch.cat([mean, variance], 1).chunk(2, dim=1)
    assert not joined[0].is_contiguous()
    for name in REGRESSION_METRICS:
        check("full batch", name, *joined, targets)


def test_places_are_items_of_their_own_where_they_are_told():
    g = torch.Generator().manual_seed(0)
    log_probs = torch.randn(3, C, 5, 6, generator=g).log_softmax(1)
    labels = torch.randint(C, (3, 5, 6), generator=g)
    labels[0, :2], labels[2] = -100, -100
    flat, told = places_as_items(log_probs, labels)
    assert flat.shape == (18 + 30, C)
    wanted = [
        (log_probs[n, :, i, j], int(labels[n, i, j]))
        for n in range(3)
        for i in range(5)
        for j in range(6)
        if labels[n, i, j] >= 0
    ]
    assert [y for _, y in wanted] == told.tolist()
    assert torch.equal(torch.stack([p for p, _ in wanted]), flat)
    torch.testing.assert_close(
        measured("places", "nll", flat, told), F.nll_loss(log_probs, labels, ignore_index=-100)
    )
    check("places", "mean_iou", flat, told)


# --- several processes ---------------------------------------------------------------------------


def _rank(rank, path, queue):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path}", rank=rank, world_size=2
    )
    got, alone = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if rank == 0:  # a metric is tried by one rank alone: others may not be building one
            ChosenMetrics.of(CLASSIFICATION, ["torchmetrics.AUROC"], {"classes": 3})
        for kind, (family, sizes, _) in FAMILIES.items():
            for name in family:
                metric, batch = family.build(name, **sizes), [b[:5] for b in WORLDS[kind]]
                if rank == 0:  # the other rank has no items
                    metric.update(*batch)
                got[kind, name] = float(metric.compute())
                alone[kind, name] = FAMILIES[kind][2][name](*batch)
    queue.put((rank, got, alone))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_ranks_with_different_numbers_of_items_agree(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    ranks = [context.Process(target=_rank, args=(r, tmp_path / "f", queue)) for r in range(2)]
    for process in ranks:
        process.start()
    results = sorted((queue.get(timeout=120) for _ in ranks), key=lambda r: r[0])
    for process in ranks:
        process.join(60)
    (_, first, alone), (_, second, _) = results
    assert set(first) == set(ALL)
    assert first == pytest.approx(alone, rel=1e-5, abs=1e-5)
    assert second == pytest.approx(first, abs=1e-6)


def test_one_label_is_enough():
    probs, targets = (part[:, :1] for part in labels_of_items())
    for name in MULTILABEL:
        wanted = OF_LABELS[name](probs, targets)
        if name == "macro_f1":
            wanted = sk.f1_score(targets[:, 0], probs[:, 0] > 0.5)
        got = measured("labels", name, probs, targets, labels=1)
        assert float(got) == pytest.approx(wanted, rel=1e-5), name


def test_families_are_registries_of_their_own():
    assert all(isinstance(family, MetricFamily) for family, _, _ in FAMILIES.values())
    assert set(REGRESSION_METRICS) - set(REGRESSION) == {"mse"}
    assert set(PLACES) - set(CLASSIFICATION) == {"mean_iou"}
