"""The network that scores candidates: what must not matter to it does not."""

import pytest
import torch
from helpers.policy_worlds import told

from lightning_al.policies import CandidatePolicy
from lightning_al.policies.candidates.network import moved, waves
from lightning_al.policies.candidates.places import Places, scattered

TINY = {"width": 16, "heads": 2, "frequencies": 2}
CLOSE = {"atol": 1e-10, "rtol": 0}
FORMS = [(1, False), (2, True), (5, False)]


def made(dimension=2, seed=0, **settings):
    """As if trained: float64, and nothing left where it starts."""
    torch.manual_seed(seed)
    network = CandidatePolicy(dimension, **(TINY | settings)).double()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value), alpha=0.2)
    return network


def asked(network, n=6, users=3, candidates=7, seed=1):
    """x, y, z, candidates."""
    x, y, z = (t.double() for t in told(n, users, seed, network.dimension))
    g = torch.Generator().manual_seed(seed + 100)
    places = torch.rand(users, candidates, network.dimension, generator=g, dtype=torch.float64)
    return x, y, places, z if network.safe else None


@pytest.mark.parametrize(("dimension", "safe"), FORMS)
def test_order_of_candidates_and_of_points_does_not_matter(dimension, safe):
    network = made(dimension, safe=safe)
    x, y, places, z = asked(network)
    score, move = network(x, y, places, z)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    again = network(x, y, places[:, order], z)
    torch.testing.assert_close(again[0], score[:, order], **CLOSE)
    torch.testing.assert_close(again[1], move[:, order], **CLOSE)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    turned = (t if t is None else t[:, order] for t in (x, y, z))
    x, y, z = turned
    again = network(x, y, places, z)
    torch.testing.assert_close(again[0], score, **CLOSE)
    torch.testing.assert_close(again[1], move, **CLOSE)


@pytest.mark.parametrize(("dimension", "safe"), FORMS)
def test_another_candidate_changes_no_other_score(dimension, safe):
    network = made(dimension, safe=safe)
    x, y, places, z = asked(network)
    score, move = network(x, y, places, z)
    for some in ([0], [3, 1], list(range(7))):
        found, moves = network(x, y, places[:, some], z)
        torch.testing.assert_close(found, score[:, some], **CLOSE)
        torch.testing.assert_close(moves, move[:, some], **CLOSE)
    shared = network(x, y, places[0], z)  # the same ones for all
    torch.testing.assert_close(shared[0][0], score[0], **CLOSE)


@pytest.mark.parametrize("safe", [False, True])
def test_padding_changes_nothing(safe):
    network = made(safe=safe)
    x, y, places, z = asked(network)
    valid = torch.tensor([[True] * n + [False] * (6 - n) for n in (6, 1, 4)])
    whole = network(x, y, places, z, valid)
    for row, n in enumerate((6, 1, 4)):
        short = (t if t is None else t[row : row + 1, :n] for t in (x, y, z))
        one, two, three = short
        alone = network(one, two, places[row : row + 1], three)
        torch.testing.assert_close(whole[0][row : row + 1], alone[0], **CLOSE)
        torch.testing.assert_close(whole[1][row : row + 1], alone[1], **CLOSE)


@pytest.mark.parametrize("safe", [False, True])
def test_an_input_that_is_left_out_changes_nothing(safe):
    network = made(4, safe=safe, flexible=True)
    x, y, places, z = asked(network)
    active = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)
    score, move = network(x, y, places, z, active=active)
    off = ~active[:, None]
    other = network(
        torch.where(off, torch.rand_like(x), x), y, torch.where(off, 0.9, places), z, active=active
    )
    torch.testing.assert_close(other[0], score, **CLOSE)
    torch.testing.assert_close(other[1], move, **CLOSE)
    assert not move[off.expand_as(move)].any()
    assert move[active[:, None].expand_as(move)].all()


def test_everything_that_counts_does():
    """Each of x, y, z, a candidate and the number of points changes the scores."""
    network = made(safe=True)
    x, y, places, z = asked(network)
    score, _ = network(x, y, places, z)
    twice = [torch.cat([t, t], 1) for t in (x, y, z)]  # the same points, each twice
    for other in (
        network(1 - x, y, places, z),
        network(x, -y, places, z),
        network(x, y, places, -z),
        network(x, y, 1 - places, z),
        network(*twice[:2], places, twice[2]),
    ):
        assert (other[0] - score).abs().min() > 1e-6


