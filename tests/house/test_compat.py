"""What other libraries keep private is reached for in one module, and each reach still holds."""

import ast
import importlib
import inspect
import pkgutil
from argparse import ArgumentParser
from pathlib import Path

import pytest
import pytorch_lightning
import torch
from helpers import small
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

import lightning_al
from lightning_al import compat, compat_cli

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("lightning_al", "callbacks", "datamodules", "strategies")
FOREIGN = ("pytorch_lightning", "lightning", "lightning_fabric", "argparse", "jsonargparse")
OTHERS = {
    "_BatchNorm": "torch: all batch norms",
    "_accelerator_graph_capture_health_check": "torch: optimisers",
    "_global_optimizer_post_hooks": "torch: optimisers",
    "_global_optimizer_pre_hooks": "torch: optimisers",
    "_optimizer_step_post_hooks": "torch: optimisers",
    "_optimizer_step_pre_hooks": "torch: optimisers",
    "_DropoutNd": "torch: all dropouts",
    "_Hash": "hashlib, of a type",
    "_exit": "os",
    "_forward_hooks": "torch",
    "_forward_pre_hooks": "torch",
    "_is_protocol": "typing",
    "_modules": "torch",
    "_reset_parameters": "torch: initialises attention",
}
"""Private names of libraries that are none of these, each with where it is."""

HERE = {"lightning_al/compat.py", "lightning_al/compat_cli.py"}

checkout = pytest.mark.skipif(
    not (ROOT / "lightning_al").is_dir(), reason="runs in a checkout of the repository"
)


# --- nowhere else --------------------------------------------------------------------------------


def private(name):
    return name[:1] == "_" and name[:2] != "__" and name != "_"


def named(node):
    """Private names that a node of the source takes from something else, and such that it makes."""
    if isinstance(node, ast.Attribute) and private(node.attr):
        own = isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
        return ([], [node.attr]) if own else ([node.attr], [])
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
        given = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
        return [name for name in given if private(name)], []
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names if private(alias.name)], []
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [], [node.name]
    if isinstance(node, ast.AnnAssign):
        return [], [ast.unparse(node.target)]
    if isinstance(node, ast.Assign):
        return [], [ast.unparse(target) for target in node.targets]
    return [], []


def reaches(sources):
    """Private names that are used in some sources and made in none, with the places."""
    used, made = {}, set()
    for place, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            takes, makes = named(node)
            made |= set(makes)
            for name in takes:
                used.setdefault(name, set()).add(place)
    return {name: places for name, places in used.items() if name not in made}


def test_reaches_are_found():
    sources = {
        "a": "class A:\n  def __init__(self):\n    self._mine = 1\n  def _step(self): ...\n",
        "b": "x._mine; x._theirs; x._step(); x.__dict__; getattr(x, '_hidden', 0); x._set = 1",
        "c": "from lib.inner import _secret, open_one\nfrom .a import A",
    }
    found = {name: next(iter(places)) for name, places in reaches(sources).items()}
    assert found == {"_theirs": "b", "_hidden": "b", "_set": "b", "_secret": "c"}


@checkout
def test_private_names_of_other_libraries_are_used_in_compat_alone():
    paths = [path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in paths}
    found = reaches(sources)
    outside = {
        name: sorted(places - HERE)
        for name, places in found.items()
        if name not in OTHERS and places - HERE
    }
    assert not outside, f"private names of others: {outside}; reach for them in compat.py"
    assert not set(OTHERS) - set(found), "no longer used, take them out of OTHERS"


def classes():
    """All classes of the package."""
    for info in pkgutil.walk_packages(lightning_al.__path__, "lightning_al."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if inspect.isclass(value) and value.__module__ == info.name:
                yield value


def test_no_class_of_ours_takes_a_private_name_of_its_foreign_base():
    """It would change what the base does, with no import to tell of it."""
    found = {}
    for kind in classes():
        if kind.__module__.startswith(("lightning_al.compat", "lightning_al.__main__")):
            continue
        theirs = {
            name
            for base in kind.__mro__
            if base.__module__.partition(".")[0] in FOREIGN
            for name in vars(base)
        }
        if clash := {name for name in vars(kind) if private(name)} & theirs - {"_abc_impl"}:
            found[kind.__qualname__] = clash
    assert not found


# --- Lightning -----------------------------------------------------------------------------------


def trainer(family=pytorch_lightning, **changes):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "enable_checkpointing": False}
    return family.Trainer(**(quiet | changes))


def loader():
    return DataLoader(TensorDataset(*small.blobs(12).inputs, small.blobs(12).targets), 4)


FAMILIES = ("pytorch_lightning", "lightning.pytorch")


@pytest.fixture(params=FAMILIES)
def family(request):
    pytest.importorskip(request.param)
    return importlib.import_module(request.param)


def test_a_dummy_logger_swallows_everything(family):
    logger = compat.dummy_logger(trainer(family))
    assert isinstance(logger, family.loggers.Logger)
    assert isinstance(logger, type(trainer(family, fast_dev_run=1, logger=True).logger))
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.experiment.add_image("any", torch.zeros(1))
    logger.experiment[0].whatever = 1


class Steps(CSVLogger):
    """Remembers at which steps it was told something."""

    def __init__(self, folder):
        super().__init__(folder)
        self.told = []

    def log_metrics(self, metrics, step=None):
        if set(metrics) - {"epoch"}:
            self.told.append(step)

    def save(self):
        """Nothing."""


def logged_from(tmp_path, begin):
    logger = Steps(tmp_path)
    fit = trainer(logger=logger, log_every_n_steps=1)
    begin(fit)
    fit.fit(small.task(), loader())
    return logger.told, fit.global_step


