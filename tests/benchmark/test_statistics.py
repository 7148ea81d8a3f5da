"""Areas and statistics against closed forms, scipy, and plain loops."""

import doctest
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lightning_al.benchmark import areas, statistics
from lightning_al.benchmark.areas import AREAS, area, final_value, label_efficiency
from lightning_al.benchmark.statistics import (
    Comparison,
    average_ranks,
    bootstrap_mean,
    cliques,
    compare_all,
    friedman,
    holm,
    penalty_matrix,
    seeds_needed,
    wilcoxon,
)


@pytest.mark.parametrize("module", [areas, statistics])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- areas ---------------------------------------------------------------------------------------


def test_unit_steps_of_constant_curves_are_those_of_the_paper():
    assert round(area(range(10, 261), [1.0] * 251, "unit-steps"), 4) == 0.9960
    assert round(area(range(10, 261), [0.5] * 251, "unit-steps"), 4) == 0.4980


@pytest.mark.parametrize("rule", [r for r in AREAS.names() if r != "unit-steps"])
def test_a_constant_curve_has_its_constant(rule):
    assert area([3, 5, 12], [0.7] * 3, rule) == pytest.approx(0.7)
    assert area([3], [0.7], rule) == pytest.approx(0.7)


@pytest.mark.parametrize("rule", AREAS.names())
def test_areas_are_linear_in_the_values(rule):
    labels, one, two = [1, 2, 7, 9], draws(4), draws(4, seed=1)
    both = area(labels, 2 * one - 3 * two, rule)
    assert both == pytest.approx(2 * area(labels, one, rule) - 3 * area(labels, two, rule))


def test_budget_weights_by_labels_and_the_logarithm_by_their_ratio():
    assert area([0, 10, 11], [0, 0, 1], "budget") == pytest.approx(0.5 / 11)
    assert area([1, 10, 100], [0, 1, 1], "log-budget") == pytest.approx(0.75)
    with pytest.raises(ValueError, match="at least one label"):
        area([0, 1], [0, 1], "log-budget")


def test_mean_leaves_out_nan():
    assert area([1, 2, 3], [1.0, math.nan, 3.0], "mean") == 2.0
    assert math.isnan(area([1], [math.nan], "mean"))
    assert math.isnan(area([1, 2], [1.0, math.nan], "budget"))


@pytest.mark.parametrize(
    ("labels", "values"), [([], []), ([1, 2], [1.0]), ([2, 2], [0, 0]), ([3, 1], [0, 0])]
)
def test_no_curve_is_refused(labels, values):
    with pytest.raises(ValueError, match=r"labels"):
        area(labels, values)


def test_unknown_rule_names_the_rules():
    with pytest.raises(LookupError, match="unit-steps"):
        area([1], [1], "unit-step")


def test_label_efficiency():
    labels, values = [10, 20, 30], [0.5, 0.9, 0.8]
    assert label_efficiency(labels, values, 0.5) == 10
    assert label_efficiency(labels, values, 0.7) == pytest.approx(15)
    assert label_efficiency(labels, values, 0.95) == math.inf
    errors = [1 - v for v in values]
    assert label_efficiency(labels, errors, 0.3, higher_is_better=False) == pytest.approx(15)
    assert label_efficiency([1, 2], [math.nan, 1.0], 0.5) == 2
    assert final_value(labels, values) == 0.8


# --- intervals -----------------------------------------------------------------------------------


def test_bootstrap_interval_covers_as_often_as_it_says():
    covers = [
        (i := bootstrap_mean(draws(30, seed=s), resamples=999)).low <= 0 <= i.high
        for s in range(200)
    ]
    assert 0.88 <= np.mean(covers) <= 0.985


def test_bootstrap_is_repeatable_and_shifts_with_the_data():
    x = draws(12)
    one, two, moved = bootstrap_mean(x), bootstrap_mean(x), bootstrap_mean(x + 5)
    assert one == two
    assert moved.low == pytest.approx(one.low + 5, abs=1e-3)
    assert one.mean == pytest.approx(x.mean())


