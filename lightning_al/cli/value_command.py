"""The command ``value``: what each label is worth, the mislabelled ones last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.parser import parse
from lightning_al.valuing.valuation import LabelValues, label_values

from .at_hand import at_hand
from .typed import Words, at_least

__all__ = ["value_command"]


def value_command(words: Sequence[str]) -> LabelValues:
    """Write a CSV of the labelled items with the value of each label.

    Raises:
        ValueError: data without labels, or nothing that judges.
    """
    parser = Words(
        prog="lightning-al value",
        usage="lightning-al value --config NAME [--refits 500] [--out FILE] [--key value ...]",
        description="What each label is worth: the model is fitted anew on many multisets of the "
        "labelled items, and judged each time. Writes a CSV with the columns rank, index, path, "
        "label, value, the most valuable first: mislabelled ones are at its end. It takes what "
        "`run` takes; with --config FOLDER/config.yaml of a run the labels are those that the run "
        "has bought. The same command goes on where it was cut off, if it has a --folder.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--refits", type=at_least(2), help="how many (default: ten a label, at least 64)"
    )
    parser.add_argument("--seconds", type=float, help="after which no further ones are begun")
    parser.add_argument(
        "--parts",
        type=at_least(2),
        default=5,
        help="turns in which labelled items judge, where the data have no validation set",
    )
    parser.add_argument("--objective", help="a metric of validations, in place of the loss")
    parser.add_argument("--mode", choices=("min", "max"), help="of the objective")
    parser.add_argument("--folder", type=Path, help="keeps the losses, to go on from")
    parser.add_argument("--out", type=Path, default=Path("values.csv"), help="default values.csv")
    known, more = parser.parse_known_args(list(words))
    typed = ["run", *more]
    parts = Assembly(parse(typed))
    learner = parts.learner()
    live = learner.parts()
    recipe, data = live.recipe(learner), live.datamodule
    at_hand(data, CommandLine(typed).home, learner.seed)
    found = label_values(
        recipe.task,
        data,
        trainer=recipe.trainer,
        refits=known.refits,
        seconds=known.seconds,
        parts=known.parts,
        objective=known.objective,
        mode=known.mode,
        fits="stacked" if learner.fits == "auto" else learner.fits,
        adapter=live.adapter,
        seed=learner.seed,
        threads=None if isinstance(learner.threads, str) else learner.threads,
        folder=known.folder,
    )
    found.write(data, known.out)
    few = "; they foretell nothing of a fit, so trust none: ask for more refits"
    print(
        f"{known.out}: {len(found.index)} labels by {found.refits} refits in {found.seconds:.0f} s,"
        f" which foretell {found.r2:.0%} of the variance of the loss{few if found.r2 <= 0 else ''}"
    )
    return found
