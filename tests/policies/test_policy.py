"""Trained policies at work: files, queries, sessions, and what they refuse."""

import pytest
import torch
from helpers.policy_worlds import BUDGET, FORMS, HISTORY, TINY, made, network, told

from lightning_al.policies import FlexiblePolicy, Policy, SetPolicy
from lightning_al.policies.fused import TOKENS, fuse


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dimension", [1, 3])
def test_a_query_is_what_the_trained_network_says(form, dimension):
    net = network(dimension=dimension, **FORMS[form])
    policy = Policy.of(net, HISTORY, BUDGET)
    for n in range(1, HISTORY + 1):
        x, y, z = told(n, users=3, seed=n, dimension=dimension)
        z, budget = z if net.safe else None, torch.tensor([1, n % BUDGET + 1, BUDGET])
        with torch.no_grad():
            expected = net(budget if net.budget_aware else None, x, y, z)
        torch.testing.assert_close(policy.query(x, y, budget, z), expected, atol=1e-5, rtol=0)
        found = policy.query(x[1], y[1], int(budget[1]), None if z is None else z[1])
        torch.testing.assert_close(found, expected[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("safe", [False, True])
def test_the_published_size_agrees_too_and_large_outcomes_do_no_harm(safe):
    net = network(safe=safe, width=128, heads=8, hidden=512).double()
    x, y, z = told(45, users=2)
    y[1] *= 300  # the activation is far out of the range of exp
    z = z if safe else None
    expected = net(torch.tensor([7, 7]), x.double(), y.double(), None if z is None else z.double())
    plain = net.float()(torch.tensor([7, 7]), x, y, z)
    for found in (Policy.of(net, 45, 30).query(x, y, 7, z), plain):
        torch.testing.assert_close(found[0], expected[0].float(), atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1], expected[1].float(), atol=1e-3, rtol=0)


def test_more_users_than_fit_at_once_are_answered_in_parts():
    policy, users = made(), TOKENS // 12 * 2 + 5
    x, y, _ = told(12, users=users)
    budget = torch.arange(users) % BUDGET + 1
    every = policy.query(x, y, budget)
    assert every.shape == (users, 2)
    for u in (0, TOKENS // 12 - 1, TOKENS // 12, users - 1):
        torch.testing.assert_close(every[u], policy.query(x[u], y[u], int(budget[u])))


def test_fused_weights_are_of_float32_and_apart_from_the_network():
    net = network()
    x, y, _ = told()
    policy = Policy.of(net, HISTORY, BUDGET)
    before = policy.query(x, y, 3)
    with torch.no_grad():
        net.last.weight.zero_()
    torch.testing.assert_close(policy.query(x, y, 3), before)
    assert fuse(net.double(), 4).emitter.table.shape == (4, TINY["hidden"])
    assert fuse(net, 4).emitter.read.dtype == torch.float32


def test_a_network_of_ones_own_is_asked_as_it_is():
    class Mine(SetPolicy):
        def squashed(self, u):
            return super().squashed(u) / 2

    own = Mine(2, **TINY)
    own.load_state_dict(network().state_dict())
    x, y, _ = told()
    found = Policy(own, made().card).query(x, y, 3)
    torch.testing.assert_close(found, made().query(x, y, 3) / 2)


def test_a_query_is_the_networks_and_batches_are_their_users():
    policy, (x, y, z) = made(safe=True), told(users=3)
    batch = policy.query(x, y, [5, 1, 10], z)
    expected = policy.network(torch.tensor([5, 1, 10]), x, y, z)
    torch.testing.assert_close(batch, expected)
    for u, budget in enumerate((5, 1, 10)):
        alone = policy.query(x[u].numpy(), y[u].tolist(), budget, z[u])
        torch.testing.assert_close(alone, batch[u])
    assert alone.shape == (2,)
    assert not torch.allclose(policy.query(x[0], y[0], 1, z[0]), batch[0])  # the budget counts


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("budget_aware", [False, True])
def test_a_session_says_what_queries_say(safe, budget_aware):
    policy, (x, y, z) = made(safe=safe, budget_aware=budget_aware), told(2)
    more = (z,) if safe else ()
    session = policy.session(3)
    session.tell(x, y, *more)
    for left in (3, 2, 1):
        query = session.ask()
        torch.testing.assert_close(query, policy.query(x, y, left, *more))
        outcome, safety = torch.randn(2, generator=torch.Generator().manual_seed(left))
        session.tell(query, float(outcome), *([float(safety)] if safe else []))
        x, y = torch.cat([x, query[None]]), torch.cat([y, outcome[None]])
        more = (torch.cat([more[0], safety[None]]),) if safe else ()
    with pytest.raises(ValueError, match="budget is spent"):
        session.ask()


@pytest.mark.parametrize("cls", [SetPolicy, FlexiblePolicy])
def test_written_and_read_again_it_is_the_same(tmp_path, cls):
    policy, (x, y, _) = made(cls=cls), told()
    path = policy.save(tmp_path / "deep" / "mine")
    torch.manual_seed(5)
    for name in (path, path.with_suffix(".json"), tmp_path / "deep" / "mine"):
        again = Policy.load(name)
        torch.testing.assert_close(again.query(x, y, 3), policy.query(x, y, 3))
        assert again.card.training == {"steps": 3, "loss": -0.5}
    if cls is FlexiblePolicy:
        assert policy.query(x[:, :1], y, 3).shape == (1,)


def test_only_networks_of_this_package_are_written():
    class Mine(SetPolicy):
        pass

    with pytest.raises(ValueError, match="got Mine"):
        Policy.of(Mine(1, **TINY), 3, 3)


def test_the_outcome_of_the_last_query_may_be_told():
    """A loop that asks and tells goes through: N0 + T points, one more than any query sees."""
    policy = Policy.of(network(dimension=2), history=4, budget=3)
    session = policy.session(3)
    session.tell([[0.1, 0.2], [0.3, 0.4]], [0.5, -0.5])
    for k in range(3):
        x = session.ask()
        session.tell(x, float(k))
    assert session.told == 5
    with pytest.raises(ValueError, match="budget is spent"):
        session.ask()
