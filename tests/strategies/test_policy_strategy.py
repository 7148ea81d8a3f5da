"""A policy as a strategy: what it is told, where its query goes, and what it refuses."""

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import small
from helpers.places import pool_of

from lightning_al import ActiveLearner, suggest
from lightning_al.datamodules import ContinuousDataModule
from lightning_al.datamodules.tensors import TensorItems
from lightning_al.policies import CandidatePolicy, Policy, SetPolicy
from lightning_al.policies.filter import SafetyFilter
from lightning_al.records import Box
from lightning_al.strategies import PolicyQuery, build
from lightning_al.tasks import GPRegression
from lightning_al.testing import check_strategy

TINY = {"width": 8, "heads": 2, "hidden": 8}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def trained(tmp_path):
    """``trained(dimension, safe)``: the path of a policy with random weights."""

    def make(dimension=2, safe=False, history=20, budget=10, **settings):
        torch.manual_seed(dimension)
        network = SetPolicy(dimension, safe=safe, **TINY, **settings)
        for parameter in network.parameters():  # queries that differ
            parameter.data.mul_(2.0)
        name = f"p{dimension}{safe}{history}{budget}{settings}"
        return str(Policy.of(network, history=history, budget=budget).save(tmp_path / name))

    return make


def world(n=50, d=2, labelled=3, safe=False, seed=0, **more):
    g = seeded(seed)
    inputs, known = torch.rand(n, d, generator=g), torch.rand(labelled, d, generator=g)
    targets = torch.randn(labelled, 2 if safe else 1, generator=g)
    if safe:
        targets[:, 1] = targets[:, 1].abs()
    pool = pool_of(inputs, known, targets if safe else targets[:, 0], **more)
    return pool, inputs, known, targets


# --- what it asks for ----------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [False, True])
def test_on_a_pool_it_takes_the_candidate_nearest_to_the_policys_query(trained, safe):
    path = trained(safe=safe)
    for seed in range(5):
        pool, inputs, known, targets = world(safe=safe, seed=seed)
        z = targets[:, 1] if safe else None
        query = Policy.load(path).query(known, targets[:, 0], 5, z)
        away = torch.linalg.vector_norm(inputs.double() - query.double(), dim=1)
        got = build("policy", policy=path).choose(pool, 1, seeded())
        assert got.index.tolist() == [100 + int(away.argmin())]
        assert got.x is None
        assert got.notes["distance"] == pytest.approx(float(away.min()), abs=1e-9)
        assert got.notes["proposed"] == pytest.approx(query.tolist())
        assert got.notes["seconds_policy"] > 0
        assert got.to_json()["notes"] == got.notes


@pytest.fixture
def scoring(tmp_path):
    """``scoring(dimension, safe)``: the path of a policy that scores candidates."""

    def make(dimension=2, safe=False):
        torch.manual_seed(dimension)
        network = CandidatePolicy(dimension, safe=safe, width=16, heads=2, candidates=16)
        for parameter in network.parameters():
            parameter.data.mul_(2.0)
        return str(Policy.of(network, 20, 10).save(tmp_path / f"scoring{dimension}{safe}"))

    return make


@pytest.mark.parametrize("safe", [False, True])
def test_a_policy_that_scores_takes_the_row_that_it_scores_highest(scoring, safe):
    path = scoring(safe=safe)
    for seed in range(5):
        pool, inputs, known, targets = world(safe=safe, seed=seed)
        z = targets[:, 1] if safe else None
        scores = Policy.load(path).score(known, targets[:, 0], inputs, z)
        got = build("policy", policy=path).choose(pool, 1, seeded())
        assert got.index.tolist() == [100 + int(scores.argmax())]
        torch.testing.assert_close(got.scores, scores.max().reshape(1))
        order = torch.randperm(len(inputs), generator=seeded(seed))
        turned = replace(pool, index=pool.index[order])
        assert build("policy", policy=path).choose(turned, 1, seeded()).index == got.index


