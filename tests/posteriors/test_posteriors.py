"""Posteriors: each member is one function, and the one that the masks say."""

import logging

import pytest
import pytorch_lightning as pl
import torch
from helpers.reading import read
from torch import nn
from torch.nn import functional as F

from lightning_al.networks import MLP, Ensemble, ResNet18, SmallCNN
from lightning_al.posteriors import Deterministic, MCDropout, Posterior, Session
from lightning_al.randomness import generator
from lightning_al.tasks import Adapter, Classification, Regression

SEED, ROUND = 3, 2


class Module(pl.LightningModule):
    """Somebody's module: a network under a name, called by forward."""

    def __init__(self, net, inside=lambda x: x, outside=lambda x: x):
        super().__init__()
        self.net, self.inside, self.outside = net, inside, outside
        self.adapter = Adapter(members=isinstance(net, Ensemble))

    def forward(self, x):
        return self.outside(self.net(self.inside(x)))


def predict(task, x, members=4, needs=("logits",), session=None, adapter=None):
    session = session or MCDropout(members).start(SEED, ROUND)
    return read(session, task, x, needs, adapter)


def mask(member, name, shape, p, call=0):
    drawn = generator(SEED, ROUND, "mask", member, name, *((call,) if call else ()))
    return (torch.rand(shape, generator=drawn) >= p).float() / (1 - p)


def test_posteriors_keep_the_protocol():
    for posterior in (Deterministic(), MCDropout(3)):
        assert isinstance(posterior, Posterior)
        assert isinstance(posterior.start(0, 0), Session)


def test_members_are_the_network_under_the_masks_drawn_by_hand():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 3))
    x = torch.randn(7, 6)
    logits = predict(Module(net), x).logits
    for s in range(4):
        hidden = net[1](x * mask(s, "net.0", (6,), 0.3))
        expected = net[3](hidden * mask(s, "net.2", (5,), 0.5))
        torch.testing.assert_close(logits[:, s], expected)


def test_members_may_drop_more_than_the_fit_did():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 3))
    x = torch.randn(7, 6)
    logits = predict(Module(net), x, session=MCDropout(4, least=0.3).start(SEED, ROUND)).logits
    for s in range(4):
        hidden = net[1](x * mask(s, "net.0", (6,), 0.3))
        expected = net[3](hidden * mask(s, "net.2", (5,), 0.5))
        torch.testing.assert_close(logits[:, s], expected)
    plain = predict(Module(net), x, session=MCDropout(4).start(SEED, ROUND)).logits
    below = MCDropout(4, least=0.0).start(SEED, ROUND)
    assert torch.equal(predict(Module(net), x, session=below).logits, plain)
    again = MCDropout(4, least=0.3).start(SEED, ROUND).per_channel()
    torch.testing.assert_close(predict(Module(net), x, session=again).logits, logits)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_probability_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"least is a probability from 0, below 1, got"):
        MCDropout(4, least=share)


def test_the_mean_over_members_of_a_linear_network_is_the_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.4), nn.Linear(50, 3))
    x = torch.randn(9, 6)
    logits = predict(Module(net), x, members=4000).logits
    error = logits.mean(1) - net.eval()(x)
    bound = 4.5 * logits.std(1) / 4000**0.5
    assert bool((error.abs() < bound).all())


def test_the_spread_of_a_linear_network_is_known():
    net = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 1, bias=False))
    x = torch.randn(3, 8)
    draws = predict(Module(net), x, 6000, adapter=Adapter(kind="regression"), needs=["mean"]).mean
    expected = ((x * net[1].weight) ** 2).sum(1) * 0.2 / 0.8  # Var(mask) = p / (1 - p)
    torch.testing.assert_close(draws[..., 0].var(1), expected, rtol=0.1, atol=0)


def alpha():
    return nn.Sequential(nn.Linear(6, 400), nn.AlphaDropout(0.3), nn.Linear(400, 2))


