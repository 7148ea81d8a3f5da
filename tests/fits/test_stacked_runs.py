"""The backend ``stacked`` in a run: refits of a strategy as one, rounds alone, and the reasons."""

import json

import pytest
import torch
from helpers import lean_parts as parts
from helpers import small

from lightning_al.fits.lean import LeanFits
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.stacked import StackedFits, fits
from lightning_al.fits.stacked.fits import ONE
from lightning_al.records import Acquisition


class Values:
    """Refits the model on several multisets, and keeps what came of it."""

    needs, keeps, members = ("probs",), ("probs",), "one"
    batch_aware, privileged = True, False

    def __init__(self, kept):
        self.kept = kept

    def choose(self, pool, k, generator):
        bench = pool.bench
        labelled = bench.labelled
        half = [labelled[torch.arange(len(labelled)) != i] for i in range(5)]
        self.kept.append(bench.refits([(each, None) for each in (*half, labelled)]))
        return Acquisition(pool.index[:k])


def lines(history):
    path = history.run_dir / "journal.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in found if line["event"] == "fitted"]


@pytest.fixture
def stacks_made(monkeypatch):
    """Sizes of the stacks that were fitted."""
    sizes = []
    plain = fits.fit_stack

    def counted(members, *rest):
        found = plain(members, *rest)
        sizes.append(len(members))
        return found

    monkeypatch.setattr(fits, "fit_stack", counted)
    return sizes


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_refits_are_one_stack_of_those_with_as_many_items(dropout, learner, tmp_path, stacks_made):
    kept, weights = {}, {}
    for backend in ("lean", "stacked"):
        kept[backend] = []
        history = learner(
            task=lambda: small.task(dropout),
            strategy=Values(kept[backend]),
            fits=backend,
            rehearse=False,
            run_dir=tmp_path / backend,
        ).run()
        weights[backend] = small.outcome(history.run_dir)["weights"]
        assert [line["backend"] for line in lines(history)] == ["lean"] * 3
    assert lines(history)[0]["reason"] == ONE
    assert stacks_made == [5, 5]  # and the sixth by itself, in both rounds
    assert weights["lean"] == weights["stacked"]
    for lean, stacked in zip(kept["lean"], kept["stacked"], strict=True):
        for one, other in zip(lean, stacked, strict=True):
            for name, value in one.state_dict().items():
                torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=1e-5)


def test_what_cannot_be_stacked_is_refitted_alone(learner, tmp_path, stacks_made):
    class Item(parts.Mine):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 3)

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.last = loss.item()
            return loss

    kept = {}
    for backend in ("lean", "stacked"):
        kept[backend] = []
        learner(
            task=Item,
            strategy=Values(kept[backend]),
            fits=backend,
            budget=5,
            rehearse=False,
            run_dir=tmp_path / backend,
        ).run()
    assert not stacks_made
    for lean, stacked in zip(kept["lean"][0], kept["stacked"][0], strict=True):
        assert small.same_weights(lean.state_dict(), stacked.state_dict())


def test_a_refit_that_diverges_is_its_error():
    class Diverges(parts.Mine):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) / 0

    data = small.datamodule(initial=12)
    data.prepare_data()
    data.start(0)
    data.round = 0
    recipe = Recipe(Diverges, small.TRAINER)
    kind = StackedFits(recipe, data, seed=0, keep=lambda *_: "")
    kind._why = ""  # as after a first fit
    views = [data.restricted(data.labelled[i : i + 8]) for i in range(4)]
    with pytest.raises(ValueError, match="round 0 diverged"):
        kind.refits(recipe, views, seed=0, round=0)


def test_no_refits_are_none(learner, tmp_path):
    class Nothing(Values):
        def choose(self, pool, k, generator):
            self.kept.append(pool.bench.refits([]))
            return Acquisition(pool.index[:k])

    kept = []
    learner(
        strategy=Nothing(kept), fits="stacked", budget=5, rehearse=False, run_dir=tmp_path / "run"
    ).run()
    assert kept == [[]]
    assert issubclass(StackedFits, LeanFits)
