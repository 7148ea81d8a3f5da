"""CLUE against its definition, its limits and its ties."""

from dataclasses import replace

import pytest
import torch
from helpers.set_worlds import FIXTURES, chosen, features, seeded, world

from lightning_al import strategies
from lightning_al.records import Context, Pool, Predictions
from lightning_al.strategies.hybrid.clue import Clue


def made(points, weights):
    """A pool of items [N, E] whose entropies are given."""
    index = torch.arange(len(points))
    return Pool(index=index, scores=weights, kept=Predictions(index, embedding=points))


def clumps(sizes, seed=0, e=4):
    draw = seeded(seed)
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    centres = 30 * torch.randn(len(sizes), e, generator=draw)
    return centres[owner] + torch.randn(len(owner), e, generator=draw), owner


def test_score_is_the_entropy_under_the_temperature():
    seen = world("clumped")
    probs = seen.predictions.probs.double().mean(1)
    for t in (1.0, 0.3, 5.0):
        flat = probs ** (1 / t) / (probs ** (1 / t)).sum(1, keepdim=True)
        got = Clue(temperature=t).score(seen.predictions, Context())
        torch.testing.assert_close(got.double(), -(flat * flat.log()).sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_takes_the_item_nearest_to_each_weighted_mean(seed):
    points, owner = clumps([9, 14, 20, 6], seed)
    weights = torch.rand(len(points), generator=seeded(seed + 50)) ** 4
    got = Clue().choose(made(points, weights), 4, seeded(seed)).index
    want = set()
    for one in range(4):
        inside = owner == one
        share = weights[inside].double()[:, None]
        centre = (points[inside].double() * share).sum(0) / share.sum()
        want.add(int((points.double() - centre).norm(dim=1).argmin()))
    assert set(got.tolist()) == want


def test_weights_move_the_choice():
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [90.0], [91.0], [92.0]])
    even = Clue().choose(made(points, torch.ones(8)), 2, seeded()).index
    assert set(even.tolist()) == {2, 6}
    weights = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    assert set(Clue().choose(made(points, weights), 2, seeded()).index.tolist()) == {4, 5}
    nothing = Clue().choose(made(points, torch.zeros(8)), 2, seeded()).index
    assert set(nothing.tolist()) == {2, 6}


@pytest.mark.parametrize("name", FIXTURES)
def test_fewer_places_than_picks_are_filled_up(name):
    seen = world(name)
    for k in (1, 7, 30):
        rows = chosen(Clue(), seen, k)
        assert len(set(rows)) == k
        if name == "ties" and k == 7:  # 9 places: none is taken twice while others are free
            places = features(seen)[0][rows].unique(dim=0)
            assert len(places) >= 6


def test_many_items_learn_centres_from_a_draw_and_look_at_all():
    points, owner = clumps([300, 200, 400, 100])
    pool = made(points, torch.rand(1000, generator=seeded(5)))
    exact, drawn = (Clue(limit=limit).choose(pool, 4, seeded()).index for limit in (1000, 100))
    assert torch.equal(exact, Clue(limit=10**6).choose(pool, 4, seeded()).index)
    assert torch.equal(drawn, Clue(limit=100).choose(pool, 4, seeded()).index)
    assert not torch.equal(exact, drawn)
    assert set(owner[drawn].tolist()) == set(owner[exact].tolist()) == set(range(4))

    def cost(rows):
        apart = (points[:, None] - points[rows]).square().sum(2).amin(1)
        return float((apart * pool.scores).sum())

    assert cost(drawn) < 1.2 * cost(exact)


def test_order_and_state_do_not_matter():
    seen = world("clumped")
    moved = replace(seen, index=seen.index[torch.randperm(30, generator=seeded(2))])
    items = [set(Clue().choose(s.pool(Clue()), 6, seeded()).index.tolist()) for s in (seen, moved)]
    assert items[0] == items[1]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    chosen(Clue(), seen, 6)
    assert torch.equal(state, torch.get_rng_state())


def test_settings_are_checked():
    for bad in ({"temperature": 0.0}, {"iterations": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            strategies.build("clue", **bad)
    with pytest.raises(ValueError, match="no scores"):
        Clue().choose(replace(made(torch.zeros(3, 2), torch.ones(3)), scores=None), 1, seeded())
