"""Objectives: closed forms against slow references, and gradients against finite differences."""

import math
from dataclasses import replace

import pytest
import torch

from lightning_al.policies import (
    OBJECTIVES,
    Batch,
    Conditionals,
    Curriculum,
    FlexiblePolicy,
    Given,
    KernelPrior,
    Objective,
    SafetyPrior,
    SetPolicy,
    Simulator,
    Stage,
    Streams,
    roll_out,
)
from lightning_al.policies.objectives import safety

TINY = {"width": 4, "heads": 2, "hidden": 5}
SMALL = Batch(kernels=2, functions=2, replicates=3)
SAFE = SafetyPrior()
# wide kernels, so that three queries say something about a grid
STEP = 1e-4
WIDE = KernelPrior("gamma-smooth")


def policy(dim=2, cls=SetPolicy, seed=0, **settings):
    torch.manual_seed(seed)
    return cls(dim, **{**TINY, **settings}).double()


def law(dim=2, **settings):
    return Simulator(dim, **{"horizon": 3, "initial": 2, "batch": SMALL, "prior": WIDE, **settings})


def trajectory(dim=2, net=None, needs=None, step=0, pack=True, detach=False, **settings):
    simulator = law(dim, **settings)
    net = policy(dim, safe=simulator.safety is not None) if net is None else net
    episode = simulator(Streams.of(0, step), **(needs or {}))
    return roll_out(net, episode, pack=pack, detach=detach)


def dense(hyper, r, x, y, given):
    """Mean and variance of y[t] given y[:given] in row r, by a dense inverse."""
    one = hyper.take(slice(r, r + 1))
    k = one.covariance(x[None], x[None])[0] + one.noise * torch.eye(len(x)).double()
    m = one.mean_at(x[None])[0]
    inverse = torch.linalg.inv(k[:given, :given])
    mean = m[given] + k[given, :given] @ inverse @ (y[:given] - m[:given])
    return mean, k[given, given] - k[given, :given] @ inverse @ k[:given, given]


@pytest.mark.parametrize("settings", [{}, {"safety": SAFE}, {"initial": (1, 4)}], ids=str)
def test_terms_from_one_factor_are_those_of_conditioning_step_by_step(settings):
    tr = trajectory(needs={"grid": 4}, **settings)
    episode, output = tr.episode, tr.episode.z or tr.episode.y
    outcome = tr.y if tr.z is None else tr.z
    given = Given.of(output.hyper, episode.x, output.initial, episode.valid)
    terms = Conditionals.of(given, tr.x, outcome, tr.counts).terms()
    probability = terms.safe()
    for r in range(len(tr.y)):
        keep = slice(None) if episode.valid is None else episode.valid[r]
        first = episode.x[r][keep]
        for t in range(int(episode.budget[r])):
            x = torch.cat([first, tr.x[r, : t + 1]]).detach()
            y = torch.cat([output.initial[r][keep], outcome[r, : t + 1]]).detach()
            mean, variance = dense(output.hyper, r, x, y, len(first) + t)
            normal = torch.distributions.Normal(mean, variance.sqrt())
            for found, expected in (
                (terms.log_density()[r, t], normal.log_prob(y[-1])),
                (terms.entropy()[r, t], normal.entropy()),
                (terms.outcome[r, t] - terms.deviation[r, t] * terms.white[r, t], mean),
                (probability[r, t], 1 - normal.cdf(torch.zeros(()).double())),
            ):
                torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-10)
        beyond = int(episode.budget[r])
        assert not terms.log_density()[r, beyond:].any()
        assert not terms.entropy()[r, beyond:].any()


def joint(tr, r, *, grid):
    """Log-density of (grid, initial and) query outcomes given (grid and) initial ones."""
    episode, hyper = tr.episode, tr.episode.y.hyper.take(slice(r, r + 1))
    keep = slice(None) if episode.valid is None else episode.valid[r]
    count = int(episode.budget[r])
    xs, ys = [episode.x[r][keep]], [episode.y.initial[r][keep]]
    if grid:
        xs.append(episode.grid[r])
        ys.append(episode.y.grid[r])
    whole = []
    for more in (False, True):
        x = torch.cat([*xs, *([tr.x[r, :count]] if more else [])])
        y = torch.cat([*ys, *([tr.y[r, :count]] if more else [])])
        k = hyper.covariance(x[None], x[None])[0] + hyper.noise * torch.eye(len(x)).double()
        normal = torch.distributions.MultivariateNormal(torch.zeros(len(x)).double(), k)
        whole.append((normal.log_prob(y), normal.entropy()))
    return whole[1][0] - whole[0][0], whole[1][1] - whole[0][1]


