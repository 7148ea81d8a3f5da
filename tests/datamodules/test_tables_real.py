"""The named tables as they are: shapes and facts, where the files are in the data folder."""

from functools import partial

import numpy as np
import pytest
import torch

from lightning_al.datamodules import NamedDataModule
from lightning_al.datamodules import named as datasets
from lightning_al.datamodules.named.all_sets import ImageSpec
from lightning_al.datamodules.sources import data_root

SPECS = {n: datasets.spec(n) for n in datasets.names()}
FILES = [s for s in SPECS.values() if not isinstance(s, ImageSpec) and s.parts]
from_files = pytest.mark.parametrize("spec", FILES, ids=lambda s: s.name)

SHAPES = {  # rows and features, corrected and as published (2205.11117 and its library's readers)
    "airfoil": (1503, 5, 1502, 5),
    "breast": (569, 30, 569, 30),
    "checkerboard-2x2": (2000, 2, 2000, 2),
    "checkerboard-4x4": (2000, 2, 2000, 2),
    "concrete": (1030, 8, 1030, 8),
    "creditcard": (284_807, 30, 284_807, 30),
    "diabetes": (442, 10, 442, 10),
    "digits": (1797, 64, 1797, 64),
    "diamonds": (53_940, 26, 53_940, 26),
    "elevators": (16_599, 18, 16_599, 18),
    "dna": (3186, 180, 3186, 180),
    "energy": (768, 8, 768, 9),
    "glass": (214, 9, 213, 10),
    "parkinsons": (195, 22, 195, 22),
    "parkinsons-telemonitoring": (5875, 61, 5875, 61),
    "pol": (15_000, 26, 15_000, 26),
    "power": (9568, 4, 9568, 4),
    "sarcos-test": (4449, 21, 4449, 21),
    "seeds": (210, 7, 209, 7),
    "splice": (3175, 60, 3175, 60),
    "wine-quality": (1599, 11, 1598, 11),
    "yacht": (308, 6, 306, 6),
}


def real(spec, variant="corrected"):
    """The table from the data folder; skips where a file is not there."""
    root = data_root()
    for resource in spec.resources:
        if resource.find(root) is None:
            pytest.skip(f"{resource.sources[0].file} is not in the data folder")
    return spec.load(root, variant)


@pytest.mark.parametrize("name", SHAPES)
def test_the_real_tables_have_their_shapes(name):
    mine, theirs = (real(SPECS[name], v) for v in ("corrected", "published"))
    assert (*mine.features.shape, *theirs.features.shape) == SHAPES[name]


@from_files
def test_real_copies_are_accepted_as_they_are(spec):
    root = data_root()
    found = [s for r in spec.resources for s in r.sources if s.path(root).is_file()]
    if not found:
        pytest.skip(f"no file of {spec.name} is in the data folder")
    arrays = [source.read(root) for source in found]
    if len(spec.resources) == 1:
        for array in arrays[1:]:
            np.testing.assert_array_equal(array, arrays[0])


def test_known_facts_of_the_real_tables():
    wine = real(SPECS["wine-quality"]).targets
    assert dict(zip(*[t.tolist() for t in wine.unique(return_counts=True)], strict=True)) == {
        3: 10, 4: 53, 5: 681, 6: 638, 7: 199, 8: 18,
    }  # fmt: skip
    power = real(SPECS["power"]).targets
    assert (float(power.min()), float(power.max())) == (420.26, 495.76)
    diamonds = real(SPECS["diamonds"])
    assert int(diamonds.targets.sum()) == 212_135_217
    at = {name: i for i, name in enumerate(diamonds.feature_names)}
    cuts = diamonds.features[:, [i for name, i in at.items() if name.startswith("cut=")]]
    assert cuts.sum(0).int().tolist() == [1610, 4906, 12_082, 13_791, 21_551]
    parkinsons = real(SPECS["parkinsons-telemonitoring"])
    people = [i for i, n in enumerate(parkinsons.feature_names) if n.startswith("subject#=")]
    assert len(people) == 42
    assert bool((parkinsons.features[:, people].sum(1) == 1).all())
    assert "motor_UPDRS" not in parkinsons.feature_names


@pytest.mark.parametrize(
    ("name", "pool"), [("parkinsons-telemonitoring", 3760), ("diamonds", 34_522)]
)
def test_the_published_split_of_density_sets_is_in_the_unit_range(name, pool):
    real(SPECS[name])
    module = NamedDataModule(name, variant="published", val=0.2, initial=200)
    module.start(0)
    seen = torch.cat([module.labelled, module.pool])
    assert len(seen) == pool  # table 2 of 2501.01248
    features, targets = module.items.inputs(seen), module.labelled_targets()
    for values in (features, targets):
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1
    assert float(targets.max()) > 0.6
    assert float(targets.min()) < 0.1


def test_known_facts_of_the_sets_of_alrm():
    dna, splice = real(SPECS["dna"]), real(SPECS["splice"])
    assert dna.targets[:2000].bincount().tolist() == [464, 485, 1051]
    assert dna.targets[2000:].bincount().tolist() == [303, 280, 603]
    assert set(dna.features.unique().tolist()) == {0, 1}
    assert splice.targets[:1000].bincount().tolist() == [483, 517]
    assert splice.features.unique().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("cells", [2, 4])
def test_the_real_checkerboards_follow_the_rule_of_the_drawn_ones(cells):
    table = real(SPECS[f"checkerboard-{cells}x{cells}"])
    fields = (table.features * cells).floor().long().clamp(max=cells - 1).sum(1)
    assert torch.equal(table.targets, (fields % 2 == 0).long())


def test_bundled_tables_are_those_of_scikit_learn():
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

    for name, load in (
        ("breast", load_breast_cancer),
        ("digits", load_digits),
        ("diabetes", partial(load_diabetes, scaled=False)),
    ):
        x, y = load(return_X_y=True)
        got = SPECS[name].load(data_root())
        np.testing.assert_array_equal(got.features, x)
        np.testing.assert_array_equal(got.targets, y)
    x, _ = load_diabetes(return_X_y=True)
    published = SPECS["diabetes"].load(data_root(), "published")
    np.testing.assert_array_equal(published.features, x.astype("float32"))
    assert [s.name for s in SPECS.values() if isinstance(s, ImageSpec)] == [
        "fashion-mnist",
        "mnist",
    ]
