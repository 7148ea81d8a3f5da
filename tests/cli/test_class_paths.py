"""A class path in a configuration builds what its option is for, and calls nothing else."""

import sys
from argparse import ArgumentError

import pytest
import yaml
from helpers import small

from lightning_al.assembly.command_plan import CommandPlan
from lightning_al.assembly.families import FAMILIES, built
from lightning_al.cli import main
from lightning_al.records.plan import options_of
from lightning_al.spec import read
from lightning_al.studies.asal.traces import rebuilt
from lightning_al.tasks import SklearnClassification
from lightning_al.tasks.gpytorch_specs import parsed
from lightning_al.tasks.sklearn_specs import estimator_of, find_estimator

REFUSED = (ValueError, LookupError, TypeError, ArgumentError)
PARTS = [(each.name, facts) for each, facts in options_of(CommandPlan) if facts.part]
FUNCTIONS = ("features", "stopping")
"""Families whose members may be plain functions."""
PLAIN = [each.name for each, facts in options_of(CommandPlan) if not facts.part and facts.command]
HOSTILE = {
    "a folder": ("os.mkdir", "path"),
    "a shell": ("os.system", "command"),
    "a process": ("subprocess.Popen", "args"),
    "what a pickle holds": ("torch.load", "f"),
    "a file that is opened": ("logging.FileHandler", "filename"),
    "code": ("builtins.eval", "source"),
    "a module that is run": ("runpy.run_path", "path_name"),
}


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """``trap(case)``: a specification, which leaves a mark in the folder when it is called."""
    mark = tmp_path / "mark"
    script = tmp_path / "script.py"
    script.write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    arguments = {
        "path": str(mark),
        "command": f"touch {mark}",
        "args": ["touch", str(mark)],
        "f": str(mark),
        "filename": str(mark),
        "source": f"open({str(mark)!r}, 'w')",
        "path_name": str(script),
    }
    called = []

    def spy(path, real):
        def called_so(*args, **more) -> object:
            called.append(path)
            return real(*args, **more)

        return called_so

    for path in ("os.mkdir", "os.system", "torch.load", "runpy.run_path"):
        module, _, name = path.rpartition(".")
        __import__(module)
        real = getattr(sys.modules[module], name)
        if path != "os.mkdir":  # folders are made for a run too
            monkeypatch.setattr(sys.modules[module], name, _like(spy(path, real), real))

    def make(case):
        path, name = HOSTILE[case]
        return {"class_path": path, "init_args": {name: arguments[name]}}

    make.sprung = lambda: called or mark.exists()
    return make


def _like(wrapper, real):
    wrapper.__annotations__ = dict(getattr(real, "__annotations__", {}))
    wrapper.__signature__ = __import__("inspect").signature(real)
    wrapper.__name__ = real.__name__
    return wrapper


def forms(spec):
    """The same specification in every form that is read."""
    path, arguments = spec["class_path"], spec["init_args"]
    return [path, spec, {"name": path, **arguments}, {"name": path, "init_args": arguments}]


def test_the_options_with_parts_are_all_of_a_family():
    assert {name for name, _ in PARTS} == {
        *("strategy", "oracle", "posterior", "features", "first", "stopping", "baseline"),
    }
    assert {facts.part for _, facts in PARTS} <= set(FAMILIES)
    assert all(family.contract is not None for family in FAMILIES.values())


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("part", sorted({facts.part for _, facts in PARTS}))
def test_a_family_builds_its_members_alone(part, case, trap):
    bare, *called = forms(trap(case))
    for form in called:
        with pytest.raises(REFUSED):
            built(part, form)
    try:
        found = built(part, bare)
    except REFUSED:
        found = None
    assert found is None or part in FUNCTIONS  # any function is one, which is not called here
    assert not trap.sprung()


INSIDE = {
    "oracle": lambda spec: {"name": "Noisy", "oracle": spec},
    "strategy": lambda spec: {"name": "power", "score": spec},
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("part", INSIDE)
def test_a_member_inside_another_is_one_of_the_family_too(part, case, trap):
    for form in forms(trap(case)):
        with pytest.raises(REFUSED):
            built(part, INSIDE[part](form))
    assert not trap.sprung()


ACTIVE = "lightning_al.datamodules.ActiveDataModule"
DIGITS = "lightning_al.datamodules.DigitsDataModule"
NET = "lightning_al.tasks.Classification"


def inside(path, **arguments):
    return {"class_path": path, "init_args": arguments}


SETTINGS = {
    **{
        name: lambda spec, name=name, facts=facts: {name: [spec] if facts.several else spec}
        for name, facts in PARTS
    },
    **{name: lambda spec, name=name: {name: spec} for name in PLAIN if name != "adapter"},
    "data": lambda spec: {"data": spec},
    "model": lambda spec: {"model": spec},
    "optimizer": lambda spec: {"optimizer": spec},
    "lr_scheduler": lambda spec: {
        "optimizer": inside("torch.optim.SGD", lr=0.1),
        "lr_scheduler": spec,
    },
    "a callback": lambda spec: {"trainer": {"callbacks": [spec]}},
    "a logger": lambda spec: {"trainer": {"logger": spec}},
    "a profiler": lambda spec: {"trainer": {"profiler": spec}},
    "a plugin": lambda spec: {"trainer": {"plugins": [spec]}},
    "the Trainer's strategy": lambda spec: {"trainer": {"strategy": spec}},
    "an accelerator": lambda spec: {"trainer": {"accelerator": spec}},
    "adapter": lambda spec: {"adapter": spec},
    "a reading": lambda spec: {"adapter": {"reading": spec}},
    "what an output is": lambda spec: {"adapter": {"output_is": spec}},
    "a network": lambda spec: {"model": inside(NET, network=spec)},
    "a metric": lambda spec: {"model": inside(NET, network=None, metrics=[spec])},
    "an estimator": lambda spec: {
        "model": inside("lightning_al.tasks.SklearnClassification", estimator=spec)
    },
    "a kernel": lambda spec: {"model": inside("lightning_al.tasks.GPRegression", kernel=spec)},
    "a data set": lambda spec: {"data": inside(ACTIVE, train=spec, test=0.2)},
    "a collation": lambda spec: {"data": inside(ACTIVE, train=None, collate=spec)},
    "the initial labels": lambda spec: {"data": inside(DIGITS, initial=spec)},
    "groups": lambda spec: {"data": inside(ACTIVE, train=None, groups=[spec])},
}


WHERE = [
    *((where, "a file that is opened") for where in SETTINGS),
    *(
        (where, case)
        for where in ("a collation", "the initial labels", "a data set", "an estimator", "adapter")
        for case in ("a folder", "a process")
    ),
]


@pytest.mark.parametrize(("where", "case"), WHERE)
def test_a_configuration_of_a_stranger(where, case, trap, tmp_path):
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(SETTINGS[where](trap(case))))
    words = ["run", "--config", "quickstart", "--config", "evil.yaml", "--progress", "false"]
    with pytest.raises(REFUSED):
        main(words)
    assert not trap.sprung()


