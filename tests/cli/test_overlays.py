"""Strategies of a user's own in lists, overlays and help; what ``run --strategy.help`` says."""

import subprocess
import sys

import pytest
import torch
import yaml
from helpers.user_parts import Farthest

from lightning_al.assembly.derived import BASES, overlay, overlay_text
from lightning_al.assembly.families import FAMILIES
from lightning_al.assembly.shipped import list_configs
from lightning_al.cli import main
from lightning_al.cli.member_help import OPTIONS, member_help
from lightning_al.spec import notes, signature, summary
from lightning_al.strategies import STRATEGIES, ScoreStrategy, names, resolve

EVERY = [(option, name) for option in OPTIONS for name in FAMILIES[option].names()]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def second_best(probs):
    return probs.mean(1).topk(2).values[:, 1]


@pytest.fixture
def mine(monkeypatch):
    """What a user registers: a class, a function, and one that needs an argument."""
    monkeypatch.setattr(STRATEGIES, "_factories", dict(STRATEGIES._factories))
    monkeypatch.setattr(STRATEGIES, "_declared", dict(STRATEGIES._declared))

    @STRATEGIES.register("mine", kind="classification", members=7, settings={"query_size": 3})
    def runner_up(floor: float = 0.0, width: float | None = None) -> ScoreStrategy:
        """Largest probability of the second-best class first (Mine et al. 2026).

        Args:
            floor: below it nothing counts.
            width: of nothing at all.
        """
        return ScoreStrategy(second_best, members="many")

    STRATEGIES.register("farthest")(Farthest)

    @STRATEGIES.register("picky", kind="regression", example={"level": 0.3}, behind="branin")
    class Picky(Farthest):
        def __init__(self, level: float) -> None:
            super().__init__()


# --- a user's own --------------------------------------------------------------------------------


def test_registered_strategies_stand_in_every_list(mine, capsys):
    main(["configs"])
    shown = capsys.readouterr().out
    classes, numbers, both = map(shown.index, ("for classes", "for numbers", "for both"))
    line = "strategies/mine  Largest probability of the second-best class first (Mine et al. 2026)"
    assert classes < shown.replace("mine" + 33 * " ", "mine").index("strategies/mine ") < numbers
    assert " ".join(line.split()) in " ".join(shown.split())
    assert both < shown.index("strategies/farthest ")
    assert "strategies/picky" in list_configs()
    main(["run", "--strategy.help"])
    helped = capsys.readouterr().out
    assert "mine " in helped
    assert "Takes the items with the longest embeddings" in helped
    with pytest.raises(LookupError, match=r"did you mean 'mine'.* mine, "):
        resolve("minee")
    with pytest.raises(LookupError, match="did you mean 'strategies/farthest'"):
        main(["configs", "farthest"])


def test_their_overlays_are_made_of_what_they_declare(mine, capsys):
    main(["configs", "strategies/mine"])
    shown = capsys.readouterr().out
    assert shown.splitlines()[:4] == [
        "# Largest probability of the second-best class first (Mine et al. 2026)",
        "strategy:",
        "  name: mine",
        "  floor: 0.0  # below it nothing counts",
    ]
    posterior = {"class_path": "lightning_al.posteriors.MCDropout", "init_args": {"members": 7}}
    wanted = {"strategy": {"name": "mine", "floor": 0.0}, "posterior": posterior, "query_size": 3}
    assert yaml.safe_load(shown) == overlay("mine") == wanted
    assert overlay("picky") == {"strategy": {"name": "picky", "level": 0.3}}
    assert overlay("farthest") == {"strategy": {"name": "farthest", "sign": 1.0}}
    assert overlay_text("picky").startswith("# Takes the items with the longest embeddings\n")


