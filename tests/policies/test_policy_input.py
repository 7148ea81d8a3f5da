"""What policies refuse: bad questions, bad files; and that nothing is lost by asking wrongly."""

import json

import numpy as np
import pytest
import torch
from helpers.policy_worlds import BUDGET, HISTORY, made, told

from lightning_al.policies import FlexiblePolicy, Policy

X, Y, Z = told()
SAFE = {"safe": True}


def spoiled(values, at, value):
    values = values.clone()
    values[at] = value
    return values


# name -> (arguments of query, settings of the policy, what it says); X and Y are 4 points
BAD = {
    "outside": ((X + 1, Y, 3), {}, r"box \[0, 1\], got 1\.\d+ to 1\.\d+; scale them to"),
    "below": ((X - 1, Y, 3), {}, r"box \[0, 1\], got -0\.\d+ to -0"),
    "nan in x": (
        (spoiled(X, (2, 1), np.nan), Y, 3),
        {},
        r"x holds NaN .* first at \[2, 1\]",
    ),
    "infinite x": ((spoiled(X, (0, 0), np.inf), Y, 3), {}, "x holds NaN or inf.*leave such"),
    "nan in y": ((X, spoiled(Y, 3, np.nan), 3), {}, r"y holds NaN .* first at \[3\]; .* leave"),
    "infinite y": ((X, spoiled(Y, 0, -np.inf), 3), {}, "y holds NaN or infinities"),
    "nan in z": ((X, Y, 3, spoiled(Z, 1, np.nan)), SAFE, r"z holds NaN .* first at \[1\]"),
    "one input": ((X[:, :1], Y, 3), {}, r"points \[n, 2\] or \[B, n, 2\], got \[4, 1\]; a row"),
    "three inputs": ((X.repeat(1, 2), Y, 3), {}, r"points \[n, 2\] or .*, got \[4, 4\]"),
    "one point as a row": ((X[0], Y[:1], 3), {}, r"points \[n, 2\] or .*, got \[2\]"),
    "flexible": (
        (X.repeat(1, 2), Y, 3),
        {"cls": FlexiblePolicy},
        r"\[n, 1 to 2\].*\[4, 4\]",
    ),
    "z without safety": (
        (X, Y, 3, Z),
        {},
        "no safety: .* got z as well; leave z out",
    ),
    "missing z": ((X, Y, 3), SAFE, "needs z, the safety measurements, a number a point; got none"),
    "length of y": ((X, Y[:2], 3), {}, r"y has a number a point, \[4\], got \[2\]; give both"),
    "length of z": ((X, Y, 3, Z[:3]), SAFE, r"z has a number a point, \[4\], got \[3\]"),
    "users of y": ((X[None], Y, 3), {}, r"y has a number a point, \[1, 4\], got \[4\]"),
    "no history": ((X[:0], Y[:0], 3), {}, "1 to 12 points, got 0; measure a point first"),
    "empty lists": (([], [], 3), {}, "1 to 12 points, got 0; measure a point first"),
    "no users": ((X[None][:0], Y[None][:0], 3), {}, "no user at all"),
    "long history": (
        (X.repeat(4, 1), Y.repeat(4), 3),
        {},
        "1 to 12 points, got 16; leave some",
    ),
    "spent": ((X, Y, 0), {}, "budget is spent: 0 queries left; begin a new one"),
    "below nothing": ((X, Y, -3), {"budget_aware": False}, "budget is spent: -3 queries left"),
    "large budget": ((X, Y, 11), {}, "for 10 queries at most, got a budget of 11; give a smaller"),
    "many budgets": ((X, Y, [1, 2]), {}, "budget is one number or 1, one a user, got 2; give"),
    "half a query": ((X, Y, 2.5), {}, r"whole number of queries, got 2\.5; count them"),
    "nan budget": ((X, Y, float("nan")), {}, "whole number of queries, got nan"),
    "no budget": ((X, Y, None), {}, "whole number of queries, got None"),
    "words": ((X, ["a"] * 4, 3), {}, "y is an array or a tensor of numbers, got list"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Settings -> the policy's ONNX file at work."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    folder = tmp_path_factory.mktemp("exported")
    return lambda settings: made(**settings).export(folder / "mine")


@pytest.mark.parametrize("name", BAD)
def test_bad_questions_are_refused(name):
    arguments, settings, says = BAD[name]
    with pytest.raises(ValueError, match=says):
        made(**settings).query(*arguments)


def test_exported_policies_refuse_the_same(exported):
    for settings in ({}, SAFE, {"budget_aware": False}):
        policy, runs = made(**settings), exported(settings)
        for arguments, others, says in BAD.values():
            if others == settings:
                with pytest.raises(ValueError, match=says) as expected:
                    policy.query(*arguments)
                with pytest.raises(ValueError, match=says) as found:
                    runs.query(*arguments)
                assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("safe", [False, True])
def test_a_session_that_refuses_is_as_it_was_and_goes_on(safe):
    policy = made(safe=safe)
    more = (Z[0],) if safe else ()
    session, twin = policy.session(3), policy.session(3)
    with pytest.raises(ValueError, match="tell the session a point first"):
        session.ask()
    bad = [
        (X[0] + 1, Y[0], *more),
        (X[0] * np.nan, Y[0], *more),
        (X[0], Y[0] * np.nan, *more),
        (X[0], Y[:2], *more),
        (X[0, :1], Y[0], *more),
        (X[0], Y[0]) if safe else (X[0], Y[0], Z[0]),
        (X.repeat(4, 1), Y.repeat(4), *([Z.repeat(4)] if safe else [])),
        # the first of these points is fine, the second is not: neither counts
        (torch.stack([X[0], X[1] + 1]), Y[:2], *([Z[:2]] if safe else [])),
        *([(X[0], Y[0], Z[0] * np.nan)] if safe else []),
    ]
    asked = []
    for step in range(3):
        for arguments in bad:
            with pytest.raises(ValueError, match=r"; "):
                session.tell(*arguments)
            assert (session.told, session.budget) == (step, 3 - step)
        point = (X[step], Y[step], *([Z[step]] if safe else []))
        session.tell(*point)
        twin.tell(*point)
        asked.append(session.ask())
        assert torch.equal(asked[-1], twin.ask())
        expected = policy.query(
            X[: step + 1], Y[: step + 1], 3 - step, *([Z[: step + 1]] if safe else [])
        )
        torch.testing.assert_close(asked[-1], expected)
    with pytest.raises(ValueError, match="budget is spent: 0 queries left; begin a new session"):
        session.ask()
    assert (session.told, session.budget) == (3, 0)


def test_a_session_ends_where_the_training_did():
    policy = made()
    for budget, says in ((0, "is spent"), (11, "10 queries at most"), (2.5, "whole number")):
        with pytest.raises(ValueError, match=says):
            policy.session(budget)
    session = policy.session(BUDGET)
    for _ in range(3):
        session.tell(X, Y)
    with pytest.raises(ValueError, match=r"12 points at most, .* has 12 .* the 13th; begin"):
        session.tell(X[0], Y[0])
    assert session.told == HISTORY
    expected = policy.query(X.repeat(3, 1), Y.repeat(3), BUDGET)
    torch.testing.assert_close(session.ask(), expected)


def test_what_is_asked_is_not_changed_and_may_be_of_any_kind():
    policy = made(safe=True)
    x, y, z = X.clone(), Y.clone(), Z.clone()
    first = policy.query(x, y, 3, z)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    kinds = (
        (X.double().numpy(), Y.tolist(), np.int32(3), Z.numpy()),
        (X.requires_grad_(False).tolist(), Y.double(), torch.tensor([3.0]), Z.tolist()),
        (X.clone().requires_grad_(), Y.numpy(), 3.0, Z),
        (np.asfortranarray(X.numpy()), list(Y), [3], Z.numpy()[::1]),
    )
    for kind in kinds:
        torch.testing.assert_close(policy.query(*kind), first)
    session = policy.session(2)
    session.tell(X.tolist()[0], float(Y[0]), [float(Z[0])])
    session.tell(X[1:].numpy(), Y[1:].tolist(), Z[1:])
    torch.testing.assert_close(session.ask(), policy.query(X, Y, 2, Z))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2, this version reads 1; take the version"),
        ({"kind": "os.system"}, "no policy of kind 'os.system'"),
        ({"kind": 3}, r"mine\.json is damaged: kind is a name, got 3; fetch it again"),
        ({"settings": {"dimension": 3}}, "no weights of its card's network"),
        ({"settings": {"dimensions": 3}}, "no weights of its card's network"),
        ({"settings": [3]}, r"mine\.json is damaged: settings is a table, got \[3\]"),
        ({"history": "12"}, "damaged: history is a whole number, 1 or more, got '12'; fetch"),
        ({"budget": 0}, "damaged: budget is a whole number, 1 or more, got 0"),
        ({"sha256": "0"}, "not the file that its card describes; fetch both again"),
        ("history", r"mine\.json is damaged: no field 'history'; fetch it again"),
        ("format", "no card of a policy"),
        (None, r"mine\.json is damaged: .*; fetch it again"),
    ],
)
def test_cards_that_are_wrong_are_refused(tmp_path, change, says):
    path = made().save(tmp_path / "mine").with_suffix(".json")
    card = json.loads(path.read_text())
    if isinstance(change, str):
        del card[change]
    text = (
        path.read_text()[:40]
        if change is None
        else json.dumps(card | (change if isinstance(change, dict) else {}))
    )
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        Policy.load(path)
    path.write_bytes(b"\xff\xfe\x00[")
    with pytest.raises(ValueError, match="is damaged"):
        Policy.load(path)


def test_weights_that_are_missing_cut_or_spoiled_are_refused(tmp_path):
    with pytest.raises(LookupError, match="no policy named 'asal-9d'"):
        Policy.load("asal-9d")
    path = made().save(tmp_path / "mine")
    data, card = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    for wrong in (data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1]), b""):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="not the file that its card describes; fetch both"):
            Policy.load(path)
    unsigned = json.dumps(card | {"sha256": None})
    path.with_suffix(".json").write_text(unsigned)
    for wrong in (data[: len(data) // 2], data[:20], b""):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="no weights of its card's network"):
            Policy.load(path)
    policy = made()
    policy.network.last.weight[0, 0, 0] = np.nan
    policy.save(tmp_path / "mine")
    with pytest.raises(ValueError, match="weights that are NaN or infinite; fetch it again"):
        Policy.load(path)
    path.unlink()
    with pytest.raises(LookupError, match=r"no mine\.safetensors beside it"):
        Policy.load(path)
