"""Bandits over strategies: ALBL's odds and rewards, TAILOR's counts and draws."""

import math
from dataclasses import replace

import pytest
import torch
from helpers.small import datamodule, learner

from lightning_al.strategies import build
from lightning_al.testing import World

TWO = ("margin", "k-means")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def answered(world, index, classes):
    """The same world after some items were labelled."""
    labelled = torch.cat([world.labelled, index])
    targets = torch.cat([world.context.targets, classes])
    left = world.index[~torch.isin(world.index, index)]
    context = replace(world.context, targets=targets, n_labelled=len(labelled))
    return replace(world, index=left, labelled=labelled, context=context)


# --- ALBL ----------------------------------------------------------------------------------------


def test_at_first_all_experts_are_followed_alike_and_what_none_advises_is_never_drawn():
    world, strategy = World.make("classification", 1), build("albl", candidates=TWO)
    assert strategy.odds.tolist() == pytest.approx([0.5, 0.5])
    advised, drawn = set(), set()
    for seed in range(30):
        fresh = build("albl", candidates=TWO)
        found = fresh.choose(world.pool(fresh), 4, seeded(seed))
        drawn |= set(found.index.tolist())
        alone = build("margin")
        advised |= set(alone.choose(world.pool(alone), 4, seeded()).index.tolist())
        assert found.notes["trusted"] == pytest.approx({"margin": 0.5, "k-means": 0.5})
    assert advised <= drawn


@pytest.mark.parametrize("right", [True, False])
def test_the_update_is_that_of_the_formula(right):
    world, strategy = World.make("classification", 1), build("albl", candidates=TWO)
    found = strategy.choose(world.pool(strategy), 4, seeded())
    past = {k: v.clone() for k, v in strategy._memory.items() if torch.is_tensor(v)}
    best = world.predictions.probs[found.index][:, 0].argmax(-1)
    after = answered(world, found.index, best if right else (best + 1) % 3)
    strategy.choose(after.pool(strategy), 2, seeded(1))
    reward = min(1.0, sum(1 / d for d in past["drawn"].tolist()) / 4) if right else 0.0
    steps = []
    for k in range(2):
        ratio = sum(row[k] for row in past["ratio"].tolist()) / 4
        wide = math.sqrt(math.log(2 / 0.1) / (2 * 1))
        steps.append(0.05 / 2 * (reward * ratio + ratio * wide))
    got = strategy._memory["log weights"]
    want = torch.tensor(steps, dtype=torch.float64)
    torch.testing.assert_close(got, want - want.max(), atol=1e-9, rtol=0)
    share = [0.9 * math.exp(s) / sum(map(math.exp, steps)) + 0.05 for s in steps]
    assert strategy.odds.tolist() == pytest.approx(share)


def test_nothing_is_learnt_while_answers_wait():
    world, strategy = World.make("classification", 1), build("albl", candidates=TWO)
    strategy.choose(world.pool(strategy), 4, seeded())
    strategy.choose(world.pool(strategy), 4, seeded(1))
    assert "log weights" not in strategy._memory
    assert strategy._memory["turns"] == 2


# --- TAILOR --------------------------------------------------------------------------------------


def test_counts_are_those_of_the_picks_of_each_arm():
    world, strategy = World.make("classification", 1), build("tailor", candidates=TWO)
    found = strategy.choose(world.pool(strategy), 6, seeded())
    arms = strategy._memory["arm"].tolist()
    classes = torch.tensor([0, 2, 2, 1, 0, 2])
    after = answered(world, found.index, classes)
    strategy.choose(after.pool(strategy), 2, seeded(1))
    want = [[0, 0, 0], [0, 0, 0]]
    for arm, c in zip(arms, classes.tolist(), strict=True):
        want[arm][c] += 1
    assert strategy._memory["counts"].tolist() == want
    assert found.notes["trusted"]["margin"] == pytest.approx(arms.count(0) / 6, abs=1e-6)
    assert len(strategy._memory["index"]) == 2  # those that wait now


def test_the_arm_that_finds_the_rare_class_is_followed():
    """One arm brought a hundred items of the rare class, the other of the common one."""
    world = World.make("classification", 1)
    rare = torch.tensor([0, 0, 0, 0, 0, 1])
    world = replace(world, context=replace(world.context, targets=rare))
    strategy = build("tailor", candidates=TWO)
    strategy._memory["counts"] = torch.tensor([[0, 100, 0], [100, 0, 0]])
    strategy._memory.update(index=torch.zeros(0).long(), arm=torch.zeros(0).long())
    found = strategy.choose(world.pool(strategy), 6, seeded())
    assert found.notes["trusted"] == {"margin": 1.0, "k-means": 0.0}
    alone = build("margin")
    own = alone.choose(world.pool(alone), 6, seeded())
    assert found.index.tolist() == own.index.tolist()


@pytest.mark.parametrize("name", ["albl", "tailor"])
def test_runs_learn_from_what_they_bought(tmp_path, name):
    spec = {"name": name, "candidates": ["margin", "random"]}
    data = datamodule(initial=8)
    history = learner(tmp_path, datamodule=data, strategy=spec, query_size=4, budget=12).run()
    told = [r.notes["trusted"] for r in history.rounds if r.notes]
    assert len(told) == 3
    assert all(sum(t.values()) == pytest.approx(1, abs=1e-5) for t in told)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("albl", {"delta": 0.0}), ("albl", {"floor": 2.0}), ("tailor", {"prior": 0.0})],
)
def test_settings_that_make_no_sense(name, wrong):
    with pytest.raises(ValueError, match=f"{name} needs"):
        build(name, **wrong)
