"""The pictures that a density regression ends with: what was predicted before it was known."""

import numpy as np
import pytest
import torch
from helpers import small

from lightning_al import ActiveLearner
from lightning_al.datamodules import ActiveDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.history.density_pictures import DensityPictures
from lightning_al.networks import MLP
from lightning_al.tasks import DensityRegression, Regression


def data(width=1, outputs=1):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, width, generator=g)
    y = x.sum(1, keepdim=True).repeat(1, outputs) + 0.3 * torch.randn(60, outputs, generator=g)
    y = y[:, 0] if outputs == 1 else y
    return ActiveDataModule(TensorItems(x, y), test=list(range(10)), initial=list(range(10, 30)))


def task(width=1, outputs=1):
    network = MLP(width, (8,), 2 * outputs)
    return DensityRegression(network, outputs, head="gaussian", lr=0.02, metrics=["nll"])


def run(folder, width=1, outputs=1, make=None, seen=None, **more):
    make = (lambda: task(width, outputs)) if make is None else make
    observer = DensityPictures(make)
    if seen is not None:
        observer._save = lambda path, figure: seen.update({path.name: figure})
    learner = ActiveLearner(
        task=make,
        datamodule=data(width, outputs),
        strategy="random",
        query_size=4,
        budget=8,
        trainer=small.TRAINER,
        run_dir=folder,
        observers=[observer],
        files=False,
        **more,
    )
    return learner, learner.run()


def test_panels_show_what_the_fit_before_the_answers_predicted(tmp_path):
    seen = {}
    learner, history = run(tmp_path / "run", width=3, seen=seen)
    assert list(seen) == ["densities.png"]  # items are three numbers
    asked = history.rounds[-2]
    module = DensityRegression.load_from_checkpoint(history.run_dir / asked.checkpoint).eval()
    axes = seen["densities.png"].axes
    assert len(axes) == len(asked.acquired) == 4
    for each, item in zip(axes, asked.acquired, strict=True):
        ((_, inputs),) = learner.datamodule.bare_batches(torch.tensor([item]))
        answer = float(learner.datamodule.labels(torch.tensor([item])))
        places, drawn = each.lines[0].get_data()
        with torch.no_grad():
            wanted = module.density(inputs).log_prob(torch.from_numpy(places)[:, None, None]).exp()
        np.testing.assert_allclose(drawn, wanted[:, 0], rtol=1e-4, atol=1e-6)
        assert places[0] <= answer <= places[-1]
        assert each.lines[1].get_xdata()[0] == pytest.approx(answer)
        assert f"item {item}" in each.get_title()
    assert "before the answers of round 1" in seen["densities.png"].get_suptitle()


def test_one_input_is_drawn_over_all_of_it(tmp_path):
    seen = {}
    learner, history = run(tmp_path / "run", seen=seen)
    assert list(seen) == ["densities.png", "density_over_x.png"]
    (axes,) = seen["density_over_x.png"].axes
    labelled, queried = axes.lines
    assert len(labelled.get_xdata()) == 28
    assert len(queried.get_xdata()) == 4
    index = torch.tensor(history.rounds[-2].acquired)
    np.testing.assert_allclose(queried.get_ydata(), learner.datamodule.labels(index))
    relative = axes.collections[0].get_array()
    np.testing.assert_allclose(np.asarray(relative).max(0), 1)


def test_where_checkpoints_are_gone_the_title_says_so(tmp_path):
    seen = {}
    run(tmp_path / "run", width=3, seen=seen, keep_checkpoints="last")
    assert "after the answers of round 1" in seen["densities.png"].get_suptitle()


def test_files_lie_in_the_run_folder_and_the_draws_of_a_run_are_untouched(tmp_path):
    _, with_pictures = run(tmp_path / "one")
    assert (tmp_path / "one" / "densities.png").stat().st_size > 5000
    assert (tmp_path / "one" / "density_over_x.png").stat().st_size > 5000
    state = torch.get_rng_state()
    DensityPictures(task)._task(with_pictures.final_checkpoint)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["two outputs", "another task"])
def test_other_tasks_are_not_drawn(tmp_path, kind):
    seen = {}
    if kind == "two outputs":
        run(tmp_path / "run", outputs=2, seen=seen)
    else:
        run(tmp_path / "run", seen=seen, make=lambda: Regression(MLP(1, (4,), 1)))
    assert not seen
