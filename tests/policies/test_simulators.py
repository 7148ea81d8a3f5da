"""Simulated problems: their laws, their functions, and who draws what."""

import itertools
import math

import numpy as np
import pytest
import torch

from lightning_al.policies import Batch, KernelPrior, SafetyPrior, Simulator, Streams
from lightning_al.policies.draws import ExactDraw, FourierDraw
from lightning_al.policies.priors import FLUID, Hyper, SechMean
from lightning_al.policies.streams import philox

MANY = torch.arange(4000)
FLUID_LOW = (10.42, 1.57, 6.02, 8.33, 16.66, 1.47, 11.36)
FLUID_HIGH = (41.66, 6.29, 24.10, 33.34, 66.67, 5.89, 45.45)


def word(value):
    return torch.tensor(value, dtype=torch.int64)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that its authors publish
        ((0,) * 4, (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_its_known_answers(counter, key, expected):
    assert tuple(int(w) for w in philox(tuple(map(word, counter)), key)) == expected


def test_a_number_depends_on_key_role_index_and_place_alone():
    streams = Streams.of(0, 3)
    whole = streams.uniform("a", MANY[:50], 7)
    assert torch.equal(streams.uniform("a", MANY[9:50:4], 7), whole[9:50:4])
    assert torch.equal(streams.uniform("a", MANY[:50], 4), whole[:, :4])
    others = [Streams.of(0, 4), Streams.of(1, 3)]
    assert all(not (o.uniform("a", MANY[:50], 7) == whole).any() for o in others)
    assert not (streams.uniform("b", MANY[:50], 7) == whole).any()
    assert len(whole.unique()) == whole.numel()


def test_uniform_and_normal_numbers_have_their_moments_and_no_correlation():
    u = Streams.of(1, 0).uniform("u", MANY, 20)
    assert u.min() > 0
    assert u.max() < 1
    n = u.numel()
    assert abs(u.mean() - 0.5) < 4 * math.sqrt(1 / 12 / n)
    z = Streams.of(1, 0).normal("z", MANY, 20)
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    correlation = torch.corrcoef(z.T) - torch.eye(20)
    assert correlation.abs().max() < 5 / math.sqrt(len(MANY))
    whole = Streams.of(1, 0).between("n", MANY, 2, 5)
    assert set(whole.tolist()) == {2, 3, 4, 5}
    assert abs(whole.double().mean() - 3.5) < 4 * math.sqrt(1.25 / len(MANY))


@pytest.mark.parametrize(
    ("prior", "low", "mean"),
    [
        (KernelPrior("gamma"), 0.2, 0.3),
        (KernelPrior("gamma-smooth"), 0.3, 0.5),
        (KernelPrior("uniform"), 0.2, 0.6),
        (KernelPrior("percentage", base=(2.0,), spread=0.5), 1.0, 2.0),
        (KernelPrior(fixed=(0.7,)), 0.7, 0.7),
    ],
    ids=lambda p: p.law if isinstance(p, KernelPrior) else "",
)
def test_laws_of_length_scales_and_variances(prior, low, mean):
    hyper = prior.draw(Streams.of(0, 0), "y", MANY, 3, 0.0)
    scales = hyper.lengthscale
    assert scales.min() >= low
    assert abs(scales.mean() - mean) <= 4 * scales.std() / math.sqrt(scales.numel()) + 1e-12
    assert hyper.outputscale.min() >= 1.0001 * 25 / 26
    assert hyper.outputscale.max() <= 1
    torch.testing.assert_close(
        hyper.outputscale + hyper.noise, torch.full((4000,), 1.0001).double()
    )


def test_the_fluid_systems_law_and_the_share_of_a_mean():
    hyper = KernelPrior("percentage", FLUID).draw(Streams.of(0, 0), "z", MANY, 7, 0.5)
    base = torch.tensor(FLUID)
    assert (hyper.lengthscale >= 0.5 * base - 1e-9).all()
    assert (hyper.lengthscale <= 1.5 * base + 1e-9).all()
    assert hyper.outputscale.min() > 0.461634
    assert hyper.outputscale.max() <= 0.5
    assert hyper.noise.min() >= 1e-4 - 1e-12


def series(dim, count=6, features=40, variant="exact", step=0):
    index = torch.arange(count)
    streams = Streams.of(7, step)
    hyper = KernelPrior().draw(streams, "y", index, dim, 0.0)
    numbers = (
        streams.normal("frequency", index, features, dim),
        streams.uniform("phase", index, features),
        streams.normal("weight", index, features),
    )
    return FourierDraw.of(*numbers, hyper, torch.ones(count, dim).double(), variant), hyper


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_domain_average_is_that_of_quadrature(dim):
    draw, _ = series(dim)
    nodes = 48  # Gauss-Legendre
    points, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(nodes))
    grid = torch.stack(torch.meshgrid(*[(points + 1) / 2] * dim, indexing="ij"), -1)
    volume = torch.ones((nodes,) * dim).double()
    for axis in range(dim):
        volume = volume * (weights / 2).view([-1 if a == axis else 1 for a in range(dim)])
    values = draw(grid.reshape(1, -1, dim).expand(6, -1, -1))
    averages = values @ volume.flatten()
    assert averages.abs().max() < 1e-10
    published, _ = series(dim, variant="published")
    values = published(grid.reshape(1, -1, dim).expand(6, -1, -1))
    torch.testing.assert_close(values @ volume.flatten(), draw.average() * (1 - 1 / dim))


def test_a_series_is_its_sum_of_cosines_and_its_slope_that_of_autograd():
    draw, _ = series(2)
    x = torch.rand(6, 5, 2).double().requires_grad_()
    value = draw(x)
    for r, n in itertools.product(range(6), range(5)):
        total = -float(draw.shift[r])
        for w, om, b in zip(draw.weight[r], draw.frequency[r], draw.phase[r], strict=True):
            total += float(w) * math.cos(float(om @ x[r, n].detach()) + float(b))
        assert value[r, n].item() == pytest.approx(total, abs=1e-12)
    assert torch.autograd.gradcheck(draw, (x,))


def test_series_broadcast_over_functions():
    draw, _ = series(2)
    x = torch.rand(1, 4, 2).double().requires_grad_()
    whole = draw(x)
    assert whole.shape == (6, 4)
    (grad,) = torch.autograd.grad(whole.sum(), x)
    parts = [torch.autograd.grad(draw.take(slice(i, i + 1))(x).sum(), x)[0] for i in range(6)]
    torch.testing.assert_close(grad, sum(parts))


def test_many_series_have_the_covariance_of_their_kernel():
    count = 4000
    index = torch.arange(count)
    streams = Streams.of(3, 0)
    hyper = Hyper(
        *(
            torch.tensor(v).double().expand(count, *s)
            for v, s in (
                ([0.3, 0.5], (2,)),
                (0.8, ()),
                (0.1, ()),
            )
        )
    )
    draw = FourierDraw.of(
        streams.normal("f", index, 30, 2),
        streams.uniform("p", index, 30),
        streams.normal("w", index, 30),
        hyper,
        torch.ones(count, 2).double(),
    )
    x = torch.tensor([[0.1, 0.2], [0.3, 0.1], [0.9, 0.5]]).double()
    f = draw(x.expand(count, -1, -1)) + draw.shift[:, None]
    expected = hyper.take(slice(0, 1)).covariance(x[None], x[None])[0]
    torch.testing.assert_close(f.T @ f / count, expected, atol=0.08, rtol=0)


def test_the_covariance_is_the_ard_rbf_kernel():
    hyper = KernelPrior().draw(Streams.of(0, 0), "y", torch.arange(3), 2, 0.0)
    a, b = torch.rand(3, 4, 2).double(), torch.rand(3, 5, 2).double()
    found = hyper.covariance(a, b)
    for r, i, j in itertools.product(range(3), range(4), range(5)):
        square = (((a[r, i] - b[r, j]) / hyper.lengthscale[r]) ** 2).sum()
        expected = hyper.outputscale[r] * torch.exp(-0.5 * square)
        torch.testing.assert_close(found[r, i, j], expected, rtol=1e-12, atol=1e-14)


def test_exact_draws_asked_one_by_one_are_the_joint_draw():
    hyper = KernelPrior().draw(Streams.of(0, 0), "y", torch.arange(3), 1, 0.0)
    white = Streams.of(0, 1).normal("w", torch.arange(3), 6)
    draw = ExactDraw(hyper, white, torch.ones(3, 1).double())
    x = torch.rand(3, 6, 1).double()
    walk, joint = draw.paths(), draw.paths()(x)
    parts = torch.cat([walk(x[:, :2]), walk(x[:, 2:3]), walk(x[:, 3:])], 1)
    torch.testing.assert_close(parts, joint, rtol=1e-9, atol=1e-9)
    factor = torch.linalg.cholesky(hyper.covariance(x, x) + 1e-9 * torch.eye(6))
    torch.testing.assert_close(joint, (factor @ white[..., None])[..., 0])
    far = torch.tensor([0.1, 0.5, 0.8]).double().view(1, 3, 1).repeat(3, 1, 1).requires_grad_()

    def one_by_one(x):
        walk = draw.paths()
        return torch.cat([walk(x[:, i : i + 1]) for i in range(3)], 1)

    assert torch.autograd.gradcheck(one_by_one, (far,))
    short = draw.paths()
    short(x[:, :2])
    torch.testing.assert_close(short(x[:2, 2:3]), joint[:2, 2:3], rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="draw with more places"):
        joint = walk(x[:, :1])


def test_the_hill_of_safety_peaks_in_the_middle_and_turns_with_its_axes():
    prior = SafetyPrior()
    mean = prior.mean(Streams.of(0, 0), torch.arange(5), torch.ones(5, 3).double())
    middle = torch.full((5, 1, 3), 0.5).double()
    height = 3.2 * math.sqrt(0.5)
    torch.testing.assert_close(mean(middle), torch.full((5, 1), height * 0.53).double())
    assert mean(middle + 9).sub(height * -0.47).abs().max() < 1e-12
    torch.testing.assert_close(mean.axes @ mean.axes.mT, torch.eye(3).double().expand(5, 3, 3))
    x = torch.rand(5, 4, 3).double()
    for r, n in itertools.product(range(5), range(4)):
        u = sum(
            float(w) * float(q @ (x[r, n] - 0.5)) ** 2
            for w, q in zip(mean.weight[r], mean.axes[r].T, strict=True)
        )
        expected = height * (1 / math.cosh(u / 3) - 0.47)
        assert mean(x)[r, n].item() == pytest.approx(expected, abs=1e-12)
    fluid = SafetyPrior(low=FLUID_LOW, high=FLUID_HIGH).mean(
        Streams.of(0, 0), MANY[:9], torch.ones(9, 7).double()
    )
    assert (fluid.weight >= torch.tensor(FLUID_LOW)).all()
    assert isinstance(fluid, SechMean)


SMALL = Batch(kernels=3, functions=2, replicates=4)


def fields(episode):
    outputs = [o for o in (episode.y, episode.z) if o is not None]
    x = torch.linspace(0, 1, 3, dtype=torch.float64).view(1, 3, 1)
    x = x.expand(len(episode.index), 3, episode.x.shape[-1])
    found = {"x": episode.x, "budget": episode.budget, "active": episode.active}
    if episode.grid is not None:
        found["grid"] = episode.grid
    for name, o in zip("yz", outputs, strict=False):
        found |= {
            f"{name}/initial": o.initial,
            f"{name}/noise": o.noise,
            f"{name}/scale": o.hyper.lengthscale,
            f"{name}/path": o.paths(x),
        }
        if o.grid is not None:
            found[f"{name}/grid"] = o.grid
    return found


@pytest.mark.parametrize(
    ("simulator", "needs"),
    [
        (Simulator(2, 5, 2, SMALL), {"grid": 7}),
        (Simulator(2, 5, 3, SMALL, safety=SafetyPrior()), {"grid": 7}),
        (Simulator(3, 5, (1, 4), SMALL, flexible=True, safety=SafetyPrior()), {}),
        (Simulator(1, 5, 2, SMALL, draws="exact"), {"grid": 7}),
        (Simulator(2, 5, 2, SMALL, draws="exact", safety=SafetyPrior()), {}),
        (Simulator(1, 5, 2, SMALL, random_budget=False), {"contrast": 4}),
    ],
    ids=["plain", "safe", "flexible", "exact", "exact-safe", "contrast"],
)
def test_several_processes_draw_what_one_draws(simulator, needs):
    one = simulator(Streams.of(0, 5), **needs)
    whole = fields(one)
    place = {int(i): n for n, i in enumerate(one.index)}
    assert sorted(place) == list(range(SMALL.size))
    seen, shares = [], 0.0
    for rank in range(4):
        part = simulator(Streams.of(0, 5), **needs, rank=rank, world=4)
        rows = torch.tensor([place[int(i)] for i in part.index])
        assert set((part.index // SMALL.replicates).tolist()) == set(range(rank, 6, 4))
        for name, value in fields(part).items():
            torch.testing.assert_close(value, whole[name][rows], msg=name, rtol=1e-9, atol=1e-9)
        if part.contrast is not None:
            assert torch.equal(part.contrast.weight, one.contrast.weight[rows])
        seen += part.index.tolist()
        shares += part.share
    assert sorted(seen) == list(range(SMALL.size))
    assert shares / 4 == pytest.approx(1.0)


def test_what_kernels_functions_and_replicates_share():
    episode = Simulator(2, 6, 2, SMALL, safety=SafetyPrior())(Streams.of(0, 0), grid=5)
    order = episode.index.argsort()
    shape = (3, 2, 4)
    scale = episode.y.hyper.lengthscale[order].view(*shape, 2)
    assert (scale == scale[:, :1, :1]).all()
    assert len(scale[:, 0, 0, 0].unique()) == 3
    first = episode.y.initial[order].view(*shape, 2)
    assert (first == first[:, :, :1]).all()
    assert len(first[..., 0, 0].unique()) == 6
    assert len(episode.grid[:, 0, 0].unique()) == SMALL.size
    assert len(episode.y.noise[:, 0].unique()) == SMALL.size
    assert (episode.budget.diff() <= 0).all()
    assert ((episode.z.hyper.noise - episode.y.hyper.noise).abs() > 0).all()  # drawn apart


def test_points_lie_where_they_should_and_safe_ones_are_safe():
    big = Batch(10, 5, 4)
    plain = Simulator(2, 5, 20, big)(Streams.of(0, 0), grid=100)
    assert abs(plain.x.mean() - 0.5) < 0.05
    assert plain.x.min() < 0.02
    assert plain.x.max() > 0.98
    # arcsine: half of the mass within 0.1464 of an end; sd 1/sqrt(8)
    assert abs(plain.grid.std() - 8**-0.5) < 0.01
    assert abs(((plain.grid < 0.146447) | (plain.grid > 0.853553)).double().mean() - 0.5) < 0.02
    safe = Simulator(2, 5, 5, big, safety=SafetyPrior())(Streams.of(0, 0), grid=20)
    assert safe.x.min() >= 0.4
    assert safe.x.max() <= 0.6
    assert (safe.z.initial >= 0).double().mean() > 0.99
    assert (safe.z.grid >= 0).all()
    assert safe.grid.max() > 0.6
    noise = safe.z.initial - safe.z.truth
    torch.testing.assert_close(safe.z.paths(safe.x), safe.z.truth)
    assert 0.5 < (noise.square() / safe.z.hyper.noise[:, None]).mean() < 1.5


def test_budgets_and_ragged_starts():
    big = Batch(10, 10, 10)
    episode = Simulator(1, 6, (2, 5), big)(Streams.of(0, 0))
    counts = torch.bincount(episode.budget, minlength=7)
    assert counts[0] == 0
    assert (counts[1:] - 1000 / 6).abs().max() < 5 * math.sqrt(1000 / 6)
    starts = episode.valid.sum(-1)
    assert set(starts.tolist()) == {2, 3, 4, 5}
    torch.testing.assert_close(episode.count, (episode.budget + starts).double())
    whole = Simulator(1, 6, 2, big, random_budget=False)(Streams.of(0, 0))
    assert (whole.budget == 6).all()


def test_flexible_inputs_that_do_not_count_change_nothing():
    law = Simulator(4, 3, 2, Batch(10, 3, 1), safety=SafetyPrior(), flexible=True)
    episode = law(Streams.of(0, 0))
    active = episode.active
    assert set(active.sum(-1).tolist()) == {1.0, 2.0, 3.0, 4.0}
    assert (episode.x * (1 - active[:, None])).abs().max() == 0
    x = torch.rand(30, 5, 4).double()
    for output in (episode.y, episode.z):
        a, b = output.paths(x), output.paths(x * active[:, None])
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Simulator(0), "1 or more"),
        (lambda: Simulator(initial=(3, 2)), "least <= most"),
        (lambda: Simulator(draws="fourrier"), "choose one of fourier, exact"),
        (lambda: Simulator(variant="own"), "choose one of exact, published"),
        (lambda: KernelPrior("gama"), "choose one of gamma"),
        (lambda: KernelPrior(base=(0.0,)), "positive"),
        (lambda: SafetyPrior(low=(5.0,), high=(4.0,)), "low <= high"),
        (lambda: Simulator(batch=SMALL)(Streams.of(0, 0), rank=6, world=7), "7 processes share 6"),
        (
            lambda: Simulator(2, prior=KernelPrior("percentage", FLUID))(Streams.of(0, 0)),
            "1 or 2 numbers, got 7",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
