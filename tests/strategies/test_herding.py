"""Weighted cover kernels and uncertainty herding, against plain float64 references."""

import doctest
import math
from functools import partial

import pytest
import torch
from helpers.set_worlds import FIXTURES, chosen, features, seeded, unlabelled, world

from lightning_al import strategies
from lightning_al.strategies.hybrid import herding
from lightning_al.strategies.hybrid.herding import (
    calibration_error,
    held_out_temperature,
    smallest_distance,
)
from lightning_al.strategies.kernels import facility_location, max_herding, prob_cover
from lightning_al.strategies.kernels.lazy_cover import Cover


def blobs(n=60, e=5, seed=0):
    draw = seeded(seed)
    centres = 4 * torch.randn(4, e, generator=draw)
    return centres[torch.randint(4, (n,), generator=draw)] + torch.randn(n, e, generator=draw)


def noise(n=60, e=5, seed=1):
    return torch.randn(n, e, generator=seeded(seed))


def far_off(n=60, e=5, seed=2):
    return blobs(n, e, seed) + 100


POOLS = [blobs, noise, far_off]
KERNELS = {
    "medoids": facility_location,
    "cosine": partial(facility_location, similarity="cosine"),
    "herding": partial(max_herding, width=2.0),
    "cover": partial(prob_cover, radius=2.3),
}


def similarity(name, a, b):
    a, b = a.double(), b.double()
    if name == "cosine":
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        return (1 + a @ b.T) / 2
    apart = (a[:, None] - b).norm(dim=2)
    return {
        "medoids": 1e3 - apart,
        "herding": (-(apart**2) / 4).exp(),
        "cover": (apart <= 2.3).double(),
    }[name]


def odds(n, seed=3):
    weights = torch.rand(n, generator=seeded(seed)) ** 3
    weights[::7] = 0
    return weights


def assert_greedy(table, weights, covered, rows, unit):
    """Each pick has the largest weighted gain: table [targets, items], float64."""
    for step, row in enumerate(rows):
        gains = ((table - covered[:, None]).clamp_min(0) * weights.double()[:, None]).sum(0)
        gains[rows[:step]] = -math.inf
        if gains.max() > 3 * unit:
            assert gains[row] >= gains.max() - 3 * unit, (step, row)
        covered = torch.maximum(covered, table[:, row])


def test_doctests():
    assert doctest.testmod(herding).failed == 0


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("labels", [0, 4])
def test_every_pick_has_the_largest_weighted_gain(name, pool, labels):
    points, weights = pool(), odds(60)
    labelled = pool(labels, seed=9) if labels else None
    rows = KERNELS[name](points, labelled, 15, seeded(), weights=weights).tolist()
    assert len(set(rows)) == 15
    table, covered = similarity(name, points, points), torch.zeros(60, dtype=torch.float64)
    if labels:
        covered = similarity(name, points, labelled).amax(1)
    scale = 1e3 if name == "medoids" else 1.0
    assert_greedy(table, weights, covered, rows, 1e-6 * scale * float(weights.sum()))


@pytest.mark.parametrize("name", KERNELS)
def test_equal_weights_change_nothing_and_scale_does_not_matter(name):
    points = blobs()
    plain = KERNELS[name](points, None, 20, seeded())
    assert torch.equal(KERNELS[name](points, None, 20, seeded(), weights=torch.ones(60)), plain)
    weights = odds(60)
    want = KERNELS[name](points, None, 8, seeded(), weights=weights)
    assert torch.equal(KERNELS[name](points, None, 8, seeded(), weights=64 * weights), want)


def test_a_weight_is_a_number_of_copies():
    points, copies = blobs(40), torch.arange(40) % 4
    rows = max_herding(points, None, 6, seeded(), width=2.0, weights=copies.float())
    many = torch.cat([points, points.repeat_interleave(copies, 0)])
    owner = torch.cat([torch.arange(40), torch.arange(40).repeat_interleave(copies)])
    weights = torch.cat([torch.zeros(40), torch.ones(int(copies.sum()))])
    again = max_herding(many, None, 6, seeded(5), width=2.0, weights=weights)
    assert owner[again].tolist() == rows.tolist()


def test_all_weights_zero_goes_on_with_the_farthest():
    points = torch.tensor([[0.0], [1.0], [10.0]])
    rows = max_herding(points, points[:1], 1, seeded(), width=1, weights=torch.zeros(3))
    assert rows.tolist() == [2]


@pytest.mark.parametrize(
    "weights", [torch.ones(59), torch.full((60,), -1.0), torch.full((60,), torch.nan)]
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match=r"weights are one finite number >= 0 an item, \[60\]"):
        max_herding(blobs(), None, 3, seeded(), weights=weights)


