"""Several labels an item, a class a place: losses and logged figures against other libraries."""

import math

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers import small
from helpers.reading import embeddings, plain
from sklearn import metrics as sk
from torch import nn
from torch.nn import functional as F

from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.networks import MLP, Ensemble, FullyConvolutional
from lightning_al.posteriors import MCDropout
from lightning_al.tasks import MultiLabelClassification, PlaceClassification
from lightning_al.tasks.metrics import MULTILABEL, PLACES

IN, L, C, SIDE = 5, 4, 3, 6
PADDING = -100
QUIET = small.TRAINER | {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def label_data(n=70, seed=0):
    """Labels that depend on the inputs, each there for a third of the items or so."""
    x = drawn(n, IN, seed=seed)
    return x, (x @ drawn(IN, L, seed=9) + drawn(n, L, seed=seed + 1) > 0.7).long()


def place_data(n=40, seed=0):
    """Pictures whose pixels' classes are thirds of their brightness; a fifth is padding."""
    x = drawn(n, 1, SIDE, SIDE, seed=seed)
    y = (x[:, 0] > -0.4).long() + (x[:, 0] > 0.4).long()
    y[drawn(n, SIDE, SIDE, seed=seed + 1) > 0.8] = PADDING
    return x, y


def labels_task(members=0, **more):
    torch.manual_seed(0)
    network = MLP(IN, [8], L, dropout=0.3)
    return MultiLabelClassification(Ensemble(network, members) if members else network, L, **more)


def places_task(members=0, last=False, **more):
    torch.manual_seed(0)
    network = FullyConvolutional(1, C, width=5, depth=2, dropout=0.3)
    if last:
        network = nn.Sequential(network, ToLast())
    network = Ensemble(network, members) if members else network
    axis = "last" if last else "first"
    return PlaceClassification(network, C, axis=axis, lr=0.02, **more)


class ToLast(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)


def datamodule(x, y, held, **more):
    data = ActiveDataModule(
        TensorItems(x, y), test=TensorItems(*held), **({"initial": 20, "batch_size": 8} | more)
    )
    data.start(0)
    return data


def logged_by(task, data):
    """A task after a fit, and what it logs on the test set."""
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 2}))
    trainer.fit(task, datamodule=data)
    (found,) = trainer.test(task, datamodule=data, verbose=False)
    return task.eval(), found


# --- several labels an item ----------------------------------------------------------------------


