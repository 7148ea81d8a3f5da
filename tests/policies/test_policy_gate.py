"""Policies that fall short of what their cards promise, and outcomes far from the training's."""

import doctest
import warnings

import numpy as np
import pytest
import torch
from helpers.policy_worlds import BUDGET, HISTORY, made, network, told

from lightning_al.policies import Card, Exported, FlexiblePolicy, Policy
from lightning_al.policies import gate as module
from lightning_al.policies.gate import checks
from lightning_al.policies.scales import LARGE, MANY, OFF, SMALL, Outcomes


def saved(folder, gamma=0.05, safe=0.9, **settings):
    """A policy with a card that promises 1 - gamma and has measured a share."""
    training = {"config": {"arguments": {"gamma": gamma}}, "validation": {"safe": safe}}
    net = network(**({"safe": True} | settings))
    return Policy.of(net, HISTORY, BUDGET, **training).save(folder / "mine")


def test_doctests():
    assert doctest.testmod(module).failed == 0


# --- promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [None, FlexiblePolicy])
@pytest.mark.parametrize(
    ("gamma", "safe", "kept"),
    [
        (0.05, 0.949, False),
        (0.05, 0.95, True),
        (0.05, 1.0, True),
        (0.5, 0.534, True),
        (0.1, 0.534, False),
        (0.05, 0.0, False),
        (0.05, float("nan"), False),
        (1.0, 0.0, True),
    ],
)
def test_what_falls_short_of_its_promise_is_loaded_unchecked_alone(
    tmp_path, gamma, safe, kept, cls
):
    path = saved(tmp_path, gamma, safe, **({} if cls is None else {"cls": cls}))
    if kept:
        Policy.load(path)
    else:
        says = "not a number" if safe != safe else f"{100 * safe:.3g} %"
        with pytest.raises(ValueError, match=rf"mine falls short .*: {says}, promised .*unchecked"):
            Policy.load(path)
    x, y, z = told()
    again = Policy.load(path, unchecked=True)
    assert again.query(x, y, 3, z).shape == (2,)
    assert [check.passed for check in checks(again.card)] == [kept]


@pytest.mark.parametrize(
    ("training", "safe"),
    [
        ({}, True),
        ({"config": None, "validation": {}}, True),
        ({"config": {"arguments": None}, "validation": {"safe": 0.1}}, True),
        ({"config": {"arguments": {"gamma": 0.05}}, "validation": {"rmse": 1.0}}, True),
        ({"config": {"arguments": {"gamma": "low"}}, "validation": {"safe": 0.1}}, True),
        ({"config": {"arguments": {"gamma": 0.05}}, "validation": {"safe": True}}, True),
        ({"config": {"arguments": {"gamma": 0.05}}, "validation": {"safe": 0.1}}, False),
    ],
)
def test_a_card_that_promises_or_measured_nothing_is_no_ground_to_refuse(training, safe):
    assert checks(Card("SetPolicy", {"safe": safe}, 5, 5, training)) == ()


GOOD = {"spread": 0.2, "heeded": 0.7, "border": 0.3, "rmse": 0.18, "rmse_sobol": 0.2, "safe": None}


@pytest.mark.parametrize(
    ("change", "short"),
    [
        ({}, None),
        ({"spread": 0.019}, "spread of queries"),
        ({"heeded": 0.4}, "histories whose outcomes count"),
        ({"border": 0.6}, "off the border"),
        ({"rmse": 0.21}, "error of a Sobol sequence"),
        ({"rmse": float("nan")}, "error of a Sobol sequence"),
    ],
)
def test_a_policy_that_scores_has_to_look_at_its_data(change, short):
    card = Card("CandidatePolicy", {"dimension": 2}, 9, 9, {"evidence": GOOD | change})
    assert [c.what for c in checks(card) if not c.passed and short not in c.what] == []
    assert all(c.passed for c in checks(card)) == (short is None)
    assert len(checks(card)) == 4


def test_a_safe_one_is_held_to_what_it_promises_not_to_what_it_was_trained_with():
    training = {"config": {"gamma": 0.01, "promised": 0.05}, "evidence": GOOD | {"safe": 0.96}}
    card = Card("CandidatePolicy", {"dimension": 2, "safe": True}, 9, 9, training)
    assert all(c.passed for c in checks(card))
    training["evidence"]["safe"] = 0.94
    assert [c.least for c in checks(card) if not c.passed] == [0.95]


def test_names_do_not_count(tmp_path):
    path = saved(tmp_path, safe=0.26)
    for suffix in (".json", ".safetensors"):
        path.with_suffix(suffix).rename(tmp_path / f"asal-safe-2d{suffix}")
    with pytest.raises(ValueError, match="asal-safe-2d falls short"):
        Policy.load(tmp_path / "asal-safe-2d")


