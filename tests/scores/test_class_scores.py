"""Scores against plain Python, their bounds and their limits."""

import doctest
import math

import pytest
import torch

from lightning_al import measures
from lightning_al.scores import classification

N, S, C = 23, 4, 5
PLAIN = ("entropy", "least_confidence", "margin", "ratio")


def draw(*shape, dtype=torch.float64, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(scale * torch.randn(*shape, generator=generator, dtype=dtype), -1)


def h(p):
    return -sum(q * math.log(q) for q in p if q > 0)


BRUTE = {
    "entropy": h,
    "least_confidence": lambda p: 1 - max(p),
    "margin": lambda p: 1 - (sorted(p)[-1] - sorted(p)[-2]),
    "ratio": lambda p: sorted(p)[-2] / sorted(p)[-1],
}


def brute_bald(members):
    mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
    return h(mean) - sum(map(h, members)) / len(members)


def test_doctests():
    assert doctest.testmod(measures).failed == 0


@pytest.mark.parametrize("name", PLAIN)
def test_plain_scores_equal_brute_force(name):
    probs = draw(N, C)
    want = torch.tensor([BRUTE[name](p) for p in probs.tolist()], dtype=torch.float64)
    torch.testing.assert_close(getattr(measures, name)(probs), want)


def test_bald_equals_brute_force():
    probs = draw(N, S, C)
    want = torch.tensor([brute_bald(p) for p in probs.tolist()], dtype=torch.float64)
    torch.testing.assert_close(measures.bald(probs), want)


def test_bald_is_the_mean_divergence_from_the_mean():
    """Generalised Jensen-Shannon divergence: I = mean over members of KL(p_s || mean)."""
    probs = draw(N, S, C)
    mean = probs.mean(1, keepdim=True)
    divergence = (probs * (probs / mean).log()).sum(-1).mean(1)
    torch.testing.assert_close(measures.bald(probs), divergence)


def test_bald_is_at_most_the_mean_pairwise_divergence():
    probs = draw(N, S, C)
    pairs = (probs[:, :, None] * (probs[:, :, None] / probs[:, None]).log()).sum(-1)
    assert bool((measures.bald(probs) <= pairs.sum((1, 2)) / (S * (S - 1))).all())


@pytest.mark.parametrize("rows", [1, 3, 10_000])
def test_bald_does_not_depend_on_its_blocks(rows, monkeypatch):
    probs = draw(N, S, C)
    whole = measures.bald(probs)
    monkeypatch.setattr(classification, "_CPU_BLOCK", rows * S * C)
    torch.testing.assert_close(measures.bald(probs), whole)


@pytest.mark.parametrize("name", [*PLAIN, "bald"])
@pytest.mark.parametrize("scale", [0.1, 2.0, 50.0])
def test_bounds(name, scale):
    probs = draw(400, S, C, dtype=torch.float32, scale=scale)
    score = getattr(measures, name)(probs)
    low, high = measures.BOUNDS[name](S, C)
    assert bool((score >= low).all())
    assert bool((score <= high + 1e-5).all())


def test_every_measure_declares_its_bounds():
    helpers = {"BOUNDS", "of_mean", "over_places"}
    assert set(measures.BOUNDS) == set(measures.__all__) - helpers


@pytest.mark.parametrize("name", PLAIN)
def test_class_names_do_not_matter(name):
    probs = draw(N, C)
    order = torch.randperm(C, generator=torch.Generator().manual_seed(1))
    measure = getattr(measures, name)
    torch.testing.assert_close(measure(probs), measure(probs[:, order]))


def test_bald_ignores_names_of_classes_and_members():
    probs = draw(N, S, C)
    moved = probs[:, torch.tensor([2, 0, 3, 1])][:, :, torch.tensor([4, 2, 0, 1, 3])]
    torch.testing.assert_close(measures.bald(probs), measures.bald(moved))


@pytest.mark.parametrize("name", [*PLAIN, "bald"])
def test_float32_agrees_with_float64(name):
    probs = draw(N, S, C)
    measure = getattr(measures, name)
    single = measure(probs.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), measure(probs), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", [*PLAIN, "bald"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name, dtype):
    probs = draw(N, S, C).to(dtype)
    measure = getattr(measures, name)
    torch.testing.assert_close(measure(probs), measure(probs.float()))


def test_limits_of_certainty():
    certain = torch.eye(C)
    for name in PLAIN:
        score = getattr(measures, name)(certain)
        assert score.tolist() == [0.0] * C  # and no NaN from 0 log 0


def test_limits_of_ignorance():
    uniform = torch.full((2, C), 1 / C, dtype=torch.float64)
    want = {"entropy": math.log(C), "least_confidence": 1 - 1 / C, "margin": 1.0, "ratio": 1.0}
    for name, value in want.items():
        assert getattr(measures, name)(uniform).tolist() == pytest.approx([value] * 2)


def test_bald_of_one_member_is_zero():
    assert measures.bald(draw(N, 1, C)).tolist() == pytest.approx([0] * N, abs=1e-12)


def test_bald_of_agreeing_members_is_zero():
    same = draw(N, 1, C).expand(N, S, C)
    assert measures.bald(same).tolist() == pytest.approx([0] * N, abs=1e-12)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_bald_of_full_disagreement_is_log_s(members):
    one_hot = torch.eye(C, dtype=torch.float64)[:members][None]
    assert float(measures.bald(one_hot)) == pytest.approx(math.log(members))


def test_bald_is_never_negative():
    nearly = draw(2000, 1, C, dtype=torch.float32).repeat(1, 20, 1)
    assert float(measures.bald(nearly).min()) >= 0


def test_nan_stays_with_its_item():
    probs = draw(N, S, C)
    probs[3, 1, 2] = torch.nan
    for name in (*PLAIN, "bald"):
        score = getattr(measures, name)(probs).reshape(N, -1).sum(1)
        assert score.isnan().nonzero().flatten().tolist() == [3], name


def test_inputs_are_not_changed_and_need_not_be_contiguous():
    probs = draw(N, C, S).transpose(1, 2)
    before = probs.clone()
    for name in (*PLAIN, "bald"):
        measure = getattr(measures, name)
        torch.testing.assert_close(measure(probs), measure(before.contiguous()))
    assert torch.equal(probs, before)


def test_gradients_flow_and_are_right():
    logits = torch.randn(
        3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    torch.autograd.gradcheck(lambda z: measures.bald(z.softmax(-1)), logits)
    torch.autograd.gradcheck(lambda z: measures.entropy(z.softmax(-1)), logits)


def test_no_items():
    assert measures.bald(torch.empty(0, S, C)).shape == (0,)
    assert measures.entropy(torch.empty(0, C)).shape == (0,)


def test_of_mean_of_one_member_is_the_plain_score():
    probs = draw(N, 1, C)
    for name in PLAIN:
        measure = getattr(measures, name)
        torch.testing.assert_close(measures.of_mean(measure, probs), measure(probs[:, 0]))


def test_total_entropy_is_expected_entropy_plus_bald():
    probs = draw(N, S, C)
    total = measures.of_mean(measures.entropy, probs)
    torch.testing.assert_close(total, measures.entropy(probs).mean(1) + measures.bald(probs))


def test_variance_follows_the_law_of_total_variance():
    """Against the variance of a mixture of Gaussians: E[y^2] - E[y]^2."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(N, S, 2, generator=generator, dtype=torch.float64)
    noise = torch.rand(N, S, 2, generator=generator, dtype=torch.float64)
    second = (noise + mean**2).mean(1)
    want = (second - mean.mean(1) ** 2).sum(-1)
    torch.testing.assert_close(measures.variance(mean, noise), want)
    torch.testing.assert_close(
        measures.variance(mean), measures.variance(mean, torch.zeros_like(mean))
    )


def test_variance_is_that_of_plain_python():
    mean = torch.tensor([[[1.0], [2.0], [6.0]]])
    assert float(measures.variance(mean)) == pytest.approx(((1 + 4 + 36) / 3) - 9)
    assert float(measures.variance(mean[:, :1])) == 0


def test_expected_is_the_mean_over_members():
    mean = torch.tensor([[[1.0, 5.0], [3.0, 9.0]]])
    assert measures.expected(mean, output=1).tolist() == [7]
    assert measures.expected(mean, maximize=False, output=0).tolist() == [-2]


def test_over_places_averages_the_scores_of_the_places():
    probs = draw(N, S, 3, 2, C).movedim(-1, 2)  # [N, S, C, 3, 2]
    places = [probs[..., i, j] for i in range(3) for j in range(2)]
    want = torch.stack([measures.bald(p) for p in places]).mean(0)
    torch.testing.assert_close(measures.over_places(measures.bald, probs), want)
    want = torch.stack([measures.entropy(p).mean(1) for p in places]).mean(0)
    torch.testing.assert_close(measures.over_places(measures.entropy, probs), want)
    single = probs[..., 0, 0]
    torch.testing.assert_close(measures.over_places(measures.bald, single), measures.bald(single))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: measures.bald(torch.ones(2, 3)), r"probs\[:, None\]"),
        (lambda: measures.margin(torch.ones(2, 1)), "C >= 2"),
        (lambda: measures.ratio(torch.ones(2, 1)), "stack"),
        (lambda: measures.variance(torch.ones(2, 3)), r"\[N, S, D\]"),
        (lambda: measures.variance(torch.ones(2, 3, 1), torch.ones(2, 3, 2)), "one shape"),
        (lambda: measures.expected(torch.ones(2, 3, 2)), "output=0"),
        (lambda: measures.expected(torch.ones(2, 3, 2), output=2), "use 0 to 1"),
    ],
)
def test_errors_say_the_mend(call, says):
    with pytest.raises(ValueError, match=says):
        call()
