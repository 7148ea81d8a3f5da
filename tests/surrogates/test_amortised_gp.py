"""Hyper-parameters by one forward pass: what the network may and may not depend on, its loss."""

import math

import pytest
import torch

from lightning_al.gp import ExactGP, Stationary
from lightning_al.policies.streams import Streams
from lightning_al.surrogates import AmortisedGP, FunctionPrior
from lightning_al.surrogates.amortised_gp import hyperparameters_of, in_units, log_terms, true_logs
from lightning_al.surrogates.residuals import FITTED, LEFT, NEAR, NUGGET, left_over


def network(seed=0, **settings):
    torch.manual_seed(seed)
    made = AmortisedGP(**{"width": 16, "heads": 2, **settings}).double().eval()
    for parameter in made.parameters():  # away from what is the same for all inputs
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made


def problems(dimension=3, n=7, batch=2, **law):
    law = {"dimension": dimension, "context": (n, n), "ahead": 5, "batch": batch, **law}
    return FunctionPrior(**law)(Streams.of(0, 0, "functions"))


def test_the_order_of_points_does_not_matter():
    net, (x, y) = network(), in_units(problems())
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x[:, order], y[:, order]), net(x, y))


def test_the_order_of_inputs_is_followed():
    net, (x, y) = network(), in_units(problems())
    logs, moved = net(x, y), net(x[..., [2, 0, 1]], y)
    torch.testing.assert_close(moved[:, :3], logs[:, [2, 0, 1]])
    torch.testing.assert_close(moved[:, 3:], logs[:, 3:])
    assert float((logs[:, 0] - logs[:, 1]).abs().min()) > 1e-6


def test_problems_of_a_batch_do_not_see_each_other():
    net, (x, y) = network(), in_units(problems())
    torch.testing.assert_close(net(x[1:], y[1:]), net(x, y)[1:])


def test_terms_are_those_of_the_process():
    b = problems()
    logs = torch.tensor([[-0.3, 0.4, 0.1, 0.2, -2.0], [0.0, 0.5, -0.2, -0.3, -3.0]]).double()
    terms = log_terms(logs, b.x, b.y, slice(None))
    for i, (l0, l1, l2, output, noise) in enumerate(logs.exp().tolist()):
        kernel = Stationary(
            "rbf", torch.tensor([l0, l1, l2]).double(), torch.tensor(output).double()
        )
        gp = ExactGP.given(kernel, torch.tensor(noise + 1e-6).double(), b.x[i], b.y[i])
        torch.testing.assert_close(terms[i].sum(), gp.log_evidence())
        few = ExactGP.given(kernel, gp.noise, b.x[i, :7], b.y[i, :7])
        mean, variance = few.moments(b.x[i, 7:8])
        last = torch.distributions.Normal(mean, (variance + gp.noise).sqrt()).log_prob(b.y[i, 7:8])
        torch.testing.assert_close(terms[i, 7:8], last)


def test_truth_has_no_gap_and_parameters_in_units():
    b = problems()
    true = true_logs(b)
    x, y = in_units(b)
    own = b.y[:, : b.context].std(1, correction=0)
    raw = log_terms(
        torch.cat(
            [b.hyper.lengthscale, b.hyper.outputscale[:, None], b.hyper.noise[:, None]], 1
        ).log(),
        b.x,
        b.y - b.y[:, : b.context].mean(1, keepdim=True),
        slice(None),
    )
    inside = log_terms(true, x, y, slice(None))  # densities change by the unit, and nothing else
    torch.testing.assert_close(inside, raw + own.log()[:, None], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("goal", ["predictive", "evidence"])
def test_gradients_reach_every_weight(goal):
    net = network(goal=goal)
    net.loss(problems(batch=6, n=9)).backward()
    assert not [
        n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]


def test_evidence_is_the_published_loss():
    b = problems(batch=3)
    net = network(goal="evidence")
    x, y = in_units(b)
    n = b.context
    logs = net(x[:, :n], y[:, :n])
    each = -log_terms(logs, x[:, :n], y[:, :n], slice(None)).sum(1) / n
    torch.testing.assert_close(net.loss(b), each.mean())


def test_units_of_the_data_change_the_units_of_the_hyper_parameters_alone():
    net, b = network(), problems(batch=1)
    x, y = (part[0] for part in b.given)
    scale, output, noise = hyperparameters_of(net, x, y)
    factors = torch.tensor([3.0, 0.2, 1e3]).double()
    other = hyperparameters_of(net, x * factors + 5, 7 * y - 100)
    torch.testing.assert_close(other[0], scale * factors, rtol=1e-6, atol=0)
    torch.testing.assert_close(other[1], output * 49, rtol=1e-6, atol=0)
    torch.testing.assert_close(other[2], noise * 49, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [1, 2, 300])
def test_few_points_many_points_and_constants(n):
    it = torch.Generator().manual_seed(0)
    x = torch.rand(n, 2, generator=it, dtype=torch.float64)
    x[:, 1] = 0.5
    found = hyperparameters_of(network(), x, torch.full((n,), 3.0, dtype=torch.float64))
    assert all(bool((part.isfinite() & (part > 0)).all()) for part in found)
    assert found[0].shape == (2,)


def test_what_is_left_over_against_a_loop():
    b = problems(batch=1, dimension=2, n=6)
    x, y = in_units(b)
    x, y = x[:, :6], y[:, :6]
    found = left_over(x, y)[0]
    assert found.shape == (2, 6, LEFT)
    i, width = 4, 1
    for d in (0, 1, None):
        weights = [
            math.exp(
                -0.5
                * float((x[0, i] - x[0, j]).square()[... if d is None else d].sum())
                / NEAR[width] ** 2
            )
            for j in range(6)
        ]
        weights[i] = 0.0
        mean = sum(w * float(v) for w, v in zip(weights, y[0], strict=True)) / (sum(weights) + 0.01)
        place = 3 * width + (0 if d is not None else 3 * len(NEAR))
        missed = float(found[d or 0, i, place])
        assert missed == pytest.approx(float(y[0, i]) - mean, abs=1e-9)
    # leaving a point out, for the second length scale
    rest = [j for j in range(6) if j != i]
    kernel = Stationary("rbf", torch.tensor([FITTED[1]]).double(), torch.tensor(1.0).double())
    gp = ExactGP.given(kernel, torch.tensor(NUGGET).double(), x[0, rest], y[0, rest])
    mean, variance = gp.moments(x[0, i : i + 1])
    place = 6 * len(NEAR) + 3
    assert float(found[0, i, place]) == pytest.approx(math.asinh(float(y[0, i] - mean)), abs=1e-6)
    assert float(found[1, i, place + 1]) == pytest.approx(
        math.log(float(variance) + NUGGET) / 3, abs=1e-6
    )


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="goal must be one of predictive, evidence"):
        AmortisedGP(goal="evidnce")
    with pytest.raises(ValueError, match="width 10 is no multiple of the 4 heads"):
        AmortisedGP(10)