@pytest.mark.parametrize("command", ["fit", "validate"])
@pytest.mark.parametrize("where", ["the initial labels", "an estimator", "groups"])
def test_lightnings_own_commands_too(where, command, trap, tmp_path):
    spec = trap("a file that is opened")
    settings = {"model": inside("lightning_al.tasks.SklearnClassification", estimator=spec)}
    if where != "an estimator":
        settings = SETTINGS[where](spec)
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises((*REFUSED, AttributeError)):
        main([command, "--config", "quickstart", "--config", "evil.yaml"])
    assert not trap.sprung()


@pytest.mark.parametrize("case", HOSTILE)
def test_parts_of_tasks_are_what_they_are_for(case, trap):
    spec = trap(case)
    path, arguments = spec["class_path"], spec["init_args"]
    for refuse in (
        lambda: find_estimator(path),
        lambda: estimator_of(spec),
        lambda: estimator_of(inside("sklearn.ensemble.BaggingClassifier", estimator=spec)),
        lambda: SklearnClassification(path, 3, params=arguments),
        lambda: SklearnClassification(spec, 3),
        lambda: parsed(path),
        lambda: parsed(spec),
        lambda: parsed({"name": path, **arguments}),
    ):
        with pytest.raises(REFUSED):
            refuse()
    assert not trap.sprung()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_report_of_a_strangers_run_calls_nothing(case, trap):
    assert rebuilt(trap(case)) is None
    assert not trap.sprung()


@pytest.mark.parametrize(
    "name", ["lightning_al.datamodules.ProblemDataModule", f"{small.__name__}.MeasuredLine"]
)
def test_a_report_builds_data_modules(name):
    arguments = {"name": "branin"} if name.endswith("ProblemDataModule") else {}
    assert type(rebuilt(inside(name, **arguments))).__name__ == name.rpartition(".")[2]


def anything(f, **more) -> object:
    raise AssertionError("called")


def whatever(f=None):
    raise AssertionError("called")


@pytest.mark.parametrize("function", ["anything", "whatever"])
@pytest.mark.parametrize("part", sorted(set(FAMILIES) - set(FUNCTIONS)))
def test_a_function_that_does_not_say_what_it_makes_is_not_called(part, function):
    path = f"{__name__}.{function}"
    for spec in (path, inside(path, f=1)):
        with pytest.raises(ValueError, match=r"is no .*: a function that makes one says so"):
            read(spec, FAMILIES[part])


@pytest.mark.parametrize(
    "spec",
    [
        inside("sklearn.ensemble.RandomForestClassifier", n_estimators=3),
        inside(
            "sklearn.ensemble.BaggingClassifier",
            n_estimators=2,
            estimator=inside("sklearn.tree.DecisionTreeClassifier", max_depth=2),
        ),
        inside(
            "sklearn.svm.SVC",
            kernel="rbf",
            probability=True,
        ),
    ],
)
def test_estimators_by_their_paths_are_built(spec):
    made = estimator_of(spec)
    assert type(made).__name__ == spec["class_path"].rpartition(".")[2]
    for name, value in spec["init_args"].items():
        if isinstance(value, dict):
            assert type(getattr(made, name)).__name__ == value["class_path"].rpartition(".")[2]
        else:
            assert getattr(made, name) == value


def test_an_estimator_by_its_path_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forest = inside("sklearn.ensemble.RandomForestClassifier", n_estimators=3)
    task = inside("lightning_al.tasks.SklearnClassification", estimator=forest, classes=None)
    (tmp_path / "it.yaml").write_text(yaml.safe_dump({"model": task}))
    words = ["run", "--config", "quickstart", "--config", "it.yaml", "--budget", "20"]
    (history,) = main([*words, "--progress", "false", "--trainer.max_epochs", "1"])
    assert len(history.rounds) == 2
