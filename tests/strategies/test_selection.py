"""The selection kernels: ties, NaN, and sampling odds against theory."""

import doctest
import itertools
import math
import statistics
from collections import Counter
from functools import partial

import pytest
import torch

from lightning_al.strategies import selection
from lightning_al.strategies.selection import power, quantise, softmax, top_k

KERNELS = [top_k, power, softmax, partial(power, beta=4.0)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scores(n=17, seed=0):
    return torch.rand(n, generator=seeded(seed)) + 0.01


def test_doctests():
    assert doctest.testmod(selection).failed == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("k", [0, 1, 6, 17])
def test_k_distinct_positions(kernel, k):
    rows = kernel(scores(), k, seeded())
    assert rows.dtype == torch.int64
    assert rows.shape == (k,)
    assert len(set(rows.tolist())) == k
    assert set(rows.tolist()) <= set(range(17))


@pytest.mark.parametrize("kernel", KERNELS)
def test_too_many_says_the_mend(kernel):
    with pytest.raises(
        ValueError, match="cannot acquire 18 of 17 candidates; lower query_size or end the run"
    ):
        kernel(scores(), 18, seeded())
    with pytest.raises(ValueError, match="at least 0"):
        kernel(scores(), -1, seeded())
    with pytest.raises(ValueError, match=r"scores \[N\]"):
        kernel(scores()[None], 1, seeded())


@pytest.mark.parametrize("kernel", KERNELS)
def test_depends_on_scores_and_generator_alone(kernel):
    values = scores()
    before = values.clone()
    torch.manual_seed(1)
    first = kernel(values, 6, seeded(3))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(first, kernel(values, 6, seeded(3)))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(values, before)


@pytest.mark.parametrize("k", [1, 5, 17])
def test_top_k_is_sorted_best_first(k):
    values = scores()
    want = sorted(range(17), key=lambda row: -float(values[row]))[:k]
    assert top_k(values, k, seeded()).tolist() == want


@pytest.mark.parametrize("kernel", KERNELS)
def test_nan_comes_last_even_after_minus_infinity(kernel):
    values = scores()
    values[[2, 9]] = torch.nan
    if kernel in (top_k, softmax):
        values[5] = -torch.inf
    rows = kernel(values, 17, seeded()).tolist()
    assert set(rows[-2:]) == {2, 9}
    if kernel in (top_k, softmax):
        assert rows[-3] == 5


def test_all_nan_is_a_random_choice():
    chosen = {tuple(top_k(torch.full((9,), torch.nan), 3, seeded(s)).tolist()) for s in range(20)}
    assert len(chosen) > 10


def test_infinite_scores_come_first():
    values = scores()
    values[7] = torch.inf
    assert int(top_k(values, 1, seeded())[0]) == 7


def test_ties_are_uniform_over_sets():
    """Scores 2 > 1 = 1 = 1 = 1 > 0: with k = 3, each pair of the tied is equally likely."""
    values = torch.tensor([1.0, 0.0, 1.0, 2.0, 1.0, 1.0])
    draws, generator = 3000, seeded()
    count = Counter()
    for _ in range(draws):
        rows = top_k(values, 3, generator).tolist()
        assert rows[0] == 3
        count[frozenset(rows[1:])] += 1
    pairs = [frozenset(pair) for pair in itertools.combinations((0, 2, 4, 5), 2)]
    assert set(count) == set(pairs)
    for pair in pairs:
        assert abs(count[pair] / draws - 1 / 6) < 5 * math.sqrt(1 / 6 * 5 / 6 / draws)


def test_tied_positions_are_in_random_order_too():
    first = Counter(int(top_k(torch.zeros(4), 4, seeded(s))[0]) for s in range(200))
    assert set(first) == {0, 1, 2, 3}


def test_scores_closer_than_the_resolution_tie():
    values = torch.tensor([0.5, 0.5 + 1e-7, 0.5 - 1e-7], dtype=torch.float64)
    assert {int(top_k(values, 1, seeded(s))[0]) for s in range(30)} == {0, 1, 2}
    assert int(top_k(torch.tensor([0.5, 0.5 + 3e-6]).double(), 1, seeded())[0]) == 1


def test_rounding_noise_does_not_move_a_choice():
    """Ranks that see the same scores up to float noise choose the same set."""
    values = (scores(500).double() * 1000).round() / 1000
    noisy = values + 1e-8 * torch.randn(500, generator=seeded(5), dtype=torch.float64)
    for kernel in KERNELS:
        assert torch.equal(kernel(values, 50, seeded(1)), kernel(noisy, 50, seeded(1)))


def test_relative_resolution_makes_the_choice_free_of_units():
    values = scores().double()
    for unit in (1e-9, 1.0, 1e9):
        step = selection.relative_resolution(values * unit)
        assert step == pytest.approx(1e-6 * unit * float(values.max()))
        rows = top_k(values * unit, 6, seeded(), resolution=step)
        assert torch.equal(rows, top_k(values, 6, seeded()))
    assert selection.relative_resolution(torch.zeros(3)) == 1e-6
    assert selection.relative_resolution(torch.tensor([torch.nan])) == 1e-6


def test_quantise_keeps_what_is_not_finite():
    values = quantise(torch.tensor([torch.inf, -torch.inf, torch.nan, 0.25]))
    assert values[:2].tolist() == [torch.inf, -torch.inf]
    assert bool(values[2].isnan())
    assert float(values[3]) == pytest.approx(0.25)


FOUR = [0.1, 0.4, 1.5, 0.8]
SPREAD = statistics.pstdev(FOUR)


def first_pick_odds(kernel, values, draws=4000):
    generator = seeded(7)
    count = Counter(int(kernel(values, 1, generator)[0]) for _ in range(draws))
    return [count[row] / draws for row in range(len(values))]


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    ("kernel", "weight"),
    [(power, lambda s, b: s**b), (softmax, lambda s, b: math.exp(b * s / SPREAD))],
)
def test_first_pick_follows_its_odds(kernel, weight, beta):
    values = torch.tensor(FOUR)
    weights = [weight(s, beta) for s in values.tolist()]
    got = first_pick_odds(partial(kernel, beta=beta), values)
    for have, own in zip(got, weights, strict=True):
        want = own / sum(weights)
        assert abs(have - want) < 5 * math.sqrt(want * (1 - want) / 4000) + 1e-9


