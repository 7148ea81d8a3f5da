"""The library of strategies is whole: each has an overlay, a source, its own choices, and runs."""

import functools
import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from helpers.set_worlds import FIXTURES, chosen, world
from matplotlib.figure import Figure

from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.parser import parse
from lightning_al.assembly.shipped import (
    config_path,
    find_config,
    list_configs,
    list_overlays,
)
from lightning_al.cli import main
from lightning_al.strategies import STRATEGIES, build, kind_of, names, resolve
from lightning_al.strategies import strategy_registry as registry
from lightning_al.testing import rehearsed

EACH = pytest.mark.parametrize("name", names())
EQUIVALENT = getattr(registry, "EQUIVALENT", {})
NO_PAPER = "no paper of its own"
YEAR = r"(?:1[89]|20)\d\d"
SOURCE = re.compile(
    rf"\([A-Z][^()]*\b{YEAR}\b|Source:[^()]*[A-Z]\w+[^()]*\({YEAR}\b|(?i:{NO_PAPER})"
)
DROPOUT = "lightning_al.posteriors.MCDropout"
MANY = {"batch-bald": 100, "batch-epig": 100}  # a batch says log S about S members at the most
MANY |= {name: 25 for name in names() if name.startswith("balsa-")} | {"bald-naive": 25}
SMALL = [
    *("--data.test", "0.8", "--trainer.max_epochs", "1", "--query_size", "4", "--budget", "8"),
    *("--progress", "false"),
]
TWO_MEASURES = """
model: {class_path: lightning_al.tasks.GPRegression, init_args: {outputs: 2}}
data: {class_path: helpers.small.MeasuredLine}
trainer: {max_epochs: 1}
"""
SHORT = {"core-gcn": {"epochs": 15}, "batch-epig": {"targets": 10}}  # as in a run, but for less
SHORT |= {"pca-k-center": {"components": 2}}  # fewer than the embedding has numbers
SHORT |= {"input-density": {"transforms": 1, "width": 8, "epochs": 3}}
MEMBERS = {
    "digits": "--posterior.members",
    "diabetes": "--model.network.members",
    "diabetes_density": "--posterior.members",
}
BASES = {
    "classification": ["digits"],
    "regression": ["diabetes"],
    "density": ["diabetes_density"],
    "either": ["digits", "diabetes"],
    "safe": ["two_measures"],
}
RUNS = [(name, base) for name in names() for base in BASES[kind_of(name)]]


def overlay(name):
    return yaml.safe_load(find_config(f"strategies/{name}").text())


# --- nothing is missing --------------------------------------------------------------------------


def test_each_has_an_overlay():
    assert list_overlays() == [f"strategies/{name}" for name in names()]
    assert list_configs()[-len(names()) :] == list_overlays()


def test_an_overlay_is_no_file():
    with pytest.raises(ValueError, match="run --config NAME --config strategies/bald"):
        config_path("strategies/bald")


@EACH
def test_it_has_a_docstring_with_a_source(name):
    text = inspect.getdoc(STRATEGIES.factory(name)) or ""
    assert SOURCE.search(text), "name author and year, or say that it has " + NO_PAPER


@pytest.mark.parametrize(
    ("text", "sourced"),
    [
        ("Least first (Lewis and Gale 1994).", True),
        ("Source: Xu et al., Sampling (2003).", True),
        ("The baseline; it has no paper of its own.", True),
        ("Least first.", False),
        ("Least first (1994).", False),
        ("Least of 2000 first (lowest).", False),
    ],
)
def test_what_counts_as_a_source(text, sourced):
    assert bool(SOURCE.search(text)) == sourced


@EACH
def test_its_overlay_names_it_with_its_own_defaults(name):
    config = overlay(name)
    spec = config["strategy"]
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    assert given.pop("name") == name
    defaults = {
        k: p.default for k, p in inspect.signature(STRATEGIES.factory(name)).parameters.items()
    }
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()} == {
        k: tuple(defaults[k]) if isinstance(given[k], list) else defaults[k] for k in given
    }
    strategy = resolve(spec)
    assert type(strategy) is type(build(name))
    # what is for a Gaussian process brings a posterior of its own
    members = strategy.members == "many" and kind_of(name) != "safe"
    posterior = {"class_path": DROPOUT, "init_args": {"members": MANY.get(name, 20)}}
    assert config.get("posterior") == (posterior if members else None)
    assert not {"data", "trainer", "budget", "query_size"} & set(config)