def test_bootstrap_corrects_for_bias_and_skewness():
    """Efron (1987), by hand: the limits are percentiles moved by z0 and the acceleration."""
    x = np.random.default_rng(4).exponential(size=14) ** 2
    mean, normal = x.mean(), stats.norm
    means = x[np.random.default_rng(5).integers(0, 14, (40_000, 14))].mean(1)
    z0 = normal.ppf(((means < mean).mean() + (means <= mean).mean()) / 2)
    off = mean - (x.sum() - x) / 13
    off -= off.mean()  # of the jackknife
    acceleration = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
    z = z0 + normal.ppf([0.025, 0.975])
    low, high = np.quantile(means, normal.cdf(z0 + z / (1 - acceleration * z)))
    plain = np.quantile(means, [0.025, 0.975])
    found = bootstrap_mean(x, resamples=40_000)
    width = high - low
    assert abs(plain[1] - high) > 0.1 * width  # else nothing would be shown
    assert found.low == pytest.approx(low, abs=0.03 * width)
    assert found.high == pytest.approx(high, abs=0.03 * width)


def test_intervals_at_their_limits():
    assert bootstrap_mean([2.0]).low == -math.inf
    assert bootstrap_mean([2.0]).n == 1
    assert bootstrap_mean([2.0, 2.0]).high == 2.0
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean([1.0, math.nan])
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])


# --- tests of pairs ------------------------------------------------------------------------------


def exact_wilcoxon(x):
    """All sign patterns, in plain Python; no zeros and no ties."""
    ranks = stats.rankdata(np.abs(x))
    seen = ranks[x > 0].sum()
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up)
            for signs in itertools.product([0, 1], repeat=len(x))]  # fmt: skip
    low = sum(s <= seen for s in sums) / len(sums)
    high = sum(s >= seen for s in sums) / len(sums)
    return min(1.0, 2 * min(low, high))


@pytest.mark.parametrize("seed", range(5))
def test_wilcoxon_is_that_of_all_sign_patterns(seed):
    one, two = draws(9, seed=seed) + 0.5, draws(9, seed=seed + 50)
    assert wilcoxon(one, two) == pytest.approx(exact_wilcoxon(one - two))
    assert wilcoxon(two, one) == pytest.approx(wilcoxon(one, two))


def test_wilcoxon_of_equal_values_is_one():
    assert wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_wilcoxon_ranks_zeros_and_then_leaves_them_out():
    """Pratt (1959): the others keep the ranks that they have beside the zeros; no ties here."""
    x = draws(70) + 0.15
    x[:25] = 0
    ranks = stats.rankdata(np.abs(x))
    zeros, n = 25, len(x)
    mean = (n * (n + 1) - zeros * (zeros + 1)) / 4
    spread = (n * (n + 1) * (2 * n + 1) - zeros * (zeros + 1) * (2 * zeros + 1)) / 24
    p = 2 * stats.norm.sf(abs(ranks[x > 0].sum() - mean) / math.sqrt(spread))
    assert wilcoxon(x, 0 * x) == pytest.approx(p)
    assert abs(p - wilcoxon(x[25:], 0 * x[25:])) > 1e-3  # it matters that they are there


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_the_step_down_walk(seed):
    p, alpha = np.random.default_rng(seed).uniform(0, 0.1, 7), 0.05
    rejected = np.zeros(7, dtype=bool)
    for i, place in enumerate(np.argsort(p)):
        if p[place] > alpha / (7 - i):
            break
        rejected[place] = True
    assert ((holm(p) <= alpha) == rejected).all()
    assert (holm(p) >= p).all()


def test_compare_all_finds_the_one_that_differs():
    table = draws(30, 4) * 0.1
    table[:, 2] += 1
    found = compare_all(table, list("abcd"))
    assert {frozenset((c.first, c.second)) for c in found if c.different} == {
        frozenset(("a", "c")), frozenset(("b", "c")), frozenset(("c", "d"))
    }  # fmt: skip
    assert all(c.n == 30 for c in found)
    place = "abcd".index
    for c in found:
        ahead = table[:, place(c.first)] - table[:, place(c.second)]
        assert c.difference == pytest.approx(ahead.mean())
        assert c.p == pytest.approx(wilcoxon(table[:, place(c.first)], table[:, place(c.second)]))
    assert cliques(found, list("abcd")) == [["a", "b", "d"]]


def pair(a, b, different):
    return Comparison(a, b, 0.0, 0.0, 0.0, different, 1)