@pytest.mark.parametrize("members", [0, 3])
def test_logged_figures_of_labels_are_those_of_scikit_learn(members):
    x, y = label_data(50, seed=5)
    task, found = logged_by(
        labels_task(members), datamodule(*label_data(), (x, y), eval_batch_size=7)
    )
    with torch.no_grad():
        raw = task.raw(x).double()
        each = raw.sigmoid() if members else raw.sigmoid()[:, None]
        probs = each.mean(1)
        torch.testing.assert_close(task.predict_step(x, 0).double(), probs, rtol=1e-5, atol=1e-6)
    said, known = (probs > 0.5).numpy(), y.numpy()
    wanted = {
        "accuracy": sk.accuracy_score(known.ravel(), said.ravel()),
        "exact_match": sk.accuracy_score(known, said),
        "macro_f1": sk.f1_score(known, said, average="macro", zero_division=0),
        "auroc": sk.roc_auc_score(known, probs.numpy()),
        "nll": sum(sk.log_loss(known[:, i], probs[:, i].numpy(), labels=[0, 1]) for i in range(L)),
    }
    assert set(wanted) == set(MULTILABEL)
    assert found == pytest.approx({f"test/{k}": v for k, v in wanted.items()}, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
def test_the_loss_of_labels_by_hand(weights):
    task, raw = labels_task(positive_weights=weights), drawn(6, L)
    y = (drawn(6, L, seed=1) > 0).long()
    each = torch.zeros(6, L)
    for i in range(6):
        for j in range(L):
            p = 1 / (1 + math.exp(-float(raw[i, j])))
            factor = 1.0 if weights is None else weights[j]
            each[i, j] = -factor * math.log(p) if y[i, j] else -math.log(1 - p)
    torch.testing.assert_close(task.loss(raw, y), each.mean())
    torch.testing.assert_close(task.item_losses(raw, y), each.mean(1))
    torch.testing.assert_close(task.loss(raw, y.float()), each.mean())


def test_labels_apart_are_binary_classifications():
    """The loss of L labels is the mean of those of L tasks of one label."""
    raw, y = drawn(6, L), (drawn(6, L, seed=1) > 0).long()
    one = MultiLabelClassification(MLP(IN, [8], 1), 1)
    apart = [one.loss(raw[:, [j]], y[:, [j]]) for j in range(L)]
    torch.testing.assert_close(labels_task().loss(raw, y), torch.stack(apart).mean())


@pytest.mark.parametrize("kind", ["labels", "places"])
def test_members_train_alone(kind):
    make, data = (labels_task, label_data()) if kind == "labels" else (places_task, place_data())
    task = make(3)
    raw = task.raw(data[0])
    alone = make()
    total = sum(alone.loss(raw[:, s], data[1]) for s in range(3))
    torch.testing.assert_close(task.loss(raw, data[1]), total)
    items = torch.stack([alone.item_losses(raw[:, s], data[1]) for s in range(3)]).mean(0)
    torch.testing.assert_close(task.item_losses(raw, data[1]), items)


def test_fields_of_labels_are_two_classes_a_label():
    task, x = labels_task().eval(), drawn(6, IN)
    got, raw = plain(task, x, ["probs", "logits"]), task.raw(x)
    assert got.probs.shape == (6, 1, 2, L)
    torch.testing.assert_close(got.probs[:, 0, 1], raw.sigmoid())
    torch.testing.assert_close(got.probs.sum(2), torch.ones(6, 1, L))
    torch.testing.assert_close(got.logits.softmax(2), got.probs)
    assert embeddings(task, x).shape == (6, 8)


@pytest.mark.parametrize("targets", [torch.full((6, L), 2), torch.zeros(6), torch.zeros(6, L + 1)])
def test_targets_that_are_no_labels_are_refused(targets):
    task = labels_task()
    with pytest.raises(ValueError, match="targets must be"):
        task.loss(drawn(6, L), targets)
    with pytest.raises(ValueError, match="targets must be"):
        task.measure([], drawn(6, L), targets)


# --- a class a place -----------------------------------------------------------------------------


def place_figures(log_probs, y):
    """What scikit-learn says of all places of pictures [n, C, *P] that are told."""
    told = y != PADDING
    probs = log_probs.double().exp().movedim(1, -1)[told].numpy()
    known, said = y[told].numpy(), probs.argmax(1)
    top, right = probs.max(1), said == known
    bins = np.clip(np.ceil(top * 15).astype(int) - 1, 0, 14)
    ece = sum(abs(top[bins == b].sum() - right[bins == b].sum()) for b in range(15)) / len(known)
    return {
        "accuracy": sk.accuracy_score(known, said),
        "balanced_accuracy": sk.balanced_accuracy_score(known, said),
        "nll": sk.log_loss(known, probs / probs.sum(1, keepdims=True), labels=range(C)),
        "ece": ece,
        "mean_iou": sk.jaccard_score(known, said, average="macro"),
    }


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("members", [0, 3])
def test_logged_figures_of_places_are_those_of_scikit_learn(members, last):
    x, y = place_data(15, seed=5)
    data = datamodule(*place_data(), (x, y), eval_batch_size=4)
    task, found = logged_by(places_task(members, last), data)
    with torch.no_grad():
        raw = task.raw(x) if members else task.raw(x)[:, None]
        each = (raw.movedim(-1, 2) if last else raw).log_softmax(2)
        log_probs = each.exp().mean(1).log()
        torch.testing.assert_close(task.predict_step(x, 0), log_probs.exp())
    wanted = place_figures(log_probs, y)
    assert set(wanted) == set(PLACES)
    assert found == pytest.approx({f"test/{k}": v for k, v in wanted.items()}, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0]])
def test_the_loss_of_places_is_the_mean_over_those_told(weights):
    (_, y), raw = place_data(6), drawn(6, C, SIDE, SIDE, seed=3)
    task = places_task(class_weights=weights)
    weight = None if weights is None else torch.tensor(weights)
    flat = raw.movedim(1, -1)[y != PADDING], y[y != PADDING]
    torch.testing.assert_close(task.loss(raw, y), F.cross_entropy(*flat, weight=weight))
    last = places_task(last=True, class_weights=weights)
    torch.testing.assert_close(last.loss(raw.movedim(1, -1), y), task.loss(raw, y))
    each = task.item_losses(raw, y)
    for i in range(6):
        told = y[i] != PADDING
        alone = F.cross_entropy(
            raw[i].movedim(0, -1)[told], y[i][told], weight=weight, reduction="none"
        )
        torch.testing.assert_close(each[i], alone.mean())


def test_what_lies_under_padding_changes_nothing():
    (_, y), raw = place_data(6), drawn(6, C, SIDE, SIDE, seed=3)
    task = places_task()
    raw.requires_grad_()
    task.loss(raw, y).backward()
    untold = (y == PADDING)[:, None].expand_as(raw)
    assert bool((raw.grad[untold] == 0).all())
    other = raw.detach().clone()
    other[untold] = 1e4 * drawn(int(untold.sum()), seed=8)
    torch.testing.assert_close(task.loss(other, y), task.loss(raw, y))
    torch.testing.assert_close(task.item_losses(other, y), task.item_losses(raw, y))
    for values in (raw.detach(), other):
        task.measure(list(task.val_metrics.values()), values, y)
        wanted = place_figures(raw.detach().log_softmax(1), y)
        for name, metric in task.val_metrics.items():
            assert float(metric.compute()) == pytest.approx(wanted[name], rel=1e-4, abs=1e-6)
            metric.reset()


