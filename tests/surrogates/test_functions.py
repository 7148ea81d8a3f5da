"""Simulated regression problems: their law, and who draws what."""

import math

import pytest
import torch

from lightning_al.policies.streams import Streams
from lightning_al.surrogates import FunctionPrior


def drawn(step=0, seed=0, **law):
    given = {}
    for name in ("rank", "world", "context_points"):
        if name in law:
            given[name.removesuffix("_points")] = law.pop(name)
    return FunctionPrior(**law)(Streams.of(seed, step, "functions"), **given)


def test_shapes_and_ranges():
    b = drawn(dimension=3, context=(5, 5), ahead=7, batch=4)
    assert b.x.shape == (4, 12, 3)
    assert b.y.shape == b.truth.shape == (4, 12)
    assert b.x.dtype == b.y.dtype == torch.float64
    assert bool(((b.x > 0) & (b.x < 1)).all())
    assert [part.shape[1] for part in (*b.given, *b.asked)] == [5, 5, 7, 7]
    assert b.take([1, 3]).hyper.lengthscale.shape == (2, 3)


def test_values_have_the_covariance_of_their_kernel():
    b = drawn(context=(1, 1), ahead=1, batch=6000, seed=3)
    a, c = b.truth.T
    k = b.hyper.covariance(b.x[:, :1], b.x[:, 1:])[:, 0, 0]
    assert float((a * c - k).mean()) == pytest.approx(0.0, abs=0.05)
    assert float((a.square() - b.hyper.outputscale).mean()) == pytest.approx(0.0, abs=0.06)
    noise = (b.y - b.truth) / b.hyper.noise.sqrt()[:, None]
    assert float(noise.square().mean()) == pytest.approx(1.0, abs=0.05)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.04)


def test_laws_of_the_hyper_parameters():
    b = drawn(context=(1, 1), ahead=1, batch=3000, laws=["gamma"])
    assert float(b.hyper.lengthscale.min()) >= 0.2
    assert float(b.hyper.lengthscale.mean()) == pytest.approx(0.3, abs=0.01)
    assert bool((b.hyper.outputscale + b.hyper.noise).sub(1.0001).abs().max() < 1e-12)
    wide = drawn(context=(1, 1), ahead=1, batch=3000, laws=["wide"]).hyper
    logs = wide.lengthscale.log()
    middle = 0.5 * (math.log(0.05) + math.log(10))
    assert float(logs.mean()) == pytest.approx(middle, abs=0.1)
    assert float(wide.noise.max()) <= 0.3
    both = drawn(context=(1, 1), ahead=1, batch=3000, laws=["gamma", "wide"]).hyper
    share = float((both.outputscale == 1).double().mean())  # what the wide law alone has
    assert share == pytest.approx(0.5, abs=0.04)


def test_points_may_crowd_at_the_border():
    crowded = drawn(context=(1, 1), ahead=1, batch=4000, arcsine=1.0).x
    assert float((crowded < 0.1).double().mean()) == pytest.approx(
        2 / math.pi * math.asin(0.1**0.5), abs=0.02
    )


def test_sizes_of_contexts_and_inputs():
    law = {"dimension": (1, 4), "context": (2, 40), "ahead": 1, "batch": 8, "most": 60}
    seen = [drawn(step, **law) for step in range(120)]
    sizes = torch.tensor([b.context for b in seen])
    assert sizes.min() == 2
    assert 25 < sizes.max() <= 40
    assert float((sizes < 9.5).double().mean()) == pytest.approx(0.5, abs=0.15)  # log-uniform
    dims = torch.bincount(torch.tensor([b.x.shape[2] for b in seen]))
    assert dims[0] == 0
    assert int(dims[1]) > int(dims[4]) > 0
    for b in seen:
        assert len(b.x) == max(1, min(8, 60 // (b.context * b.x.shape[2])))
    assert drawn(context=(2, 40), context_points=17).context == 17


def test_two_processes_draw_what_one_does():
    one = drawn(dimension=2, context=(3, 9), batch=6)
    for rank in (0, 1):
        part = drawn(dimension=2, context=(3, 9), batch=6, rank=rank, world=2)
        for name in ("x", "y", "truth"):
            torch.testing.assert_close(getattr(part, name), getattr(one, name)[rank::2])
    assert not torch.equal(drawn(1).y[:, :2], drawn(0).y[:, :2])


@pytest.mark.parametrize(
    ("law", "wanted"),
    [
        ({"dimension": 0}, "dimension must be a whole number from 1"),
        ({"dimension": (3, 2)}, "dimension is D, or the least and most"),
        ({"context": (0, 3)}, "context must be a whole number from 1"),
        ({"context": (4, 3)}, "least and the most points"),
        ({"laws": ["gama"]}, "laws are some of gamma, gamma-smooth, uniform, wide, got"),
        ({"laws": []}, "laws are some of"),
        ({"arcsine": 1.5}, "arcsine is a share"),
    ],
)
def test_laws_that_make_no_sense(law, wanted):
    with pytest.raises(ValueError, match=wanted):
        FunctionPrior(**law)