@EACH
def test_its_overlay_says_what_it_is(name):
    first, *lines = find_config(f"strategies/{name}").text().splitlines()
    assert re.fullmatch(rf"# [A-Z0-9].{{15,85}} \(([A-Z][^()]* {YEAR}|{NO_PAPER})\)", first)
    assert max(map(len, lines)) <= 100
    for argument in (
        overlay(name)["strategy"] if isinstance(overlay(name)["strategy"], dict) else ()
    ):
        if argument != "name":  # what it does is said beside it, or above
            at = next(i for i, line in enumerate(lines) if line.startswith(f"  {argument}: "))
            assert "  # " in lines[at] or lines[at - 1].startswith("  # ")


def late(seen):
    """The same pool in a later round: some strategies change over by the number of labels."""
    return replace(seen, context=replace(seen.context, round=30, n_labelled=300))


def planned(seen):
    """The same pool with a budget."""
    return replace(seen, context=replace(seen.context, remaining=20))


WORLDS = [*map(planned, map(world, FIXTURES)), planned(late(world("clumped")))]


def measured(seen):
    """The same pool with a second output, a safety measurement, of predictions and targets."""
    both = seen.predictions
    mean, variance = both.mean, both.variance
    z = 0.5 + mean.flip(0).mean(1, keepdim=True).expand_as(mean)  # about half is safe
    two = replace(
        both,
        mean=torch.cat([mean, z], -1),
        variance=torch.cat([variance, 0.1 * variance.flip(0)], -1),
    )
    targets = seen.context.targets[:, None].expand(-1, 2).float()
    return replace(seen, predictions=two, context=replace(seen.context, targets=targets))


@functools.cache
def batches(name):
    """What a name chooses in each world, as few and as many."""
    strategy = rehearsed(build(name, **SHORT.get(name, {})))
    most = getattr(strategy, "most", 10)
    worlds = map(measured, WORLDS) if kind_of(name) == "safe" else WORLDS
    return [frozenset(chosen(strategy, seen, min(k, most))) for seen in worlds for k in (3, 6, 10)]


def test_declared_equivalents_are_names():
    assert {*EQUIVALENT, *EQUIVALENT.values()} <= set(names())
    assert not set(EQUIVALENT) & set(EQUIVALENT.values())  # one step leads to the origin


def origin(name):
    """The name whose choices a name's are declared to be."""
    return EQUIVALENT.get(name, name)


@EACH
def test_it_chooses_otherwise_than_every_other_unless_declared_equivalent(name):
    alike = {other for other in names() if batches(other) == batches(name)}
    assert alike == {other for other in names() if origin(other) == origin(name)}


# --- each runs through the command ---------------------------------------------------------------


@pytest.mark.parametrize(("name", "base"), RUNS)
def test_it_runs_for_three_rounds(name, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: Path(file).touch())
    strategy = build(name)
    k = getattr(strategy, "most", 4)
    (tmp_path / "two_measures.yaml").write_text(TWO_MEASURES)
    config = "two_measures.yaml" if base == "two_measures" else base
    command = ["run", "--config", config, "--config", f"strategies/{name}", *SMALL]
    command += ["--query_size", str(k), "--budget", str(2 * k)]
    given = dict(getattr(strategy, "rehearsal", {})) | SHORT.get(name, {})
    command += [f"--strategy.{key}={value}" for key, value in given.items()]
    if base in MEMBERS:
        command += [MEMBERS[base], "3"]
    (history,) = main(command)
    initial = history.rounds[0].n_labelled
    assert [r.n_labelled for r in history.rounds] == [initial, initial + k, initial + 2 * k]
    assert len(set(history.acquired)) == 2 * k
    assert history.name == name
    folder = history.run_dir
    assert folder.name.startswith(f"{base}-{name}-")
    written = yaml.safe_load((folder / "config.yaml").read_text())
    spec = overlay(name)["strategy"]
    if given:
        spec = ({"name": spec} if isinstance(spec, str) else spec) | given
    assert written["strategy"] == spec
    assert written["data"]["init_args"]["test"] == 0.8


