"""Bounds of information: between closed forms, brute force, and the figures that are known."""

import itertools
import math

import pytest
import torch

from lightning_al.designs import (
    Adaptive,
    DeathProcess,
    Designer,
    Discounting,
    Histories,
    LocationFinding,
    RandomDesigns,
    StaticDesigns,
    evaluate,
    gain_on_grid,
    perform,
)
from lightning_al.designs.bounds import contrast
from lightning_al.designs.training import Drawn, lower_bound
from lightning_al.policies.streams import Streams


class Constant(Designer):
    """Always the same time."""

    def __init__(self, time):
        super().__init__()
        raw = torch.tensor(math.log(math.expm1(time)), dtype=torch.float64)
        self.register_buffer("raw", raw)

    def propose(self, total, step):
        return self.raw.expand(len(total), 1)


def draws(experiment, n=6, others=5, seed=0):
    streams, index = Streams.of(seed, 0, "test"), torch.arange(n)
    return Drawn(
        experiment,
        experiment.latent(streams, "latent", index),
        experiment.latent(streams, "others", torch.arange(others)),
        streams.uniform("u", index, experiment.horizon),
    )


def adaptive(experiment, seed=0, **settings):
    torch.manual_seed(seed)
    outcomes = 2 if isinstance(experiment, Discounting) else None
    net = Adaptive(experiment.size, [8], 4, [8], outcomes=outcomes, **settings).double()
    for parameter in net.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return net


EXPERIMENTS = (LocationFinding(2, 3), Discounting(3), DeathProcess(3))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_likelihoods_against_a_loop(experiment):
    drawn = draws(experiment)
    done = perform(experiment, adaptive(experiment), drawn.latent, drawn.u)
    own, apart = contrast(experiment, done, drawn.others)
    for r in range(6):
        for k, latent in enumerate([drawn.latent[r], *drawn.others]):
            total = sum(
                float(experiment.log_likelihood(latent, done.design[r, t], done.y[r, t]))
                for t in range(3)
            )
            found = own[r] if k == 0 else apart[r, k - 1]
            assert float(found) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=str)
def test_the_order_of_steps_does_not_matter_to_what_comes_next(experiment):
    net, drawn = adaptive(experiment), draws(experiment)
    done = perform(experiment, net, drawn.latent, drawn.u)
    told = done.design if not isinstance(experiment, Discounting) else done.design / 50
    codes = [net.encode(told[:, t], done.y[:, t]) for t in range(3)]
    sums = [sum(codes[i] for i in order) for order in itertools.permutations(range(3))]
    for total in sums[1:]:
        torch.testing.assert_close(net.propose(total, 3), net.propose(sums[0], 3))


def test_gradients_of_outcomes_that_jump_are_those_of_the_expectation():
    """Against the sum over all outcomes of one look, with the same latents."""
    experiment = DeathProcess(1, population=4)
    raw = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    drawn = draws(experiment, n=1, others=3)
    latent, others = drawn.latent, drawn.others
    exact = torch.zeros(())
    surrogate = torch.zeros((), dtype=torch.float64)
    for k in range(5):
        y = torch.tensor([[float(k)]]).double()
        design = experiment.design(raw).unsqueeze(1)
        own, apart = contrast(experiment, Histories(latent, design, y), others)
        whole = torch.cat([own.unsqueeze(1), apart], 1).logsumexp(1)
        chance = own.exp()
        exact = exact + (chance * (own - whole)).sum()
        reward = (own - whole).detach()
        surrogate = surrogate + (chance.detach() * -(whole - reward * own)).sum()
    (wanted,) = torch.autograd.grad(exact, raw, retain_graph=True)
    (found,) = torch.autograd.grad(surrogate, raw)
    torch.testing.assert_close(found, wanted)
    bound, loss = lower_bound(StaticDesigns(1, 1).double(), draws(experiment, n=1))
    assert loss.requires_grad
    assert bound.shape == (1,)


def test_bounds_hold_the_information_of_a_static_design_between_them():
    experiment = DeathProcess(2)
    gain, error = gain_on_grid(experiment, Constant(1.2), 1500)
    bounds = evaluate(experiment, Constant(1.2), 1500, 500, dtype=torch.float64)
    assert bounds.lower < bounds.upper
    assert bounds.lower - 3 * bounds.lower_error <= gain + 3 * error
    assert bounds.upper + 3 * bounds.upper_error >= gain - 3 * error
    assert bounds.upper - bounds.lower < 0.1


def test_the_lower_bound_never_passes_its_ceiling():
    experiment = LocationFinding(1, 6, "uniform")
    few = evaluate(experiment, RandomDesigns(2, "uniform"), 100, 3)
    assert few.lower <= math.log(4)


def test_one_look_at_the_death_process_against_quadrature():
    """Mutual information by sums over counts and nodes, nothing drawn."""
    experiment, time = DeathProcess(1), 1.28
    nodes = (torch.arange(1000).double() + 0.5) * 0.02
    prior = experiment.log_prior(nodes).log_softmax(0)
    counts = torch.arange(51).double()
    design = torch.tensor([time]).double()
    log_like = experiment.log_likelihood(nodes[:, None, None], design, counts)  # [1000, 51]
    marginal = (prior[:, None] + log_like).logsumexp(0)
    exact = float((prior.exp()[:, None] * log_like.exp() * (log_like - marginal)).sum())
    assert exact == pytest.approx(1.358, abs=0.005)  # the best first look
    found, error = gain_on_grid(experiment, Constant(time), 1500)
    assert found == pytest.approx(exact, abs=4 * error)


def test_the_best_constant_time_gives_what_is_known():
    found, error = gain_on_grid(DeathProcess(), Constant(1.18), 2000)
    assert found == pytest.approx(2.009, abs=4 * error)


def test_random_designs_give_the_published_information():
    """5.17 ± 0.05 of one source on the unit square, 30 looks: Huang et al. (2025), table 2."""
    found = evaluate(LocationFinding(1, 30, "uniform"), RandomDesigns(2, "uniform"), 200, 4000)
    assert found.lower == pytest.approx(5.17, abs=0.1 + 3 * found.lower_error)
    assert found.upper == pytest.approx(5.17, abs=0.1 + 3 * found.upper_error)


def test_published_sizes_of_the_networks():
    def size(*args):
        return sum(p.numel() for p in Adaptive(*args).parameters())

    assert size(2) == 5170
    assert size(2, [256, 256], 16, [256, 256], "softplus", 2) == 145_442
    assert size(1, [128, 128], 16, [128, 128], "softplus") == 37_777


def test_random_designs_are_of_their_law_and_seed():
    total = torch.zeros(2000, 1)
    normal, uniform = RandomDesigns(2), RandomDesigns(2, "uniform")
    assert float(normal.propose(total, 0).std()) == pytest.approx(1.0, abs=0.05)
    assert float(uniform.propose(total, 0).min()) > 0
    assert not torch.equal(normal.propose(total, 0), normal.propose(total, 1))
    assert torch.equal(normal.propose(total, 0), RandomDesigns(2).propose(total, 0))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"hidden": []}, "hidden layer at least"),
        ({"activation": "gelu"}, "activation must be one of relu, softplus"),
        ({"outcomes": 1}, "outcomes must be a whole number from 2"),
        ({"size": 0}, "size must be"),
    ],
)
def test_settings_that_make_no_sense(settings, wanted):
    with pytest.raises(ValueError, match=wanted):
        Adaptive(**{"size": 2, **settings})