@pytest.mark.parametrize("initial", [2, (1, 3)])
def test_information_objectives_are_joint_densities_and_entropies(initial):
    tr = trajectory(needs={"grid": 6}, initial=initial)
    losses = {
        name: OBJECTIVES.build(name)(tr) for name in ("GPEntropy1", "GPEntropy2", "GPMI1", "GPMI2")
    }
    count = tr.episode.count
    for r in range(len(tr.y)):
        (density, entropy), (with_grid, entropy_with) = (
            joint(tr, r, grid=grid) for grid in (False, True)
        )
        for name, expected in (
            ("GPEntropy2", density),
            ("GPEntropy1", -entropy),
            ("GPMI2", density - with_grid),
            ("GPMI1", entropy_with - entropy),
        ):
            torch.testing.assert_close(losses[name][r], expected / count[r])
    first = 2 if initial == 2 else tr.episode.valid.sum(-1)
    torch.testing.assert_close(count, (tr.episode.budget + first).double())


def test_sampled_information_is_the_closed_form_on_average():
    """At fixed queries, over outcomes drawn from the process itself."""
    tr = trajectory(needs={"grid": 5})
    rows, draws = torch.zeros(4000, dtype=torch.long), 4000
    episode, hyper = tr.episode, tr.episode.y.hyper.take(rows)
    x = torch.cat([episode.x[rows], episode.grid[rows], tr.x[rows].detach()], 1)
    k = hyper.covariance(x[:1], x[:1])[0] + hyper.noise[0] * torch.eye(x.shape[1]).double()
    white = torch.randn(draws, x.shape[1], generator=torch.Generator().manual_seed(0)).double()
    y = white @ torch.linalg.cholesky(k).T
    many = replace(
        tr,
        x=tr.x[rows].detach(),
        y=y[:, 7:],
        counts=tr.counts[rows],
        episode=replace(
            episode,
            x=episode.x[rows],
            budget=episode.budget[rows],
            grid=episode.grid[rows],
            y=replace(episode.y, hyper=hyper, initial=y[:, :2], grid=y[:, 2:7]),
        ),
    )
    for one, two in (("GPMI1", "GPMI2"), ("GPEntropy1", "GPEntropy2")):
        closed, sampled = OBJECTIVES.build(one)(many), OBJECTIVES.build(two)(many)
        torch.testing.assert_close(closed, closed[:1].expand(draws))
        assert closed[0].abs() > 0.05
        assert abs(sampled.mean() - closed[0]) < 4 * sampled.std() / math.sqrt(draws)


def test_the_probability_of_safety_is_that_of_draws_of_the_process():
    """Draws of the prior, moved to what was measured (Matheron's rule)."""
    tr = trajectory(safety=SAFE)
    probability, draws = safety(tr).detach(), 20000
    generator = torch.Generator().manual_seed(0)
    for r in range(0, len(tr.y), 3):
        hyper = tr.episode.z.hyper.take(slice(r, r + 1))
        for t in range(int(tr.episode.budget[r])):
            x = torch.cat([tr.episode.x[r], tr.x[r, : t + 1]]).detach()
            z = torch.cat([tr.episode.z.initial[r], tr.z[r, :t]]).detach()
            k = hyper.covariance(x[None], x[None])[0] + hyper.noise * torch.eye(len(x)).double()
            white = torch.randn(draws, len(x), generator=generator).double()
            prior = hyper.mean_at(x[None])[0] + white @ torch.linalg.cholesky(k).T
            gain = torch.linalg.solve(k[:-1, :-1], k[:-1, -1])
            share = (prior[:, -1] + (z - prior[:, :-1]) @ gain >= 0).double().mean()
            p = probability[r, t]
            assert abs(share - p) <= 4 * math.sqrt(p * (1 - p) / draws) + 1e-4