@pytest.mark.parametrize(("name", "base"), [("badge", "digits"), ("ucb", "diabetes")])
def test_its_run_goes_on_from_the_same_command_or_its_own_file(name, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["run", "--config", base, "--config", f"strategies/{name}", *SMALL]
    (history,) = main(command)
    journal = history.run_dir / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:9]))
    (again,) = main(command)
    assert again.acquired == history.acquired
    own = str(history.run_dir / "config.yaml")
    (last,) = main(["run", "--config", own, "--progress", "false"])
    assert last.run_dir.resolve() == history.run_dir.resolve()
    assert last.rounds == again.rounds
    checkpoint = str(history.final_checkpoint)
    found = main(["suggest", "--ckpt", checkpoint, "--config", "strategies/random", "--k", "3"])
    assert len(found) == 3


# --- overlays on the command line ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            ["badge"],
            "strategies/badge names a strategy alone.*--config digits --config strategies/",
        ),
        (["ucb"], "strategies/ucb names a strategy alone.*--config diabetes --config strategies/u"),
        (["badge", "entropy"], "strategies/badge names a strategy alone"),
        (
            ["badge", "digits"],
            "strategies/badge stands before digits, .*--config digits --config s",
        ),
    ],
)
@pytest.mark.parametrize("command", ["run", "fit"])
def test_an_overlay_alone_or_before_the_data_is_refused_in_one_line(words, wanted, command):
    given = [w if w == "digits" else f"strategies/{w}" for w in words]
    with pytest.raises(ValueError, match=wanted) as refused:
        main([command, *(word for name in given for word in ("--config", name))])
    assert "\n" not in str(refused.value)


def test_a_bare_name_leads_to_the_overlay():
    with pytest.raises(LookupError, match="did you mean 'strategies/badge'"):
        main(["run", "--config", "digits", "--config", "badge"])


def test_data_typed_by_hand_are_enough_for_an_overlay():
    by_hand = ["--model", "Classification", "--model.network", "MLP", "--data", "DigitsDataModule"]
    config = parse(["run", "--config", "strategies/bald", *by_hand])
    assert config["strategy"] == "bald"
    assert config["posterior"] == {"class_path": DROPOUT, "init_args": {"members": 20}}


@pytest.mark.parametrize(
    ("words", "members"),
    [
        (["--config", "fashion_mnist"], 20),  # one network with dropout: as the overlay says
        (["--config", "digits", "--posterior.members", "7"], 7),
        (["--config", "breast_cancer"], None),  # an ensemble has members of its own
        (["--config", "quickstart", "--model.network", "Ensemble"], None),
        (["--config", "breast_cancer", "--posterior", "MCDropout", "--posterior.members", "3"], 3),
    ],
)
def test_an_overlays_posterior_gives_way_to_members_that_are_there(words, members, tmp_path):
    line = CommandLine(["run", *words, "--config", "strategies/bald"])
    (specs,) = (
        c for c in map(yaml.safe_load, line.parsed) if isinstance(c, dict) and "strategy" in c
    )
    assert specs["strategy"] == "bald"
    posterior = specs.get("posterior") or {}
    posterior = posterior if isinstance(posterior, dict) else {"name": posterior}
    assert posterior.get("init_args", posterior).get("members") == members


def test_a_posterior_of_the_configuration_before_it_stays(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("posterior: {name: MCDropout, members: 4}\n")
    config = parse(
        ["run", "--config", "digits", "--config", str(own), "--config", "strategies/bald"]
    )
    assert config["posterior"]["members"] == 4


def test_the_last_of_two_overlays_counts_and_what_is_typed_counts_more():
    two = [
        "run",
        "--config",
        "digits",
        "--config",
        "strategies/badge",
        "--config",
        "strategies/power",
    ]
    config = parse([*two, "--strategy.beta", "3"])
    assert config["strategy"] == {"name": "power", "score": "bald", "beta": 3}
    line = CommandLine(two)
    assert line.name == "digits-power"
    assert line.without("strategy") == ["run", "--config", "digits"]
    assert line.without("seed") == two


def test_configs_lists_the_full_ones_first_and_the_strategies_by_what_they_are_for(capsys):
    main(["configs"])
    shown = capsys.readouterr().out
    order = ["\nquickstart ", "strategies/badge ", "strategies/ucb ", "strategies/k-center "]
    places = [f"\n{shown}".index(text) for text in order]
    assert places == sorted(places)
    main(["configs", "strategies/badge"])
    shown = capsys.readouterr().out
    assert shown.startswith(
        "# BADGE: k-means++ on the gradients of the last layer (Ash et al. 2020)\n"
    )
    assert yaml.safe_load(shown) == {"strategy": {"name": "badge", "first": "largest"}}
