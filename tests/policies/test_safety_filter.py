"""The safety filter: closed forms, refits without each point, and where proposals go."""

import doctest
import math
from statistics import NormalDist

import pytest
import torch

from lightning_al.gp import MixtureGP
from lightning_al.gp.safety import FAR, SHAPE, SafeProcess
from lightning_al.policies import filter as module
from lightning_al.policies.filter import Guard, SafetyFilter, toward, upper_quantile

NORMAL = NormalDist()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def process(n=12, d=2, seed=0, noise=0.02, count=4):
    """A mixture of processes of given hyper-parameters, and what it was given."""
    x = torch.rand(n, d, generator=seeded(seed), dtype=torch.float64)
    z = torch.sin(5 * x[:, 0]) + 0.3 + 0.1 * torch.randn(n, generator=seeded(1), dtype=x.dtype)
    values = torch.tensor([[0.4] * d + [1.3, noise]]).double().repeat(count, 1)
    values[:, :-2] *= (1 + torch.arange(count).double() / 4)[:, None]
    return SafeProcess(MixtureGP.given(SHAPE, values, x, z - FAR), 1.0, FAR), x, z


def line(n=9):
    """z = 2 (x - 0.5) on a fine grid: safe from 0.5 on."""
    x = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
    return x, 2 * (x[:, 0] - 0.5)


def test_doctests():
    assert doctest.testmod(module).failed == 0


# --- the formulas --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("gamma", [0.05, 0.2, 0.5])
def test_the_gp_filter_asks_for_the_mean_probability(gamma, count):
    process_of_z, _, _ = process(count=count)
    guard = SafetyFilter("gp", gamma).guard(process_of_z)
    points = torch.rand(200, 2, generator=seeded(7), dtype=torch.float64)
    mean, deviation = process_of_z.answers(points)
    ratios, enough = guard.deviations(points), guard.enough(points)
    for i in range(200):
        laws = zip(mean[:, i].tolist(), deviation[:, i].tolist(), strict=True)
        p = sum(1 - NormalDist(m, s).cdf(0) for m, s in laws) / count
        assert bool(enough[i]) == (p >= 1 - gamma)
        assert NORMAL.cdf(float(ratios[i])) == pytest.approx(p, abs=1e-9)
    assert 0 < int(enough.sum()) < 200


def test_the_quantile_covers_a_new_one_of_n_plus_1_in_random_order():
    for n, gamma in [(19, 0.05), (20, 0.05), (9, 0.1), (7, 0.3)]:
        values = torch.randn(n + 1, generator=seeded(n))
        outside = 0
        for i in range(n + 1):  # each in turn is the new one
            others = values[torch.arange(n + 1) != i]
            outside += float(values[i]) > upper_quantile(others, gamma)
        assert outside / (n + 1) <= gamma + 1e-9
        assert (outside + 1) / (n + 1) > gamma - 1e-9  # and no smaller value would do
    assert upper_quantile(torch.arange(18.0), 0.05) is None
    assert upper_quantile(torch.arange(3.0), 1.0) == -math.inf


@pytest.mark.parametrize("count", [1, 4])
def test_the_conformal_bound_is_a_quantile_of_what_was_left_out(count):
    process_of_z, _, _ = process(25, count=count)
    below = process_of_z.left_out()
    guard = SafetyFilter("conformal", 0.1).guard(process_of_z)
    wanted = float(below.sort().values[math.ceil(26 * 0.9) - 1])
    assert guard.needed == pytest.approx(max(wanted, NORMAL.inv_cdf(0.9)), abs=1e-9)
    few = SafetyFilter("conformal", 0.01).guard(process_of_z)  # 25 of 99 that this would take
    assert few.needed == pytest.approx(max(float(below.max()), NORMAL.inv_cdf(0.99)), abs=1e-9)


def test_a_process_that_is_too_sure_is_corrected_and_one_that_is_not_stays():
    """Deviations far too small: the Gaussian bound believes them, the conformal one does not."""
    sure, _, _ = process(30, noise=1e-4)
    assert SafetyFilter("conformal", 0.1).guard(sure).needed > 1.2 * NORMAL.inv_cdf(0.9)
    wide, _, _ = process(30, noise=4.0)
    assert float(wide.left_out().max()) < NORMAL.inv_cdf(0.9)
    assert SafetyFilter("conformal", 0.1).guard(wide).needed == pytest.approx(NORMAL.inv_cdf(0.9))


