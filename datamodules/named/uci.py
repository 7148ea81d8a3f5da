"""Tables of the UCI Machine Learning Repository.

Downloads go to ``uci/`` below the data root, first from the address that the benchmark of Scherer
et al. (2022) used, else as the archive of the repository's newer site. No SHA-256 is known for
these; it is recorded at the first download. Copies of known SHA-256 lie in a folder each.
"""

from __future__ import annotations

from dataclasses import replace

from ..readers.table_files import Array, Excel, Parser, Text
from ..sources import Resource, Source
from .table_spec import Published, TableSpec

__all__ = ["UCI"]

SITE = "https://archive.ics.uci.edu"
OLD = f"{SITE}/ml/machine-learning-databases"
LICENCE = "CC BY 4.0"


def _originals(old: str, new: str, parser: Parser) -> tuple[Source[Array], ...]:
    """The file at its old address, and inside the archive of the newer site."""
    file, archive = old.rsplit("/", 1)[-1], new.rsplit("/", 1)[-1]
    return (
        Source("uci", file, parser, f"{OLD}/{old}"),
        Source("uci", archive, replace(parser, member=file), f"{SITE}/static/public/{new}"),
    )


def _one(name: str, *sources: Source[Array]) -> tuple[tuple[Resource[Array], ...], ...]:
    return ((Resource(name, sources),),)


_GLASS = ("RI", "Na", "Mg", "Al", "Si", "K", "Ca", "Ba", "Fe", "type")
GLASS = TableSpec(
    name="glass",
    task="classification",
    rows=214,
    columns=_GLASS,
    target="type",
    dropped=("Id",),
    parts=_one(
        "Glass",
        *_originals(
            "glass/glass.data",
            "42/glass+identification.zip",
            Parser(Text(), ("Id", *_GLASS), 214, skip=("Id",)),
        ),
        Source(
            "glass",
            "glass.csv",
            Parser(Text(), _GLASS, 214),
            sha256="1b7039aa2d617c1827e790b55d45ac138dce06b5f2a3fb6c25f2f135b59ad2d0",
        ),
    ),
    labels=(1, 2, 3, 5, 6, 7),
    class_names=(
        "building windows, float",
        "building windows, not float",
        "vehicle windows, float",
        "containers",
        "tableware",
        "headlamps",
    ),
    counts=(70, 76, 17, 13, 9, 29),
    published=Published(lost_rows=1, row_number="Id"),
    licence=LICENCE,
    citation="B. German, 1987",
    source=f"{SITE}/dataset/42",
)

_SEEDS = (
    "area",
    "perimeter",
    "compactness",
    "length",
    "width",
    "asymmetry",
    "groove",
    "variety",
)
SEEDS = TableSpec(
    name="seeds",
    task="classification",
    rows=210,
    columns=_SEEDS,
    target="variety",
    parts=_one(
        "Seeds",
        *_originals(
            "00236/seeds_dataset.txt", "236/seeds.zip", Parser(Text(separator=None), _SEEDS, 210)
        ),
        Source(
            "seeds",
            "wheat-seeds.csv",
            Parser(Text(), _SEEDS, 210),
            sha256="8dbd1853a4439afc113cfe07f290422c7ce3fe48745d71f3f7eaa027cd38fd6e",
        ),
    ),
    labels=(1, 2, 3),
    class_names=("Kama", "Rosa", "Canadian"),
    counts=(70, 70, 70),
    published=Published(lost_rows=1),
    licence=LICENCE,
    citation="M. Charytanowicz et al., 2010",
    source=f"{SITE}/dataset/236",
)

_VOICE = (
    "MDVP:Fo(Hz)",
    "MDVP:Fhi(Hz)",
    "MDVP:Flo(Hz)",
    "MDVP:Jitter(%)",
    "MDVP:Jitter(Abs)",
    "MDVP:RAP",
    "MDVP:PPQ",
    "Jitter:DDP",
    "MDVP:Shimmer",
    "MDVP:Shimmer(dB)",
    "Shimmer:APQ3",
    "Shimmer:APQ5",
    "MDVP:APQ",
    "Shimmer:DDA",
    "NHR",
    "HNR",
    "status",
    "RPDE",
    "DFA",
    "spread1",
    "spread2",
    "D2",
    "PPE",
)
_PARKINSONS = Parser(Text(header=True), ("name", *_VOICE), 195, skip=("name",))
PARKINSONS = TableSpec(
    name="parkinsons",
    task="classification",
    rows=195,
    columns=_VOICE,
    target="status",
    dropped=("name",),
    parts=_one(
        "Parkinsons",
        *_originals("parkinsons/parkinsons.data", "174/parkinsons.zip", _PARKINSONS),
        Source(
            "parkinsons",
            "parkinsons.data",
            _PARKINSONS,
            sha256="b0e091284f1545e09bd027a3af9d89dc246abaa6fdff3334f55c62b414f7e587",
        ),
    ),
    labels=(0, 1),
    class_names=("healthy", "Parkinson's"),
    counts=(48, 147),
    licence=LICENCE,
    citation="M. Little et al., 2007",
    source=f"{SITE}/dataset/174",
)