def test_alpha_dropout_has_torchs_moments():
    torch.manual_seed(0)
    net = alpha()
    x = torch.randn(4, 6)
    ours = predict(Module(net), x, 1500).logits
    net.train()
    with torch.no_grad():
        torchs = torch.stack([net(x) for _ in range(1500)], 1)
    torch.testing.assert_close(ours.mean(1), torchs.mean(1), atol=0.06, rtol=0)
    torch.testing.assert_close(ours.std(1), torchs.std(1), atol=0, rtol=0.1)


def conv():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Dropout2d(0.5), nn.Conv2d(4, 3, 3), nn.Dropout(0.2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 3),
    )


class Reused(nn.Module):
    """One dropout layer, called twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(6, 20), nn.Linear(20, 20), nn.Dropout(0.4)

    def forward(self, x):
        return self.drop(self.b(self.drop(self.a(x))))


class Tokens(nn.Module):
    """A transformer: fused attention would skip its dropout layers."""

    def __init__(self, batch_first=True):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first)
        self.out, self.batch_first = nn.Linear(8, 3), batch_first

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        return self.out(self.encoder(x).mean(1 if self.batch_first else 0))


ZOO = {
    "mlp": (lambda: MLP(6, (10, 10), 3, dropout=0.3), (6,)),
    "cnn": (lambda: SmallCNN(1, 3, image_size=10, width=4, hidden=12), (1, 10, 10)),
    "resnet": (lambda: ResNet18(1, 3, dropout=0.5), (1, 8, 8)),
    "channels": (conv, (1, 9, 9)),
    "alpha": (alpha, (6,)),
    "reused": (Reused, (6,)),
    "tokens": (Tokens, (5, 8)),
    "sequence-first": (lambda: Tokens(batch_first=False), (5, 8)),
    "ensemble": (lambda: Ensemble(MLP(6, (10,), 3, dropout=0.3), 2), (6,)),
}


@pytest.fixture(params=ZOO)
def zoo(request):
    torch.manual_seed(1)
    make, shape = ZOO[request.param]
    net, x = make(), torch.randn(11, *shape)
    net(x)  # batch norm has something to remember
    return net, x


def test_a_member_does_not_depend_on_the_batch(zoo):
    net, x = zoo
    task = Module(net)
    whole = predict(task, x).logits
    session = MCDropout(4).start(SEED, ROUND)
    parts = [predict(task, x[rows], session=session).logits for rows in ([3, 0, 7], [1], [9, 2])]
    torch.testing.assert_close(torch.cat(parts), whole[[3, 0, 7, 1, 9, 2]], rtol=1e-4, atol=1e-5)
    assert not session.shapes_vary()
    assert whole.std(1).mean() > 0


def test_the_chain_gives_what_the_whole_network_gives(zoo):
    net, x = zoo
    short = predict(Module(net), x, needs=["logits", "probs"])
    # an output that is not the chain's own tensor: every member runs the whole network
    session = MCDropout(4).start(SEED, ROUND)
    long = predict(Module(net, outside=lambda out: out + 0.0), x, session=session)
    assert session.whole_network
    torch.testing.assert_close(short.logits, long.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short.probs, long.logits.softmax(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "channels", "alpha"])
@pytest.mark.parametrize("inside", [lambda x: x, lambda x: x * 2 - 1])
def test_layers_before_the_first_dropout_run_once(name, inside):
    make, shape = ZOO[name]
    task, calls = Module(make(), inside), []
    first = next(m for m in task.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    first.register_forward_hook(lambda *_: calls.append(1))
    session = MCDropout(6).start(0, 0)
    for _ in range(3):
        predict(task, torch.randn(4, *shape), session=session)
    assert not session.whole_network
    assert len(calls) == 3


class Shift(nn.Module):
    """Adds what its owner hands it for the time of a pass; nothing at other times."""

    by = 0.0

    def forward(self, x):
        return x + self.by


class Conditioned(nn.Module):
    """A chain whose layers depend on more than what flows through it (as FiLM does)."""

    def __init__(self):
        super().__init__()
        self.shift = Shift()
        self.head = nn.Sequential(nn.Linear(6, 9), nn.Dropout(0.4), self.shift, nn.Linear(9, 3))

    def forward(self, x):
        self.shift.by = x.sum(1, keepdim=True)
        out = self.head(x)
        self.shift.by = 0.0
        return out


def test_a_tail_that_gives_something_else_is_not_trusted():
    net, x = Conditioned(), torch.randn(5, 6)
    session = MCDropout(4).start(SEED, ROUND)
    logits = predict(Module(net), x, session=session).logits
    assert session.whole_network
    for member in range(4):
        hidden = net.head[0](x) * mask(member, "net.head.1", (9,), 0.4)
        torch.testing.assert_close(logits[:, member], net.head[3](hidden + x.sum(1, keepdim=True)))


def test_dropout_before_the_chain_is_seen():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), MLP(6, (9,), 3, dropout=0.2)

        def forward(self, x):
            return self.head(self.drop(x))

    net, x = Twice(), torch.randn(5, 6)
    session = MCDropout(4).start(SEED, ROUND)
    logits = predict(Module(net), x, session=session).logits
    assert session.whole_network
    hidden = net.head[2](net.head[1](x * mask(2, "net.drop", (6,), 0.5)))
    expected = net.head[4](hidden * mask(2, "net.head.3", (9,), 0.2))
    torch.testing.assert_close(logits[:, 2], expected)


def test_control_flow_is_followed_batch_by_batch():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = MLP(6, (9,), 3, dropout=0.2), MLP(6, (9,), 3, dropout=0.2)

        def forward(self, x):
            return self.a(x) if x.mean() > 0 else self.b(x)

    net, x = Either(), torch.rand(5, 6)
    session = MCDropout(3).start(SEED, ROUND)
    up, down = (predict(Module(net), v, session=session).logits for v in (x, -x))
    for s in range(3):
        for out, part, v, name in ((up, net.a, x, "a"), (down, net.b, -x, "b")):
            hidden = part[2](part[1](v)) * mask(s, f"net.{name}.3", (9,), 0.2)
            torch.testing.assert_close(out[:, s], part[4](hidden))


def test_a_layer_called_twice_has_two_masks():
    net, x = Reused(), torch.randn(3, 6)
    logits = predict(Module(net), x).logits
    hidden = net.b(net.a(x) * mask(1, "net.drop", (20,), 0.4))
    torch.testing.assert_close(logits[:, 1], hidden * mask(1, "net.drop", (20,), 0.4, call=1))


def test_seed_round_and_member_key_the_masks_and_nothing_else(monkeypatch):
    task, x = Module(MLP(6, (30,), 3, dropout=0.5)), torch.randn(5, 6)
    torch.manual_seed(1)
    first = predict(task, x, session=MCDropout(3).start(0, 0)).logits
    state = torch.manual_seed(2).get_state()
    again = predict(task, x, session=MCDropout(3).start(0, 0)).logits
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())  # no draw from the global generator
    more = predict(task, x, session=MCDropout(5).start(0, 0)).logits
    torch.testing.assert_close(more[:, :3], first)  # member s is member s of any number
    for key in ((1, 0), (0, 1)):
        assert not torch.equal(first, predict(task, x, session=MCDropout(3).start(*key)).logits)


def test_only_dropout_is_switched_on_and_nothing_is_left_behind(zoo):
    net, x = zoo
    task = Module(net)
    before = {k: v.clone() for k, v in task.state_dict().items()}
    fused = torch.backends.mha.get_fastpath_enabled()
    predict(task, x)
    assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())
    hooks = [m for m in task.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
    assert not any(m.training for m in task.modules())
    assert torch.backends.mha.get_fastpath_enabled() is fused


def test_nothing_is_left_behind_after_an_error():
    task = Module(MLP(6, (9,), 3, dropout=0.2), outside=lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(task, torch.randn(2, 6))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in task.modules())


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(6, 6), nn.Linear(6, 3), nn.Dropout(0.0)

    def forward(self, x):
        return self.b(F.dropout(self.a(x), 0.5, self.training))


class Unheard(Functional):
    """Its dropout layer does not reach the output."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.drop(x)
        return self.b(self.a(x))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (MLP(6, (5,), 3), "none is there"),
        (MLP(6, (), 3, dropout=0.5), "none is there"),
        (Functional(), "p = 0"),
        (Unheard(), "agree bit for bit"),
        (nn.Sequential(nn.Linear(6, 5), nn.Dropout(1.0), nn.Linear(5, 3)), "agree bit for bit"),
    ],
)
def test_members_that_agree_raise_and_the_mend_is_named(net, words):
    with pytest.raises(ValueError, match=words) as error:
        predict(Module(net), torch.randn(4, 6))
    assert "F.dropout" in str(error.value)