@pytest.mark.parametrize("offset", [0, 7])
def test_the_step_of_a_logger_goes_on_from_an_offset_and_nothing_else_does(tmp_path, offset):
    told, steps = logged_from(tmp_path, lambda fit: compat.start_step_at(fit, offset))
    plain, _ = logged_from(tmp_path, lambda fit: None)
    assert plain
    assert told == [offset + step for step in plain]
    assert steps == 3


def test_an_offset_that_is_there_already_is_left_alone(tmp_path):
    def begin(fit):
        compat.set_step(fit, 9)
        compat.start_step_at(fit, 7)

    assert min(logged_from(tmp_path, begin)[0]) >= 9


@pytest.mark.parametrize("name", ["spawn", "fork", "forkserver"])
def test_a_trainer_that_starts_processes_inside_each_fit_is_known(name, family):
    from lightning_al.ranks.ranks import check_strategy

    kind = "ddp" if name == "forkserver" else f"ddp_{name}"
    strategy = family.strategies.DDPStrategy(start_method=name) if kind == "ddp" else kind
    fit = trainer(family, strategy=strategy, devices=2)
    assert compat.start_method(fit) == name
    with pytest.raises(ValueError, match=f"start method '{name}'.*choose one of"):
        check_strategy(fit)


def test_a_trainer_that_starts_none_is_known_under_both_names(family):
    from lightning_al.ranks.ranks import check_strategy

    for strategy in ("auto", "ddp"):
        fit = trainer(family, strategy=strategy, devices=1 if strategy == "auto" else 2)
        assert compat.start_method(fit) is None
        check_strategy(fit)


def test_what_a_logger_has_opened_is_known_without_opening_it(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    assert compat.experiment_of(logger) is None
    assert compat.experiment_of(logger) is None
    logger.log_metrics({"a": 1.0}, 0)
    assert compat.experiment_of(logger) is logger.experiment


class Run:
    def __init__(self, id):
        self.id = id


@pytest.mark.parametrize("mine", [True, False])
def test_the_run_that_a_wandb_logger_began_is_told_from_that_of_somebody_else(tmp_path, mine):
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger(save_dir=tmp_path, id="first", offline=True)
    assert compat.wandb_run(logger) is None
    compat.name_wandb_run(logger, "late")
    assert logger.version == "late"
    run = Run("late" if mine else "other")
    logger._experiment = run
    assert compat.wandb_run(logger) is (run if mine else None)


INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"


class Kept(pytorch_lightning.LightningModule):
    def __init__(self, width=3):
        super().__init__()
        self.save_hyperparameters()


def test_hyperparameters_that_are_given_rebuild_the_module(tmp_path):
    path = {"_class_path": f"{__name__}.Kept", "width": 5}
    with compat.given_hyperparameters(path):
        module = Kept(5)
    assert dict(Kept(5).hparams) == {"width": 5}
    assert dict(module.hparams) == path | {"_instantiator": INSTANTIATOR}
    assert compat.hyperparameters_name(module) == "kwargs"
    assert compat.hyperparameters_name(small.task()) is None  # it keeps none
    assert compat.hyperparameters_name(torch.nn.Linear(1, 1)) is None


# --- the command line ----------------------------------------------------------------------------


def test_options_of_a_parser_are_known_and_its_groups_can_be_moved(capsys):
    parser = ArgumentParser()
    parser.add_argument_group("b").add_argument("--one")
    parser.add_argument_group("a").add_argument("--two")
    assert {"--one", "--two", "--help", "-h"} == set(compat_cli.option_strings(parser))
    compat_cli.titled(parser, {"two": "the second", "one": "the first"})
    text = parser.format_help()
    order = ["-h, --help", "the second:", "  --two", "the first:", "  --one"]
    assert sorted(order, key=text.index) == order
    assert parser.parse_args(["--two", "3"]).two == "3"


class Small(pytorch_lightning.LightningModule):
    def __init__(self, width: int = 3):
        super().__init__()


class Data(pytorch_lightning.LightningDataModule):
    pass


def test_the_open_command_line_meets_each_step_of_lightnings():
    met = []
    # what it opens is there: a renamed step would pass by without a word
    opened = {name for name in vars(compat_cli.open_cli()) if private(name)}
    assert opened <= set(vars(LightningCLI))
    assert {"_prepare_subcommand_parser", "_set_seed", "_run_subcommand"} <= opened

    class CLI(compat_cli.open_cli()):
        def prepared(self, parser, subcommand):
            met.append(("prepared", subcommand))
            parser.add_argument("--more", type=int, default=2)
            return parser

        def seeds(self):
            met.append("seeds")
            return False

        def carry_out(self, subcommand, usual):
            met.append(("carry out", subcommand, callable(usual)))
            self.seen = self.text_of(subcommand), self.options_of(subcommand)

    before = torch.initial_seed()
    words = ["validate", "--more", "5", "--trainer.accelerator", "cpu", "--model.width", "7"]
    cli = CLI(Small, Data, save_config_callback=None, args=words, seed_everything_default=123)
    assert {("prepared", "validate"), "seeds", ("carry out", "validate", True)} <= set(met)
    assert torch.initial_seed() == before
    text, options = cli.seen
    assert "more: 5" in text
    assert "width: 7" in text
    assert {"--more", "--model.width", "--trainer.accelerator"} <= set(options)


def test_a_command_does_what_lightning_does_where_it_only_watches():
    done = []

    class Counted(pytorch_lightning.Trainer):
        def fit(self, *args, **kwargs):
            done.append(sorted(kwargs))

    words = ["fit", "--trainer.accelerator", "cpu"]
    compat_cli.open_cli()(Small, Data, trainer_class=Counted, save_config_callback=None, args=words)
    assert len(done) == 1