def test_safety_terms_are_clamped_and_as_written():
    tr = trajectory(safety=SAFE)
    p, count = safety(tr), tr.episode.count
    for number in (1, 2):
        plain = OBJECTIVES.build(f"GPEntropy{number}")(tr)
        low = p.clamp(max=0.9)
        unsafe = OBJECTIVES.build(f"MinUnsafeGPEntropy{number}", gamma=0.1)(tr)
        expected = (torch.log(1 - low + 1e-5) * tr.counts).sum(-1) / count
        torch.testing.assert_close(unsafe - plain, expected)
        division = OBJECTIVES.build(f"SafeGPEntropy{number}", gamma=0.1)(tr)
        expected = (-torch.log(low + 1e-5) * tr.counts).sum(-1) / count
        torch.testing.assert_close(division - plain, expected)
    assert (p[tr.counts] > 0.9).any()
    assert (p[tr.counts] < 0.9).any()


def test_adaptive_design_is_its_log_sum_of_likelihoods():
    tr = trajectory(
        1, net=policy(1, budget_aware=False), needs={"contrast": 7}, random_budget=False
    )
    episode, found = tr.episode, OBJECTIVES.build("DAD", contrast=7)(tr)
    x = torch.cat([episode.x, tr.x], 1)
    y = torch.cat([episode.y.initial, tr.y], 1)
    own = episode.y.paths(x)
    others = episode.contrast(x[:, None])
    for r in range(len(y)):
        deviation = episode.y.hyper.noise[r].sqrt()
        logs = [
            torch.distributions.Normal(f, deviation).log_prob(y[r]).sum()
            for f in (own[r], *others[r])
        ]
        torch.testing.assert_close(found[r], torch.logsumexp(torch.stack(logs), 0) - logs[0])
    assert (found > 0).all()


def test_a_rollout_is_the_policy_asked_again_and_again():
    net = policy(safe=True)
    tr = trajectory(net=net, safety=SAFE)
    episode = tr.episode
    values = {n: o.paths(tr.x) for n, o in (("y", episode.y), ("z", episode.z))}
    for r in range(len(tr.y)):
        x, y, z = (v[r : r + 1] for v in (episode.x, episode.y.initial, episode.z.initial))
        for t in range(int(episode.budget[r])):
            query = net(episode.budget[r : r + 1] - t, x, y, z)
            torch.testing.assert_close(tr.x[r, t], query[0])
            for name, seen, output in (("y", tr.y, episode.y), ("z", tr.z, episode.z)):
                torch.testing.assert_close(seen[r, t], values[name][r, t] + output.noise[r, t])
            x = torch.cat([x, query[:, None]], 1)
            y, z = (torch.cat([a, b[r : r + 1, t : t + 1]], 1) for a, b in ((y, tr.y), (z, tr.z)))
        assert not tr.x[r, int(episode.budget[r]) :].any()


def needs_of(name):
    return {"contrast": 5} if name == "DAD" else ({"grid": 5} if "MI" in name else {})


def gradients(name, net, **settings):
    objective = OBJECTIVES.build(name)
    net.zero_grad()
    loss = objective(trajectory(net.dimension, net=net, needs=needs_of(name), **settings)).mean()
    loss.backward()
    return loss.item(), {k: p.grad.clone() for k, p in net.named_parameters() if p.requires_grad}


def settings_of(name):
    dim = 1 if name == "DAD" else 2
    safe = "Safe" in name or "Unsafe" in name
    net = policy(dim, safe=safe, budget_aware=name != "DAD")
    return net, {"safety": SAFE if safe else None, "random_budget": name != "DAD"}


def check_gradients(name, net, settings, rel=1e-5, absolute=1e-10):
    """Central differences of fourth order in the largest entry of every tensor's gradient."""
    batch = {"batch": Batch(kernels=1, functions=2, replicates=2)}
    _, grads = gradients(name, net, **settings, **batch)
    objective, simulator = OBJECTIVES.build(name), law(net.dimension, **settings, **batch)

    def draw():
        return simulator(Streams.of(0, 0), **needs_of(name))

    drawn = draw()

    @torch.no_grad()
    def loss():
        episode = draw() if simulator.draws == "exact" else drawn  # a walk is walked once
        return objective(roll_out(net, episode)).mean().item()

    for key, parameter in net.named_parameters():
        if key == "empty":
            continue
        place, sides = int(grads[key].abs().argmax()), {}
        entry = parameter.data.view(-1)
        at = entry[place].item()
        for step in (-2, -1, 1, 2):
            entry[place] = at + step * STEP
            sides[step] = loss()
        entry[place] = at
        slope = (8 * (sides[1] - sides[-1]) - (sides[2] - sides[-2])) / (12 * STEP)
        found = grads[key].view(-1)[place].item()
        assert found != 0, key
        assert slope == pytest.approx(found, rel=rel, abs=absolute), key


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_gradients_are_those_of_finite_differences(name):
    check_gradients(name, *settings_of(name))