UNITS = pytest.mark.parametrize("unit", [1e-2, 0.3, 1.0, 7.0, 1e6])
ZERO = pytest.mark.parametrize("zero", [-50.0, 0.0, 3.0])


@UNITS
@ZERO
@pytest.mark.parametrize("beta", [0.5, 1.0, 8.0])
def test_softmax_does_not_see_the_unit_and_the_zero_of_a_score(unit, zero, beta):
    values = scores(300).double()
    for k in (1, 20, 300):
        want = softmax(values, k, seeded(k), beta=beta)
        got = softmax(unit * values + zero, k, seeded(k), beta=beta, resolution=1e-6 * unit)
        assert torch.equal(got, want)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e9])
def test_softmax_of_a_relative_score_has_no_unit(scale):
    values = scores(40).double() * scale
    rows = softmax(values, 9, seeded(), resolution=selection.relative_resolution(values))
    want = softmax(
        values / scale, 9, seeded(), resolution=selection.relative_resolution(values / scale)
    )
    assert torch.equal(rows, want)


def test_softmax_prefers_high_scores_however_small_they_are():
    """Mutual informations of hundredths of a nat: the best tenth is drawn far more often."""
    values = torch.cat([torch.zeros(90), torch.full((10,), 0.01)])
    share = sum(int((softmax(values, 10, seeded(s)) >= 90).sum()) for s in range(50)) / 500
    weight = math.exp(1 / 0.3)  # the deviation of a tenth of ones is 0.3
    first = 10 * weight / (10 * weight + 90)
    assert 0.5 < share < first + 0.05


@pytest.mark.parametrize("n", [1, 5, selection.BLOCK, selection.BLOCK + 1, 3 * selection.BLOCK + 7])
def test_spread_is_the_deviation_of_the_finite_scores(n):
    values = 3 + torch.randn(n, generator=seeded()).double()
    want = float(quantise(values).std(correction=0))
    assert selection.spread(values) == pytest.approx(want, rel=1e-9, abs=1e-12)
    holes = torch.cat([values, torch.tensor([torch.nan, torch.inf, -torch.inf]).double()])
    assert selection.spread(holes) == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 1e9, -1e-9])
def test_equal_scores_have_no_spread_and_are_drawn_at_random(value):
    values = torch.full((9,), value, dtype=torch.float64)
    assert selection.spread(values) == 0
    assert selection.spread(values[:0]) == 0
    assert selection.spread(values * torch.nan) == 0
    assert len({int(softmax(values, 1, seeded(s))[0]) for s in range(60)}) == 9


def test_power_batches_are_sampling_without_replacement():
    """P(first i, then j) = w_i / W * w_j / (W - w_i): the Plackett-Luce law."""
    values, draws, generator = torch.tensor([1.0, 2.0, 3.0]), 6000, seeded(9)
    count = Counter(tuple(power(values, 2, generator).tolist()) for _ in range(draws))
    for i, j in itertools.permutations(range(3), 2):
        w = values.tolist()
        want = w[i] / 6 * w[j] / (6 - w[i])
        assert abs(count[i, j] / draws - want) < 5 * math.sqrt(want * (1 - want) / draws)


def test_order_does_not_change_the_odds():
    values = torch.tensor([0.1, 0.4, 1.5, 0.8])
    order = torch.tensor([2, 0, 3, 1])
    here = first_pick_odds(power, values)
    there = first_pick_odds(power, values[order])
    assert [there[order.tolist().index(row)] for row in range(4)] == pytest.approx(here, abs=0.05)


def test_power_takes_no_zero_before_a_positive():
    values = torch.tensor([0.0, 1e-5, 0.0, 3.0, 0.0])
    seen = set()
    for seed in range(50):
        rows = power(values, 3, seeded(seed)).tolist()
        assert set(rows[:2]) == {1, 3}
        seen.add(rows[2])
    assert seen == {0, 2, 4}


def test_power_of_large_beta_is_top_k():
    values = scores()
    assert torch.equal(power(values, 6, seeded(), beta=1e6), top_k(values, 6, seeded()))


def test_power_refuses_negative_scores_and_beta():
    with pytest.raises(ValueError, match=r"scores >= 0, got -0.3; use softmax"):
        power(torch.tensor([0.1, -0.3]), 1, seeded())
    for kernel in (power, softmax):
        with pytest.raises(ValueError, match="beta > 0"):
            kernel(scores(), 1, seeded(), beta=0.0)
    assert len(power(torch.tensor([0.1, -1e-9]), 2, seeded())) == 2  # float noise below zero
