"""BatchBALD: against enumeration in plain Python, bounds, limits, and what a mutation breaks."""

import doctest
import itertools
import math
from importlib import import_module

import numpy as np
import pytest
import torch

from lightning_al import measures
from lightning_al.strategies import build
from lightning_al.strategies.hybrid.saturation import saturation
from lightning_al.strategies.kernels.batch_bald import (
    batch_bald,
    informed_batch_bald,
    joint_entropy,
)
from lightning_al.strategies.kernels.joint_epig import batch_epig, informed_batch_epig
from lightning_al.testing import World

module = import_module("lightning_al.strategies.kernels.batch_bald")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(n=12, s=4, c=3, seed=0):
    logits = 2 * torch.randn(n, s, c, generator=seeded(seed))
    return logits.log_softmax(-1)


def confident(n=12, s=4, c=3, seed=1):
    """Most items are clear to all members."""
    draw = seeded(seed)
    shared = 4 * torch.randn(n, 1, c, generator=draw) * torch.rand(n, 1, 1, generator=draw)
    return (shared + torch.randn(n, s, c, generator=draw)).log_softmax(-1)


def linear(n=12, s=4, c=3, seed=2):
    draw = seeded(seed)
    features, weights = torch.randn(n, 5, generator=draw), torch.randn(s, 5, c, generator=draw)
    return torch.einsum("ne,sec->nsc", features, weights).log_softmax(-1)


FIXTURES = [noisy, confident, linear]
every_fixture = pytest.mark.parametrize("fixture", FIXTURES)


def information(log_probs, rows):
    """Joint mutual information of some rows by enumeration, plain Python in float64."""
    probs = log_probs.double().exp().tolist()
    members, classes = len(probs[0]), len(probs[0][0])
    joint = 0.0
    for labels in itertools.product(range(classes), repeat=len(rows)):
        chances = [
            math.prod(probs[row][s][y] for row, y in zip(rows, labels, strict=True))
            for s in range(members)
        ]
        mean = sum(chances) / members
        joint -= mean * math.log(mean) if mean > 0 else 0.0
    own = sum(
        -p * math.log(p) for row in rows for s in range(members) for p in probs[row][s] if p > 0
    )
    return joint - own / members


def brute_force(log_probs, k):
    chosen = []
    while len(chosen) < k:
        rest = [row for row in range(len(log_probs)) if row not in chosen]
        chosen.append(max(rest, key=lambda row: information(log_probs, [*chosen, row])))
    return chosen


def test_doctests():
    assert doctest.testmod(module).failed == 0


@every_fixture
def test_agrees_with_enumeration(fixture):
    log_probs = fixture()
    assert batch_bald(log_probs, 5, seeded()).tolist() == brute_force(log_probs, 5)


@every_fixture
def test_first_pick_is_the_largest_bald(fixture):
    log_probs = fixture(n=200)
    assert batch_bald(log_probs, 1, seeded()).item() == measures.bald(log_probs.exp()).argmax()


@every_fixture
@pytest.mark.parametrize("k", [2, 3])
def test_greedy_is_near_the_best_batch(fixture, k):
    log_probs = fixture(n=8)
    greedy = information(log_probs, batch_bald(log_probs, k, seeded()).tolist())
    best = max(information(log_probs, rows) for rows in itertools.combinations(range(8), k))
    assert (1 - 1 / math.e) * best <= greedy <= best + 1e-9


def full_search(log_probs, k, samples, generator):
    """The same search without bounds or race, in float64: every item, every configuration."""
    probs = log_probs.double().exp().numpy()
    state = module._Configurations.none(log_probs.shape[1], log_probs.device)
    module.shuffled(len(log_probs), generator, log_probs.device)  # the draw for ties
    chosen = []
    for _ in range(k):
        posterior = state.posterior.double().numpy()
        chance = np.einsum("ms,nsc->nmc", posterior, probs)
        within = np.einsum("ms,nsc->nm", posterior, -probs * np.log(probs))
        gains = (within * -1 - (chance * np.log(chance)).sum(-1)) @ state.weight.numpy()
        gains[chosen] = -1
        if gains.max() < 1e-4:  # what is left is near the resolution
            break
        chosen.append(int(gains.argmax()))
        state = state.extended(torch.from_numpy(probs[chosen[-1]]), samples, generator)
    return chosen


