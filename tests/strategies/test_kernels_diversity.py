"""k-center greedy, k-means++ and BADGE against slow references in float64 NumPy."""

import doctest
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from helpers.kernel_ranks import FIXTURES, L, N, clumped, on_rank, seeded, ties, tight
from scipy.special import chdtri

from lightning_al.strategies.kernels import (
    badge,
    distances,
    frontier,
    k_center,
    k_center_greedy,
    kmeans_plus_plus,
    plus_plus,
)
from lightning_al.strategies.kernels.distances import Space, tie_keys


@pytest.fixture(params=FIXTURES)
def points(request):
    return FIXTURES[request.param](N + L)


@pytest.fixture(params=["ordinary", "lazy", "grouped"])
def laziness(request, monkeypatch):
    """The frontier as it is, then far smaller than the pool, then behind grouped first bounds."""
    if request.param != "ordinary":
        monkeypatch.setattr(frontier, "_FEWEST", 16)
        monkeypatch.setattr(frontier, "_MOST", 16)
        monkeypatch.setattr(frontier, "_SHRINK", 3)
    if request.param == "grouped":
        monkeypatch.setattr(frontier, "_FEW", 2)
        monkeypatch.setattr(frontier, "_PROBE", 32)
        monkeypatch.setattr(frontier._Groups, "pays", lambda *_: True)
    return request.param


def squared(a, b):
    """Squared distances by differences, [n, m] in float64."""
    a, b = a.double().numpy(), b.double().numpy()
    return np.array([[((x - y) ** 2).sum() for y in b] for x in a]).reshape(len(a), len(b))


def assert_greedy(pool, labelled, rows):
    """Every pick is a farthest one: brute force over float64 distances rounded to float32."""
    rows = rows.tolist()
    assert len(set(rows)) == len(rows)
    between = squared(pool, pool)
    if labelled is None:
        near, rows, done = between[rows[0]], rows[1:], rows[:1]
    else:
        near, done = squared(pool, labelled).min(1), []
    for row in rows:
        left = near.astype(np.float32)
        left[done] = -1
        assert left[row] == left.max()
        near = np.minimum(near, between[row])
        done.append(row)


def test_doctests():
    for module in (distances, k_center, plus_plus):
        assert doctest.testmod(module).failed == 0


# k-center greedy


@pytest.mark.parametrize("k", [0, 1, 40, N])
def test_k_center_is_brute_force(points, laziness, k):
    pool, labelled = points[:N], points[N:]
    rows = k_center_greedy(pool, labelled, k, seeded())
    assert rows.dtype == torch.int64
    assert rows.shape == (k,)
    assert_greedy(pool, labelled, rows)


@pytest.mark.usefixtures("laziness")
def test_k_center_from_nothing(points):
    for empty in (None, points[:0]):
        rows = k_center_greedy(points, empty, 50, seeded(3))
        assert len(rows) == 50
        assert_greedy(points, None, rows)
    everything = k_center_greedy(points, None, len(points), seeded(3))
    assert sorted(everything.tolist()) == list(range(len(points)))
    firsts = {int(k_center_greedy(points, None, 1, seeded(s))) for s in range(20)}
    assert len(firsts) > 10  # the first one is drawn


@pytest.mark.usefixtures("laziness")
def test_k_center_in_the_plane_where_each_pick_covers_many():
    points = clumped(700, 2)
    assert_greedy(points[20:], points[:20], k_center_greedy(points[20:], points[:20], 300))


def test_k_center_tiny_example_by_hand():
    pool = torch.tensor([[0.0], [4.0], [10.0], [7.0], [1.0]])
    # distances to 0: 0 4 10 7 1 -> 10; then 0 4 . 3 1 -> 4; then 0 . . 3 1 -> 7; then 1; then 0
    assert k_center_greedy(pool, torch.zeros(1, 1), 5).tolist() == [2, 1, 3, 4, 0]


@pytest.mark.parametrize("name", ["clumped", "tight"])
def test_k_center_batch_is_single_picks(name):
    points = FIXTURES[name](N + L)
    pool, labelled = points[:N], points[N:]
    batch = k_center_greedy(pool, labelled, 20)
    for row in batch.tolist():
        assert int(k_center_greedy(pool, labelled, 1)) == row
        labelled = torch.cat([labelled, pool[row][None]])


