"""Last-layer Laplace where labels are independent: one logit, or one a label, by brute force."""

import itertools
from dataclasses import replace

import pytest
import torch
from helpers.reading import embeddings, plain, read
from torch.func import hessian
from torch.nn import functional as F

from lightning_al.networks import MLP
from lightning_al.posteriors import LastLayerLaplace
from lightning_al.readings import Binary, Labels
from lightning_al.tasks import Classification, MultiLabelClassification

IN, E, L, N = 4, 5, 3, 24
SEED, ROUND = 3, 1
KINDS = ["binary", "labels"]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def task_of(kind, hidden=(E,)):
    torch.manual_seed(1)
    if kind == "binary":
        return Classification(MLP(IN, list(hidden), 1), 2, one_logit=True).eval()
    return MultiLabelClassification(MLP(IN, list(hidden), L), L).eval()


def taught(posterior, task, *batches):
    session = posterior.start(SEED, ROUND)
    session.learn(task, task.adapter, lambda: list(batches))
    return session


def last_weights(task):
    """The last layer's weights and bias [R, E + 1] in float64."""
    layer = task.network[-1]
    return torch.cat([layer.weight, layer.bias[:, None]], 1).detach().double()


def with_one(task, x):
    return torch.cat([embeddings(task, x), torch.ones(len(x), 1)], 1).double()


def dense_hessian(task, x):
    """Of the sum over the items of the binary cross-entropies, in all weights, by autograd.

    The second derivative does not depend on the labels.
    """
    weights, features = last_weights(task), with_one(task, x)
    y = (drawn(len(x), len(weights), seed=7) > 0).double()

    def loss(flat):
        return F.binary_cross_entropy_with_logits(features @ flat.T, y, reduction="sum")

    size = weights.numel()
    return hessian(loss)(weights).reshape(size, size)


def test_the_readings_are_what_is_meant():
    assert isinstance(task_of("binary").adapter.reading, Binary)
    assert isinstance(task_of("labels").adapter.reading, Labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [(), (E,)], ids=["linear", "hidden"])
def test_the_hessian_is_that_of_the_loss(kind, hidden):
    task, x = task_of(kind, hidden), drawn(N, IN)
    session = taught(LastLayerLaplace(2, "full", 1.0), task, x[:9], x[9:])
    torch.testing.assert_close(
        session.posterior.hessian, dense_hessian(task, x), rtol=1e-4, atol=1e-5
    )


