"""``suggest --policy``: the next experiments, from a table of past measurements."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from lightning_al.assembly.advice import Advice, Past, advise
from lightning_al.assembly.building import Assembly
from lightning_al.assembly.parser import parse
from lightning_al.files import replacing
from lightning_al.history.aligned import aligned

from .typed import Words, at_least

__all__ = ["suggest_experiments"]


def suggest_experiments(arguments: Sequence[str]) -> list[Advice]:
    """Print the next experiments, and write them into a CSV.

    Raises:
        TypeError: data of another kind than past measurements in a box.
    """
    parser = Words(
        prog="lightning-al suggest --policy",
        usage="lightning-al suggest --policy auto [--config experiment] [--k 5] [--key value ...]",
        description="Where to measure next, from a table of past measurements: the places that a "
        "trained policy asks for, and those of a Gaussian process, with what the process expects "
        "there: mean, 95 %% interval, and the chance to be safe.",
        epilog="Further arguments change the configuration: --data.path past.csv, "
        '--data.bounds "{temperature: [20, 80], ph: [3, 9]}", --data.target y, --data.safety z',
        allow_abbrev=False,
    )
    parser.add_argument("--policy", required=True, help="auto, or a policy by name or path")
    parser.add_argument("--k", type=at_least(1), default=5, help="how many places (default 5)")
    parser.add_argument("--config", action="append", help="configuration (default experiment)")
    parser.add_argument("--out", type=Path, default=Path("suggestions.csv"), help="a CSV file")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the Gaussian process")
    known, more = parser.parse_known_args(list(arguments))
    words = [w for name in known.config or ["experiment"] for w in ("--config", name)]
    data = Assembly(parse(["run", *words, *more])).datamodule
    from lightning_al.datamodules import ExperimentDataModule

    if not isinstance(data, ExperimentDataModule):
        raise TypeError(
            "--policy takes past measurements in a table, an ExperimentDataModule (--config "
            f"experiment), got {type(data).__name__}; with a trained model give --ckpt"
        )
    x, targets = data.past()
    y, z = (targets, None) if targets.ndim == 1 else targets.unbind(1)
    found = advise(Past(data.box, x, y, z), known.k, known.policy, seed=known.seed)
    heads = ["by", "rank", *data.names, "mean", "low", "high", *([] if z is None else ["safe"])]
    rows = [_row(a, 1 + i % known.k) for i, a in enumerate(found)]
    with replacing(known.out) as file:
        _write(file, heads, rows)
    _show(heads, rows, data.target)
    print(f"{known.k} places each of {len(x)} measurements so far: {known.out}")
    return found


def _row(advice: Advice, rank: int) -> list[str]:
    numbers = [*advice.x.tolist(), advice.mean, advice.low, advice.high]
    safe = [] if advice.safe is None else [f"{advice.safe:.3f}"]
    return [advice.by, str(rank), *(f"{v:.6g}" for v in numbers), *safe]


def _write(path: Path, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heads, *rows])


def _show(heads: Sequence[str], rows: Sequence[Sequence[str]], target: str) -> None:
    print(f"mean, and 95 % interval low to high, of {target} as a Gaussian process expects it")
    print(*aligned([heads, *rows]), sep="\n")