def test_their_overlays_run(mine):
    fast = ["--budget", "6", "--trainer.max_epochs", "1", "--progress", "false"]
    (history,) = main(["run", "--config", "digits", "--config", "strategies/mine", *fast])
    assert history.name == "mine"
    assert [len(done.acquired) for done in history.rounds] == [3, 3, 0]
    assert history.run_dir.name.startswith("digits-mine-")
    written = yaml.safe_load((history.run_dir / "config.yaml").read_text())
    assert written["strategy"] == {"name": "mine", "floor": 0.0}
    with pytest.raises(ValueError, match="strategy 'mine': floor must be a float, got 'low'"):
        main(["run", "--config", "digits", "--strategy", "mine", "--strategy.floor", "low"])


def test_an_overlay_alone_names_the_configuration_that_it_goes_behind(mine):
    for name, base in (("picky", "branin"), ("mine", "digits"), ("safe-random", "townsend")):
        with pytest.raises(ValueError, match=f"as in --config {base} --config strategies/{name}"):
            main(["run", "--config", f"strategies/{name}"])
    assert set(BASES.values()) <= set(list_configs())


def test_an_example_that_shows_what_is_not_there_is_refused(mine):
    STRATEGIES.register("wrong", example=["sing"])(Farthest)
    with pytest.raises(ValueError, match=r"the example of 'wrong' shows 'sing'.*give a dict"):
        overlay("wrong")


def test_without_a_docstring_there_is_still_a_line(mine):
    @STRATEGIES.register("bare")
    def bare() -> ScoreStrategy:
        return ScoreStrategy(torch.sum)

    assert overlay_text("bare") == "# bare (without a docstring)\nstrategy: bare\n"


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", OPTIONS)
def test_help_lists_each_name_with_what_it_is(option):
    lines = member_help([f"--{option}.help"]).splitlines()
    for name in FAMILIES[option].names():
        (line,) = (text for text in lines if text.split()[:1] == [name])
        assert line.endswith(summary(FAMILIES[option].factory(name)))


@pytest.mark.parametrize(("option", "name"), EVERY)
def test_help_says_what_each_takes(option, name):
    shown = member_help([f"--{option}.help", name])
    factory = FAMILIES[option].factory(name)
    assert shown.startswith(f"{FAMILIES[option].kind} {name!r}\n\n{summary(factory)}.\n")
    flat = " ".join(shown.split())
    lines = shown.splitlines()
    for parameter in signature(factory).parameters.values():
        wanted = parameter.name if option == "stopping" else f"--{option}.{parameter.name}"
        (line,) = (text for text in lines if text.split("  ")[0] == wanted)
        assert ("must be given" in line) == parameter.required
        assert notes(factory)[parameter.name] in flat
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "words",
    [
        ["--strategy.help", "power"],
        ["--strategy.help=power"],
        ["--strategy", "power", "--strategy.help"],
        ["--strategy.help", "--strategy", "{name: power, beta: 2}"],
        ["--config", "digits", "--strategy", "power", "--strategy.help"],
    ],
)
def test_ways_to_ask(words, capsys):
    main(["run", *words])
    shown = capsys.readouterr().out
    assert "--strategy.beta  (a float, default 1.0)\n    > 0; towards 0 random" in shown
    assert "--strategy.score  (default 'bald')" in shown


def test_help_for_a_class_of_the_users_own(capsys):
    main(["run", "--strategy.help", "helpers.user_parts.Farthest"])
    assert "--strategy.sign  (a float, default 1.0)" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"Person is no strategy: it has no method choose"):
        main(["run", "--strategy.help", "helpers.user_parts.Person"])
    with pytest.raises(LookupError, match=r"no posterior named 'MCDroput' .*'MCDropout'"):
        main(["run", "--posterior.help", "MCDroput"])


def test_other_help_is_left_to_the_parser():
    assert member_help(["--model.help", "Classification"]) is None
    assert member_help(["--strategy", "power"]) is None


def test_listing_loads_no_lightning():
    program = (
        "import sys; from lightning_al.cli import main; main(['configs']); "
        "main(['run', '--strategy.help', 'power']); "
        "print('pytorch_lightning' in sys.modules, 'jsonargparse' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split()[-2:] == [b"False", b"False"]


def test_all_names_are_in_the_help():
    assert set(names()) <= set(member_help(["--baseline.help"]).split())
