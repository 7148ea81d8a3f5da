"""What a query costs: figures by hand, and which strategies pay for a model."""

import doctest
import math

import pandas as pd
import pytest
import torch

from lightning_al.benchmark import query_times as module
from lightning_al.benchmark import shown_numbers
from lightning_al.benchmark.query_times import query_times, times_of_run
from lightning_al.protocols import asks_model
from lightning_al.strategies import ScoreStrategy, build, names, resolve
from lightning_al.testing import kind_of, rehearsed
from lightning_al.testing.world import World


@pytest.mark.parametrize("name", ["query_times", "shown_numbers"])
def test_doctests(name):
    assert (
        doctest.testmod({"query_times": module, "shown_numbers": shown_numbers}[name]).failed == 0
    )


def rounds(n=4, **more):
    """Round r takes r + 1 seconds to fit and half as many to choose; the last one asks nothing."""
    return pd.DataFrame(
        {
            **{"round": r, "seconds_fit": r + 1.0, "n_acquired": int(r < n - 1)},
            **{"seconds_score": 0.25 * (r + 1), "seconds_choose": 0.25 * (r + 1), **more},
        }
        for r in range(n)
    )


def test_the_first_query_and_the_round_that_asks_nothing_do_not_count():
    found = times_of_run(rounds().sample(frac=1, random_state=0))
    assert found == {"ms_fit": 2500, "ms_query": 1250, "ms_first": 500, "ms_needed": 3750}


@pytest.mark.parametrize(("asks", "needed"), [(True, 3750), (False, 1250), (None, 3750)])
def test_a_fit_is_paid_for_by_who_asks_the_model(asks, needed):
    assert times_of_run(rounds(asks_model=asks))["ms_needed"] == needed


def test_nothing_asked_is_no_number():
    assert all(map(math.isnan, times_of_run(rounds(1)).values()))


def test_strategies_that_were_not_run_have_a_row_and_ceilings_have_none():
    def run(strategy, seed, **more):
        ended = {"status": "done", "error": "", "role": "strategy"}
        return rounds(strategy=strategy, run_id=f"{strategy}{seed}", **{**ended, **more})

    broken = {"status": "failed", "error": "no table\nand more"}
    frame = pd.concat(
        [
            *(run("b", 0), run("a", 0), run("a", 1, **broken), run("lost", 0, **broken)),
            run("best", 0, role="ceiling"),
        ]
    )
    rows = query_times(frame, ["b", "a"])
    assert [(r.strategy, r.runs) for r in rows] == [("b", 1), ("a", 1), ("lost", 0)]
    assert [r.missing for r in rows] == [
        "", "some runs failed: no table (1 of 2 runs)", "not run: no table (1 of 1 runs)"
    ]  # fmt: skip
    assert (rows[0].ms_fit.mean, rows[2].ms_fit.n) == (2500, 0)


# --- who asks the model --------------------------------------------------------------------------


FREE = {name for name in names() if not asks_model(build(name))}


def test_those_that_declare_it_are_free():
    assert sorted(FREE) == ["input-density", "policy", "random", "sobol"]


@pytest.mark.parametrize("name", sorted(FREE))
def test_whoever_declares_it_chooses_the_same_under_any_model(name):
    strategy = rehearsed(build(name))
    most = getattr(strategy, "most", 4)
    first = World.make(kind_of(strategy), samples=1)
    noise = torch.Generator().manual_seed(3)
    embedding = first.predictions.tensors()["embedding"]

    def other(values):
        same = values.shape == embedding.shape and torch.equal(values, embedding)  # the inputs
        return values if same else torch.randn(values.shape, generator=noise)

    def choice(world):
        fresh = rehearsed(build(name))  # some remember how far they have come
        return fresh.choose(world.pool(fresh), most, torch.Generator().manual_seed(0))

    chosen = [choice(w).index.tolist() for w in (first, first.changed(other))]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize(
    ("spec", "asks"),
    [
        ({"name": "subsample", "strategy": "random"}, False),
        ({"name": "subsample", "strategy": "margin"}, True),
        ({"name": "per-class-quota", "strategy": "random"}, True),  # it needs the classes
        ({"name": "subsample", "strategy": {"name": "subsample", "strategy": "random"}}, False),
    ],
)
def test_a_composition_asks_where_a_part_does(spec, asks):
    assert asks_model(resolve(spec)) == asks


def test_whoever_declares_nothing_asks():
    class Silent:
        needs = ()

    class Liar:
        needs = ("probs",)
        asks_model = False

    assert asks_model(Silent())
    assert asks_model(Liar())
    assert asks_model(ScoreStrategy(torch.sum))