@pytest.mark.parametrize("name", ["clumped", "tight"])
def test_k_center_order_of_the_pool_does_not_matter(name, laziness):
    points = FIXTURES[name](N + L)
    pool, labelled = points[:N], points[N:]
    moved = torch.randperm(N, generator=seeded(1))
    rows = k_center_greedy(pool, labelled, 60, seeded(0))
    assert torch.equal(rows, moved[k_center_greedy(pool[moved], labelled, 60, seeded(5))])
    other = torch.randperm(L, generator=seeded(2))
    assert torch.equal(rows, k_center_greedy(pool, labelled[other], 60))


def test_k_center_memory_and_blocks_decide_nothing(points, monkeypatch):
    pool, labelled = points[:N], points[N:]
    rows = k_center_greedy(pool, labelled, 70, seeded())
    for memory in (1, 2**13, 2**16, 2**30):
        assert torch.equal(rows, k_center_greedy(pool, labelled, 70, seeded(), memory=memory))
    monkeypatch.setattr(distances, "_CPU_BLOCK", 256)
    monkeypatch.setattr(distances, "_WIDTH", 5)
    assert torch.equal(rows, k_center_greedy(pool, labelled, 70, seeded()))


def test_k_center_large_enough_for_every_shortcut():
    points = torch.cat([clumped(6000, 8), tight(2000, 8, seed=1) / 20])
    pool, labelled = points[400:], points[:400]
    rows = k_center_greedy(pool, labelled, 300).tolist()
    near = torch.cdist(pool.double(), labelled.double()).square().amin(1)
    for row in rows:
        assert float(near[row].float()) == float(near.float().max())
        near = torch.minimum(near, (pool.double() - pool[row].double()).square().sum(1))
        near[row] = -1


def test_k_center_keeps_the_digits_that_products_lose():
    pool = 1000 + 0.01 * clumped(400, 3)
    assert_greedy(pool[20:], pool[:20], k_center_greedy(pool[20:], pool[:20], 100))


def test_k_center_under_a_coarse_product_precision():
    points = clumped(N + L)
    rows = k_center_greedy(points[:N], points[N:], 60)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(rows, k_center_greedy(points[:N], points[N:], 60))
    finally:
        torch.set_float32_matmul_precision(before)


def test_k_center_other_floats():
    points = clumped(N + L)
    pool, labelled = points[:N], points[N:]
    rows = k_center_greedy(pool, labelled, 60)
    assert torch.equal(rows, k_center_greedy(pool.double(), labelled, 60))
    assert torch.equal(rows, k_center_greedy(pool, labelled.double(), 60))
    half = pool.bfloat16()
    assert torch.equal(
        k_center_greedy(half, labelled, 60), k_center_greedy(half.float(), labelled, 60)
    )


def test_k_center_all_identical_is_uniform():
    pool = torch.full((6, 3), 2.5)
    counts = Counter()
    for seed in range(600):
        rows = k_center_greedy(pool, pool[:1], 6, seeded(seed)).tolist()
        assert sorted(rows) == list(range(6))
        counts[rows[0]] += 1
    assert chi_square([counts[i] for i in range(6)], [100] * 6) < 20.5  # 5 degrees, p = 0.001


def test_k_center_duplicates_of_picks_and_of_labelled_are_alike():
    """Rounding leaves no trace: both have distance 0, whichever product they come from."""
    points = clumped(9, 301) + 3
    pool = points[[0, 1, 1, 2, 3, 4, 5, 6, 7, 8]]
    lasts = [int(k_center_greedy(pool, points[:1], 10, seeded(s))[9]) for s in range(400)]
    # the last row is the last of all three in the random order
    seen = [lasts.count(row) for row in range(3)]
    assert chi_square(seen, [400 / 3] * 3) < 13.8  # 2 degrees, p = 0.001


def test_k_center_ties_are_drawn_by_the_generator():
    pool = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.1, 0.1]])
    counts = Counter(
        int(k_center_greedy(pool, torch.zeros(1, 2), 1, seeded(s))) for s in range(400)
    )
    assert chi_square([counts[i] for i in range(4)], [100] * 4) < 16.3  # 3 degrees, p = 0.001
    assert counts[4] == 0