def test_p_of_one_drops_everything_beside_random_layers():
    net = nn.Sequential(
        nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 5), nn.Dropout(1.0), nn.Linear(5, 3)
    )
    with pytest.raises(ValueError, match="agree"):
        predict(Module(net), torch.randn(4, 6))
    session = MCDropout(1).start(0, 0)
    logits = predict(Module(net), torch.randn(4, 6), session=session).logits
    torch.testing.assert_close(logits[:, 0], net[4].bias.expand(4, 3))


def test_varying_shapes_are_reported_and_redone_per_channel():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    task, x = Module(net), torch.randn(4, 1, 12, 12)
    session = MCDropout(4).start(SEED, ROUND)
    predict(task, x, session=session)
    assert not session.shapes_vary()
    assert session.shapes() == {"net.1": (4, 10, 10)}
    predict(task, x[..., :8], session=session)
    assert session.shapes_vary()

    redone = session.per_channel()
    logits = predict(task, x, session=redone).logits
    small = predict(task, x[..., :8], session=redone).logits
    assert not redone.shapes_vary()
    each = mask(1, "net.1", (4, 1, 1), 0.5)
    torch.testing.assert_close(logits[:, 1], net[2:](net[0](x) * each))
    torch.testing.assert_close(small[:, 1], net[2:](net[0](x[..., :8]) * each))
    same = predict(task, x, session=MCDropout(4, per_channel=True).start(SEED, ROUND))
    torch.testing.assert_close(same.logits, logits)