def test_ties_of_scores_are_broken_by_the_generator(scoring):
    place = torch.full((6, 2), 0.25)
    pool = pool_of(place, torch.rand(3, 2, generator=seeded()), torch.randn(3, generator=seeded()))
    strategy = build("policy", policy=scoring())
    assert len({int(strategy.choose(pool, 1, seeded(s)).index) for s in range(30)}) == 6


def test_the_filter_takes_the_best_row_that_is_safe_enough(scoring):
    known = torch.rand(12, 2, generator=seeded(3))
    z = 6 * (known[:, 0] - 0.5)  # safe on the right
    targets = torch.stack([torch.randn(12, generator=seeded(4)), z], 1)
    inputs = torch.rand(60, 2, generator=seeded(5))
    pool = pool_of(inputs, known, targets)
    path = scoring(safe=True)
    scores = Policy.load(path).score(known, targets[:, 0], inputs, z)
    guard = SafetyFilter("gp", 0.05).fit(known.double(), z.double())
    enough = guard.enough(inputs.double())
    assert 0 < int(enough.sum()) < 60
    got = build("policy", policy=path, safety_filter="gp").choose(pool, 1, seeded())
    wanted = scores.masked_fill(~enough, -torch.inf).argmax()
    assert got.index.tolist() == [100 + int(wanted)]


