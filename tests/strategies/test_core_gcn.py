"""CoreGCN against a dense network in plain torch, and its limits."""

from dataclasses import replace

import pytest
import torch
from helpers.set_worlds import FIXTURES, chosen, features, seeded, unlabelled, world

from lightning_al import strategies
from lightning_al.strategies.trained.core_gcn import CoreGCN, Graph, hidden_features


def nodes(n=30, e=4, seed=0, positive=True):
    points = torch.randn(n, e, generator=seeded(seed))
    points[3] = 0
    return points.relu() + 0.01 * (points != 0) if positive else points


def adjacency(points):
    """(S - I) D^-1 + I, dense and in float64."""
    points = points.double()
    unit = points / points.norm(dim=1, keepdim=True).clamp_min(1e-30)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(0)
    degree = cosines.abs().sum(0)
    degree[degree < 1e-9] = 1
    return cosines / degree + torch.eye(len(points), dtype=torch.float64)


@pytest.mark.parametrize("positive", [True, False])
def test_the_graph_is_the_dense_one(positive):
    points = nodes(positive=positive)
    values = torch.randn(30, 6, generator=seeded(1))
    want = adjacency(points) @ values.double()
    torch.testing.assert_close(Graph(points).spread(values).double(), want, atol=1e-5, rtol=1e-4)


def dense_features(points, labelled, generator, settings, dropout_masks=True):
    """The network, its loss and Adam as written in the paper; the same draws."""
    a, count, wide = adjacency(points), len(points), settings.hidden
    x = points.double() / points.double().norm(dim=1, keepdim=True).clamp_min(1e-30)

    def draw(*shape, bound):
        drawn = torch.rand(shape, generator=generator) * 2 - 1
        return (drawn * bound).double().requires_grad_()

    w, b = draw(x.shape[1], wide, bound=wide**-0.5), draw(wide, bound=wide**-0.5)
    v, c = draw(wide, 1, bound=1.0), draw(1, bound=1.0)
    adam = torch.optim.Adam(
        [w, b, v, c], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    losses = []
    for _ in range(settings.epochs):
        h = (a @ (x @ w) + b).relu()
        if settings.dropout:
            mask = torch.rand(h.shape, generator=generator) >= settings.dropout
            h = h * mask / (1 - settings.dropout)
        p = torch.sigmoid(a @ (h @ v) + c).squeeze(1)
        known = torch.arange(count) >= count - labelled
        loss = -p[known].log().mean() - settings.balance * (1 - p[~known]).log().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return (a @ (x @ w) + b).relu().detach(), losses


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_hidden_features_are_those_of_the_dense_network(dropout):
    settings = CoreGCN(hidden=8, epochs=60, learning_rate=1e-2, dropout=dropout)
    got = hidden_features(nodes(), 6, seeded(4), settings)
    want, losses = dense_features(nodes(), 6, seeded(4), settings)
    torch.testing.assert_close(got.double(), want, atol=2e-3, rtol=2e-2)
    assert got.requires_grad is False
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("seen_of", [world, lambda name: unlabelled(world(name))])
def test_the_choice_is_k_center_on_the_hidden_features(name, seen_of):
    seen = seen_of(name)
    strategy = CoreGCN(hidden=8, epochs=20)
    rows = chosen(strategy, seen, 8)
    assert len(set(rows)) == 8
    pool, labelled = features(seen)
    order = seen.index.argsort()
    both = torch.cat([pool[order], labelled[seen.labelled.argsort()]]).float()
    hidden = hidden_features(both, len(labelled), seeded(), strategy).double()
    place = {int(row): i for i, row in enumerate(order.tolist())}
    taken = list(range(30, 30 + len(labelled)))
    for row in rows:
        if taken:
            near = (hidden[:30, None] - hidden[taken]).norm(dim=2).amin(1)
            assert near[place[row]] >= near.max() - 1e-3 * float(hidden.norm(dim=1).max())
        taken.append(place[row])


def test_a_large_pool_is_drawn_from():
    seen = world("clumped")
    whole = chosen(CoreGCN(epochs=5, limit=30), seen, 6)
    assert chosen(CoreGCN(epochs=5), seen, 6) == whole
    drawn = [chosen(CoreGCN(epochs=5, limit=10), seen, 6, seed) for seed in range(12)]
    assert drawn[3] == chosen(CoreGCN(epochs=5, limit=10), seen, 6, 3)
    assert len({tuple(rows) for rows in drawn}) > 6
    assert len(set(chosen(CoreGCN(epochs=5, limit=2), seen, 9))) == 9  # never fewer than k


def test_it_learns_whatever_mode_it_is_called_in():
    seen, strategy = world("clumped"), CoreGCN(hidden=8, epochs=20)
    want = chosen(strategy, seen, 6)
    torch.manual_seed(8)
    state = torch.get_rng_state()
    with torch.no_grad():
        assert chosen(strategy, seen, 6) == want
    with torch.inference_mode():
        made = replace(seen, predictions=seen.predictions.rows(torch.arange(35)))
        assert chosen(strategy, made, 6) == want
    assert torch.equal(state, torch.get_rng_state())


def test_settings_are_checked():
    bad = {"hidden": 0, "epochs": -1, "limit": 0, "dropout": 1.0, "balance": 0.0}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=name):
            strategies.build("core-gcn", **{name: value})