def test_shapes_that_differ_between_ranks_are_found():
    make = MCDropout(2).start
    task = Module(nn.Sequential(nn.Conv1d(1, 2, 1), nn.Dropout(0.5), nn.Flatten()))
    a, b = make(0, 0), make(0, 0)
    predict(task, torch.randn(2, 1, 5), session=a)
    predict(task, torch.randn(2, 1, 6), session=b)
    assert not a.shapes_vary()
    assert a.shapes_vary(b.shapes())
    assert not a.shapes_vary(a.shapes(), {})


def test_channels_that_vary_cannot_be_one_function():
    task = Module(nn.Sequential(nn.Dropout(0.5), nn.Flatten()))
    session = MCDropout(3, per_channel=True).start(0, 0)
    predict(task, torch.randn(2, 3, 4), session=session)
    with pytest.raises(ValueError, match="channels"):
        predict(task, torch.randn(2, 3, 5), session=session)


@pytest.mark.parametrize("posterior", [Deterministic(), MCDropout(3)])
def test_only_what_is_needed_is_set(posterior):
    task = Classification(MLP(6, (9,), 3, dropout=0.3), classes=3)
    x, index = torch.randn(5, 6), torch.tensor([7, 1, 3, 0, 9])
    members = posterior.members or 1
    for needs, shape in (
        (["probs"], (5, members, 3)),
        (["logits"], (5, members, 3)),
        (["embedding"], (5, 9)),
    ):
        got = read(posterior.start(0, 0), task, x, needs, index=index)
        assert set(got.tensors()) == {"index", *needs}
        assert got.tensors()[needs[0]].shape == shape
        assert torch.equal(got.index, index)
    with pytest.raises(LookupError, match="variance"):
        read(posterior.start(0, 0), task, x, ["variance"])


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_embeddings_are_those_without_dropout(name):
    make, shape = ZOO[name]
    task, x = Classification(make(), classes=3), torch.randn(5, *shape)
    plain = predict(task, x, session=Deterministic().start(0, 0), needs=["embedding", "logits"])
    both = predict(task, x, needs=["embedding", "logits"])
    torch.testing.assert_close(both.embedding, plain.embedding)
    torch.testing.assert_close(both.logits, predict(task, x).logits, rtol=1e-4, atol=1e-5)
    last = [m for m in task.modules() if isinstance(m, nn.Linear)][-1]
    torch.testing.assert_close(last(plain.embedding), plain.logits[:, 0])