def test_tie_keys_do_not_repeat():
    keys = tie_keys(torch.arange(10_000), 7)
    assert len(keys.unique()) == 10_000
    assert torch.equal(keys[500:], tie_keys(torch.arange(500, 10_000), 7))
    assert not torch.equal(keys.argsort(), tie_keys(torch.arange(10_000), 8).argsort())


# upper bounds


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_bounds_hold_and_are_close(points, dtype):
    pool = points[:N].to(dtype)
    space = Space([pool])
    bound = space.upper(space.outside([points[N:]])).double().numpy()
    exact = squared(pool, points[N:]).min(1)
    assert (bound >= exact).all()
    size = float(space.norms.max())
    np.testing.assert_allclose(bound, exact, atol=2e-4 * size)
    nearest = space.take(torch.arange(N)).nearest(space.outside([points[N:]]))
    np.testing.assert_allclose(nearest, exact, rtol=1e-7, atol=1e-12 * size)


def gradients(embedding, probs):
    """Dense gradient embeddings [N, C E], built one by one."""
    residual = probs.double().clone()
    for row, best in zip(residual, probs.argmax(1), strict=True):
        row[best] -= 1
    return torch.stack(
        [torch.outer(a, h).flatten() for a, h in zip(residual, embedding.double(), strict=True)]
    )


def classified(n=80, classes=4, seed=0):
    embedding = clumped(n, seed=seed) + 0.5
    logits = 3 * torch.randn(n, classes, generator=seeded(seed))
    return embedding, torch.softmax(logits, 1)


def test_factored_distances_are_dense_ones():
    embedding, probs = classified()
    dense = gradients(embedding, probs)
    exact = squared(dense, dense)
    space = Space([embedding, plus_plus._residual(probs)])
    taken = space.take(torch.arange(80))
    np.testing.assert_allclose(taken.distances(taken), exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(space.norms, (dense**2).sum(1), rtol=1e-5, atol=1e-6)
    centres = taken[torch.tensor([3, 50, 7])]
    np.testing.assert_allclose(taken.nearest(centres), exact[:, [3, 50, 7]].min(1), atol=1e-5)
    bound = space.upper(centres).double().numpy()
    assert (bound >= exact[:, [3, 50, 7]].min(1)).all()
    np.testing.assert_allclose(bound, exact[:, [3, 50, 7]].min(1), rtol=1e-3, atol=1e-3)


# k-means++ and BADGE


def chi_square(counts, expected):
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return float(((counts - expected) ** 2 / expected).sum())


def seeding_odds(between, first, k):
    """Probability of every ordered choice of k rows under D^2 seeding, by enumeration."""
    n, odds = len(between), {}
    for choice in itertools.permutations(range(n), k):
        p, near = first[choice[0]], between[choice[0]]
        for row in choice[1:]:
            p *= near[row] / near.sum() if near.sum() > 0 else 0
            near = np.minimum(near, between[row])
        if p > 0:
            odds[choice] = p
    return odds


def assert_odds(draw, odds, each=42):
    """Draws, as many as make ``each`` of an outcome on average, are as frequent as odds say."""
    generator, draws = seeded(11), each * len(odds)
    counts = Counter(tuple(draw(generator).tolist()) for _ in range(draws))
    assert set(counts) <= set(odds)
    cells = Counter()  # rare outcomes share a cell, or chi-square would not be chi-square
    for choice, p in odds.items():
        cells[choice if p * draws >= 8 else "rare"] += p * draws
    seen = Counter()
    for choice, times in counts.items():
        seen[choice if choice in cells else "rare"] += times
    statistic = chi_square([seen[c] for c in cells], list(cells.values()))
    degrees = len(cells) - 1
    assert statistic < chdtri(degrees, 0.001)


FIVE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.2, 0.3], [4.0, 1.0], [-2.0, 3.0]])
FOUR = FIVE[:4]  # three picks in 24 orders, where five have 60


@pytest.mark.parametrize("k", [2, 3])
def test_first_picks_have_the_odds_of_d_squared(k):
    odds = seeding_odds(squared(FIVE, FIVE), [1 / 5] * 5, k)
    assert_odds(lambda g: kmeans_plus_plus(FIVE, k, g), odds)


