"""The files of the data-set problems: where they come from, and how they are read."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np

from lightning_al.files import UNPACKED, bounded

from ..named.all_sets import table_spec
from ..readers.table_files import Array, Excel, Parser
from ..sources import Resource, Source

__all__ = ["AIRFOIL_FILE", "AIRLINE_FILE", "ENGINE_FILE", "LGBB_FILE", "read_airline", "read_lgbb"]

_GITHUB = "https://raw.githubusercontent.com"
LGBB_COLUMNS = ("mach", "alpha", "beta", "lift", "pitch")
LGBB_MEMBER = "lgbb_original.txt"
LGBB_PREFACE = 21  # lines before the header


def read_airline(path: Path) -> Array:
    """Year and passengers of each month [144, 2], the year with its fraction.

    Raises:
        ValueError: other columns, rows, or cells.
    """
    import pandas as pd

    frame = pd.read_csv(path, skipinitialspace=True)
    if list(frame.columns) != ["Month", "Passengers"] or len(frame) != 144:
        raise ValueError(
            f"{path} must hold 144 rows x the columns Month, Passengers, it holds {len(frame)} x "
            f"{', '.join(map(str, frame.columns))}; is it the right file, and whole?"
        )
    month = frame["Month"].astype(str).str.extract(r"^(\d{4})-(\d{2})$").astype("float64")
    values = np.column_stack(
        [
            (month[0] + (month[1] - 1) / 12).to_numpy(),
            pd.to_numeric(frame["Passengers"], errors="coerce").to_numpy(dtype="float64"),
        ]
    )
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise ValueError(f"{path}: row {row} is no month YYYY-MM with a number: {frame.iloc[row]}")
    return values


def read_lgbb(path: Path) -> Array:
    """Mach, alpha, beta, lift and pitch of all runs [rows, 5], from the text or its archive.

    The text has 21 lines of preface, then the names of the columns, then the runs; white space
    between the cells.

    Raises:
        ValueError: not this form.
    """
    import pandas as pd

    text: Path | BytesIO = path if path.suffix == ".txt" or not _packed(path) else _unpacked(path)
    try:
        frame = pd.read_csv(text, sep=r"\s+", skiprows=LGBB_PREFACE)
    except ValueError as error:  # pandas' own errors are among them
        raise ValueError(f"{path} is no table behind {LGBB_PREFACE} lines: {error}") from error
    frame.columns = frame.columns.map(lambda name: str(name).strip().casefold())
    if missing := [name for name in LGBB_COLUMNS if name not in frame.columns]:
        raise ValueError(
            f"{path} must name the columns {', '.join(LGBB_COLUMNS)} in line {LGBB_PREFACE + 1}; "
            f"{', '.join(missing)} missing among {', '.join(frame.columns)}"
        )
    kept = frame[list(LGBB_COLUMNS)].apply(pd.to_numeric, errors="coerce")
    values = kept.to_numpy(dtype="float64")
    if not len(values) or not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).any(1).sum())
        raise ValueError(
            f"{path} must hold finite numbers: {len(values)} rows, {bad} of them with other cells"
        )
    return values


def _packed(path: Path) -> bool:
    return tarfile.is_tarfile(path)


def _unpacked(path: Path) -> BytesIO:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.rsplit("/", 1)[-1] == LGBB_MEMBER:
                file = archive.extractfile(member)
                assert file is not None  # a plain file has content
                return BytesIO(bounded(file, UNPACKED, f"{path}: {member.name}"))
    raise ValueError(f"{path}: the archive holds no {LGBB_MEMBER}")


AIRLINE_FILE: Resource[Array] = Resource(
    "Airline passengers",
    (
        Source(
            "airline_passengers",
            "airline-passengers.csv",
            read_airline,
            f"{_GITHUB}/jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f/"
            "airline-passengers.csv",
            "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
        ),
    ),
)

AIRFOIL_FILE: Resource[Array] = table_spec("airfoil").resources[0]

ENGINE_COLUMNS = (
    "number",
    *("speed", "load", "intake valve", "lambda"),
    *("consumption", "exhaust temperature", "catalyst temperature"),
    *("roughness v", "roughness s", "HC", "NOx"),
)
ENGINE_FILE: Resource[Array] = Resource(
    "Bosch petrol engine",
    (
        Source(
            "bosch_engine",
            "engine2_normalized.xlsx",
            Parser(Excel(), ENGINE_COLUMNS, 785, skip=("number",)),
            f"{_GITHUB}/boschresearch/Bosch-Engine-Datasets/"
            "16d1bae048f5aa9459a5d1f98c695a05ba63c032/pengines/engine2_normalized.xlsx",
            "85bd5b1b9f0da361d931adb59450834036c3b637482991da92bd61744a172692",
        ),
    ),
)

LGBB_FILE: Resource[Array] = Resource(
    "Langley glide-back booster",
    (
        Source(
            "lgbb", "lgbb.tar.gz", read_lgbb, "https://bobby.gramacy.com/surrogates/lgbb.tar.gz"
        ),
        Source("lgbb", LGBB_MEMBER, read_lgbb),
    ),
)