@pytest.mark.parametrize("seed", range(20))
def test_cliques_are_the_largest_of_all_groups_without_a_difference(seed):
    draw = np.random.default_rng(seed)
    names = list("abcdefg"[: draw.integers(2, 8)])
    every = [pair(a, b, draw.random() < 0.4) for a, b in itertools.combinations(names, 2)]
    alike = {frozenset((p.first, p.second)) for p in every if not p.different}
    groups = [
        set(group)
        for size in range(2, len(names) + 1)
        for group in itertools.combinations(names, size)
        if all(frozenset(two) in alike for two in itertools.combinations(group, 2))
    ]
    largest = [group for group in groups if not any(group < other for other in groups)]
    assert cliques(every, names) == sorted(sorted(group) for group in largest)


def test_cliques_may_overlap():
    chain = [pair("a", "b", False), pair("b", "c", False), pair("a", "c", True)]
    assert cliques(chain, list("abc")) == [["a", "b"], ["b", "c"]]
    assert cliques([pair("a", "b", True)], ["a", "b"]) == []


# --- ranks ---------------------------------------------------------------------------------------


def test_average_ranks_share_ties_and_turn_with_the_direction():
    table = np.array([[3.0, 1.0, 1.0], [2.0, 3.0, 1.0]])
    assert average_ranks(table).tolist() == [1.5, 1.75, 2.75]
    assert (average_ranks(table) + average_ranks(-table)).tolist() == [4, 4, 4]


def test_friedman_is_the_statistic_of_the_ranks():
    table = draws(12, 4)
    ranks = average_ranks(table)
    chi = 12 * 12 / (4 * 5) * ((ranks - 2.5) ** 2).sum()
    assert friedman(table) == pytest.approx(stats.chi2.sf(chi, 3))
    assert math.isnan(friedman(table[:, :2]))
    assert friedman(np.ones((5, 3))) == 1.0
    assert math.isnan(friedman(table[:1]))
    assert 0 < friedman(table[:2]) < 1


def test_tables_with_holes_are_refused():
    with pytest.raises(ValueError, match="failed runs"):
        average_ranks([[1.0, math.nan]])
    with pytest.raises(ValueError, match="blocks, strategies"):
        compare_all(draws(4), ["a"])
    with pytest.raises(ValueError, match="one block"):
        average_ranks(np.zeros((0, 3)))


# --- penalties -----------------------------------------------------------------------------------


def test_penalties_count_significant_wins_one_pair_at_a_time():
    curves = [draws(6, 3, 5, seed=s) + np.array([0, 0.5, 2.0])[:, None] for s in (0, 1)]
    expected = np.zeros((3, 3))
    for x in curves:
        for i, j, t in itertools.product(range(3), range(3), range(5)):
            if i != j:
                test = stats.ttest_rel(x[:, i, t], x[:, j, t])
                expected[i, j] += (test.pvalue < 0.1 and test.statistic > 0) / 5
    assert penalty_matrix(curves) == pytest.approx(expected)
    assert penalty_matrix([-x for x in curves]) == pytest.approx(expected.T)
    assert expected[2, 0] > expected[0, 2]


def test_penalties_without_spread():
    x = np.zeros((3, 2, 4))
    assert penalty_matrix([x]).tolist() == [[0, 0], [0, 0]]
    x[:, 1] += 1  # the same lead in each seed
    assert penalty_matrix([x]).tolist() == [[0, 0], [1, 0]]
    assert penalty_matrix([x[:1]]).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match="seeds, strategies, fits"):
        penalty_matrix([np.zeros((3, 2))])


# --- power ---------------------------------------------------------------------------------------


def test_seeds_needed_reach_the_power_by_simulation():
    effect, spread = 0.6, draws(200)
    spread = spread / spread.std(ddof=1)
    n = seeds_needed(spread, effect)
    assert n == 24  # the table value for d = 0.6, power 0.8, alpha 0.05
    trials = draws(4000, n, seed=3) + effect
    p = stats.ttest_1samp(trials, 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.03)


def test_both_tails_count_and_units_do_not():
    x = draws(20)
    assert seeds_needed(x, 1e-9, power=0.0499) == 2  # no more than the test's own level
    assert seeds_needed(10 * x, 3.0) == seeds_needed(x, 0.3)


def test_seeds_needed_grow_as_the_effect_shrinks():
    x = draws(20)
    counts = [seeds_needed(x, e) for e in (2.0, 0.5, 0.1)]
    assert counts == sorted(counts)
    assert counts[2] > 20 * counts[1]
    assert seeds_needed([1.0, 1.0], 0.1) == 2
    assert seeds_needed(x, 1e-12) > 10**7  # more than anybody has; the search ends there
    with pytest.raises(ValueError, match="positive effect"):
        seeds_needed(x, 0.0)
