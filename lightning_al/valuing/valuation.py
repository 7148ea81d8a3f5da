"""What each label at hand is worth, for any task: mislabelled ones come last."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from lightning_al.files import cell, replacing
from lightning_al.fits.backends import backend_of
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.workbench import Plain, Workbench
from lightning_al.history.metric_names import larger_is_better
from lightning_al.identity import digest, module_portrait
from lightning_al.posteriors import Deterministic
from lightning_al.randomness import generator
from lightning_al.scoring.scorer import Bound, Scorer
from lightning_al.tasks import Adapter
from lightning_al.tuning.judges import folds_of
from lightning_al.values import number, whole

from .multisets import Multisets
from .refitted import Losses, Told, losses_of, valued

__all__ = ["A_LABEL", "LabelValues", "label_values", "parts_of"]

A_LABEL = 10  # refits for each label, where nobody says how many
FEWEST = 64  # refits at least
MODES = {"min": False, "max": True, None: None}


@dataclass(frozen=True, eq=False)
class LabelValues:
    """The value of each label: how much lower the loss is for one copy more, 0 for the average."""

    index: Tensor  # [n] positions in the data set
    values: Tensor  # [n] float64
    refits: int  # that they come of
    r2: float  # share of the variance of losses that the values foretell; at most 0: trust none
    alpha: float  # penalty of the ridge
    seconds: float

    @property
    def order(self) -> Tensor:
        """Rows [n] from the most valuable label to the least; equal ones as they stand."""
        return self.values.argsort(descending=True, stable=True)

    def write(self, datamodule: Any, path: str | Path) -> None:
        """A CSV of rank, index, path, label and value, the most valuable label first."""
        import pandas as pd

        order = self.order
        index = self.index[order]
        frame = pd.DataFrame(
            {
                "rank": range(1, len(index) + 1),
                "index": index.tolist(),
                "path": [cell(datamodule.item_path(i)) for i in index.tolist()],
                "label": [cell(label) for label in datamodule.answers_to(index)],
                "value": self.values[order].tolist(),
            }
        )
        with replacing(Path(path)) as file:
            frame.to_csv(file, index=False)


def label_values(
    model: Any,
    datamodule: Any,
    *,
    trainer: Mapping[str, Any] | Callable[[], Any] | None = None,
    refits: int | None = None,
    seconds: float | None = None,
    parts: int = 5,
    objective: str | None = None,
    mode: str | None = None,
    fits: str = "stacked",
    adapter: Adapter | None = None,
    seed: int = 0,
    threads: int | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> LabelValues:
    """The value of each label: the model is fitted anew on multisets of the labelled items.

    Each refit is on a bootstrap draw of the items and judged by its loss on a validation set; a
    ridge regression of the losses on how often each item was drawn gives the values
    (:func:`.values_by_ridge`). All refits have the same start weights and as many steps. The data
    module is left as it stands.

    Args:
        model: a LightningModule, never fitted, or a function that builds one.
        datamodule: an ``ActiveDataModule`` with labelled items. Its validation set judges; where it
            has none, the labelled items in ``parts`` turns, those of a turn being fitted on in the
            others.
        trainer: Trainer arguments of each refit, or a function that gives such.
        refits: how many; ten a label by default, and at least 64. Fewer than labels tell the worst
            ones alone, if any.
        seconds: after which no further lot of refits is begun.
        parts: turns, where there is no validation set.
        objective: a metric that a validation logs, in place of the mean loss of the items; it needs
            a validation set.
        mode: "min" or "max" of the objective; None where its name tells.
        fits: the fit backend; "stacked" does 64 refits as one where that gives the same.
        adapter: how to read a module of your own.
        seed: of weights, order, and draws.
        threads: of torch; None leaves them as they are.
        folder: keeps the loss of each refit, so that a call that was cut off goes on.
        progress: a bar on a terminal.

    Raises:
        ValueError: fewer than three labels, nothing that judges, or a folder of other labels.
        LookupError: a task that tells no loss of items, and no objective; or one never logged.
    """
    for name, given in (("refits", refits), ("parts", parts)):
        if given is not None:
            whole(2)(name, given)
    if seconds is not None:
        number(0, math.inf, open=True)("seconds", seconds)
    datamodule.prepare_data()
    datamodule.setup()
    index = datamodule.labelled
    if len(index) < 3:
        raise ValueError(f"values need three labels at least, got {len(index)}; give data.initial")
    recipe = Recipe(model, {} if trainer is None else trainer)
    bench = bench_of(recipe, datamodule, fits, adapter, seed, threads)
    told = _told(bench.task, datamodule, objective, mode)
    design = Multisets(index, parts_of(datamodule, index, parts, seed), seed)
    wanted = max(FEWEST, A_LABEL * len(index)) if refits is None else refits
    if wanted < 2 * len(design.parts):
        least = 2 * len(design.parts)
        raise ValueError(f"{parts} parts need {least} refits at least, got {refits}; raise refits")
    key = digest([design.key, datamodule.fingerprint(), module_portrait(bench.task), objective])
    path = None if folder is None else Path(folder) / "losses.jsonl"
    known, clock = Losses(path, key), time.perf_counter()
    bar = tqdm(
        total=wanted,
        initial=min(len(known.values), wanted),
        desc="refits",
        file=sys.stderr,
        disable=not (progress and sys.stderr.isatty()),
    )
    with bar:
        fit = lambda first, last: losses_of(bench, design, first, last, told)  # noqa: E731
        for done in known.up_to(wanted, fit, seconds):
            bar.update(done - bar.n)
    losses = known.values[:wanted]
    found = valued(design, losses)
    took = time.perf_counter() - clock
    return LabelValues(index, found.values, len(losses), found.r2, found.alpha, took)


def bench_of(
    recipe: Recipe, datamodule: Any, fits: str, adapter: Any, seed: int, threads: int | None
) -> Workbench:
    """A workbench outside of a run, of a module that was never fitted, with its own backend."""
    task = recipe.build_task(seed, 0, None)
    backend = backend_of(fits, recipe, datamodule, seed=seed, keep=lambda *_: "", threads=threads)
    reads = adapter or Adapter.for_task(task)
    scorer = Scorer(task=task, datamodule=datamodule, adapter=reads, seed=seed)
    bound = Bound(scorer, Plain(()), Deterministic().start(seed, 0))
    return Workbench(bound, recipe, refitting=backend.refits)


def parts_of(datamodule: Any, index: Tensor, parts: int, seed: int) -> tuple[Tensor | None, ...]:
    """Who judges: the validation set, or else the items [n] in turns, by class where there are any.

    Raises:
        ValueError: fewer items than turns.
    """
    if datamodule.val_dataloader() != []:
        return (None,)
    if len(index) < parts:
        raise ValueError(
            f"{len(index)} labels make no {parts} parts, and these data have no validation set; "
            "lower parts, or give the data val=0.2"
        )
    strata = datamodule.strata(index) if datamodule.classes else None
    fold = folds_of(len(index), strata, parts, generator(seed, 0, "parts"))
    return tuple(index[fold == k] for k in range(parts))


def _told(task: Any, datamodule: Any, objective: str | None, mode: str | None) -> Told:
    """How losses are read, checked before anything is fitted."""
    if objective is None:
        if not (hasattr(task, "item_losses") and hasattr(task, "split")):
            raise LookupError(
                f"{type(task).__name__} has no item_losses(raw, targets) -> [n]; name a metric "
                "that it logs in a validation (objective='val/loss')"
            )
        return Told()
    if datamodule.val_dataloader() == []:
        raise ValueError(
            f"objective {objective!r} is logged in validations, and these data have no validation "
            "set; give the data val=0.2"
        )
    if mode not in MODES:
        raise ValueError(f"mode is 'min' or 'max', got {mode!r}")
    larger = larger_is_better(objective) if mode is None else MODES[mode]
    if larger is None:
        raise ValueError(f"whether a larger {objective!r} is better cannot be told; give mode")
    return Told(objective, -1.0 if larger else 1.0)
