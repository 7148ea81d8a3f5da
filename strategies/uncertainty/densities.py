"""Strategies that score whole predictive densities, item by item (BALSA and its kin).

Those of a posterior ask by how much its members' densities differ, the others how wide or flat the
prediction is. Most come in several variants: on a "grid" of nodes (one output, no noise), by the
"samples" that were drawn (any number of outputs), in the closed form of a "gaussian" (members whose
``mean`` and ``variance`` are all there is to them), and as they were "published", in the released
code, defects and all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lightning_al.scores import density, density_gaussian, density_published, density_samples

from ..score_strategy import ScoreStrategy
from ..strategy_registry import STRATEGIES

__all__ = [
    "DensityScore",
    "bald_naive",
    "balsa_bald_entropy",
    "balsa_bald_lc",
    "balsa_bald_std",
    "balsa_emd",
    "balsa_kl_all_pairs",
    "balsa_kl_anomaly",
    "balsa_kl_diff",
    "balsa_kl_grid",
    "balsa_kl_pairs",
    "balsa_mi",
    "balsa_nflows_out",
    "density_entropy",
    "density_least_confidence",
    "density_spread",
    "density_std",
]

GRID = ("log_density", "weights")
CROSS = ("cross_log_density",)
DRAWN = ("density_samples",)
MOMENTS = ("mean", "variance")

Variants = Mapping[str, tuple[Callable[..., Tensor], tuple[str, ...]]]


@dataclass(frozen=True, repr=False, eq=False)
class DensityScore(ScoreStrategy):
    """A score of predictive densities; see :class:`ScoreStrategy`."""

    kind: ClassVar[str] = "density"


def _made(name: str, variants: Variants, variant: str, **more: Any) -> DensityScore:
    """The strategy of one variant: how its score is computed, and from which fields."""
    function, needs = _chosen(name, variants, variant)
    return DensityScore(function, needs=needs, **more)


def _chosen(
    name: str, variants: Variants, variant: str
) -> tuple[Callable[..., Tensor], tuple[str, ...]]:
    if variant not in variants:
        raise ValueError(f"variant of {name} is one of {', '.join(variants)}, got {variant!r}")
    return variants[variant]


# --- by how much the members of a posterior differ ------------------------------------------------


@STRATEGIES.register("balsa-kl-pairs", kind="density", members=25)
def balsa_kl_pairs(variant: str = "grid") -> DensityScore:
    """Largest divergence of members one after the other first (Werner and Schmidt-Thieme 2025).

    BALSA's KL Pairs.

    Args:
        variant: grid, samples (any number of outputs), gaussian (closed form), or published.
    """
    variants: Variants = {
        "grid": (density.kl_pairs, GRID),
        "samples": (density_samples.sampled_kl_pairs, CROSS),
        "gaussian": (density_gaussian.gaussian_kl_pairs, MOMENTS),
        "published": (density_published.kl_pairs, GRID),
    }
    return _made("balsa-kl-pairs", variants, variant, members="many")


@STRATEGIES.register("balsa-kl-all-pairs", kind="density", members=25)
def balsa_kl_all_pairs(variant: str = "grid") -> DensityScore:
    """Largest mean divergence of two members first (Malinin and Gales 2021).

    What BALSA's KL Pairs estimates from one order of the members, over all pairs at the same cost.

    Args:
        variant: grid, samples (any number of outputs), or gaussian (closed form).
    """
    variants: Variants = {
        "grid": (density.kl_all_pairs, GRID),
        "samples": (density_samples.sampled_kl_all_pairs, CROSS),
        "gaussian": (density_gaussian.gaussian_kl_all_pairs, MOMENTS),
    }
    return _made("balsa-kl-all-pairs", variants, variant, members="many")


@STRATEGIES.register("balsa-kl-grid", kind="density", members=25)
def balsa_kl_grid(variant: str = "grid") -> DensityScore:
    """Largest divergence of the members from their mean first (Werner and Schmidt-Thieme 2025).

    BALSA's KL Grid: the number of members times the mutual information.

    Args:
        variant: grid, published, or published-normalised (whose mean alone is normalised).
    """
    variants: Variants = {
        "grid": (density.kl_grid, GRID),
        "published": (density_published.kl_grid, GRID),
        "published-normalised": (density_published.kl_grid_normalised, GRID),
    }
    return _made("balsa-kl-grid", variants, variant, members="many")


@STRATEGIES.register("balsa-emd", kind="density", members=25)
def balsa_emd(variant: str = "quantiles") -> DensityScore:
    """Largest distance of members one after the other first (Werner and Schmidt-Thieme 2025).

    BALSA's EMD: how far mass has to be moved to make one predicted density the next.

    Args:
        variant: quantiles, all-pairs (of members, of their quantiles), gaussian (2-Wasserstein in
            closed form), or published (of values drawn).
    """
    variants: Variants = {
        "quantiles": (density_samples.pairs_distance, ("quantiles",)),
        "all-pairs": (density_samples.all_pairs_distance, ("quantiles",)),
        "gaussian": (density_gaussian.gaussian_pairs_distance, MOMENTS),
        "published": (density_published.pairs_distance, DRAWN),
    }
    return _made("balsa-emd", variants, variant, members="many", relative=True)


@STRATEGIES.register("balsa-kl-anomaly", kind="density", members=25)
def balsa_kl_anomaly(variant: str = "grid") -> DensityScore:
    """Largest divergence of the mean from its members first (Werner and Schmidt-Thieme 2025).

    What KL Anomaly of BALSA's code is at matched values: the number of members times the reverse
    mutual information of Malinin and Gales (2021). High where a member excludes what others expect.

    Args:
        variant: grid, samples (any number of outputs), or published.
    """
    variants: Variants = {
        "grid": (density.reverse_information, GRID),
        "samples": (density_samples.kl_anomaly, CROSS),
        "published": (density_published.kl_anomaly, CROSS),
    }
    return _made("balsa-kl-anomaly", variants, variant, members="many")


@STRATEGIES.register("balsa-kl-diff", kind="density", members=25)
def balsa_kl_diff(variant: str = "grid") -> DensityScore:
    """KL Pairs less the divergence from the mean, highest first (Werner and Schmidt-Thieme 2025).

    KL Diff of BALSA's code.

    Args:
        variant: grid, or published.
    """
    variants: Variants = {
        "grid": (density.kl_diff, GRID),
        "published": (density_published.kl_diff, GRID),
    }
    return _made("balsa-kl-diff", variants, variant, members="many")


@STRATEGIES.register("balsa-mi", kind="density", members=25)
def balsa_mi() -> DensityScore:
    """Most information on the member in an answer first, by values drawn (Houlsby et al. 2011).

    Mutual information by the members' densities of each other's draws, for any number of outputs.
    """
    return DensityScore(density_samples.mutual_information, needs=CROSS, members="many")


@STRATEGIES.register("balsa-bald-entropy", kind="density", members=25)
def balsa_bald_entropy(variant: str = "grid") -> DensityScore:
    """Largest excess of the mean density's entropy first: BALD (Houlsby et al. 2011).

    BALSA's BALD^H; the mutual information of answer and member.

    Args:
        variant: grid, published, or published-geometric (of the geometric mean of the members).
    """
    variants: Variants = {
        "grid": (density.bald_entropy, GRID),
        "published": (density_published.bald_entropy, GRID),
        "published-geometric": (density_published.geometric_entropy, GRID),
    }
    return _made("balsa-bald-entropy", variants, variant, members="many")


@STRATEGIES.register("balsa-bald-std", kind="density", members=25)
def balsa_bald_std(variant: str = "moments") -> DensityScore:
    """Largest excess of the mean density's deviation first (Werner and Schmidt-Thieme 2025).

    What BALSA's BALD^sigma is where its sum does not telescope: the standard deviation of the mean
    density, by the law of total variance, less the mean of the members' own.

    Args:
        variant: moments (any number of outputs), or published (of values drawn).
    """
    variants: Variants = {
        "moments": (density_gaussian.bald_std, MOMENTS),
        "published": (density_published.bald_std, DRAWN),
    }
    return _made("balsa-bald-std", variants, variant, members="many", relative=True)


@STRATEGIES.register("balsa-bald-lc", kind="density", members=25)
def balsa_bald_lc(variant: str = "grid") -> DensityScore:
    """Mean density whose peak falls lowest below its members' (Werner and Schmidt-Thieme 2025).

    What BALSA's BALD^LC is where its sum does not telescope.

    Args:
        variant: grid, or published (of values drawn).
    """
    variants: Variants = {
        "grid": (density.bald_least_confidence, GRID),
        "published": (density_published.bald_least_confidence, CROSS),
    }
    return _made("balsa-bald-lc", variants, variant, members="many")


@STRATEGIES.register("balsa-nflows-out", kind="density", members=25)
def balsa_nflows_out(variant: str = "samples") -> DensityScore:
    """Nflows Out as it should be: information by values drawn (Berry and Meger 2023).

    Args:
        variant: samples (any number of outputs), or published (zero but for rounding).
    """
    variants: Variants = {
        "samples": (density_samples.mutual_information, CROSS),
        "published": (density_published.nflows_out, GRID),
    }
    return _made("balsa-nflows-out", variants, variant, members="many")


@STRATEGIES.register("bald-naive", kind="regression", members=25)
def bald_naive(variant: str = "mean") -> ScoreStrategy:
    """Largest spread of the members' point predictions first (Gal and Ghahramani 2016).

    BALSA's BALD Naive. It ranks as ``variance`` does; for any task for numbers.

    Args:
        variant: mean (of each member), median, or published (the likeliest of the values drawn).
    """
    variants: Variants = {
        "mean": (density_samples.point_spread, ("mean",)),
        "median": (density_samples.median_spread, ("quantiles",)),
        "published": (density_published.mode_spread, (*DRAWN, *CROSS)),
    }
    function, needs = _chosen("bald-naive", variants, variant)
    made = (
        ScoreStrategy if variant == "mean" else DensityScore
    )  # the mean is any task's for numbers
    return made(function, needs=needs, members="many", relative=True)


# --- how wide or flat a prediction is -------------------------------------------------------------


@STRATEGIES.register("density-std", kind="density")
def density_std(variant: str = "moments") -> DensityScore:
    """Widest predicted density first, by its standard deviation (Werner and Schmidt-Thieme 2025).

    Args:
        variant: moments, or published (of the values drawn); both for any number of outputs.
    """
    variants: Variants = {
        "moments": (density_gaussian.mixture_std, MOMENTS),
        "published": (density_published.sample_std, DRAWN),
    }
    return _made("density-std", variants, variant, relative=True)


@STRATEGIES.register("density-least-confidence", kind="density")
def density_least_confidence(variant: str = "grid") -> DensityScore:
    """Predicted density with the lowest peak first (Lewis and Gale 1994).

    Args:
        variant: grid, or samples, as published (the highest density drawn; any number of outputs).
    """
    variants: Variants = {
        "grid": (density.least_confidence, GRID),
        "samples": (density_samples.sampled_least_confidence, CROSS),
    }
    return _made("density-least-confidence", variants, variant)


@STRATEGIES.register("density-entropy", kind="density")
def density_entropy(variant: str = "grid") -> DensityScore:
    """Predicted density of the highest entropy first (Shannon 1948; Settles 2009).

    Args:
        variant: grid, samples (any number of outputs), gaussian (closed form), or published.
    """
    variants: Variants = {
        "grid": (density.entropy, GRID),
        "samples": (density_samples.sampled_entropy, CROSS),
        "gaussian": (density_gaussian.gaussian_entropy, MOMENTS),
        "published": (density_published.entropy, GRID),
    }
    return _made("density-entropy", variants, variant)


@STRATEGIES.register("density-spread", kind="density")
def density_spread(variant: str = "grid") -> DensityScore:
    """Most uneven log-density of an answer first (Werner and Schmidt-Thieme 2025).

    The NF-Std of BALSA's code. All Gaussians have the same, so it is for other heads.

    Args:
        variant: grid, or samples, as published (any number of outputs).
    """
    variants: Variants = {
        "grid": (density.log_density_spread, GRID),
        "samples": (density_samples.sampled_log_density_spread, CROSS),
    }
    return _made("density-spread", variants, variant)
