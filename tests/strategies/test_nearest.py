"""The nearest pool point: against brute force, with ties, removal, and memory between rounds."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_al.records import Context, Pool
from lightning_al.strategies.sequential.nearest import Members, Nearest, PoolPoints, inputs_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, d, seed=0):
    return torch.rand(n, d, generator=seeded(seed), dtype=torch.float64).numpy()


def grid(n, d, seed=0):
    """Few places, each taken by many; distances are exact in binary."""
    return np.random.default_rng(seed).integers(0, 3, (n, d)) / 4.0


def brute(index, at, place):
    """The items at the least distance, in plain numpy."""
    squared = ((at - place) ** 2).sum(1)
    return set(index[squared == squared.min()].tolist()), float(squared.min() ** 0.5)


@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("draw", [points, grid])
def test_it_is_the_nearest_until_none_is_left(draw, d):
    n = 60
    at, index = draw(n, d), torch.randperm(n, generator=seeded(3)) + 500
    tree, left = Nearest(index, at), index
    place_of = dict(zip(index.tolist(), at, strict=True))
    for step in range(n):
        place = points(1, d, seed=step)[0] if draw is points else grid(1, d, seed=step)[0]
        near, distance = brute(left.numpy(), np.stack([place_of[i] for i in left.tolist()]), place)
        found = tree.find(place, Members(left), seeded(step))
        assert found.item in near
        assert found.distance == pytest.approx(distance, abs=1e-12)
        assert np.array_equal(found.point, place_of[found.item])
        left = left[left != found.item]
    with pytest.raises(ValueError, match="no candidate is left"):
        tree.find(place, Members(left), seeded())


def test_ties_are_drawn_evenly_whatever_the_order():
    at = np.array([[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75], [0.0, 0.0]])
    place, index = np.array([0.5, 0.5]), torch.arange(5)
    found = [Nearest(index, at).find(place, Members(index), seeded(s)).item for s in range(80)]
    assert set(found) == {0, 1, 2, 3}
    order = torch.tensor([4, 2, 0, 3, 1])
    moved = Nearest(order, at[order.numpy()])
    again = [moved.find(place, Members(order), seeded(s)).item for s in range(80)]
    assert again == found


def test_one_at_the_same_place_as_all():
    index = torch.arange(300)
    tree = Nearest(index, np.full((300, 3), 0.5))
    drawn = {tree.find(np.zeros(3), Members(index), seeded(s)).item for s in range(300)}
    assert len(drawn) > 150
    single = Nearest(index[:1], np.zeros((1, 3)))
    assert single.find(np.ones(3), Members(index[:1]), seeded()).item == 0


@pytest.mark.parametrize("draw", [points, grid])
def test_blocks_go_through_all_that_remain_in_order(draw):
    at, index = draw(500, 2), torch.arange(500)
    left, place = index[index % 3 != 0], np.array([0.3, 0.6])
    blocks = list(Nearest(index, at).blocks(place, Members(left)))
    rows = np.concatenate(blocks)
    assert sorted(rows.tolist()) == left.tolist()
    away = np.linalg.norm(at[rows] - place, axis=1)
    assert (np.diff(away) >= -1e-12).all()
    assert len(blocks) > 2 or draw is grid


@pytest.mark.parametrize(("shuffle", "ascending"), [(False, False), (True, False), (False, True)])
def test_members_are_found_in_any_order(shuffle, ascending):
    index = torch.arange(0, 200, 2)
    index = index[torch.randperm(100, generator=seeded())] if shuffle else index
    members = Members(index, ascending)
    assert Nearest(index, points(100, 1)).ascending is not shuffle
    assert [i in members for i in range(-1, 202)] == [
        i % 2 == 0 and 0 <= i < 200 for i in range(-1, 202)
    ]
    items = np.array([0, 3, 198, 199, 200, 4])
    assert members.among(items).tolist() == [True, False, True, False, False, True]
    assert not Members(index[:0]).among(items[:0]).any()


# --- what is remembered --------------------------------------------------------------------------


class Source:
    """A data set of points, which counts what is read; of a workbench it has the inputs."""

    def __init__(self, at):
        self.at, self.read = at, 0

    def inputs(self, index):
        self.read += len(index)
        return self.at[index].split(7)

    def pool(self, index, round, part=False):
        return Pool(index, context=Context(round=round, n_pool=len(index) + part), bench=self)


def scaled(inputs):
    return inputs.double().numpy()


def test_the_tree_is_built_once_a_run():
    source, memory = Source(torch.rand(100, 2, generator=seeded())), PoolPoints()
    index = torch.arange(100)
    first = memory.of(source.pool(index, 0), scaled, 1)
    assert source.read == 100
    for round in (1, 2, 5):
        index = index[index != round * 7]
        assert memory.of(source.pool(index, round), scaled, 1) is first
    assert source.read == 100 + 3 * 16


@pytest.mark.parametrize("what", ["round", "data", "scale", "part", "more", "order", "copy"])
def test_another_pool_begins_anew(what):
    source, memory = Source(torch.rand(100, 2, generator=seeded())), PoolPoints()
    index, more = torch.arange(50), {"part": False}
    first = memory.of(source.pool(index, 3), scaled, 1)
    round, scale = 4, 1
    if what == "round":
        round = 3
    elif what == "data":
        source = Source(torch.rand(100, 2, generator=seeded(1)))
    elif what == "scale":
        scale = 2
    elif what == "part":
        index, more = index[10:], {"part": True}
    elif what == "more":
        index = torch.arange(60)
    elif what == "order":
        index = index.flip(0)
    else:
        memory = copy.deepcopy(pickle.loads(pickle.dumps(memory)))
    tree = memory.of(source.pool(index, round, **more), scaled, scale)
    assert tree is not first
    assert np.array_equal(tree.points, source.at[index.sort().values].double().numpy())


def test_items_that_are_no_tensors_are_refused():
    bench = SimpleNamespace(inputs=lambda index: [{"x": torch.ones(2)}])
    pool = Pool(torch.arange(2), bench=bench)
    with pytest.raises(ValueError, match="one tensor of numbers each, got dict"):
        inputs_of(pool)
