"""A policy as an ONNX file says what the policy says, in a process that has nothing else."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.policy_worlds import BUDGET, FORMS, HISTORY, made, network, told

from lightning_al.policies import Exported, FlexiblePolicy, Policy, SetPolicy, export

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

FRESH = """
import sys
import numpy as np
from lightning_al.policies import Exported

folder, forms, cap = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
asked, answers = np.load(f"{folder}/asked.npz"), {}
for form in forms:
    policy = Exported.load(f"{folder}/{form}.onnx")
    for n in range(1, cap + 1):
        x, y, z, budget = (asked[f"{name}{n}"] for name in ("x", "y", "z", "budget"))
        more = [z] if form.startswith("safe") else []
        answers[f"{form}{n}"] = policy.query(x, y, budget, *more).numpy()
        one = policy.query(x[0], y[0], int(budget[0]), *[m[0] for m in more])
        assert one.shape == (2,)
        answers[f"{form}{n}-one"] = one.numpy()
np.savez(f"{folder}/answers.npz", **answers)
"""


def write(policy, path):
    return export.write(policy.network, policy._engine, policy.card, path)


def test_a_fresh_process_answers_as_the_policy_for_every_length_of_history(tmp_path):
    policies = {form: made(**settings) for form, settings in FORMS.items()}
    policies |= {f"{form}-flexible": made(FlexiblePolicy, **FORMS[form]) for form in ("al", "safe")}
    for form, policy in policies.items():
        write(policy, tmp_path / form)
    asked = {}
    for n in range(1, HISTORY + 1):
        x, y, z = told(n, users=3, seed=n)
        budget = torch.tensor([n % BUDGET + 1, 1, BUDGET])
        asked |= {f"x{n}": x, f"y{n}": y, f"z{n}": z, f"budget{n}": budget}
    np.savez(tmp_path / "asked.npz", **{k: v.numpy() for k, v in asked.items()})
    command = [sys.executable, "-c", FRESH, str(tmp_path), ",".join(policies), str(HISTORY)]
    subprocess.run(command, check=True, timeout=300)
    answers = np.load(tmp_path / "answers.npz")
    for form, policy in policies.items():
        for n in range(1, HISTORY + 1):
            x, y, z, budget = (asked[f"{name}{n}"] for name in ("x", "y", "z", "budget"))
            net = policy.network
            expected = net(budget if net.budget_aware else None, x, y, z if net.safe else None)
            found = answers[f"{form}{n}"]
            assert found.shape == (3, 2)
            assert np.abs(found - expected.numpy()).max() < 1e-5, (form, n)
            assert np.abs(answers[f"{form}{n}-one"] - expected[0].numpy()).max() < 1e-5, (form, n)


@pytest.mark.parametrize("safe", [False, True])
def test_the_published_size_agrees_and_is_small(tmp_path, safe):
    net = network(safe=safe, width=128, heads=8, hidden=512)
    policy = Policy.of(net, 45, 40)
    exported = policy.export(tmp_path / "mine.onnx")
    assert (tmp_path / "mine.onnx").stat().st_size < 3e6
    for n in range(1, 46):
        x, y, z = told(n, seed=n)
        more = (z,) if safe else ()
        expected = policy.query(x, y, n % 40 + 1, *more)
        found = exported.query(x.tolist(), y.numpy(), n % 40 + 1, *more)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found = exported.query(x, y * 1e4, 3, *more)  # no infinity from exp
    assert found.isfinite().all()
    torch.testing.assert_close(found, policy.query(x, y * 1e4, 3, *more), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dimension", [1, 5])
def test_a_budget_of_one_and_other_dimensions(tmp_path, dimension):
    policy = made(budget=1, dimension=dimension)
    exported = policy.export(tmp_path / "mine")
    x, y, _ = told(4, users=3, dimension=dimension)
    torch.testing.assert_close(exported.query(x, y, 1), policy.query(x, y, 1))


def test_the_card_travels_along_and_the_graph_is_plain_onnx(tmp_path):
    policy = made(safe=True)
    exported = policy.export(tmp_path / "deep" / "mine")
    assert exported.card.settings == policy.network.settings
    for name in ("kind", "history", "budget", "training", "format"):
        assert getattr(exported.card, name) == getattr(policy.card, name)
    model = onnx.load(tmp_path / "deep" / "mine.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [o.domain for o in model.opset_import] == [""]
    shape = [
        [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
        for i in (*model.graph.input, *model.graph.output)
    ]
    assert shape == [["users", "n", 4], ["users"], ["users", 2]]
    again = write(policy, tmp_path / "again").read_bytes()
    assert again == (tmp_path / "deep" / "mine.onnx").read_bytes()  # the same bytes each time


@pytest.mark.parametrize("sequence_first", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_flexible_policy_takes_fewer_inputs_too(tmp_path, form, sequence_first):
    settings = {"dimension": 3, "sequence_first": sequence_first, **FORMS[form]}
    policy = made(FlexiblePolicy, **settings)
    exported = policy.export(tmp_path / "mine")
    for dimension in (1, 2, 3):
        for n in (1, 2, 5, HISTORY):
            x, y, z = told(n, users=3, dimension=dimension)
            more = (z,) if policy.network.safe else ()
            budget = [1, BUDGET, n % BUDGET + 1]
            found, expected = (p.query(x, y, budget, *more) for p in (exported, policy))
            assert found.shape == (3, dimension)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch, package):
    path = write(made(), tmp_path / "mine")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}.*pip install 'lightning-al\[onnx\]'"):
        made().export(tmp_path / "mine")
    if package == "onnxruntime":
        with pytest.raises(ImportError, match="needs onnxruntime"):
            Exported.load(path)
    else:
        Exported.load(path)  # onnx is needed for writing alone


def changed(path, change):
    """The file with other metadata."""
    model = onnx.load(path)
    found = {p.key: p.value for p in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, change(found))
    onnx.save(model, path)


def test_files_that_are_wrong_are_refused(tmp_path):
    with pytest.raises(LookupError, match=r"no file .*mine\.onnx; write it with policy\.export"):
        Exported.load(tmp_path / "mine.onnx")
    path = write(made(), tmp_path / "mine")
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(ValueError, match=r"mine\.onnx (cannot be run|is not as|is an ONNX)"):
            Exported.load(path)
    path.write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"the whole of a file that policy\.export wrote"):
        Exported.load(path)
    weights = made().network.encoder.last.bias[0].numpy().tobytes()
    at = data.index(weights) + 5
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])  # one bit of one weight
    with pytest.raises(ValueError, match=r"mine\.onnx is not as it was written.*export it again"):
        Exported.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: {}, r"without a policy's card, got the metadata \[\]; write it with"),
        (lambda found: {"lightning_al.card": found["lightning_al.card"]}, "without a policy's"),
        (
            lambda found: found | {"lightning_al.card": found["lightning_al.card"][:30]},
            "is damaged",
        ),
        (
            lambda found: (
                found
                | {
                    "lightning_al.card": json.dumps(
                        json.loads(found["lightning_al.card"]) | {"format": 2}
                    )
                }
            ),
            "format 2, this version reads 1",
        ),
        (
            lambda found: (
                found
                | {
                    "lightning_al.card": json.dumps(
                        json.loads(found["lightning_al.card"]) | {"history": 99}
                    )
                }
            ),
            "not as it was written",
        ),
    ],
)
def test_cards_that_are_wrong_are_refused(tmp_path, change, says):
    path = write(made(), tmp_path / "mine")
    changed(path, change)
    with pytest.raises(ValueError, match=says):
        Exported.load(path)


def test_an_onnx_file_of_something_else_is_refused(tmp_path):
    helper = onnx.helper
    kind = helper.make_tensor_value_info("a", 1, [1]), helper.make_tensor_value_info("b", 1, [1])
    node = helper.make_node("Relu", ["a"], ["b"])
    graph = helper.make_graph([node], "other", [kind[0]], [kind[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"other\.onnx is an ONNX file without a policy's card"):
        Exported.load(tmp_path / "other.onnx")


def test_what_is_exported_was_a_set_policy_of_this_package():
    class Mine(SetPolicy):
        """Another forward pass, perhaps."""

    own = Policy(Mine(2, width=8, heads=2, hidden=8), made().card)
    with pytest.raises(NotImplementedError, match="has a Mine"):
        own.export("nowhere")
