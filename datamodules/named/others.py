"""Tables from elsewhere: scikit-learn, Learning Active Learning, credit cards, and drawn ones."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..readers.table_files import Array, Matlab, NumPy, Parser, R, Text
from ..sources import Resource, Source
from . import synthetic
from .table_spec import TableSpec, Variant, numbered

__all__ = ["OTHERS"]

LAL = "https://github.com/ksenia-konyushkova/LAL"
_RAW = "https://raw.githubusercontent.com/ksenia-konyushkova/LAL"
_COMMIT = f"{_RAW}/4484292e81743623f53463e59b758c94b454e416/data"
_CITE_LAL = "K. Konyushkova, R. Sznitman and P. Fua, 2017"


def _checkerboard(cells: int, train: str, test: str) -> TableSpec:
    parts = []
    for part, sha256 in (("train", train), ("test", test)):
        file = f"checkerboard{cells}x{cells}_{part}.npz"
        parser = Parser(NumPy(("x", "y")), ("x0", "x1", "colour"), 1000)
        source = Source("lal_checkerboards", file, parser, f"{_COMMIT}/{file}", sha256)
        parts.append((Resource(f"Checkerboard{cells}x{cells}", (source,)),))
    return TableSpec(
        name=f"checkerboard-{cells}x{cells}",
        task="classification",
        rows=2000,
        columns=("x0", "x1", "colour"),
        target="colour",
        parts=tuple(parts),
        labels=(0, 1),
        class_names=("odd", "even"),
        own_split=1000,
        licence="Apache 2.0",
        citation=_CITE_LAL,
        source=LAL,
    )


def _striatum() -> TableSpec:
    parts = []
    for part in ("train", "test"):
        files = []
        for kind, names in (("features", None), ("labels", ("label",))):
            file = f"striatum_{part}_{kind}_mini.mat"
            parser = Parser(Matlab(), names, 10_000)
            source = Source("lal_striatum", file, parser, f"{LAL}/raw/master/data/{file}")
            files.append(Resource("StriatumMini", (source,)))
        parts.append(tuple(files))
    return TableSpec(
        name="striatum-mini",
        task="classification",
        rows=20_000,
        columns=None,
        target="label",
        parts=tuple(parts),
        labels=(-1, 1),
        class_names=("background", "mitochondrion"),
        counts=(17_290, 2_710),
        own_split=10_000,
        licence="GPLv3",
        citation=_CITE_LAL,
        source=LAL,
    )


_CARD = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class")
CREDITCARD = TableSpec(
    name="creditcard",
    task="classification",
    rows=284_807,
    columns=_CARD,
    target="Class",
    parts=(
        (
            Resource(
                "CreditCard",
                (
                    Source(
                        "creditcard",
                        "creditcard.Rdata",
                        Parser(R(), _CARD, 284_807),
                        "https://www.ulb.ac.be/di/map/adalpozz/data/creditcard.Rdata",
                    ),
                    Source("creditcard", "creditcard.csv", Parser(Text(",", True), _CARD, 284_807)),
                ),
            ),
        ),
    ),
    labels=(0, 1),
    class_names=("genuine", "fraud"),
    counts=(284_315, 492),
    licence="DbCL 1.0",
    citation="A. Dal Pozzolo et al., 2015",
    source="https://www.kaggle.com/datasets/mlg-ulb/creditcardfraud",
)


def _bundled(loader: str, variant: Variant) -> Array:
    """A table that comes with scikit-learn, target last."""
    from sklearn import datasets

    # published: scikit-learn's scaling, which has seen all rows
    options = {"scaled": variant == "published"} if loader == "load_diabetes" else {}
    return np.column_stack(getattr(datasets, loader)(return_X_y=True, **options))


_CELL = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
BREAST = TableSpec(
    name="breast",
    task="classification",
    rows=569,
    columns=(*(f"{k} {c}" for k in ("mean", "error of", "worst") for c in _CELL), "diagnosis"),
    target="diagnosis",
    draw=partial(_bundled, "load_breast_cancer"),
    labels=(0, 1),
    class_names=("malignant", "benign"),
    counts=(212, 357),
    licence="CC BY 4.0",
    citation="N. Street, W. Wolberg and O. Mangasarian, 1993",
    source="https://archive.ics.uci.edu/dataset/17",
)
DIABETES = TableSpec(
    name="diabetes",
    task="regression",
    rows=442,
    columns=("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "progression"),
    target="progression",
    draw=partial(_bundled, "load_diabetes"),
    licence="CC BY 4.0",
    citation="B. Efron et al., 2004",
    source="https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html",
)
DIGITS = TableSpec(
    name="digits",
    task="classification",
    rows=1797,
    columns=(*numbered("pixel", 64), "digit"),
    target="digit",
    draw=partial(_bundled, "load_digits"),
    labels=tuple(range(10)),
    class_names=tuple("0123456789"),
    counts=(178, 182, 177, 183, 181, 182, 181, 179, 174, 180),
    licence="CC BY 4.0",
    citation="E. Alpaydin and C. Kaynak, 1998",
    source="https://archive.ics.uci.edu/dataset/80",
)

_PLANE = ("x0", "x1", "y")
_DRAWN = "Apache 2.0"
_BINARY = {"labels": (0, 1), "class_names": ("0", "1")}


def _classes(name: str, draw: object, rows: int, **more: object) -> TableSpec:
    facts = {"columns": _PLANE, "target": "y", "licence": _DRAWN, **_BINARY, **more}
    return TableSpec(name, "classification", rows, draw=draw, **facts)  # type: ignore[arg-type]


def _drawn_board(cells: int, variant: Variant) -> Array:
    return synthetic.checkerboard(cells)


SYNTHETIC = (
    _classes("synthclass1", synthetic.two_clouds, 500, fold_seed=1234),
    _classes("synthclass2", synthetic.six_clouds, 500, fold_seed=1234),
    _classes("synthclass3", synthetic.three_clouds, 500, fold_seed=1234),
    _classes(
        "gaussian-clouds", synthetic.gaussian_clouds, 11_000, own_split=1000, citation=_CITE_LAL
    ),
    _classes("drawn-checkerboard-2x2", partial(_drawn_board, 2), 2000, own_split=1000),
    _classes("drawn-checkerboard-4x4", partial(_drawn_board, 4), 2000, own_split=1000),
    TableSpec(
        "synthreg1",
        "regression",
        1000,
        columns=("x0", "y"),
        target="y",
        draw=synthetic.line,
        fold_seed=1234,
        licence=_DRAWN,
    ),
    TableSpec(
        "synthreg2",
        "regression",
        1000,
        columns=_PLANE,
        target="y",
        draw=synthetic.spiral,
        fold_seed=1234,
        licence=_DRAWN,
    ),
)

OTHERS = (
    _checkerboard(
        2,
        "8548b425b06946c21ba0fbd4d053fccddd5c6ee567bb69b26a8342e2dc6a8788",
        "fe0e58d010ba8c9e0cb6ae57a96d78b1c89a579f6169ccdfdf0d78061b559bf1",
    ),
    _checkerboard(
        4,
        "085c0ebc2ab864df095bdc5daed545a092be7515796e2ce746090f46152682b2",
        "13e3a41215e3854c65b64e52582cb0c4959dc6552c94eff9210120c222d55655",
    ),
    _striatum(),
    CREDITCARD,
    BREAST,
    DIABETES,
    DIGITS,
    *SYNTHETIC,
)
