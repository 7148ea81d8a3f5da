"""The command ``tune``: settings that suit the labels at hand, to be pasted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import yaml

from lightning_al.assembly.building import Assembly
from lightning_al.assembly.command_line import CommandLine
from lightning_al.assembly.parser import parse
from lightning_al.assembly.settings_tree import pasted
from lightning_al.fits.backends import backend_of
from lightning_al.ranks.ranks import ALONE
from lightning_al.tuning.checks import check_tuning
from lightning_al.tuning.once import tune_once
from lightning_al.tuning.trials import Settled, Trial
from lightning_al.tuning.tuner import Tuner

from .at_hand import at_hand

__all__ = ["tune_command"]

HELP = """\
usage: lightning-al tune --config NAME [--key value ...]

Tries settings on the labels at hand, as the section `tuning` of a configuration says, and prints
the best ones as YAML to be pasted, or given behind it as another --config. It takes what `run`
takes. With --config FOLDER/config.yaml of a run the labels are those that the run has bought.
"""


def tune_command(words: Sequence[str]) -> Settled | None:
    """Everything that ``lightning-al tune`` does; what it has settled on.

    Raises:
        ValueError: a configuration without ``tuning``, or data without labels.
    """
    if any(word in ("-h", "--help") for word in words):
        print(HELP, end="")
        return None
    typed = ["run", *words]
    parts = Assembly(parse(typed))
    learner = parts.learner()
    live = learner.parts()
    if live.tuning is None:
        raise ValueError(
            "the configuration names no tuning: give --tuning.objective val/nll and a space in a "
            "file: tuning: {space: {model.lr: {float: [0.0001, 0.1], log: true}}}"
        )
    recipe, data = live.recipe(learner), live.datamodule
    bought = at_hand(data, CommandLine(typed).home, learner.seed)
    if not len(data.labelled):
        raise ValueError("nothing is labelled, so that nothing can be tuned; give data.initial")
    check_tuning(live.tuning, recipe, data, learner, ALONE)
    where: dict[str, Any] = {"seed": learner.seed, "keep": lambda *_: ""}
    threads = None if isinstance(learner.threads, str) else learner.threads
    fits = backend_of(learner.fits, recipe, data, **where, threads=threads)
    settled, tried = tune_once(Tuner(live.tuning, fits), bought=bought, tell=_tell)
    print(
        f"# {live.tuning.objective} {settled.value:.4g} in trial {settled.trial} of {len(tried)}, "
        f"{settled.n_labelled} labels, {settled.seconds:.1f} s"
    )
    print(yaml.safe_dump(pasted(parts.config, settled.settings), sort_keys=False), end="")
    return settled


def _tell(trial: Trial) -> None:
    said = trial.why if trial.value is None else f"{trial.value:.4g}"
    settings = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trial.settings.items()
    )
    print(f"trial {trial.trial}: {said} ({trial.state}) {settings}", file=sys.stderr, flush=True)
