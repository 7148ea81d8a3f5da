"""Policy networks: their sizes, their symmetries, and that encoding once changes nothing."""

import math

import pytest
import torch
from torch.nn import functional

from lightning_al.networks import build, spec_of
from lightning_al.policies import FlexiblePolicy, SetPolicy
from lightning_al.policies.layers import Attention, Feed, Linears, Norms, attend

TINY = {"width": 8, "heads": 2, "hidden": 6}
FORMS = {
    "al": lambda **k: SetPolicy(3, **k),
    "dad": lambda **k: SetPolicy(3, budget_aware=False, **k),
    "safe": lambda **k: SetPolicy(3, safe=True, **k),
    "sigmoid": lambda **k: SetPolicy(3, squash="sigmoid", **k),
    "flexible": lambda **k: FlexiblePolicy(3, **k),
    "flexible-safe": lambda **k: FlexiblePolicy(3, safe=True, **k),
    "inputs-first": lambda **k: FlexiblePolicy(3, sequence_first=False, **k),
}


def made(name):
    torch.manual_seed(0)
    return FORMS[name](**TINY).double()


def history(net, n=5, rows=4, seed=1):
    """Arguments of forward."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, n, 3, generator=g).double()
    y, z = torch.randn(2, rows, n, generator=g).double()
    budget = torch.arange(1, rows + 1) if net.budget_aware else None
    return [budget, x, y, z if net.safe else None]


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 7])
def test_parameter_counts_are_the_published_ones(dim):
    def count(net):
        return sum(p.numel() for p in net.parameters())

    published = {1: 448130, 2: 449156, 3: 450182, 5: 452234, 7: 454286}
    assert count(SetPolicy(dim)) == published[dim] == 447104 + 1026 * dim
    published = {1: 315906, 2: 316932, 3: 317958, 5: 320010, 7: 322062}
    assert count(SetPolicy(dim, budget_aware=False)) == published[dim] == 314880 + 1026 * dim
    published = {1: 763010, 2: 764548, 3: 766086, 5: 769162, 7: 772238}
    assert count(SetPolicy(dim, safe=True)) == published[dim] == 761472 + 1538 * dim


def test_parameter_counts_of_the_flexible_forms():
    assert sum(p.numel() for p in FlexiblePolicy().parameters()) == 480390
    assert sum(p.numel() for p in FlexiblePolicy(safe=True).parameters()) == 827526


@pytest.mark.parametrize("name", FORMS)
def test_queries_lie_in_the_box_and_the_order_of_history_does_not_matter(name):
    net = made(name)
    budget, x, y, z = history(net)
    query = net(budget, x, y, z)
    assert query.shape == (4, 3)
    assert query.min() > 0
    assert query.max() < 1
    p = torch.tensor([3, 0, 4, 2, 1])
    moved = net(budget, x[:, p], y[:, p], None if z is None else z[:, p])
    torch.testing.assert_close(moved, query)
    changed = net(budget, x, y + 1, z)
    assert (changed - query).abs().max() > 1e-6


@pytest.mark.parametrize("name", FORMS)
def test_a_rollout_does_not_see_the_others(name):
    net = made(name)
    whole = net(*history(net))
    rows = [None if a is None else a[1:3] for a in history(net)]
    torch.testing.assert_close(net(*rows), whole[1:3])


@pytest.mark.parametrize("name", FORMS)
def test_points_encoded_one_by_one_give_what_the_whole_history_gives(name):
    net = made(name)
    budget, x, y, z = history(net)
    told = net.encode(x[:, :2], y[:, :2], None if z is None else z[:, :2])
    for i in range(2, 5):
        told = told.extended(
            net.encode(x[:, i : i + 1], y[:, i : i + 1], None if z is None else z[:, i : i + 1])
        )
    assert len(told) == 5
    left = None if budget is None else net.remaining(budget)
    torch.testing.assert_close(net.propose(told, left), net(budget, x, y, z))
    few = net.propose(told.head(3), None if left is None else left[:3])
    torch.testing.assert_close(few, net(budget, x, y, z)[:3])


@pytest.mark.parametrize("name", FORMS)
def test_padding_is_as_if_it_were_not_there(name):
    net = made(name)
    budget, x, y, z = history(net)
    x, y = x.clone(), y.clone()
    x[:, 3:], y[:, 3:] = 7.0, -9.0
    valid = torch.arange(5).expand(4, 5) < 3
    padded = net(budget, x, y, z, valid=valid)
    short = net(budget, x[:, :3], y[:, :3], None if z is None else z[:, :3])
    torch.testing.assert_close(padded, short)


@pytest.mark.parametrize("name", FORMS)
def test_every_parameter_but_the_empty_one_gets_a_gradient(name):
    net = made(name)
    net(*history(net)).square().sum().backward()
    without = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == ["empty"]


@pytest.mark.parametrize("name", ["flexible", "flexible-safe", "inputs-first"])
def test_a_flexible_policy_turns_with_its_inputs_and_ignores_those_that_are_off(name):
    net = made(name)
    budget, x, y, z = history(net)
    query = net(budget, x, y, z)
    p = torch.tensor([2, 0, 1])
    torch.testing.assert_close(net(budget, x[..., p], y, z), query[:, p])
    active = torch.tensor([True, True, False]).expand(4, 3)
    masked = net(budget, x * active[:, None], y, z, active=active)
    assert (masked[:, 2] == 0).all()
    torch.testing.assert_close(masked[:, :2], net(budget, x[..., :2], y, z))


@pytest.mark.parametrize("name", FORMS)
def test_its_spec_builds_it_again(name):
    net = made(name)
    twin = build(spec_of(net)).double()
    twin.load_state_dict(net.state_dict())
    torch.testing.assert_close(twin(*history(net)), net(*history(net)))


def test_without_history_the_query_is_uniform_and_that_of_the_generator():
    net = SetPolicy(2, **TINY)
    empty = (torch.ones(500), torch.zeros(500, 0, 2), torch.zeros(500, 0))
    a, b = (net(*empty, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    assert abs(a.mean() - 0.5) < 0.05


def plain_policy(net, budget, x, y):
    """The forward pass written down layer by layer, for one rollout of a SetPolicy."""
    state = {k: v[0] if v.ndim > 1 else v for k, v in net.state_dict().items()}

    def linear(name, h):
        return h @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    def feed(name, h, act):
        return linear(f"{name}.last", act(linear(f"{name}.first", h)))

    def norm(name, h):
        h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return h * state[f"{name}.weight"] + state[f"{name}.bias"]

    h = feed("encoder", torch.cat([x, y[:, None]], -1), functional.softplus)
    for name in ("first", "second"):
        seen = []
        q, k, v = (linear(f"{name}.attention.{part}", h) for part in ("query", "key", "value"))
        size = net.width // net.heads
        for head in range(net.heads):
            part = slice(head * size, (head + 1) * size)
            seen.append((q[:, part] @ k[:, part].T / math.sqrt(size)).softmax(-1) @ v[:, part])
        h = norm(f"{name}.norm", torch.cat(seen, -1) + h)
        h = norm(f"{name}.end", h + feed(f"{name}.feed", h, torch.relu))
    read = linear("last", h).sum(0)
    left = feed("budget", budget.double().view(1), functional.softplus)
    u = feed("emitter", torch.cat([read, left]), functional.softplus)
    return (u.tanh() + 1) / 2


def test_it_is_the_network_that_was_published():
    net = made("al")
    budget, x, y, _ = history(net)
    found = net(budget, x, y)
    for r in range(4):
        torch.testing.assert_close(found[r], plain_policy(net, budget[r], x[r], y[r]))


def test_both_branches_in_one_batch_are_two_separate_ones():
    torch.manual_seed(0)
    both, x = Linears(2, 3, 4), torch.randn(2, 5, 6, 3)
    norms, h = Norms(2, 4), torch.randn(2, 5, 6, 4)
    with torch.no_grad():
        norms.weight.normal_()
        norms.bias.normal_()
    for s in range(2):
        expected = functional.linear(x[s], both.weight[s], both.bias[s])
        torch.testing.assert_close(both(x)[s], expected)
        expected = functional.layer_norm(h[s], (4,), norms.weight[s], norms.bias[s])
        torch.testing.assert_close(norms(h)[s], expected)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_agrees_with_torch_and_so_do_its_gradients(masked):
    torch.manual_seed(0)
    heads = [torch.randn(2, 3, 2, 5, 4, dtype=torch.float64) for _ in range(3)]
    parts = [h.requires_grad_() for h in heads]
    valid = torch.rand(3, 5) < 0.6 if masked else None
    if valid is not None:
        valid[:, 0] = True
    found = attend(*parts, valid)
    with torch.no_grad():
        torch.testing.assert_close(attend(*parts, valid), found)
    logits = heads[0] @ heads[1].mT / 2
    if valid is not None:
        logits = logits.masked_fill(~valid[:, None, None], -math.inf)
    expected = (logits.softmax(-1) @ heads[2]).transpose(-3, -2).flatten(-2)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad(found, parts, weight),
        torch.autograd.grad(expected, parts, weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_weights_start_as_they_should():
    torch.manual_seed(0)
    attention, feed = Attention(1, 128, 8), Feed(1, 128, 128, 128, "relu", zero=True)
    for layer in (attention.query, attention.key, attention.value):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 144), rel=0.03)
    assert attention.key.bias is None
    assert not feed.first.bias.any()
    assert not feed.last.bias.any()
    assert feed.last.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 128), rel=0.01)
    assert feed.first.weight.abs().max().item() == pytest.approx(math.sqrt(1 / 128), rel=0.01)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SetPolicy(0), "1 or more"),
        (lambda: SetPolicy(width=10, heads=4), "multiple of the 4 heads"),
        (lambda: SetPolicy(squash="relu"), "choose one of tanh, sigmoid"),
        (lambda: made("safe").encode(torch.rand(1, 2, 3), torch.rand(1, 2)), "takes y and z"),
        (lambda: made("dad").remaining(torch.ones(1)), "does not take a budget"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