@every_fixture
@pytest.mark.parametrize("samples", [40, 700])
def test_bounds_and_race_change_no_pick(fixture, samples):
    """Stale gains, merged configurations and early stops are bounds: all must hold."""
    log_probs = fixture(n=150, s=6, c=5, seed=7)
    fast = batch_bald(log_probs, 8, seeded(3), samples=samples).tolist()
    full = full_search(log_probs, 8, samples, seeded(3))
    assert len(full) >= 5
    assert fast[: len(full)] == full


@every_fixture
def test_bounds_are_bounds(fixture):
    items = module._Items(fixture(n=60, s=6, c=5), 2**28)
    rows = torch.arange(60)
    state = module._Configurations.none(6, torch.device("cpu"))
    before = state.information(items, rows)
    for row in (3, 5, 8, 9, 11):
        state = state.extended(items.probs(row), 500, seeded())
        gains = state.information(items, rows)
        assert (gains >= -1e-6).all()
        assert (state.grouped().information(items, rows) >= gains - 1e-6).all()
        if state.exact:
            assert (gains <= before + 1e-6).all()
            before = gains
        for _, tail in module._cuts(state, [len(state) // 16, len(state) // 4]):
            shares = tail.information(items, rows)
            assert (shares <= tail.uncertainty().sum() + 1e-6).all()
    assert not state.exact


@every_fixture
@pytest.mark.parametrize("samples", [300, 3000])
def test_race_returns_every_item_that_may_be_best(fixture, samples):
    """Whatever it leaves out is worse; a sampled state is not bounded by older gains."""
    items = module._Items(fixture(n=400, s=8, c=6, seed=4), 2**28)
    rows = torch.arange(400)
    state = module._Configurations.none(8, torch.device("cpu"))
    for row in range(5):
        state = state.extended(items.probs(row), samples, seeded())
        bound = torch.full((400,), torch.inf if state.exact else 1e-9, dtype=torch.float64)
        bound[: row + 1] = -torch.inf
        want = state.information(items, rows)[row + 1 :]
        gains, found = module._race(items, state, bound.clone(), 1e-6)
        torch.testing.assert_close(gains, want[found - row - 1], atol=2e-6, rtol=0)
        assert len(set(found.tolist())) == len(found)
        near = (want > want.max() - 1e-7).nonzero().squeeze(1) + row + 1
        assert set(near.tolist()) <= set(found.tolist())


@pytest.mark.parametrize("start", [12, 16, 36])
def test_race_bounds_what_it_has_not_seen(start, monkeypatch):
    """The most promising item by the groups is not the best: the race must find who is."""
    monkeypatch.setattr(module, "_FEW", 1)
    items = module._Items(linear(n=300, s=8, c=6, seed=5), 2**28)
    state = module._Configurations.none(8, torch.device("cpu"))
    for row in range(start, start + 4):
        state = state.extended(items.probs(row), 1500, seeded())
    want = state.information(items, torch.arange(300))
    promising = state.grouped().information(items, torch.arange(300))
    assert want.argmax() != promising.argmax()
    bound = torch.full((300,), torch.inf, dtype=torch.float64)
    gains, found = module._race(items, state, bound, 1e-6)
    assert found[gains.argmax()] == want.argmax()
    torch.testing.assert_close(gains, want[found], atol=2e-6, rtol=0)


def test_works_on_fewer_items_than_it_has():
    """The point of the bounds: late picks look at few of the items in full."""
    log_probs, seen = linear(n=400, s=20, c=5), []
    real = module._Configurations.information

    def counted(self, items, rows):
        seen.append(len(self) * len(rows))
        return real(self, items, rows)

    module._Configurations.information = counted
    try:
        batch_bald(log_probs, 8, seeded(), samples=2000)
    finally:
        module._Configurations.information = real
    full = 400 * (1 + 5 + 25 + 125 + 625 + 3 * 2000)
    assert sum(seen) < full / 3


@every_fixture
def test_joint_entropy_is_exact_while_it_fits(fixture):
    log_probs = fixture(n=5)
    probs = log_probs.double().exp()
    own = float(-(probs * probs.log()).sum(-1).mean(1).sum())
    want = information(log_probs, range(5)) + own
    assert float(joint_entropy(log_probs, seeded())) == pytest.approx(want, abs=1e-5)


def test_sampled_joint_entropy_is_unbiased():
    log_probs = noisy(n=7)
    exact = float(joint_entropy(log_probs, seeded()))  # 3^7 = 2187 fit
    draws = [float(joint_entropy(log_probs, seeded(i), samples=30)) for i in range(60)]
    assert np.mean(draws) == pytest.approx(exact, abs=4 * np.std(draws) / 60**0.5 + 1e-5)
    assert np.std(draws) > 0
    close = float(joint_entropy(log_probs, seeded(), samples=1000))
    assert close == pytest.approx(exact, rel=2e-3)


def test_thinning_keeps_the_heavy_and_is_unbiased():
    weight = torch.tensor([0.4, 0.3, 0.1, 0.08, 0.05, 0.04, 0.03], dtype=torch.float64)
    total = torch.zeros(7, dtype=torch.float64)
    for seed in range(2000):
        rows, kept = module._thinned(weight, 4, seeded(seed))
        assert len(rows) == len(set(rows.tolist())) == 4
        assert kept.sum() == pytest.approx(1)
        assert {0, 1} <= set(rows.tolist())
        assert kept[:2].tolist() == [0.4, 0.3]
        total[rows] += kept
    torch.testing.assert_close(total / 2000, weight, atol=0.012, rtol=0)


def test_a_copy_is_not_picked_while_other_information_is_left():
    """Members that are sure make a label's second reading worthless."""
    bits = torch.tensor(list(itertools.product([0, 1], repeat=3)))  # 8 members, 3 questions
    probs = torch.nn.functional.one_hot(bits.T, 2).float()  # [3, 8, 2]
    copies = probs.repeat(4, 1, 1)
    rows = batch_bald(copies.log(), 3, seeded(5))
    assert {row % 3 for row in rows.tolist()} == {0, 1, 2}
    assert information(copies.log(), rows.tolist()) == pytest.approx(math.log(8))
    assert sorted(batch_bald(copies.log(), 12, seeded()).tolist()) == list(range(12))


@every_fixture
@pytest.mark.parametrize("samples", [20, 10_000])
def test_a_batch_is_its_single_picks(fixture, samples):
    log_probs = fixture(n=30)
    batch = batch_bald(log_probs, 6, seeded(), samples=samples)
    for step in range(6):
        one = batch_bald(log_probs, 1, seeded(), samples=samples, pending=batch[:step])
        assert one.item() == batch[step]
        assert torch.equal(batch_bald(log_probs, step, seeded(), samples=samples), batch[:step])


@every_fixture
def test_order_of_the_pool_does_not_matter(fixture):
    log_probs = fixture(n=40)
    moved = torch.randperm(40, generator=seeded(9))
    rows = batch_bald(log_probs, 5, seeded())
    assert torch.equal(moved[batch_bald(log_probs[moved], 5, seeded())], rows)


@pytest.mark.parametrize("memory", [2**12, 2**16, 2**20])
def test_memory_changes_no_pick(memory):
    log_probs = linear(n=60, s=5, c=4)
    want = batch_bald(log_probs, 6, seeded(), samples=300)
    assert torch.equal(batch_bald(log_probs, 6, seeded(), samples=300, memory=memory), want)


def test_relabelled_classes_and_members_give_the_same_batch():
    log_probs = noisy(n=40)
    want = batch_bald(log_probs, 4, seeded())
    assert torch.equal(batch_bald(log_probs[:, :, [2, 0, 1]], 4, seeded()), want)
    assert torch.equal(batch_bald(log_probs[:, [3, 1, 0, 2]], 4, seeded()), want)


@pytest.mark.parametrize("samples", [1, 2, 50])
@pytest.mark.parametrize("k", [0, 1, 11, 12])
def test_k_distinct_rows_however_few_samples(samples, k):
    rows = batch_bald(noisy(), k, seeded(), samples=samples).tolist()
    assert len(set(rows)) == len(rows) == k
    assert set(rows) <= set(range(12))


@pytest.mark.parametrize(
    "probs",
    [
        torch.full((9, 4, 3), 1 / 3),
        torch.eye(3).expand(9, 3, 3),
        torch.tensor([1.0, 0.0, 0.0]).expand(9, 4, 3),
        torch.ones(9, 4, 1),
        torch.full((9, 1, 3), 1 / 3),
    ],
    ids=["uniform", "one-hot", "certain", "one class", "one member"],
)
def test_ties_are_random_and_nothing_is_nan(probs):
    seen = set()
    for seed in range(60):
        rows = batch_bald(probs.log(), 3, seeded(seed)).tolist()
        assert len(set(rows)) == 3
        seen |= set(rows)
    assert seen == set(range(9))
    assert math.isfinite(float(joint_entropy(probs.log(), seeded())))


def test_uniform_entropy_is_log_c_an_item():
    uniform = torch.full((4, 2, 3), 1 / 3).log()
    assert float(joint_entropy(uniform, seeded())) == pytest.approx(4 * math.log(3), abs=1e-5)


def test_other_precisions_and_the_input_is_left_alone():
    log_probs = noisy(n=40)
    before = log_probs.clone()
    want = batch_bald(log_probs, 4, seeded())
    assert torch.equal(batch_bald(log_probs.double(), 4, seeded()), want)
    assert torch.equal(log_probs, before)
    assert len(batch_bald(log_probs.half(), 4, seeded())) == 4


def test_global_random_state_is_not_used():
    torch.manual_seed(1)
    first = batch_bald(noisy(n=30), 5, seeded(), samples=20)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(batch_bald(noisy(n=30), 5, seeded(), samples=20), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_input_says_which_rows_and_the_mend():
    broken = noisy()
    broken[3, 1, 0], broken[7, 0, 2] = torch.nan, torch.inf
    with pytest.raises(ValueError, match=r"2 of 12 rows.*\[3, 7\].*log_softmax"):
        batch_bald(broken, 2, seeded())
    with pytest.raises(ValueError, match=r"12 of 12 rows"):
        batch_bald(noisy().exp(), 2, seeded())
    with pytest.raises(ValueError, match="cannot acquire 13 of 12 candidates"):
        batch_bald(noisy(), 13, seeded())
    with pytest.raises(ValueError, match="of which 2 are pending"):
        batch_bald(noisy(), 11, seeded(), pending=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="samples >= 1"):
        batch_bald(noisy(), 2, seeded(), samples=0)
    with pytest.raises(ValueError, match="axes"):
        batch_bald(noisy()[0], 1, seeded())
    assert batch_bald(noisy()[:0], 0, seeded()).tolist() == []


# --- what a batch says about the members ---------------------------------------------------------


@every_fixture
@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_batch_comes_with_its_information_on_the_members(fixture, k):
    log_probs = fixture()
    rows, told = informed_batch_bald(log_probs, k, seeded())
    assert rows.tolist() == batch_bald(log_probs, k, seeded()).tolist()
    assert told == pytest.approx(information(log_probs, rows.tolist()), abs=1e-5)
    assert told <= math.log(4)
    rows, told = informed_batch_epig(log_probs, log_probs[:3], k, seeded(), samples=3**k)
    assert rows.tolist() == batch_epig(log_probs, log_probs[:3], k, seeded(), samples=3**k).tolist()
    assert told == pytest.approx(information(log_probs, rows.tolist()), abs=1e-5)


@pytest.mark.parametrize("samples", [50, 200])
def test_information_from_sampled_configurations_is_close(samples):
    log_probs = noisy(n=8)
    estimates = [informed_batch_bald(log_probs, 7, seeded(s), samples=samples) for s in range(30)]
    wanted = [information(log_probs, rows.tolist()) for rows, _ in estimates]
    error = [told - want for (_, told), want in zip(estimates, wanted, strict=True)]
    assert abs(sum(error) / len(error)) < 0.02


@pytest.mark.parametrize("members", [2, 5, 20])
def test_members_that_are_sure_of_other_labels_are_told_apart_at_once(members):
    apart = torch.eye(members)[None].log()
    _, told = informed_batch_bald(apart, 1, seeded())
    assert told == pytest.approx(math.log(members), abs=1e-4)
    alike = torch.full((3, members, 4), 0.25).log()
    assert informed_batch_bald(alike, 3, seeded())[1] == pytest.approx(0, abs=1e-6)
    assert informed_batch_bald(alike, 0, seeded())[1] == 0


@pytest.mark.parametrize("members", [2, 10, 100])
def test_a_note_and_a_warning_from_nine_tenths_on(members):
    most = math.log(members)
    assert saturation("it", 0.9 * most, members) == {"information": round(0.9 * most, 6)}
    with pytest.warns(UserWarning, match=f"it: the batch says .* the {members} members.*more mem"):
        notes = saturation("it", 0.91 * most, members)
    assert "log S" in notes["saturated"]
    assert "saturated" not in saturation("it", 0.0, 1)  # one member has nothing to tell


@pytest.mark.parametrize("name", ["batch-bald", "batch-epig"])
@pytest.mark.parametrize(("samples", "k", "full"), [(3, 6, True), (40, 1, False)])
def test_acquisitions_note_what_a_batch_says(name, samples, k, full):
    strategy, world = build(name), World.make("classification", samples)
    made = strategy.choose(world.pool(strategy), k, seeded())
    log_probs = world.predictions.probs[made.index].log()
    wanted = information(log_probs, range(k))
    assert made.notes["information"] == pytest.approx(wanted, abs=1e-2)  # 128 configurations
    assert ("saturated" in made.notes) == full == (wanted > 0.9 * math.log(samples))