# --- where proposals go --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gp", "conformal"])
def test_on_a_line_what_is_unsafe_moves_to_the_border(kind):
    x, z = line()
    guard = SafetyFilter(kind, 0.05).fit(x, z)
    candidates = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    for start in (0.0, 0.2, 0.4):
        here = torch.tensor([start]).double()
        away = (candidates[:, 0] - start).abs().argsort(stable=True)
        moved = guard.settle(here, candidates[away].split(7))
        assert moved.safe
        assert moved.probability < 0.3
        border = float(candidates[away][moved.row])
        assert 0.5 <= border <= 0.6
        nearer = candidates[away][: moved.row]
        assert not bool(guard.enough(nearer).any())
    kept = guard.settle(torch.tensor([0.8]).double(), [candidates])
    assert (kept.row, kept.safe) == (-1, True)
    assert kept.probability > 0.99


def test_units_of_z_do_not_matter():
    x, z = line()
    one, two = (SafetyFilter().fit(x, unit * z) for unit in (1.0, 1e3))
    points = torch.linspace(0, 1, 33, dtype=torch.float64)[:, None]
    torch.testing.assert_close(one.deviations(points), two.deviations(points), rtol=1e-6, atol=1e-6)
    SafetyFilter().fit(x, torch.zeros(9))  # all at the threshold: nothing to divide by


def test_far_from_all_measurements_it_is_rather_unsafe():
    x, z = torch.tensor([[0.5, 0.5]]).double(), torch.tensor([2.0])
    guard = SafetyFilter().fit(x, z)
    assert float(guard.deviations(torch.tensor([[90.0, 90.0]]))) < -0.5
    assert float(guard.deviations(x)) > 1


@pytest.mark.parametrize("kind", ["gp", "conformal"])
def test_with_gamma_one_nothing_moves(kind):
    gp, _, _ = process()
    guard = SafetyFilter(kind, 1.0).guard(gp)
    for place in torch.rand(50, 2, generator=seeded(3), dtype=torch.float64):
        assert guard.settle(place, []).row == -1


def test_where_nothing_is_safe_enough_the_safest_is_taken():
    gp, _, _ = process()
    guard = Guard(gp, needed=1e6)
    candidates = torch.rand(64, 2, generator=seeded(5), dtype=torch.float64)
    ratio = guard.deviations(candidates)
    here = candidates[ratio.argmin()]
    moved = guard.settle(here, candidates.split(10))
    assert (moved.row, moved.safe) == (int(ratio.argmax()), False)
    best = guard.settle(candidates[ratio.argmax()], candidates.split(10))
    assert best.row in (-1, int(ratio.argmax()))  # nothing is safer than where it is
    assert not best.safe


def test_candidates_are_read_no_further_than_needed():
    x, z = line()
    guard, read = SafetyFilter().fit(x, z), []

    def blocks():
        for place in (0.1, 0.9, 0.95):
            read.append(place)
            yield torch.tensor([[place]]).double()

    assert guard.settle(torch.tensor([0.0]).double(), blocks()).row == 1
    assert read == [0.1, 0.9]


def test_a_long_block_is_read_in_parts(monkeypatch):
    gp, _, _ = process()
    candidates = torch.rand(500, 2, generator=seeded(5), dtype=torch.float64)
    here = candidates[gp.deviations(candidates).argmin()]
    for needed in (0.5, 1.5, 1e6):
        found = []
        for size in (1, 7, 256, 1000):
            monkeypatch.setattr(module, "READ", size)
            found.append(Guard(gp, needed).settle(here, candidates.split(333)))
        assert len(set(found)) == 1


def test_the_way_to_a_goal_ends_there():
    way = toward(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), steps=4)
    assert way.tolist() == [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SafetyFilter("none"), "'gp' or 'conformal', got 'none'"),
        (lambda: SafetyFilter("gp", 0.0), "gamma is a probability above 0"),
        (lambda: SafetyFilter().fit(torch.ones(3), torch.ones(3)), r"x \[n, D\] and z \[n\]"),
        (lambda: SafetyFilter().fit(torch.ones(0, 2), torch.ones(0)), "n >= 1"),
        (lambda: SafetyFilter().fit(torch.ones(2, 2), torch.tensor([1, torch.nan])), "NaN"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