def test_attention_falls_off_with_distance():
    """Far from all points, with sharp heads, a candidate sees nothing but the sink."""
    network = made(1)
    with torch.no_grad():
        for near in network.near:
            near.fill_(12.0)
    places = torch.tensor([[0.95]], dtype=torch.float64)
    x = torch.tensor([[[0.05], [0.1]]], dtype=torch.float64)
    known = network.encode(x, torch.tensor([[1.0, -1.0]]).double())
    there = network._asked_place(network.near[0], places[None], None)
    seen = torch.softmax(
        there @ known.keys[0][..., network.width // network.heads :].mT, -1
    )  # [1, H, 1, 3]
    torch.testing.assert_close(seen[..., 0], torch.ones_like(seen[..., 0]), **CLOSE)


def test_a_product_gives_minus_the_squared_distance():
    network = made(3, flexible=True)
    active = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    x, _, places, _ = asked(network, users=1)
    near = network.near[0]
    left = network._asked_place(near, places, active)
    right = network._known_place(near, x, active, None)
    product = left @ right.mT  # plus what all keys of a candidate share
    away = (places[:, :, None] - x[:, None]).square() * active[0]  # [1, A, n, D]
    wanted = -(away[:, None] * near.exp()[:, None, None]).sum(-1)  # two inputs: 2 / D is 1
    shared = -(left[..., -2:-1])
    torch.testing.assert_close(product[..., 1:] + shared, wanted, **CLOSE)
    sink = -0.02 * (near.exp() * active[0]).sum(-1)[None, :, None]  # 0.04, averaged over two
    torch.testing.assert_close(
        product[..., 0] + shared[..., 0], sink.expand_as(product[..., 0]), **CLOSE
    )


def test_moves_lead_away_from_the_point_or_towards_it():
    """With one point measured there is one direction, and each head says how far."""
    network = made(3)
    x, y, places, _ = asked(network, n=1, users=1)
    with torch.no_grad():
        network.near[1].copy_(network.near[1][:, :1].expand(-1, 3))  # round
        for sign in (1.0, -1.0):
            network.head.weight[1:] = 0.0
            network.head.bias[1:] = 0.1 * sign
            _, move = network(x, y, places)
            way = (move / network.reach).atanh()[0]
            along = torch.cosine_similarity(way, places[0] - x[0], dim=-1)
            torch.testing.assert_close(along, torch.full_like(along, sign), **CLOSE)


def test_waves_are_sines_and_cosines_from_the_middle():
    x = torch.tensor([[0.5, 0.75]], dtype=torch.float64)
    half = 0.5**0.5
    wanted = [[0, 0, 0, 1, 1, 0.25, half, 1, half, 0]]
    torch.testing.assert_close(waves(x, 2), torch.tensor(wanted, dtype=torch.float64), **CLOSE)


def test_a_move_stays_in_the_box_and_keeps_its_gradient():
    move = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    place = moved(torch.tensor([0.9, 0.5], dtype=torch.float64), move)
    torch.testing.assert_close(place.detach(), torch.tensor([1.0, 0.1], dtype=torch.float64))
    place.sum().backward()
    assert move.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dimension": 0}, "dimension is 1 or more, got 0"),
        ({"width": 30, "heads": 4}, "width 30 is no multiple of the 4 heads"),
        ({"reach": 0.0}, r"a share of a side in \(0, 1\], got 0.0"),
    ],
)
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        CandidatePolicy(**settings)


def test_safety_measurements_have_to_be_wanted():
    network = made()
    x, y, places, _ = asked(network)
    with pytest.raises(ValueError, match="takes y alone, got y and z"):
        network(x, y, places, y)
    with pytest.raises(ValueError, match="takes y and z, got y"):
        made(safe=True)(x, y, places)


# --- candidates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2, 3, 7])
def test_candidates_are_a_fixed_function_of_the_points_measured(dimension):
    places = Places.of(dimension, 96)
    x = torch.rand(2, 5, dimension, generator=torch.Generator().manual_seed(0))
    found = places(x)
    torch.manual_seed(3)
    again = Places.of(dimension, 96)(x)
    assert torch.equal(found, again)
    assert found.min() >= 0
    assert found.max() <= 1
    turned = places(x[:, torch.tensor([3, 1, 0, 4, 2])])
    assert torch.equal(turned, found)  # the order of the points is none
    if dimension <= 2:
        assert (found == 0).any()
        assert (found == 1).any()
        assert found.ndim == 2
    else:
        assert found.shape == (2, 96, dimension)
        away = torch.cdist(found[:, 48:], x).min(-1).values
        assert (away <= 0.38 + 1e-6).all()


def test_candidates_to_learn_from_lie_where_they_were_meant_to():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(3, 9, 2, generator=g, dtype=torch.float64)
    drawn = torch.rand(3, 40, 6, generator=g, dtype=torch.float64)
    known = torch.tensor([1, 4, 9])
    found = scattered(drawn, x, known, 0.5)
    assert found.shape == (3, 40, 2)
    for row, n in enumerate(known.tolist()):
        near = torch.cdist(found[row, 20:], x[row, :n]).min(-1).values
        assert (near <= 0.38 + 1e-9).all()
    assert (scattered(drawn, x, known, 0.0) == 1).any()  # the border is met


def test_what_a_row_is_worth_where_it_is_does_not_depend_on_where_it_would_be_moved():
    """`rate` is a head of its own: other moves and another score leave it as it is."""
    torch.manual_seed(2)
    made, x, y = CandidatePolicy(2, width=8, heads=2), torch.rand(1, 4, 2), torch.randn(1, 4)
    rows = torch.rand(6, 2)
    known = made.encode(x, y)
    before, (score, moves) = made.rate(known, rows), made.judge(known, rows)
    with torch.no_grad():
        made.head.weight.mul_(3.0)
        made.head.bias.add_(1.0)
    assert torch.equal(made.rate(known, rows), before)
    now, other = made.judge(known, rows)
    assert not torch.allclose(now, score)
    assert not torch.allclose(other, moves)
    for i in range(6):
        alone = made.rate(known, rows[i : i + 1])
        torch.testing.assert_close(alone[0, 0], before[0, i], atol=1e-6, rtol=1e-5)