def test_a_policy_that_scores_names_a_place_of_a_box(scoring):
    box = Box(torch.tensor([-3.0, 10.0]), torch.tensor([5.0, 10.5]))
    _, _, known, targets = world()
    side = box.high - box.low
    pool = pool_of(
        torch.rand(9, 2) * side + box.low, known * side + box.low, targets[:, 0], box=box
    )
    got = build("policy", policy=scoring()).choose(pool, 1, seeded())
    want = Policy.load(scoring()).query(known, targets[:, 0], 5)
    torch.testing.assert_close(got.x[0], (box.low + want * side).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("safe", [False, True])
def test_in_a_box_it_names_the_place_itself(trained, safe):
    box = Box(torch.tensor([-3.0, 10.0]), torch.tensor([5.0, 10.5]))
    path = trained(safe=safe)
    _, _, known, targets = world(safe=safe)
    y = targets if safe else targets[:, 0]
    side = box.high - box.low
    pool = pool_of(torch.rand(9, 2) * side + box.low, known * side + box.low, y, box=box)
    got = build("policy", policy=path, low=7.0, high=8.0).choose(pool, 1, seeded())
    want = Policy.load(path).query(known, targets[:, 0], 5, targets[:, 1] if safe else None)
    assert got.index is None
    assert got.x.shape == (1, 2)
    torch.testing.assert_close(got.x[0], (box.low + want * side).double(), rtol=1e-5, atol=1e-5)
    assert bool((got.x >= box.low).all() and (got.x <= box.high).all())


@pytest.mark.parametrize("bounds", [(-4.0, 4.0), ([-4.0, -8.0], [4.0, 8.0])])
def test_inputs_of_a_pool_are_scaled_by_low_and_high(trained, bounds):
    low, high = (torch.as_tensor(b).expand(2) for b in bounds)
    pool, inputs, known, targets = world()
    plain = build("policy", policy=trained()).choose(pool, 1, seeded())
    wide = pool_of(low + inputs * (high - low), low + known * (high - low), targets[:, 0])
    strategy = build("policy", policy=trained(), low=bounds[0], high=bounds[1])
    assert strategy.choose(wide, 1, seeded()).index.tolist() == plain.index.tolist()
    with pytest.raises(ValueError, match=r"outside \[low, high\] = \[0, 1\].*arguments low and hi"):
        build("policy", policy=trained()).choose(wide, 1, seeded())
    with pytest.raises(ValueError, match="one number or 2, one an input, got 3"):
        build("policy", policy=trained(), low=[0, 0, 0.0]).choose(pool, 1, seeded())
    with pytest.raises(ValueError, match="low < high"):
        build("policy", policy=trained(), low=1.0).choose(pool, 1, seeded())


def test_the_budget_and_the_order_of_the_history(trained):
    path = trained()
    pool, _, known, targets = world()
    proposed = [
        build("policy", policy=path)
        .choose(replace(pool, context=replace(pool.context, remaining=left)), 1, seeded())
        .notes["proposed"]
        for left in (1, 5, 10)
    ]
    assert proposed[0] != proposed[1] != proposed[2]
    order = torch.tensor([2, 0, 1])
    moved = pool_of(torch.rand(50, 2, generator=seeded()), known[order], targets[order, 0])
    again = build("policy", policy=path).choose(moved, 1, seeded()).notes["proposed"]
    assert again == pytest.approx(proposed[1], abs=1e-5)


def test_standardised_targets_may_come_in_any_unit(trained):
    path = trained(safe=True)
    pool, _, known, targets = world(safe=True)
    strategy = build("policy", policy=path, standardise=True)
    told = targets.clone()
    told[:, 0] = (told[:, 0] - told[:, 0].mean()) / told[:, 0].std(correction=0)
    told[:, 1] = told[:, 1] / told[:, 1].std(correction=0)
    want = Policy.load(path).query(known, told[:, 0], 5, told[:, 1]).tolist()
    other = targets * torch.tensor([40.0, 0.01]) + torch.tensor([7.0, 0.0])
    for given in (targets, other):
        seen = replace(pool, context=replace(pool.context, targets=given))
        got = strategy.choose(seen, 1, seeded()).notes["proposed"]
        assert got == pytest.approx(want, abs=1e-4)
    one = world(labelled=1, safe=True)[0]  # a single point has no deviation
    assert np.isfinite(strategy.choose(one, 1, seeded()).notes["proposed"]).all()


def test_what_it_remembers_changes_nothing_and_is_not_copied(trained):
    strategy = build("policy", policy=trained())
    first, _, known, targets = world(seed=1)
    inputs = torch.rand(30, 2, generator=seeded(9))
    chosen = strategy.choose(first, 1, seeded()).index.tolist()
    other = pool_of(inputs, known, targets[:, 0], round=1)  # other data, as if later in the run
    fresh = build("policy", policy=trained())
    assert (
        strategy.choose(other, 1, seeded()).index.tolist()
        == fresh.choose(other, 1, seeded()).index.tolist()
    )
    for twin in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert twin == strategy
        assert not twin._memory.policies
        assert twin.choose(first, 1, seeded()).index.tolist() == chosen


@pytest.mark.parametrize("settings", [{"safety_filter": "gp"}, {"standardise": True}])
def test_it_conforms(settings):
    check_strategy(build("policy", **settings), kind="safe")


# --- the filter ----------------------------------------------------------------------------------


def half(labelled=12):
    """A world whose left half is unsafe: z = 4 (x0 - 0.5), measured all over."""
    g = seeded(2)
    inputs, known = torch.rand(400, 2, generator=g), torch.rand(labelled, 2, generator=g)
    targets = torch.stack([known.sum(1), 4 * (known[:, 0] - 0.5)], 1)
    return inputs, known, targets


@pytest.mark.parametrize("kind", ["gp", "conformal"])
def test_the_filter_moves_what_is_unsafe_to_the_nearest_safe_candidate(trained, kind):
    inputs, known, targets = half()
    for shift in range(4):
        shifted = targets + torch.tensor([float(shift), 0.0])
        pool, path = pool_of(inputs, known, shifted), trained(safe=True)
        plain = build("policy", policy=path).choose(pool, 1, seeded())
        got = build("policy", policy=path, safety_filter=kind).choose(pool, 1, seeded())
        enough = SafetyFilter(kind).fit(known, targets[:, 1]).enough(inputs.double())
        row = int(plain.index) - 100
        away = torch.linalg.vector_norm(inputs - torch.tensor(plain.notes["proposed"]), dim=1)
        nearest = int(away.masked_fill(~enough, torch.inf).argmin())
        assert got.index.tolist() == [100 + (row if enough[row] else nearest)]
        assert got.notes["moved"] == (not enough[row])
        assert got.notes["safe"]
    assert got.notes["moved"]  # or nothing was shown here


@pytest.mark.parametrize("kind", ["gp", "conformal"])
def test_with_gamma_one_the_filter_does_nothing(trained, kind):
    path = trained(safe=True)
    for box in (None, Box(torch.zeros(2), torch.ones(2))):
        pool = pool_of(*half(), box=box)
        plain = build("policy", policy=path).choose(pool, 1, seeded())
        got = build("policy", policy=path, safety_filter=kind, gamma=1.0).choose(pool, 1, seeded())
        assert not got.notes["moved"]
        chosen = [(a.index if box is None else a.x).tolist() for a in (plain, got)]
        assert chosen[0] == chosen[1]


@pytest.mark.parametrize("known_safe", [True, False])
def test_in_a_box_the_filter_finds_a_safe_place(trained, known_safe):
    inputs, known, targets = half(14)
    if not known_safe:
        targets[:, 1] = -targets[:, 1].abs() - 0.1
    pool = pool_of(inputs, known, targets, box=Box(torch.zeros(2), torch.ones(2)))
    strategy = build("policy", policy=trained(safe=True), safety_filter="gp", gamma=0.001)
    guard = SafetyFilter("gp", 0.001).fit(known, targets[:, 1])
    got = strategy.choose(pool, 1, seeded())
    start = torch.tensor([got.notes["proposed"]]).double()
    assert got.notes["safe"] == known_safe == bool(guard.enough(got.x))
    assert got.notes["moved"] == bool((got.x - start).abs().max() > 1e-9)
    if got.notes["moved"]:
        assert float(guard.deviations(got.x)) > float(guard.deviations(start))
    again = strategy.choose(pool, 1, seeded())
    assert torch.equal(again.x, got.x)


# --- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "changes", "k", "says"),
    [
        ({}, {}, 2, r"one point at a time.*got k = 2; set query_size: 1"),
        ({}, {}, 51, "cannot acquire 51 of 50"),
        ({}, {"remaining": None}, 1, r"set a budget of 10 at most \(budget: 20\)"),
        ({}, {"remaining": 11}, 1, "trained for 10 queries at most, got a budget of 11"),
        ({}, {"labelled": 0}, 1, "a labelled point to begin with; start with initial=1"),
        ({}, {"labelled": 21}, 1, "trained on 1 to 20 points, got 21"),
        ({}, {"d": 3}, 1, r"takes points \[n, 2\]"),
        ({}, {"safe": True}, 1, "knows no safety"),
        ({"safe": True}, {}, 1, "needs z, the safety measurements"),
        ({"safety_filter": "gp"}, {}, 1, "'gp' needs a safety measurement z"),
    ],
)
def test_what_cannot_be_is_refused_with_the_mend(trained, settings, changes, k, says):
    path = trained(safe=settings.pop("safe", False))
    with pytest.raises(ValueError, match=says):
        build("policy", policy=path, **settings).choose(world(**changes)[0], k, seeded())