@pytest.mark.parametrize("draws", ["flexible", "exact", "ragged"])
def test_gradients_of_other_networks_and_draws(draws):
    if draws == "flexible":
        net = policy(3, FlexiblePolicy, safe=True)
        check_gradients("MinUnsafeGPEntropy2", net, {"safety": SAFE, "flexible": True})
    elif draws == "exact":  # queries close to each other: a covariance without noise is near 0
        check_gradients("GPMI2", policy(1, seed=1), {"draws": "exact"}, 1e-3, 1e-7)
    else:
        check_gradients("GPEntropy2", policy(2), {"initial": (1, 3)})


@pytest.mark.parametrize("name", ["GPMI2", "MinUnsafeGPEntropy2"])
def test_rollouts_that_are_done_may_stay_or_go(name):
    net, settings = settings_of(name)
    packed, all_of_them = (gradients(name, net, **settings, pack=pack) for pack in (True, False))
    assert packed[0] == pytest.approx(all_of_them[0], rel=1e-12)
    for key, grad in packed[1].items():
        torch.testing.assert_close(all_of_them[1][key], grad, rtol=1e-9, atol=1e-12)


def test_a_detached_history_keeps_the_loss_and_changes_its_gradient():
    net, settings = settings_of("GPMI2")
    whole, detached = (gradients("GPMI2", net, **settings, detach=d) for d in (False, True))
    assert whole[0] == detached[0]
    assert any(not torch.allclose(g, detached[1][k]) for k, g in whole[1].items())
    one = [gradients("GPMI2", net, horizon=1, detach=d)[1] for d in (False, True)]
    for key, grad in one[0].items():
        torch.testing.assert_close(grad, one[1][key])


def test_training_steps_lower_the_loss():
    net = policy(1, width=16, hidden=16)
    optimizer = torch.optim.RAdam(net.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        tr = trajectory(1, net=net, needs={"grid": 20}, step=step, horizon=5, batch=Batch(4, 4, 1))
        loss = OBJECTIVES.build("GPMI2")(tr).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-15:]) < sum(losses[:15]) - 15 * 0.1


def test_the_curriculum_and_what_objectives_need():
    stages = [Stage("GPMI2", 75), Stage("MinUnsafeGPEntropy2", 1, {"gamma": 0.1})]
    curriculum = Curriculum(stages)
    assert curriculum.at(74) == Objective("mutual")
    assert curriculum.at(75) == curriculum.at(900) == Objective("entropy", True, "unsafe", 0.1)
    grids = {n: OBJECTIVES.build(n).needs(3).get("grid", 0) for n in OBJECTIVES}
    assert grids["GPMI1"] == 500
    assert OBJECTIVES.build("GPMI2").needs(2) == {"grid": 100}
    assert grids["SafeGPMI2"] == grids["MinUnsafeGPMI1"] == 200
    assert sum(grids.values()) == 2 * 500 + 4 * 200
    assert OBJECTIVES.build("DAD").needs(1) == {"contrast": 200}
    with pytest.raises(ValueError, match="a stage at least"):
        Curriculum([])


@pytest.mark.parametrize(
    ("name", "says"),
    [("GPMI2", "a grid"), ("DAD", "contrastive"), ("SafeGPMI2", "a grid and safety")],
)
def test_an_episode_without_what_an_objective_needs_is_refused(name, says):
    with pytest.raises(ValueError, match=says):
        OBJECTIVES.build(name)(trajectory())
    with pytest.raises(ValueError, match="gamma is a probability"):
        OBJECTIVES.build("SafeGPMI2", gamma=1.0)
