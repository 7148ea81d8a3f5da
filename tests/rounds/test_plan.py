"""One plan: a field, by its metadata alone, is an argument, an option, a grid key, an identity."""

import inspect
from dataclasses import dataclass, replace

import pytest
from helpers import small

from lightning_al import ActiveLearner
from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.command_plan import CommandPlan, grid_keys, run_options
from lightning_al.assembly.parser import ActiveCLI, parse
from lightning_al.benchmark.grid import bench_of
from lightning_al.journal.journal import JournalError
from lightning_al.records.plan import option, options_of
from lightning_al.rounds.parts import describe

HELP = "how many rooms the house has"


@dataclass(frozen=True)
class Learner(ActiveLearner):
    rooms: int = option(HELP, 3)
    colour: str | None = option("of the door", None, identity=False, grid=False)
    cellar: str = option("never typed", "dry", command=False)


@dataclass(frozen=True)
class Plan(CommandPlan):
    rooms: int = option(HELP, 3)
    colour: str | None = option("of the door", None, identity=False, grid=False)
    cellar: str = option("never typed", "dry", command=False)


def learner(**changes):
    given = {"task": small.task, "datamodule": small.datamodule(), "strategy": "random"}
    sizes = {"query_size": 2, "budget": 4, "trainer": small.TRAINER}
    return Learner(**{**given, **sizes, **changes})


def test_it_is_an_argument_in_python_by_name():
    signature = inspect.signature(Learner)
    assert signature.parameters["rooms"].default == 3
    assert signature.parameters["rooms"].kind is inspect.Parameter.KEYWORD_ONLY
    assert learner(rooms=5).rooms == 5


def help_of_run(plan, capsys):
    with pytest.raises(SystemExit):
        ActiveCLI(CommandLine(["run", "--help"], plan), plan=plan)
    return " ".join(capsys.readouterr().out.split())


def test_it_stands_in_the_help_of_the_command(capsys):
    text = help_of_run(Plan, capsys)
    assert "--rooms" in text
    assert HELP in text
    assert "--cellar" not in text
    assert "--rooms" not in help_of_run(CommandPlan, capsys)


def test_it_is_parsed_by_its_type():
    config = parse(["run", "--config", "quickstart", "--rooms", "7"], Plan)
    assert config["rooms"] == 7
    assert config.get("colour") is None
    with pytest.raises(Exception, match="rooms"):
        parse(["run", "--config", "quickstart", "--rooms", "many"], Plan)


def test_it_is_a_key_of_a_grid():
    assert grid_keys(Plan) - grid_keys() == {"rooms", "cellar"}
    given = {
        "data": {"digits": {"class_path": "lightning_al.datamodules.DigitsDataModule"}},
        "models": {"none": {}},
        "strategies": ["random"],
        "metric": "test/accuracy",
        "seeds": 1,
        "common": {"query_size": 2, "budget": 4, "trainer": {}, "rooms": 4},
    }
    (run,) = bench_of(given, plan=Plan).runs
    assert run.config["rooms"] == 4
    with pytest.raises(ValueError, match="common holds \\['rooms'\\]"):
        bench_of(given)
    wrong = {**given, "common": {**given["common"], "colour": "red"}}
    with pytest.raises(ValueError, match="common holds \\['colour'\\]"):
        bench_of(wrong, plan=Plan)


def identity(it):
    parts = it.parts()
    it.datamodule.start(0)
    return describe(it, parts, small.task())[0]


def test_it_makes_another_run_where_it_says_so():
    here = identity(learner())
    assert identity(learner(rooms=4)) != here
    assert identity(learner(cellar="wet")) != here
    assert identity(learner(colour="red")) == here


def test_a_run_folder_tells_them_apart(tmp_path):
    one = learner(run_dir=tmp_path / "r")
    one.run()
    again = replace(one, colour="red", datamodule=small.datamodule())
    assert len(again.run()) == 3
    with pytest.raises(JournalError, match="rooms: 3 -> 4"):
        replace(one, rooms=4, datamodule=small.datamodule()).run()


def test_only_what_cannot_change_a_result_may_change():
    """Where a run lies, what it keeps, how it is shown; all else makes another run."""
    free = {"run_dir", "overwrite", "keep_checkpoints", "memory_budget", "rehearse", "privileged"}
    free |= {"files", "trust", "change", "extend", "fits", "threads", "tuning_shared"}
    shown = {"baseline", "loggers", "progress"}
    assert {field.name for field, facts in options_of(ActiveLearner) if not facts.identity} == free
    may = {field.name for field, facts in options_of(CommandPlan) if not facts.identity}
    assert may == free | shown


@pytest.mark.parametrize("option", [{"cost_budget": 40.0}, {"hit_ratio_at": 0.1}, {"budget": 9}])
def test_options_that_bound_a_run_are_part_of_what_it_is(option):
    assert identity(learner(**option)) != identity(learner())


@pytest.mark.parametrize("plan", [ActiveLearner, CommandPlan])
def test_every_option_explains_itself_in_a_line(plan):
    for field, facts in options_of(plan):
        assert facts.help, field.name
        assert not facts.help.endswith("."), field.name


def test_the_docstring_of_the_learner_lists_all_options():
    for field, facts in options_of(ActiveLearner):
        assert f"{field.name}: {facts.help}." in ActiveLearner.__doc__


def test_every_option_of_a_learner_can_be_typed_or_says_that_it_cannot():
    typed = {name for name, *_ in run_options()}
    for field, facts in options_of(ActiveLearner):
        assert (field.name in typed) == facts.command