def test_labels_do_not_know_of_each_other():
    """Outside the blocks of single labels the Hessian is 0, inside it is that of one logit."""
    task, x = task_of("labels"), drawn(N, IN)
    whole = taught(LastLayerLaplace(2, "full", 1.0), task, x).posterior.hessian
    blocks = whole.reshape(L, E + 1, L, E + 1)
    weights, features = last_weights(task), with_one(task, x)
    for i, j in itertools.product(range(L), range(L)):
        p = (features @ weights[i]).sigmoid()
        wanted = features.T @ (features * (p * (1 - p))[:, None])
        torch.testing.assert_close(
            blocks[i, :, j], wanted if i == j else torch.zeros_like(wanted), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", [0.5, 4.0])
def test_members_have_the_moments_of_the_dense_posterior(kind, precision):
    task, x, points = task_of(kind), drawn(N, IN), drawn(6, IN, seed=2)
    session = taught(LastLayerLaplace(6000, "full", precision), task, x)
    drawn_by = session.members(task, task.adapter, points, len(points))
    raw = drawn_by.raw.flatten(2)  # [n, S, R]
    dense = dense_hessian(task, x)
    covariance = (dense + precision * torch.eye(len(dense))).inverse()
    features = with_one(task, points)
    rows = raw.shape[2]
    jacobian = torch.block_diag(*[features] * rows)  # [R n, R (E + 1)], outputs first
    wanted = jacobian @ covariance @ jacobian.T
    got = torch.cov(raw.permute(2, 0, 1).reshape(rows * len(points), -1).double())
    scale = wanted.diagonal().sqrt()
    apart = (got - wanted) / torch.outer(scale, scale)
    assert float(apart.abs().max()) < 0.09  # five standard errors of 6000 draws and some
    centre = (features @ last_weights(task).T).T.flatten()
    error = (raw.mean(1).T.flatten() - centre) / scale
    assert float(error.abs().max()) < 5 / 6000**0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_fields_are_those_of_each_member(kind, structure):
    task, x, points = task_of(kind), drawn(N, IN), drawn(6, IN, seed=2)
    said = read(taught(LastLayerLaplace(5, structure), task, x), task, points, ["probs", "logits"])
    shape = (6, 5, 2) if kind == "binary" else (6, 5, 2, L)
    assert said.probs.shape == said.logits.shape == shape
    torch.testing.assert_close(said.logits.softmax(2), said.probs)
    session = taught(LastLayerLaplace(5, structure), task, x)
    raw = session.members(task, task.adapter, points, 6).raw.float()
    one = raw[..., 0] if kind == "binary" else raw
    torch.testing.assert_close(said.probs[:, :, 1], one.sigmoid())
    assert float(one.std(1).min()) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_many_labels_leave_the_plain_network(kind):
    """With a strong prior every member is the fitted network."""
    task, points = task_of(kind), drawn(6, IN, seed=2)
    session = taught(LastLayerLaplace(3, "full", 1e12), task, drawn(N, IN))
    said = read(session, task, points, ["probs"]).probs
    torch.testing.assert_close(
        said, plain(task, points, ["probs"]).probs.expand_as(said), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_prior_precision_has_the_greatest_evidence(kind):
    task, x = task_of(kind), drawn(N, IN)
    session = taught(LastLayerLaplace(2, "full"), task, x)
    values = torch.linalg.eigvalsh(dense_hessian(task, x)).clamp_min(0)
    squared = float(last_weights(task).square().sum())

    def evidence(t):
        return 0.5 * (len(values) * torch.tensor(t).log() - t * squared - (values + t).log().sum())

    best = float(evidence(session.precision))
    assert all(float(evidence(session.precision * f)) < best for f in (0.8, 0.95, 1.05, 1.25))


def test_one_logit_is_one_label():
    x, points = drawn(N, IN), drawn(6, IN, seed=2)
    binary = task_of("binary")
    label = MultiLabelClassification(MLP(IN, [E], 1), 1).eval()
    label.network.load_state_dict(binary.network.state_dict())
    a, b = (
        read(taught(LastLayerLaplace(7, "full"), task, x), task, points, ["probs"]).probs
        for task in (binary, label)
    )
    torch.testing.assert_close(a, b[..., 0])


def test_one_logit_is_two_logits_whose_lead_it_is():
    """Of two logits only the lead z1 - z0 counts: independent weights of precision t give its
    weights w1 - w0 the variance 2/t, which is a precision of t/2.
    """
    precision, x, points = 1.5, drawn(N, IN), drawn(6, IN, seed=2)
    one = task_of("binary")
    two = Classification(MLP(IN, [E], 2), 2).eval()
    with torch.no_grad():
        for mine, theirs in zip(one.network.parameters(), two.network.parameters(), strict=True):
            if mine.shape == theirs.shape:
                theirs.copy_(mine)
        for name in ("weight", "bias"):
            lead = getattr(one.network[-1], name)
            getattr(two.network[-1], name).copy_(torch.cat([-lead / 2, lead / 2]))
    a = taught(LastLayerLaplace(2, "full", precision / 2), one, x).posterior
    b = taught(LastLayerLaplace(2, "full", precision), two, x).posterior
    features = with_one(one, points)
    lead = torch.cat([-features, features], 1)  # of the weights of both
    covariance = (b.hessian + precision * torch.eye(len(b.hessian))).inverse()
    wanted = ((lead @ covariance) * lead).sum(1)
    torch.testing.assert_close(a.variance(features, precision / 2)[:, 0], wanted, rtol=1e-4, atol=0)


def test_probabilities_have_no_likelihood_here():
    task = task_of("labels")
    adapter = replace(task.adapter, reading=Labels(given="probs"))
    session = LastLayerLaplace(2).start(0, 0)
    with pytest.raises(LookupError, match="let the module give logits"):
        session.learn(task, adapter, lambda: [drawn(3, IN)])
    with pytest.raises(ValueError, match="closed_form"):
        taught(LastLayerLaplace(closed_form=True), task, drawn(3, IN))