@pytest.mark.parametrize("proposals", [1, 3])
def test_odds_hold_however_many_are_proposed_together(monkeypatch, proposals):
    monkeypatch.setattr(plus_plus, "_PROPOSALS", (proposals, proposals))
    odds = seeding_odds(squared(FOUR, FOUR), [1 / 4] * 4, 3)
    assert_odds(lambda g: kmeans_plus_plus(FOUR, 3, g), odds)


def test_odds_hold_with_a_refresh_after_each_pick(monkeypatch):
    monkeypatch.setattr(plus_plus._Sampler, "_due", lambda *_: True)
    monkeypatch.setattr(plus_plus, "_PROPOSALS", (1, 1))
    odds = seeding_odds(squared(FOUR, FOUR), [1 / 4] * 4, 3)
    assert_odds(lambda g: kmeans_plus_plus(FOUR, 3, g), odds)


def test_start_is_counted_as_chosen():
    start = torch.tensor([[0.5, 0.0], [3.0, 3.0]])
    near = squared(FIVE, start).min(1)
    between = squared(FIVE, FIVE)
    odds = {}
    for i, j in itertools.permutations(range(5), 2):
        after = np.minimum(near, between[i])
        odds[i, j] = near[i] / near.sum() * after[j] / after.sum()
    assert_odds(lambda g: kmeans_plus_plus(FIVE, 2, g, start=start), odds)


@pytest.mark.parametrize("k", [0, 1, 30, N])
def test_seeding_gives_distinct_rows(points, k):
    rows = kmeans_plus_plus(points[:N], k, seeded())
    assert rows.dtype == torch.int64
    assert rows.shape == (k,)
    assert len(set(rows.tolist())) == k
    assert torch.equal(rows, kmeans_plus_plus(points[:N], k, seeded()))


def test_duplicates_come_last():
    points = ties(60)
    distinct = len(points.unique(dim=0))
    for seed in range(20):
        rows = kmeans_plus_plus(points, 60, seeded(seed))
        assert sorted(rows.tolist()) == list(range(60))
        assert len(points[rows[:distinct]].unique(dim=0)) == distinct


def test_all_identical_is_uniform():
    points = torch.full((5, 3), -1.7)
    pairs = dict.fromkeys(itertools.permutations(range(5), 2), 1 / 20)
    assert_odds(lambda g: kmeans_plus_plus(points, 2, g), pairs)


def test_seeding_does_not_depend_on_memory_or_on_the_input_float(points):
    rows = kmeans_plus_plus(points, 40, seeded(2))
    assert torch.equal(rows, kmeans_plus_plus(points, 40, seeded(2), memory=2**14))
    wide = kmeans_plus_plus(points.double(), 40, seeded(2))
    assert len(set(wide.tolist())) == 40


def test_seeding_finds_every_far_clump():
    points = torch.cat([tight(2000, seed=3), tight(50, seed=4) + 1000])
    for seed in range(10):
        chosen = points[kmeans_plus_plus(points, 12, seeded(seed))]
        assert (squared(points, chosen).min(1) < 10).all()


@pytest.mark.parametrize("first", ["uniform", "largest"])
def test_badge_has_the_odds_of_dense_seeding(first):
    embedding, probs = classified(5, 3, seed=2)
    dense = gradients(embedding, probs)
    begin = np.full(5, 1 / 5)
    if first == "largest":
        begin = np.eye(5)[int((dense**2).sum(1).argmax())]
    odds = seeding_odds(squared(dense, dense), begin, 3)
    assert_odds(lambda g: badge(embedding, probs, 3, g, first=first), odds)


def test_badge_rows(points):
    probs = torch.softmax(2 * torch.randn(N, 5, generator=seeded(1)), 1)
    for k in (0, 1, 25, N):
        rows = badge(points[:N], probs, k, seeded())
        assert rows.shape == (k,)
        assert len(set(rows.tolist())) == k
    with_double = badge(points[:N].double(), probs.double(), 25, seeded())
    assert len(set(with_double.tolist())) == 25


def test_badge_starts_with_the_largest_gradient_wherever_it_stands():
    embedding, probs = classified(40)
    largest = int((gradients(embedding, probs) ** 2).sum(1).argmax())
    moved = torch.randperm(40, generator=seeded(1))
    assert int(badge(embedding, probs, 1, seeded())) == largest
    assert int(moved[badge(embedding[moved], probs[moved], 1, seeded())]) == largest