@pytest.mark.parametrize("memory", [2**13, 2**28])
@pytest.mark.parametrize("pool", [blobs, noise])
@pytest.mark.parametrize("unit", [False, True])
def test_the_lazy_search_is_plain_greedy_with_few_similarities(pool, unit, memory):
    """Also where nearly all coverage of the past is forgotten."""
    points, k = pool(400, 8), 60
    search = Cover(points, None, k, seeded(), memory=memory, unit=unit)
    search.similarity = lambda squared: squared.mul_(-0.1).exp_()
    rows = search.choose(k).tolist()
    if unit:
        points = points / points.norm(dim=1, keepdim=True)
    table = (-0.1 * (points.double()[:, None] - points.double()).norm(dim=2) ** 2).exp()
    assert_greedy(table, torch.ones(400), torch.zeros(400).double(), rows, 4e-4)
    if memory > 2**20:
        assert search.computed < 6 * 400 * 400  # a full search: 60 passes


def test_first_gains_by_sums_are_those_of_a_pass():
    for points in (blobs(700), torch.cat([torch.zeros(3, 5), noise(97)])):
        search = Cover(points, None, 1, seeded(), unit=True, weights=odds(len(points)))
        search.similarity = lambda squared: squared.mul_(-0.25).add_(1)
        search._covered = torch.zeros(len(points))
        want = search._gains()
        search.linear = (1.0, -0.25)
        torch.testing.assert_close(search._first_gains(), want, rtol=1e-5, atol=1e-5)


# the strategy


def probabilities(seen, temperature=1.0):
    mean = seen.predictions.probs.double().mean(1)[seen.index]
    mean = mean ** (1 / temperature)
    return mean / mean.sum(1, keepdim=True)


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_uherding_is_its_definition(name, temperature):
    seen = world(name)
    rows = chosen(strategies.build("uherding", temperature=temperature), seen, 8)
    pool, labelled = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-30) for x in features(seen))
    apart = [
        float((labelled[i] - labelled[j]).norm())
        for i in range(len(labelled))
        for j in range(i)
        if float((labelled[i] - labelled[j]).norm()) > 1e-6
    ]
    width = min(apart)
    table = (-((pool[:, None] - pool).norm(dim=2) ** 2) / width**2).exp()
    covered = (-((pool[:, None] - labelled).norm(dim=2) ** 2) / width**2).exp().amax(1)
    best = probabilities(seen, temperature).sort(1, descending=True).values
    weights = 1 - (best[:, 0] - best[:, 1])
    assert_greedy(table, weights, covered, rows, 2e-6 * float(weights.sum()))


def test_uncertainty_decides_where_places_are_far_apart():
    """A narrow similarity: each item covers itself alone, so its uncertainty is its gain."""
    seen = world("clumped")
    strategy = strategies.build("uherding", width=1e-3, temperature=1.0, uncertainty="entropy")
    probs = probabilities(seen)
    entropy = -(probs * probs.log()).sum(1)
    assert chosen(strategy, seen, 10) == entropy.argsort(descending=True)[:10].tolist()


def test_without_labels_or_uncertainty_it_is_max_herding():
    seen = unlabelled(world("clumped"))
    pool = torch.nn.functional.normalize(seen.predictions.embedding[seen.index])
    rows = max_herding(pool, None, 6, seeded()).tolist()
    assert chosen(strategies.build("uherding"), seen, 6) == rows


def test_settings_are_checked():
    for bad in ({"uncertainty": "bald"}, {"temperature": 0.0}, {"width": -1.0}, {"limit": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            strategies.build("uherding", **bad)


def test_smallest_distance_passes_over_duplicates():
    points = torch.cat([blobs(20), blobs(20)]) + 50
    want = min(
        float((points[i].double() - points[j].double()).norm()) for i in range(20) for j in range(i)
    )
    assert smallest_distance(points) == pytest.approx(want, rel=1e-6)
    assert smallest_distance(points[:1]) is None
    assert smallest_distance(points[:1].repeat(5, 1)) is None


def test_calibration_error_by_hand():
    probs = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.55, 0.45]])
    # bins: {0.9, 0.9} with one right, {0.8} right, {0.55} wrong
    want = (abs(1 - 1.8) + abs(1 - 0.8) + abs(0 - 0.55)) / 4
    assert calibration_error(probs, torch.tensor([0, 1, 1, 1])) == pytest.approx(want, abs=1e-6)
    assert calibration_error(torch.eye(3), torch.arange(3)) == 0


def test_temperature_is_high_where_confidence_is_unfounded():
    draw = seeded()
    points, coin = torch.randn(120, 30, generator=draw), torch.randint(2, (120,), generator=draw)
    assert held_out_temperature(points, coin, seeded()) > 2
    known = (points[:, 0] > 0).long()
    assert held_out_temperature(points, known, seeded()) < 2
    assert held_out_temperature(points, torch.zeros(120), seeded()) == 1
    assert held_out_temperature(points[:9], coin[:9], seeded()) == 1
    assert held_out_temperature(points, coin, seeded(4)) == held_out_temperature(
        points, coin, seeded(4)
    )