def test_an_ensemble_has_its_members_and_dropout_multiplies_them():
    task = Classification(Ensemble(MLP(6, (9,), 3, dropout=0.3), 4), classes=3)
    x = torch.randn(5, 6)
    plain = predict(task, x, session=Deterministic().start(0, 0)).logits
    for s, member in enumerate(task.network.members):
        torch.testing.assert_close(plain[:, s], member(x))
    sampled = predict(task, x, members=6).logits
    assert sampled.shape == (5, 24, 3)
    expected = task.network.members[1]
    hidden = expected[2](expected[1](x)) * mask(2, "network.members.1.3", (9,), 0.3)
    torch.testing.assert_close(sampled[:, 2 * 4 + 1], expected[4](hidden))


def test_regression_members_are_in_target_units():
    task = Regression(MLP(6, (9,), 4, dropout=0.3), outputs=2, likelihood="gaussian")
    task.target_mean.copy_(torch.tensor([100.0, -5]))
    task.target_std.copy_(torch.tensor([10.0, 0.1]))
    x = torch.randn(5, 6)
    got = predict(task, x, needs=["mean", "variance"])
    assert got.mean.shape == got.variance.shape == (5, 4, 2)
    hidden = task.network[2](task.network[1](x)) * mask(3, "network.3", (9,), 0.3)
    mean, log_variance = task.network[4](hidden).chunk(2, -1)
    torch.testing.assert_close(got.mean[:, 3], (mean * task.target_std + task.target_mean).double())
    torch.testing.assert_close(
        got.variance[:, 3], (log_variance.exp() * task.target_std**2).double()
    )


def test_several_inputs_and_mappings_reach_forward():
    class Two(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = MLP(6, (9,), 3, dropout=0.3)

        def forward(self, a, b):
            return self.net(torch.cat([a, b], 1))

        def mapped(self, items):
            return self(items["a"], items["b"])

    task, x = Two(), torch.randn(5, 6)
    outs = [
        read(MCDropout(3).start(0, 0), task, inputs, ["logits"], adapter).logits
        for adapter, inputs in (
            (Adapter(), (x[:, :2], x[:, 2:])),
            (Adapter(output="mapped"), {"a": x[:, :2], "b": x[:, 2:]}),
            (Adapter(output="net"), x),
        )
    ]
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[0], outs[2])


def test_running_the_whole_network_is_told_once(caplog):
    task = Module(Reused())
    session = MCDropout(3).start(0, 0)
    with caplog.at_level(logging.INFO, logger="lightning_al"):
        for _ in range(3):
            predict(task, torch.randn(4, 6), session=session)
    assert len(caplog.records) == 1
    assert "once per member" in caplog.text


def test_results_can_be_trained_on():
    task = Classification(MLP(6, (9,), 3, dropout=0.3), classes=3)
    embedding = predict(task, torch.randn(5, 6), needs=["embedding", "logits"]).embedding
    nn.Linear(9, 1)(embedding).sum().backward()  # tensors of inference mode would refuse


def test_memory_does_not_grow_with_members_beyond_a_few_mebibytes(monkeypatch):
    from lightning_al.posteriors import chain

    seen = []
    task = Module(nn.Sequential(nn.Linear(6, 1000), nn.Dropout(0.5), nn.Linear(1000, 3)))
    task.net[2].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    x = torch.randn(64, 6)
    wanted = predict(task, x, 10).logits
    assert max(seen) == 64 * 9
    monkeypatch.setattr(chain, "BUDGET", 3 * 64 * 1000 * 4)
    seen.clear()
    torch.testing.assert_close(predict(task, x, 10).logits, wanted)
    assert max(seen) == 64 * 3
