"""Names, specifications and identities of strategies; the registry's own manners."""

import importlib
import inspect
import math
import os
import pickle
import pkgutil
import subprocess
import sys
from functools import partial

import pytest
import yaml

from lightning_al import measures, strategies
from lightning_al.protocols import QueryStrategy
from lightning_al.registry import Registry
from lightning_al.spec import signature
from lightning_al.strategies import (
    STRATEGIES,
    EpsilonGreedy,
    FilterThenChoose,
    ScoreStrategy,
    WeightedSum,
    build,
    kind_of,
    names,
    resolve,
)
from lightning_al.strategies.score_strategy import describe

NAMES = names()


def mean_over_classes(probs):
    return probs.mean(-1)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_builds_a_strategy(name):
    strategy = build(name)
    assert isinstance(strategy, QueryStrategy)
    assert strategy.privileged is False


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_is_importable_and_cites_a_year(name):
    factory = STRATEGIES.factory(name)
    assert getattr(strategies, factory.__name__) is factory
    assert factory.__name__ in strategies.__all__
    own_idea = name in {"random", "weighted-sum", "filter-then-choose"}
    assert own_idea or any(str(year) in (factory.__doc__ or "") for year in range(1940, 2030))


@pytest.mark.parametrize("name", NAMES)
def test_identity(name):
    one, two = build(name), build(name)
    assert one == two
    assert hash(one) == hash(two)
    assert " at 0x" not in repr(one)
    assert repr(pickle.loads(pickle.dumps(one))) == repr(one)


def test_identity_is_the_same_in_another_process():
    code = "from lightning_al.strategies import *; print([build(n) for n in names()])"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    got = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert got.stdout.strip() == repr([build(n) for n in NAMES])


def test_identity_tells_settings_and_functions_apart():
    assert build("power-bald", beta=2.0) != build("power-bald")
    assert build("power-bald") == build("power", score="bald")
    assert build("margin") != build("ratio")
    first, second = ScoreStrategy(lambda p: p.sum(-1)), ScoreStrategy(lambda p: p.mean(-1))
    assert first != second
    assert " at 0x" not in repr(first)


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(LookupError, match="no strategy named 'blad'") as error:
        build("blad")
    assert "did you mean 'bald'?" in str(error.value)
    assert all(name in str(error.value) for name in NAMES)


def test_wrong_argument_says_what_it_takes():
    with pytest.raises(ValueError, match=r"'power'.*temperature.*it takes score.*beta"):
        build("power", temperature=2)


def test_arguments_may_be_text_that_means_them():
    spec = {"name": "power", "score": {"name": "ucb", "kappa": "2"}, "beta": "1e-1"}
    assert resolve(spec) == strategies.power(strategies.ucb(2.0), 0.1)
    assert build("bait", ridge="1e-3", sketch="64") == build("bait", ridge=0.001, sketch=64)
    assert build("power", beta=2) == build("power", beta=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_names_own_defaults_are_arguments_that_it_takes(name):
    defaults = {n: p.default for n, p in signature(STRATEGIES.factory(name)).parameters.items()}
    assert resolve({"name": name, **defaults}) == build(name)
    written = {n: list(v) if isinstance(v, tuple) else v for n, v in defaults.items()}
    plain = {n: v for n, v in written.items() if not callable(v)}
    again = yaml.safe_load(yaml.safe_dump({"name": name, **plain}))
    assert resolve(again) == build(name)


# --- what they declare ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_a_name_declares_fits_what_it_builds(name):
    strategy, declared = build(name), STRATEGIES.declared(name)
    assert kind_of(name) == declared.kind == kind_of(strategy)
    # what is for a Gaussian process brings a posterior of its own
    many = strategy.members == "many" and declared.kind != "safe"
    assert (declared.members is not None) == many


def test_an_object_without_a_kind_is_for_the_task_that_has_what_it_needs():
    def of(*needs):
        return kind_of(ScoreStrategy(mean_over_classes, needs=needs))

    assert [of("probs"), of("logits"), of("mean"), of("embedding", "variance")] == [
        *("classification", "classification", "regression", "regression")
    ]
    assert of("embedding") == of() == "either"
    assert kind_of(strategies.power("ucb")) == "regression"
    with pytest.raises(LookupError, match="did you mean 'bald'"):
        kind_of("blad")


def test_a_kind_that_is_none_is_refused_where_it_is_declared():
    with pytest.raises(ValueError, match=r"kind is one of 'classification', .*got 'ranking'"):
        STRATEGIES.register("never", kind="ranking")(strategies.bald)
    assert "never" not in STRATEGIES


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ("bald", build("bald")),
        (build("margin"), build("margin")),
        ({"name": "power", "score": "entropy", "beta": 2.0}, strategies.power("entropy", 2.0)),
        ({"class_path": "lightning_al.strategies.bald"}, build("bald")),
        ({"class_path": "bald"}, build("bald")),
        (
            {"class_path": "lightning_al.strategies.greedy", "init_args": {"maximize": False}},
            build("greedy", maximize=False),
        ),
        (
            {
                "name": "filter-then-choose",
                "filter": {"name": "power", "score": {"class_path": "margin"}},
                "then": "random",
                "keep": 3.0,
            },
            FilterThenChoose(strategies.power("margin"), strategies.random(), 3.0),
        ),
        (
            {
                "class_path": "lightning_al.strategies.WeightedSum",
                "init_args": {"parts": ["bald", {"name": "entropy"}], "weights": [1, 2]},
            },
            WeightedSum((build("bald"), build("entropy")), (1.0, 2.0)),
        ),
    ],
)
def test_resolve(spec, want):
    assert resolve(spec) == want


