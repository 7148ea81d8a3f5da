"""Above a stated size kernels that compare pairs look at fewer: taken, repeatable, and good."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from lightning_al.records import Pool, Predictions
from lightning_al.strategies.diversity.clustered import Representative
from lightning_al.strategies.diversity.covering import (
    FacilityLocation,
    MaxHerding,
    ProbCover,
    TypiClust,
)
from lightning_al.strategies.kernels import typiclust
from lightning_al.strategies.kernels.lazy_cover import Cover
from lightning_al.strategies.kernels.typiclust import _indexed_distance, _typical_distance

N, K = 1200, 12


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clumps(n=N, e=6, seed=0):
    draw = seeded(seed)
    centres = 4 * torch.randn(20, e, generator=draw)
    owner = torch.multinomial(1 / torch.arange(1.0, 21), n, True, generator=draw)
    return centres[owner] + 0.5 * torch.randn(n, e, generator=draw)


def pool(points):
    index = torch.arange(len(points))
    nobody = Pool(index=index[:0], kept=Predictions(index[:0], embedding=points[:0]))
    kept = Predictions(index, embedding=points)
    return Pool(index=index, kept=kept, bench=SimpleNamespace(labelled_pool=lambda: nobody))


def rows(strategy, points, seed=0):
    return strategy.choose(pool(points), K, seeded(seed)).index


def medoids(points, chosen):
    far = float((points - points.mean(0)).norm(dim=1).max()) * 2
    return float((far - torch.cdist(points, points[chosen]).amin(1)).sum())


def herded(points, chosen):
    width = (points - points.mean(0)).square().sum(1).mean().sqrt()
    return float((-((torch.cdist(points, points[chosen]) / width) ** 2)).exp().amax(1).sum())


def balls(points, chosen):
    return float((torch.cdist(points, points[chosen]) <= 1.5).any(1).sum())


def untypical(points, chosen):
    """One over the mean distance to the 20 nearest, summed: the lower the distance the better."""
    return float((1 / torch.cdist(points[chosen], points).sort(1).values[:, 1:21].mean(1)).sum())


def centred(points, chosen):
    return 1 / float(torch.cdist(points, points[chosen]).amin(1).square().sum())


CASES = {
    "facility location": (FacilityLocation, {}, medoids, 0.95),
    "max-herding": (MaxHerding, {}, herded, 0.95),
    "prob-cover": (ProbCover, {"radius": 1.5}, balls, 0.95),
    "typiclust": (TypiClust, {"max_clusters": 8}, untypical, 0.95),
    "representative": (Representative, {}, centred, 0.7),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_limit_is_exact_below_and_good_above(case):
    make, given, value, share = case
    points = clumps()
    whole = rows(make(**given, limit=10**7), points)
    assert torch.equal(rows(make(**given, limit=N), points), whole)
    few = make(**given, limit=60 if make is TypiClust else 400)
    some = rows(few, points)
    assert torch.equal(rows(few, points), some)
    assert len(set(some.tolist())) == K
    assert value(points, some) >= share * value(points, whole)


@pytest.mark.parametrize(
    "make", [FacilityLocation, MaxHerding, ProbCover, TypiClust, Representative]
)
def test_a_limit_is_positive(make):
    points = clumps(40)
    with pytest.raises(ValueError, match=r"limit|sample"):
        rows(make(**({"radius": 1.0} if make is ProbCover else {}), limit=0), points)


def test_a_sampled_cover_compares_with_the_sample_alone():
    points = clumps()
    search = Cover(points, None, K, seeded(), sample=100)
    search.similarity = lambda squared: squared.mul_(-0.1).exp_()
    search.choose(K)
    assert len(search.targets) == 100
    assert search.computed <= 4 * N * 100


def test_the_index_finds_nearly_all_neighbours():
    points = clumps(3000)
    exact = _typical_distance(points, 20, 2**28)
    found = _indexed_distance(points, 20, seeded())
    assert torch.equal(found, _indexed_distance(points, 20, seeded()))
    assert bool((found >= exact - 1e-3 * exact.mean()).all())  # a neighbour missed lies farther
    assert float(found.mean()) < 1.05 * float(exact.mean())
    same = torch.ones(50, 3)
    assert _indexed_distance(same, 5, seeded()).tolist() == [0.0] * 50
    two = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert _indexed_distance(two, 20, seeded()).tolist() == [5.0, 5.0]


def test_the_index_is_used_above_the_limit_only(monkeypatch):
    calls = []

    def counted(points, *rest):
        calls.append(len(points))
        return _indexed_distance(points, *rest)

    module = import_module(typiclust.__module__)
    monkeypatch.setattr(module, "_indexed_distance", counted)
    points = clumps()
    typiclust(points, None, K, seeded(), limit=N)
    assert not calls
    typiclust(points, None, K, seeded(), limit=100)
    assert calls
    assert min(calls) > 100
