"""The command ``suggest``: which items to label next, from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning import LightningModule

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.parser import parse
from lightning_al.assembly.recall import parse_run
from lightning_al.assembly.shipped import find_config, is_overlay
from lightning_al.compat import load_weights
from lightning_al.journal.checkpoints import trouble_of
from lightning_al.journal.extension import known_items, stand_as_known
from lightning_al.journal.journal import JournalError, read_journal
from lightning_al.journal.standing import Standing
from lightning_al.records import Acquisition
from lightning_al.rounds.suggest import suggest, write_suggestions
from lightning_al.safe_load import load_plain

from .typed import Words, at_least

if TYPE_CHECKING:
    from lightning_al.assembly.advice import Advice

__all__ = ["suggest_command"]


def suggest_command(arguments: Sequence[str]) -> Acquisition | list[Advice]:
    """Write a CSV of the items to label next, best first; with ``--policy`` of experiments."""
    if any(word.partition("=")[0] == "--policy" for word in arguments):
        from .experiments import suggest_experiments  # inside: most suggestions need none of it

        return suggest_experiments(arguments)
    parser = Words(
        prog="lightning-al suggest",
        usage="lightning-al suggest --ckpt FILE [--k 20] [--out FILE] [--key value ...]",
        description="Which items to label next, from a trained model; writes a CSV with the "
        "columns rank, index, path, score, best first.",
        epilog="With --policy auto: the next experiments from a table of past measurements, see "
        "`suggest --policy auto --help`. Further arguments change the configuration as in `run`: "
        "--strategy entropy, --posterior MCDropout, --data.init_args.path new.csv",
        allow_abbrev=False,
    )
    parser.add_argument("--ckpt", required=True, type=Path, help="a checkpoint of a run, or of fit")
    parser.add_argument("--k", type=int, default=20, help="how many items (default 20)")
    parser.add_argument(
        "--config", action="append", help="configuration; that of the checkpoint's run by default"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("suggestions.csv"), help="default suggestions.csv"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="read objects of any kind in the checkpoint, which runs their code",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="breaks ties (default 0)")
    known, more = parser.parse_known_args(list(arguments))
    if not known.ckpt.is_file():
        raise FileNotFoundError(f"no checkpoint at {known.ckpt}; give a .ckpt file of a run")
    configs = known.config or []
    words = [word for name in configs for word in ("--config", name)] + more
    if all(is_overlay(find_config(name).name) for name in configs):
        run_dir = _run_of(known.ckpt)
        parts = Assembly(parse_run(run_dir, words))
        stand_as_known(parts.datamodule, known_items(run_dir))
        parts.datamodule.setup()
    else:
        parts = Assembly(parse(["run", *words]))
    learner, datamodule = parts.learner(), parts.datamodule
    had = len(datamodule.labelled)  # type: ignore[attr-defined]
    task = _trained(known.ckpt, parts, trust=known.trust).to(
        learner.recipe().build_trainer().strategy.root_device
    )
    found = suggest(
        task,
        datamodule,
        learner.strategy,
        known.k,
        posterior=learner.posterior,
        adapter=learner.adapter,
        features=learner.features,
        seed=known.seed,
        remaining=learner.budget - (len(datamodule.labelled) - had),  # type: ignore[attr-defined]
    )
    write_suggestions(found, datamodule, known.out)
    n = len(datamodule.pool)  # type: ignore[attr-defined]
    print(f"{len(found)} items of {n} candidates, best first: {known.out}")
    return found


def _run_of(checkpoint: Path) -> Path:
    """The run folder in which a checkpoint lies.

    Raises:
        FileNotFoundError: it lies in none.
        JournalError: it is not the file that the journal names.
    """
    place = checkpoint.resolve()
    for folder in place.parents[:3]:
        if (folder / "journal.jsonl").exists():
            standing = Standing.of(read_journal(folder / "journal.jsonl")[0], folder)
            named = standing.hash_of_file(place.relative_to(folder).as_posix())
            if why := trouble_of(place, named):
                raise JournalError(
                    f"{checkpoint} {why}; the command `run` of that folder makes it again where it "
                    "goes on from it, or say with --config which model and data it is of"
                )
            return folder
    raise FileNotFoundError(
        f"{checkpoint} lies in no run folder; say with --config which model and data it is of"
    )


def _trained(path: Path, parts: Assembly, *, trust: bool) -> LightningModule:
    """The module of a checkpoint; who was labelled is put back too."""
    state = load_plain(path, trust=trust)
    task = parts.task()
    try:
        load_weights(task, state["state_dict"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not of the model in the configuration; give with --config the one it was "
            f"trained with ({str(error).splitlines()[-1].strip()})"
        ) from None
    if saved := state.get(type(parts.datamodule).__qualname__):
        parts.datamodule.load_state_dict(saved)
    return task