def test_resolve_leaves_the_specification_alone():
    spec = {"name": "power", "beta": 2.0}
    resolve(spec)
    assert spec == {"name": "power", "beta": 2.0}


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("no-such", LookupError, f"choose one of {NAMES[0]}, "),
        (measures.bald, ValueError, "ScoreStrategy"),
        (WeightedSum, ValueError, "give an instance"),
        (7, ValueError, "a name, a dict"),
        ({"beta": 1.0}, ValueError, "'name' and arguments"),
        ({"class_path": "bald", "beta": 1.0}, ValueError, "init_args"),
        ({"class_path": "lightning_al.strategies.Nothing"}, LookupError, "importable path"),
        ({"class_path": "no_such_package.Thing"}, LookupError, "importable path"),
    ],
)
def test_resolve_errors(spec, error, says):
    with pytest.raises(error, match=says):
        resolve(spec)


def test_half_a_strategy_is_told_what_it_lacks():
    class Half:
        needs = ()

        def choose(self, candidates, k, generator):
            raise NotImplementedError

    with pytest.raises(ValueError, match="lacks keeps, members, privileged"):
        resolve(Half())


def test_a_users_function_is_a_strategy():
    strategy = ScoreStrategy(mean_over_classes, needs="probs")
    assert strategy.needs == ("probs",)
    assert resolve(strategy) is strategy
    with pytest.raises(ValueError, match="'one' or 'many'"):
        ScoreStrategy(mean_over_classes, members="all")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: WeightedSum([]), "at least one part"),
        (lambda: WeightedSum(["bald"], [1, 2]), "1 parts and 2 weights"),
        (lambda: WeightedSum(["bald", "random"]), "parts that score"),
        (lambda: WeightedSum(["bald"], normalise="softmax"), "'zscore'"),
        (lambda: FilterThenChoose("bald", "random", 0.5), "at least 1"),
        (lambda: EpsilonGreedy("bald", 1.5), "0 to 1"),
        (lambda: strategies.power("random"), "scores"),
        (lambda: strategies.power("filter-then-choose"), "scores"),
    ],
)
def test_compositions_refuse_at_construction(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_registry_files_a_name_once():
    registry: Registry = Registry("thing")
    registry.register("a")(dict)
    with pytest.raises(ValueError, match="registered already"):
        registry.register("a")(list)
    assert registry.names() == ["a"]
    assert "a" in registry
    assert len(registry) == 1


def test_modules_say_what_they_offer():
    found = pkgutil.walk_packages(strategies.__path__, f"{strategies.__name__}.")
    modules = [module.name for module in found]
    assert len(modules) > 40
    for name in modules:
        module = importlib.import_module(name)
        assert all(hasattr(module, public) for public in module.__all__)
        assert inspect.getdoc(module)


def test_describe_writes_partials_as_calls():
    value = [partial(mean_over_classes, dim=1), {"f": (math.sqrt,)}]
    assert describe(value) == f"[{__name__}.mean_over_classes(dim=1), {{'f': (math.sqrt,)}}]"