@pytest.mark.parametrize("name", ["asal-safe-3d", "asal-safe-7d"])
def test_shipped_policies_that_are_not_safe_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} falls short .* promised 95 %"):
        Policy.load(name)
    (check,) = checks(Policy.load(name, unchecked=True).card)
    assert check.found < 0.6
    assert Policy.load("asal-safe-2d").card.settings["safe"]


def test_an_exported_policy_is_refused_likewise(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    policy = Policy.load(saved(tmp_path), unchecked=True)
    policy.export(tmp_path / "mine")  # a step of one's own: the file carries the card
    with pytest.raises(ValueError, match=r"mine\.onnx falls short .*: 90 %, promised 95 %"):
        Exported.load(tmp_path / "mine.onnx")
    x, y, z = told()
    found = Exported.load(tmp_path / "mine.onnx", unchecked=True).query(x, y, 3, z)
    torch.testing.assert_close(found, policy.query(x, y, 3, z), atol=1e-4, rtol=0)


# --- outcomes ------------------------------------------------------------------------------------

FAR = {
    "other unit": lambda y: 1e6 * y,
    "offset": lambda y: y / 10 + LARGE - 0.5,
    "one far off": lambda y: torch.cat([y[:-1], torch.tensor([-2 * LARGE])]),
    "tiny": lambda y: y.sign() * SMALL / 3,
}
NEAR = {
    "as trained": lambda y: y,
    "all alike": lambda y: torch.full_like(y, OFF - 1),
    "one alone is not small": lambda y: torch.cat([torch.tensor([5 * SMALL]), 0 * y[1:]]),
    "a large one": lambda y: torch.cat([y[:-1], torch.tensor([LARGE - 0.1])]),
}


def said_by(ask):
    """The texts of what it warns of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ask()
    return [str(w.message) for w in said]


def values(n=6, seed=3):
    x, y, z = told(n, seed=seed)
    return x, y.clamp(-2, 2), z.abs().clamp(0.1, 2)


@pytest.mark.parametrize("outcome", ["y", "z"])
@pytest.mark.parametrize("case", [*FAR, *NEAR])
def test_outcomes_far_from_the_training_are_spoken_of_once(outcome, case, tmp_path):
    change = (FAR | NEAR)[case]
    x, y, z = values()
    y, z = (change(y), z) if outcome == "y" else (y, change(z))
    policy = made(safe=True)
    expected = 1 if case in FAR else 0
    queries = said_by(lambda: [policy.query(x, y, 3, z) for _ in range(3)])
    assert len(queries) == expected
    session = policy.session(3)

    def point_by_point():
        for i in range(len(x)):
            session.tell(x[i], y[i], z[i])
        session.ask()

    told_of = said_by(point_by_point)
    assert len(told_of) == expected
    for text in queries + told_of:
        assert text.startswith(f"{outcome} lies far from what this policy was trained on")
        assert ("standardise it: (y - mean)" if outcome == "y" else "take no mean away") in text
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    runs = policy.export(tmp_path / "mine")
    assert said_by(lambda: [runs.query(x, y, 3, z) for _ in range(3)]) == queries


def test_the_mend_does_what_it_says():
    x, y, z = values()
    y, z = 1e3 + 40 * y, 1e-5 * z
    policy = made(safe=True)
    assert len(said_by(lambda: policy.query(x, y, 3, z))) == 2
    y, z = (y - y.mean()) / y.std(correction=0), z / z.std(correction=0)
    assert said_by(lambda: made(safe=True).query(x, y, 3, z)) == []


def test_any_user_of_a_batch_counts():
    x, y, _ = told(6, users=3)
    y = y.clamp(-2, 2)
    assert said_by(lambda: made().query(x, y, 3)) == []
    y[1] *= 1e3
    assert len(said_by(lambda: made().query(x, y, 3))) == 1


def test_what_the_training_draws_is_not_far():
    """Standard normal outcomes, alike within a history or not: next to never a word."""
    g = np.random.default_rng(0)
    words = 0
    for n in (1, MANY - 1, MANY, 30):
        for alike in (0.0, 0.9):
            common = alike**0.5 * g.standard_normal((400, 1))
            y = common + (1 - alike) ** 0.5 * g.standard_normal((400, n))
            packed = y.astype(np.float32)[:, None, :, None]
            words += sum(len(said_by(lambda p=p: Outcomes().told(p, 1))) for p in packed)
    assert words <= 2  # of 3,200


def test_step_by_step_is_at_once():
    _, y, z = values(9)
    packed = torch.stack([y, z], -1)[None].numpy()
    whole = Outcomes().told(packed, 2)
    steps = Outcomes()
    for i in range(9):
        steps = steps.told(packed[:, i : i + 1], 2)
    for a, b in zip(whole.seen, steps.seen, strict=True):
        assert a.count == b.count == 9
        np.testing.assert_allclose(a.total, b.total)
        np.testing.assert_array_equal(a.largest, b.largest)
