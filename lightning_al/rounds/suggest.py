"""One shot: which items to label next, from a model that is trained already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import LightningModule

from lightning_al.files import cell, replacing
from lightning_al.fits.workbench import Workbench
from lightning_al.randomness import generator, seeded
from lightning_al.records import Acquisition, Box
from lightning_al.rehearsal import check_reading
from lightning_al.scoring.bank import Bank, check_features
from lightning_al.scoring.scorer import Scorer
from lightning_al.tasks import Adapter

from .checks import check_choice
from .parts import strategy_name

if TYPE_CHECKING:
    from lightning_al.protocols import QueryStrategy

__all__ = ["suggest", "write_suggestions"]


def suggest(
    model: LightningModule,
    datamodule: Any,
    strategy: QueryStrategy | str | Mapping[str, Any],
    k: int,
    *,
    posterior: Any = None,
    adapter: Adapter | None = None,
    features: Callable[[Any], Any] | None = None,
    seed: int = 0,
    remaining: int | None = None,
) -> Acquisition:
    """The ``k`` items of the pool to label next; nothing is trained or changed.

    Args:
        model: a trained LightningModule; scored on the device it lies on.
        datamodule: an ``ActiveDataModule``; its pool is scored under the test transform.
        strategy: a query strategy, its name, or ``{"name": …, **arguments}``.
        k: how many.
        posterior: for strategies that need several functions, such as ``MCDropout(20)``.
        adapter: how to get outputs and embeddings from a module of your own.
        features: gives the embeddings instead of the model (see :class:`ActiveLearner`).
        seed: breaks ties, and drives strategies that draw.
        remaining: queries that the budget leaves, for strategies that plan ahead.

    Raises:
        ValueError: ``k`` larger than the pool, or a model that cannot serve the strategy.
    """
    from lightning_al.strategies import resolve  # inside: the core never imports a sibling

    chosen_by: Any = resolve(strategy)
    if chosen_by.privileged:
        name = strategy_name(strategy, chosen_by)
        raise ValueError(f"strategy {name!r} reads labels of the pool; it runs only inside `bench`")
    datamodule.prepare_data()
    datamodule.setup()
    n = len(datamodule.pool)
    if not 1 <= k <= n:
        raise ValueError(f"cannot suggest {k} of {n} candidates; give k from 1 to {n}")
    if features is not None:
        check_features(features)
    scorer = Scorer(
        task=model,
        datamodule=datamodule,
        adapter=adapter or Adapter.for_task(model),
        posterior=posterior,
        seed=seed,
        bank=None if features is None else Bank(features, datamodule),
        remaining=remaining,
        make_bench=Workbench,
    )
    check_reading(model, scorer.adapter, datamodule, chosen_by.needs)
    with seeded(seed, 0, "stage-score"):  # as a round 0 does it
        pool = scorer.pool(chosen_by)
    clock = time.perf_counter()
    with seeded(seed, 0, "stage-choose"):
        acquisition: Acquisition = chosen_by.choose(pool, k, generator(seed, 0, "choose"))
    name, domain = strategy_name(strategy, chosen_by), datamodule.domain
    check_choice(acquisition, k, datamodule.pool, name, domain)
    if isinstance(domain, Box) and acquisition.x is None:
        places = datamodule.coordinates(acquisition.index)
        acquisition = replace(acquisition, x=places, index=None)
    return replace(acquisition, seconds=time.perf_counter() - clock)


def write_suggestions(acquisition: Acquisition, datamodule: Any, path: Path) -> None:
    """Write a CSV of rank, index, path (of a box: x0, x1, ...) and score, best first.

    Of a table also the rows as the file has them.
    """
    import pandas as pd

    n = len(acquisition)
    scores = [None] * n if acquisition.scores is None else acquisition.scores.tolist()
    if acquisition.x is not None:
        columns = zip(*acquisition.x.tolist(), strict=True)
        what: dict[str, Any] = {f"x{d}": list(values) for d, values in enumerate(columns)}
    else:
        assert acquisition.index is not None
        index = acquisition.index.tolist()
        what = {"index": index, "path": [cell(datamodule.item_path(i)) for i in index]}
        if (written := getattr(datamodule, "written", None)) is not None:
            names, rows = written(acquisition.index)
            taken = {"rank", "score", *what}
            for name, values in zip(names, zip(*rows, strict=True), strict=True):
                what[f"x_{name}" if name in taken else name] = [cell(v) for v in values]
    frame = pd.DataFrame({"rank": range(1, n + 1), **what, "score": scores})
    with replacing(path) as file:
        frame.to_csv(file, index=False)
