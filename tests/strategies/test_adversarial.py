"""Adversarial margins, feature densities and k-center on main directions, against closed forms."""

import math

import pytest
import torch

from lightning_al.strategies import build
from lightning_al.strategies.diversity.reduced import principal
from lightning_al.strategies.uncertainty.adversarial import bim_steps, deepfool_steps
from lightning_al.strategies.uncertainty.feature_density import log_density
from lightning_al.testing import World


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def linear(weight, bias):
    return lambda x: (x.flatten(1) @ weight.T + bias).log_softmax(1)


# --- adversarial ---------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 4])
def test_deepfool_finds_the_distance_to_the_nearest_of_linear_boundaries(classes):
    weight, bias, points = drawn(classes, 5), drawn(classes, seed=1), drawn(40, 5, seed=2)
    found = deepfool_steps(linear(weight, bias), points, 50, 0.02, 10)
    scores = points @ weight.T + bias
    for row, values in enumerate(scores.tolist()):
        best = max(range(classes), key=values.__getitem__)
        distance = min(
            (values[best] - values[c]) / float((weight[best] - weight[c]).norm())
            for c in range(classes)
            if c != best
        )
        assert math.sqrt(float(found[row])) == pytest.approx(1.02 * distance, rel=1e-2, abs=1e-4)


def test_bim_counts_the_steps_to_a_linear_boundary():
    """Two classes, w along (1, 1): each step of 0.05 moves both numbers towards the boundary."""
    weight = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    points = torch.tensor([[0.12, 0.0], [0.0, -0.31], [4.0, 4.0]], dtype=torch.float64)
    found = bim_steps(linear(weight, torch.zeros(2).double()), points, 0.05, 10)
    # sums of 0.12 and -0.31 are crossed after 2 and 4 steps of 0.1; 8 takes 80
    assert found.tolist() == pytest.approx([2 * 0.1**2, 2 * 0.2**2, math.inf])


def test_inputs_of_any_shape_and_no_gradient_at_all():
    flat = lambda x: torch.zeros(len(x), 3).double() + 0 * x.flatten(1).sum(1, keepdim=True)  # noqa: E731
    images = drawn(3, 1, 4, 4)
    assert deepfool_steps(flat, images, 3, 0.02, 10).tolist() == [math.inf] * 3
    assert bim_steps(flat, images, 0.1, 3).tolist() == [math.inf] * 3


@pytest.mark.parametrize("name", ["adversarial-bim", "adversarial-deepfool"])
def test_batches_are_the_smallest_changes(name):
    world, strategy = World.make("classification", 2), build(name)
    pool = world.pool(strategy)
    scores = strategy.late_scores(pool)
    best = set(pool.index[scores.topk(5).indices].tolist())
    got = set(strategy.choose(pool, 5, seeded()).index.tolist())
    if name == "adversarial-deepfool":  # the others' changes are whole steps, which tie
        assert got == best
    assert float(scores[torch.isin(pool.index, torch.tensor(sorted(got)))].min()) == pytest.approx(
        float(scores.topk(5).values[-1])
    )
    assert all(not p.requires_grad or p.grad is None for p in pool.bench.task.parameters())


# --- DDU -----------------------------------------------------------------------------------------


def test_the_density_is_that_of_the_mixture_written_out():
    labelled, points = drawn(30, 3), drawn(7, 3, seed=1)
    classes = torch.arange(30) % 2
    found = log_density(points, labelled, classes, 4.0, 0.05)
    within, means = [], []
    for c in (0, 1):
        own = labelled[classes == c]
        means.append(own.mean(0))
        within.append(own - means[-1])
    shared = torch.cat(within).T @ torch.cat(within) / 30
    want = torch.zeros(7).double()
    for mean, about in zip(means, within, strict=True):
        covariance = (about.T @ about + 4 * shared) / (15 + 4)
        covariance += 0.05 * shared.diagonal().mean() * torch.eye(3)
        normal = torch.distributions.MultivariateNormal(mean, covariance)
        want += normal.log_prob(points).exp() / 2
    torch.testing.assert_close(found, want.log())


@pytest.mark.parametrize("case", ["an item a class", "all equal"])
def test_densities_of_few_items_are_numbers(case):
    labelled = drawn(3, 4) if case == "an item a class" else torch.ones(3, 4).double()
    found = log_density(drawn(5, 4, seed=1), labelled, torch.arange(3), 4.0, 0.01)
    assert bool(found.isfinite().all())


def test_what_is_far_from_all_classes_comes_first():
    world = World.make("classification", 1)
    far = int(world.index[4])

    def moved(values):
        if values.ndim == 2:
            values[far] += 50
        return values

    strategy = build("ddu")
    got = strategy.choose(world.changed(moved).pool(strategy), 3, seeded()).index.tolist()
    assert got[0] == far


# --- PCA -----------------------------------------------------------------------------------------


def test_main_directions_are_those_of_the_singular_vectors():
    points, labelled = drawn(40, 6) + 100, drawn(9, 6, seed=1) + 100
    one, two = principal(points, labelled, 3)
    both = torch.cat([points, labelled])
    about = both - both.mean(0)
    _, _, right = torch.linalg.svd(about, full_matrices=False)
    want = about @ right[:3].T
    got = torch.cat([one, two]).double()
    torch.testing.assert_close(torch.cdist(got, got), torch.cdist(want, want), atol=1e-4, rtol=1e-4)


def test_with_all_directions_it_is_k_center():
    world = World.make("classification", 1)
    one, two = build("pca-k-center"), build("k-center")
    got, want = (s.choose(world.pool(s), 6, seeded()).index.tolist() for s in (one, two))
    assert got == want
    few = build("pca-k-center", components=2)
    assert len(set(few.choose(world.pool(few), 6, seeded()).index.tolist())) == 6


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("adversarial-bim", {"step": 0.0}),
        ("adversarial-bim", {"steps": 0}),
        ("adversarial-deepfool", {"overshoot": -1.0}),
        ("ddu", {"jitter": 0.0}),
        ("ddu", {"prior": -1.0}),
        ("pca-k-center", {"components": 0}),
    ],
)
def test_settings_that_make_no_sense(name, wrong):
    with pytest.raises(ValueError, match=r"above 0|at least"):
        build(name, **wrong)