def test_a_policy_that_knows_no_budget_needs_none(trained):
    strategy = build("policy", policy=trained(budget_aware=False))
    assert len(strategy.choose(world(remaining=None)[0], 1, seeded())) == 1
    assert len(strategy.choose(world()[0], 0, seeded())) == 0


def test_names_of_policies(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a name is also a path
    for safe, d, name in [(False, 4, "asal-4d"), (True, 6, "asal-safe-6d")]:
        with pytest.raises(LookupError, match=f"policy='auto' is {name}, for {d} inputs"):
            build("policy").choose(world(safe=safe, d=d)[0], 1, seeded())
    Policy.load(trained(6, safe=True)).save(tmp_path / "asal-safe-6d")
    assert len(build("policy").choose(world(safe=True, d=6)[0], 1, seeded())) == 1
    with pytest.raises(ValueError, match="safety_filter is 'none', 'gp' or 'conformal'"):
        PolicyQuery(safety_filter="on")
    with pytest.raises(ValueError, match="gamma is a probability"):
        PolicyQuery(gamma=0)


def test_one_that_falls_short_of_its_promise_is_asked_unchecked_alone(trained, tmp_path):
    policy = Policy.load(trained(safe=True))
    training = {"config": {"arguments": {"gamma": 0.05}}, "validation": {"safe": 0.5}}
    path = str(Policy.of(policy.network, 20, 10, **training).save(tmp_path / "short"))
    pool = world(safe=True)[0]
    with pytest.raises(ValueError, match=r"falls short .*--strategy\.unchecked true"):
        build("policy", policy=path).choose(pool, 1, seeded())
    assert len(build("policy", policy=path, unchecked=True).choose(pool, 1, seeded())) == 1


@pytest.mark.parametrize(("scale", "shift"), [(1e5, 0.0), (1.0, 50.0), (1e-4, 0.0)])
def test_targets_in_another_unit_are_spoken_of_unless_standardised(trained, scale, shift):
    pool, _, _, targets = world(labelled=6)
    seen = replace(pool, context=replace(pool.context, targets=scale * targets[:, 0] + shift))
    with pytest.warns(UserWarning, match=r"y lies far .*standardise: true"):
        build("policy", policy=trained()).choose(seen, 1, seeded())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("policy", policy=trained(), standardise=True).choose(seen, 1, seeded())


def test_an_untrained_policy_is_the_same_in_every_process_and_draws_nothing():
    before = torch.get_rng_state()
    one, two = (
        build("policy", policy="untrained").choose(world()[0], 1, seeded()) for _ in range(2)
    )
    assert one.notes["proposed"] == two.notes["proposed"]
    assert torch.equal(before, torch.get_rng_state())


# --- in a run ------------------------------------------------------------------------------------


def run(tmp_path, path, datamodule, outputs, **more):
    return ActiveLearner(
        task=lambda: GPRegression(outputs=outputs),
        datamodule=datamodule,
        strategy={"name": "policy", "policy": path, **more},
        query_size=1,
        budget=4,
        trainer=small.TRAINER | {"max_epochs": 1},
        run_dir=tmp_path / "run",
    )


@pytest.mark.parametrize("safety_filter", ["none", "gp"])
def test_a_run_on_a_pool_counts_the_budget_down(trained, tmp_path, safety_filter):
    path = trained(4, safe=True)
    data = small.safe_datamodule()
    history = run(tmp_path, path, data, 2, safety_filter=safety_filter).run()
    assert len(set(history.acquired)) == 4
    train, policy, order = small.safe_line(), Policy.load(path), list(history.acquired)
    data.start(0)
    known = data.labelled.tolist()
    for step, item in enumerate(order if safety_filter == "none" else []):
        x, (y, z) = train.inputs[0][known], train.targets[known].unbind(1)
        query = policy.query(x, y, 4 - step, z)
        left = torch.tensor([i for i in range(60) if i not in known])
        away = torch.linalg.vector_norm(train.inputs[0][left] - query, dim=1)
        assert float(away[left == item]) == pytest.approx(float(away.min()), abs=1e-6)
        known.append(item)


def test_a_run_in_a_box_measures_where_the_policy_says(trained, tmp_path):
    path = trained(2)
    low, high = [-1.0, 0.0], [1.0, 4.0]
    data = ContinuousDataModule(low, high, lambda x: x.sum(1), initial=3, test=20)
    history = run(tmp_path, path, data, 1).run()
    places = data.coordinates(torch.arange(7)).float()
    scaled = (places - torch.tensor(low)) / (torch.tensor(high) - torch.tensor(low))
    for step in range(4):
        seen = 3 + step
        query = Policy.load(path).query(scaled[:seen], places[:seen].sum(1), 4 - step)
        torch.testing.assert_close(scaled[seen], query, atol=1e-4, rtol=1e-4)
    assert history.rounds[-1].n_labelled == 7


def test_suggest_takes_the_budget_that_is_left(trained):
    data = small.safe_datamodule(TensorItems(*_raw()))
    data.setup()
    task = GPRegression(outputs=2)
    spec = {"name": "policy", "policy": trained(4, safe=True)}
    assert len(suggest(task, data, spec, 1, remaining=3)) == 1
    with pytest.raises(ValueError, match="or remaining=20 in suggest"):
        suggest(task, data, spec, 1)


def _raw():
    train = small.safe_line()
    return train.inputs[0], train.targets
