"""Metrics that nobody watches are computed at the end of a fit, and are what they would be."""

import pytest
import torch
from helpers.small import datamodule
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torchmetrics import Metric

from lightning_al.fits import late_metrics, lean_loop
from lightning_al.fits.lean import lean_fit
from lightning_al.fits.recipe import Recipe
from lightning_al.networks import MLP
from lightning_al.tasks import Classification


def task():
    return Classification(MLP(4, [6], 3), 3, lr=0.02)


class Own(Classification):
    """A task of a user's own, whose hooks may look at anything."""


def fitted(monkeypatch, build=task, late=True, epochs=6, callbacks=(), every=1):
    """Metrics that a lean fit leaves, and how often each was computed."""
    counts = {}
    compute = Metric._wrap_compute

    def counting(metric, plain):
        wrapped = compute(metric, plain)

        def count(*args, **kwargs):
            name = type(metric).__name__
            counts[name] = counts.get(name, 0) + 1
            return wrapped(*args, **kwargs)

        return count

    monkeypatch.setattr(Metric, "_wrap_compute", counting)
    if not late:
        monkeypatch.setattr(late_metrics, "OURS", "nobody's")
    data = datamodule(val=10, initial=30)
    data.setup()
    made = {"max_epochs": epochs, "callbacks": list(callbacks), "accelerator": "cpu"}
    recipe = Recipe(build, {**made, "devices": 1, "check_val_every_n_epoch": every})
    module = recipe.build_task(0, 0, None)
    trainer = recipe.build_trainer()
    lean = lean_fit(module, recipe, data, trainer, seed=0, round=0)
    monkeypatch.undo()
    return lean.callback_metrics, counts, module


def stop():
    return EarlyStopping("val/nll", patience=1, min_delta=0.05)


def keep(folder, **more):
    return ModelCheckpoint(folder, monitor="val/accuracy", mode="max", **more)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize("stops", [False, True])
def test_the_numbers_are_the_same_to_the_last_bit(monkeypatch, every, epochs, stops):
    more = {"epochs": epochs, "every": every}
    late, _, _ = fitted(monkeypatch, callbacks=[stop()] * stops, **more)
    now, _, _ = fitted(monkeypatch, late=False, callbacks=[stop()] * stops, **more)
    assert list(late) == list(now)
    assert all(torch.equal(late[name], now[name]) for name in now)


def test_what_is_watched_is_computed_each_time_and_the_rest_twice(monkeypatch, tmp_path):
    _, counts, module = fitted(monkeypatch, callbacks=[stop(), keep(tmp_path)], epochs=4)
    often = {"NegativeLogLikelihood", "Accuracy"}
    assert {name for name, n in counts.items() if n > 2} <= often
    assert set(counts) > often
    assert all(n == 2 for name, n in counts.items() if name not in often)
    for metric in module.val_metrics.values():
        metric.update(torch.randn(4, 3).log_softmax(1), torch.tensor([0, 1, 2, 0]))
        assert metric.update_count == 1  # it takes batches again


@pytest.mark.parametrize("kind", ["own", "named"])
def test_where_others_may_look_all_are_computed_each_time(monkeypatch, tmp_path, kind):
    build = (lambda: Own(MLP(4, [6], 3), 3, lr=0.02)) if kind == "own" else task
    more = [keep(tmp_path, filename="{val/ece:.2f}")] if kind == "named" else []
    _, counts, _ = fitted(monkeypatch, build, callbacks=more, epochs=4)
    assert set(counts.values()) == {4}


def test_a_fit_that_validates_nothing_settles_nothing(monkeypatch):
    data = datamodule(initial=12)
    data.setup()
    recipe = Recipe(task, {"max_epochs": 2, "accelerator": "cpu", "devices": 1})
    module = recipe.build_task(0, 0, None)
    lean = lean_fit(module, recipe, data, recipe.build_trainer(), seed=0, round=0)
    assert not [name for name in lean.callback_metrics if name.startswith("val")]
    assert lean_loop.done(lean)