@pytest.mark.parametrize("probs", [torch.ones(8, 1), torch.eye(4)[[0, 1, 2, 3, 3, 2, 1, 0]]])
def test_badge_without_any_gradient_is_uniform(probs):
    embedding = clumped(8)
    firsts = Counter()
    for seed in range(800):
        rows = badge(embedding, probs, 3, seeded(seed)).tolist()
        assert len(set(rows)) == 3
        firsts[rows[0]] += 1
    assert chi_square([firsts[i] for i in range(8)], [100] * 8) < 24.3  # 7 degrees, p = 0.001


def test_residual_keeps_the_digits_of_certain_predictions():
    probs = torch.tensor([[1.0, 1e-10, 2e-10]])
    np.testing.assert_allclose(plus_plus._residual(probs), [[-3e-10, 1e-10, 2e-10]], rtol=1e-5)


def test_global_state_and_inputs_are_left_alone(points):
    probs = torch.softmax(torch.randn(N, 3, generator=seeded()), 1)
    before = points.clone(), probs.clone(), torch.get_rng_state()
    k_center_greedy(points[:N], points[N:], 9, seeded())
    kmeans_plus_plus(points, 9, seeded())
    badge(points[:N], probs, 9, seeded())
    assert torch.equal(points, before[0])
    assert torch.equal(probs, before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


# bad input

CALLS = {
    "k_center": lambda x, k: k_center_greedy(x, None, k, seeded()),
    "plus_plus": lambda x, k: kmeans_plus_plus(x, k, seeded()),
    "badge": lambda x, k: badge(x, torch.full((len(x), 2), 0.5), k, seeded()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_bad_input_says_what_to_do(call):
    points = clumped(20)
    with pytest.raises(ValueError, match="cannot acquire 21 of 20 candidates; lower query_size"):
        call(points, 21)
    with pytest.raises(ValueError, match="at least 0"):
        call(points, -1)
    with pytest.raises(ValueError, match="cannot acquire 1 of 0"):
        call(points[:0], 1)
    assert call(points[:0], 0).shape == (0,)
    with pytest.raises(ValueError, match="2 axes"):
        call(points[0], 1)
    for bad in (torch.nan, torch.inf, -torch.inf, 1e30):
        broken = points.clone()
        broken[4, 1] = broken[7, 0] = bad
        with pytest.raises(ValueError, match=r"2 of 20 rows .*\(rows 4, 7\); drop these rows"):
            call(broken, 3)


def test_bad_companions_say_what_to_do():
    points = clumped(20)
    with pytest.raises(ValueError, match=r"labelled \[L, E\] with the pool's E = 6"):
        k_center_greedy(points, points[:, :3], 2)
    with pytest.raises(ValueError, match=r"labelled \[L, E\] must be finite, got 1 of 1"):
        k_center_greedy(points, points[:1] * torch.nan, 2)
    with pytest.raises(ValueError, match=r"start \[L, E\] with E = 6"):
        kmeans_plus_plus(points, 2, seeded(), start=points[:, :3])
    with pytest.raises(ValueError, match=r"probs \[N, C\] beside embedding"):
        badge(points, torch.ones(19, 2), 2, seeded())
    with pytest.raises(ValueError, match=r"probs \[N, C\] must be finite, got 20 of 20"):
        badge(points, torch.full((20, 2), torch.nan), 2, seeded())
    with pytest.raises(ValueError, match="first='largest' or 'uniform'"):
        badge(points, torch.full((20, 2), 0.5), 2, seeded(), first="any")


# two processes


def test_two_processes_choose_what_one_does(tmp_path):
    mp.spawn(on_rank, (2, str(tmp_path)), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for key, rows in found[0].items():
        kernel, name, _, tag = key
        assert torch.equal(rows, found[1][key])
        points = FIXTURES[name](N + L)
        covered = points[N:] if tag == "warm" else None
        if kernel == "k_center":
            alone = k_center_greedy(points[:N], covered, 40, seeded(1))
        else:
            alone = kmeans_plus_plus(points[:N], 40, seeded(1), start=covered)
        assert torch.equal(rows, alone), key