_CONCRETE = Parser(
    Excel(),
    ("cement", "slag", "ash", "water", "plasticizer", "coarse", "fine", "age", "strength"),
    1030,
)
CONCRETE = TableSpec(
    name="concrete",
    task="regression",
    rows=1030,
    columns=_CONCRETE.names,
    target="strength",
    parts=_one(
        "Concrete",
        *_originals(
            "concrete/compressive/Concrete_Data.xls",
            "165/concrete+compressive+strength.zip",
            _CONCRETE,
        ),
        Source(
            "concrete",
            "Concrete_Data.xls",
            _CONCRETE,
            sha256="1ecf19eb1c78cf20599f6ef90dd41af6ff99b496095bd9903483c1fec418f522",
        ),
    ),
    published=Published(permuted=True),
    licence=LICENCE,
    citation="I-C. Yeh, 1998",
    source=f"{SITE}/dataset/165",
)

_ENERGY = Parser(Excel(), ("X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8", "Y1", "Y2"), 768)
ENERGY = TableSpec(
    name="energy",
    task="regression",
    rows=768,
    columns=_ENERGY.names,
    target="Y2",
    dropped=("Y1",),
    parts=_one(
        "Energy",
        *_originals("00242/ENB2012_data.xlsx", "242/energy+efficiency.zip", _ENERGY),
        Source(
            "energy_efficiency",
            "ENB2012_data.xlsx",
            _ENERGY,
            sha256="ce80fba0fdf4be0e2f2e709fd01ff9c807246947fe666e18710d5105af7970b6",
        ),
    ),
    published=Published(leaked=("Y1",), permuted=True),
    licence=LICENCE,
    citation="A. Tsanas and A. Xifara, 2012",
    source=f"{SITE}/dataset/242",
)

_SHEET = "Folds5x2_pp.xlsx"
_POWER = Parser(Excel(), ("AT", "V", "AP", "RH", "PE"), 9568, member=_SHEET)
POWER = TableSpec(
    name="power",
    task="regression",
    rows=9568,
    columns=_POWER.names,
    target="PE",
    parts=_one(
        "Power",
        Source("uci", "CCPP.zip", _POWER, f"{OLD}/00294/CCPP.zip"),
        Source(
            "uci",
            "combined+cycle+power+plant.zip",
            _POWER,
            f"{SITE}/static/public/294/combined+cycle+power+plant.zip",
        ),
        Source("uci", _SHEET, replace(_POWER, member=None)),
        Source(
            "power_plant_ccpp",
            "data.txt",
            Parser(Text(separator=None), _POWER.names, 9568),
            sha256="daebd20c408dfc5c4979604f240e891be162c3a5d00d662380aa669044a1fb31",
        ),
    ),
    licence=LICENCE,
    citation="P. Tüfekci, 2014",
    source=f"{SITE}/dataset/294",
)

_AIRFOIL = Parser(
    Text(separator=None),
    ("frequency", "angle", "chord", "velocity", "thickness", "pressure"),
    1503,
)
AIRFOIL = TableSpec(
    name="airfoil",
    task="regression",
    rows=1503,
    columns=_AIRFOIL.names,
    target="pressure",
    parts=_one(
        "Airfoil",
        *_originals("00291/airfoil_self_noise.dat", "291/airfoil+self+noise.zip", _AIRFOIL),
        Source(
            "airfoil_self_noise",
            "airfoil_self_noise.dat",
            _AIRFOIL,
            sha256="74c75fd71783f1e6b71f8a622b993dc592897a97cd689c5090a07147a1b097b3",
        ),
    ),
    published=Published(lost_rows=1, permuted=True),
    licence=LICENCE,
    citation="T. Brooks, D. Pope and M. Marcolini, 1989",
    source=f"{SITE}/dataset/291",
)

_WINE = (
    "fixed acidity",
    "volatile acidity",
    "citric acid",
    "residual sugar",
    "chlorides",
    "free sulfur dioxide",
    "total sulfur dioxide",
    "density",
    "pH",
    "sulphates",
    "alcohol",
    "quality",
)
WINE_QUALITY = TableSpec(
    name="wine-quality",
    task="regression",
    rows=1599,
    columns=_WINE,
    target="quality",
    parts=_one(
        "WineQuality (red)",
        *_originals(
            "wine-quality/winequality-red.csv",
            "186/wine+quality.zip",
            Parser(Text(separator=";", header=True), _WINE, 1599),
        ),
        Source(
            "wine_quality",
            "winequality-red.csv",
            Parser(Text(), _WINE, 1599),
            sha256="c9614512e980f1cbd221c796daa97f00c4898c3cd1716863abac60f6cd1a522e",
        ),
    ),
    published=Published(lost_rows=1, permuted=True),
    licence=LICENCE,
    citation="P. Cortez et al., 2009",
    source=f"{SITE}/dataset/186",
)

_YACHT = Parser(
    Text(separator=None),
    (
        "buoyancy position",
        "prismatic",
        "length-displacement",
        "beam-draught",
        "length-beam",
        "Froude",
        "resistance",
    ),
    308,
)
YACHT = TableSpec(
    name="yacht",
    task="regression",
    rows=308,
    columns=_YACHT.names,
    target="resistance",
    parts=_one(
        "Yacht",
        *_originals("00243/yacht_hydrodynamics.data", "243/yacht+hydrodynamics.zip", _YACHT),
        Source(
            "yacht_hydrodynamics",
            "data.txt",
            _YACHT,
            sha256="00dfecc0fc01ddd4c90b558a3ac11b246df8ebcfea130724223475a9a67f0ea1",
        ),
    ),
    published=Published(lost_rows=2, permuted=True),
    licence=LICENCE,
    citation="J. Gerritsma, R. Onnink and A. Versluis, 1981",
    source=f"{SITE}/dataset/243",
)

UCI = (GLASS, SEEDS, PARKINSONS, CONCRETE, ENERGY, POWER, AIRFOIL, WINE_QUALITY, YACHT)