def test_items_of_padding_alone_have_no_loss():
    task, raw = places_task(), drawn(2, C, SIDE, SIDE)
    y = torch.full((2, SIDE, SIDE), PADDING)
    assert float(task.loss(raw, y)) == 0
    assert task.item_losses(raw, y).tolist() == [0, 0]


def test_balanced_weights_count_the_places_that_are_told():
    x, y = place_data()
    data = datamodule(x, y, place_data(5, seed=5), initial=30)
    task = places_task(class_weights="balanced")
    pl.Trainer(**(QUIET | {"max_epochs": 1})).fit(task, datamodule=data)
    known = data.labelled_targets()
    count = torch.stack([(known == c).sum() for c in range(C)]).double()
    torch.testing.assert_close(task.class_weights.double(), count.sum() / (C * count))


def test_the_embedding_of_places_is_their_mean():
    task, x = places_task().eval(), drawn(4, 1, SIDE, SIDE)
    hidden = task.network.body(x)
    torch.testing.assert_close(embeddings(task, x), hidden.mean((2, 3)))


class Tokens(nn.Module):
    """Texts of tokens with a key that says which count."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(11, 6), nn.Linear(6, C)

    def forward(self, batch):
        return self.head(self.table(batch["ids"]))


def test_a_mask_of_the_inputs_says_which_places_count():
    task = PlaceClassification(Tokens(), C, axis="last", mask="counts")
    ids = torch.randint(11, (5, 7), generator=torch.Generator().manual_seed(0))
    counts = torch.arange(7) < torch.arange(3, 8)[:, None]
    inputs = {"ids": ids, "counts": counts.long()}
    assert torch.equal(task.adapter.places(task, inputs), counts)
    y = torch.where(counts, ids % C, PADDING)
    given, targets = task.split({**inputs, "labels": y})
    assert set(given) == {"ids", "counts"}
    flat = task.raw(inputs)[counts], y[counts]
    torch.testing.assert_close(task.loss(task.raw(given), targets), F.cross_entropy(*flat))
    assert places_task().adapter.places(task, ids) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw, y: (raw, y[:, :-1]), "a class a place was declared, the classes first"),
        (lambda raw, y: (raw.movedim(1, -1), y), "classes a place, the classes first"),
        (lambda raw, y: (raw, torch.full_like(y, C)), "label 3 is none of the 3 classes"),
        (lambda raw, y: (raw, torch.full_like(y, -7)), "label -7 is none of the 3 classes"),
        (lambda raw, y: (raw, y.float()), "whole numbers"),
    ],
)
def test_places_that_do_not_fit_are_refused(change, said):
    raw, y = change(drawn(4, C, SIDE, SIDE), place_data(4)[1])
    with pytest.raises(ValueError, match=said):
        places_task().loss(raw, y)


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MultiLabelClassification(MLP(IN, [], L)), "1 label or more, got None"),
        (lambda: MultiLabelClassification(MLP(IN, [], L), L, positive_weights=[1]), "4 numbers"),
        (lambda: PlaceClassification(nn.Identity(), 1), "2 classes or more, got 1"),
        (lambda: PlaceClassification(nn.Identity(), C, axis="middle"), "'first' or 'last'"),
        (lambda: PlaceClassification(nn.Identity(), C, class_weights=[1, 2]), "3 numbers"),
    ],
)
def test_settings_that_make_no_sense(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("kind", ["labels", "places"])
def test_a_checkpoint_brings_it_back(kind, tmp_path):
    if kind == "labels":
        task, data = labels_task(positive_weights=[1.0, 2, 3, 4]), (label_data(), label_data(9, 5))
    else:
        task, data = places_task(class_weights="balanced"), (place_data(), place_data(9, 5))
    module = datamodule(*data[0], data[1])
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 1}))
    trainer.fit(task, datamodule=module)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    again = type(task).load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True)
    assert again.hparams == task.hparams
    assert again.adapter == task.adapter
    assert small.same_weights(dict(again.state_dict()), dict(task.state_dict()))


@pytest.mark.parametrize("kind", ["labels", "places"])
@pytest.mark.parametrize("strategy", ["entropy", "bald", "k-center", "learning-loss"])
def test_runs_choose_and_are_resumed(kind, strategy, tmp_path):
    task = {"labels": labels_task, "places": places_task}[kind]
    make = {"labels": label_data, "places": place_data}[kind]

    def learner(name):
        data = datamodule(*make(), make(10, seed=5), initial=10)
        return small.learner(
            tmp_path / name,
            task=task,
            datamodule=data,
            strategy=strategy,
            posterior=MCDropout(3),
            budget=5,
        )

    history = learner("a").run()
    assert len(set(history.acquired)) == 5
    assert learner("b").run().acquired == history.acquired
    assert learner("a").run() == history
