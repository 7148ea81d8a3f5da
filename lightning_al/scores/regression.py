"""Scores of predicted numbers, item by item; higher = acquire first.

A posterior comes as its members: ``mean [N, S, D]``, and where a member predicts its own noise
``variance`` of the same shape. Gaussian forms are computed in float64 and given back in the
precision of ``mean``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .numerics import check_regression, full, one_output

__all__ = [
    "expected",
    "expected_improvement",
    "incumbent",
    "probability_of_improvement",
    "regression_bald",
    "upper_confidence_bound",
    "variance",
]


def variance(mean: Tensor, variance: Tensor | None = None) -> Tensor:
    """Predictive variance, summed over outputs: mean [N, S, D] (, variance [N, S, D]) -> [N] >= 0.

    Law of total variance: the members' spread (population variance, epistemic) plus the mean of
    their own ``variance`` (aleatoric) where given. In squared target units.

    Source: Kendall and Gal (2017), equation 9.

    Raises:
        ValueError: not [N, S, D], or two shapes.

    >>> variance(torch.tensor([[[1.0], [3.0]], [[2.0], [2.0]]]))
    tensor([1., 0.])
    """
    check_regression("variance", mean, variance)
    spread = full(mean).var(1, correction=0)
    if variance is not None:
        spread = spread + full(variance).mean(1)
    return spread.sum(-1)


def expected(mean: Tensor, maximize: bool = True, output: int | None = None) -> Tensor:
    """Posterior mean of one output: mean [N, S, D] -> [N], negated to minimise; target units.

    The greedy (exploiting) end of Bayesian optimisation. ``output`` names one of D > 1 outputs.

    Source: Mockus (1975); the greedy rule of Graff, Shakhnovich and Coley (2021).

    Raises:
        ValueError: not [N, S, D], or D > 1 without ``output``, or no such output.

    >>> expected(torch.tensor([[[1.0], [3.0]]])), expected(torch.tensor([[[1.0]]]), maximize=False)
    (tensor([2.]), tensor([-1.]))
    """
    check_regression("expected", mean)
    score = one_output("expected", full(mean), output).mean(1)
    return score if maximize else -score


def incumbent(targets: Tensor | None, maximize: bool = True, output: int | None = None) -> float:
    """The best answer so far: targets [L] or [L, D] -> a number, in target units.

    Raises:
        ValueError: no answers yet, answers that are not finite, or D > 1 without ``output``.

    >>> incumbent(torch.tensor([[3.0], [5.0]])), incumbent(torch.tensor([3, 5]), maximize=False)
    (5.0, 3.0)
    """
    if targets is None or len(targets) == 0:
        raise ValueError(
            "the incumbent is the best answer so far, and nothing is labelled yet; "
            "start with labelled items (initial=1 or more), or use ucb, thompson or variance"
        )
    values = targets if targets.ndim == 1 else one_output("incumbent", targets, output)
    if not bool(values.isfinite().all()):
        raise ValueError("the incumbent is the best answer so far, and some answers are NaN or inf")
    return float(values.max() if maximize else values.min())


def _moments(
    name: str, mean: Tensor, variance: Tensor | None, maximize: bool, output: int | None
) -> tuple[Tensor, Tensor | None]:
    """Means [N, S] of one output, turned so that high is wanted, and their variances; float64."""
    check_regression(name, mean, variance)
    values = one_output(name, mean, output).double()
    own = None if variance is None else one_output(name, variance, output).double()
    return (values if maximize else -values), own


def _gaussian(values: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [N] of the posterior (law of total variance)."""
    spread = values.var(1, correction=0)
    return values.mean(1), (spread if own is None else spread + own.mean(1)).sqrt()


def upper_confidence_bound(
    mean: Tensor,
    variance: Tensor | None = None,
    *,
    kappa: float = 1.0,
    maximize: bool = True,
    output: int | None = None,
) -> Tensor:
    """Mean plus kappa standard deviations: mean [N, S, D] (, variance [N, S, D]) -> [N].

    In target units; to minimise, -mean + kappa std. ``kappa = 0`` is :func:`expected`.

    Source: Auer (2002); Srinivas et al. (2010), equation 6, kappa = sqrt(beta_t).

    Raises:
        ValueError: a negative kappa, wrong shapes, or D > 1 without ``output``.

    >>> upper_confidence_bound(torch.tensor([[[1.0], [3.0]]]), kappa=2.0)
    tensor([4.])
    """
    if not kappa >= 0:
        raise ValueError(f"kappa must be at least 0, got {kappa}; to minimise use maximize=False")
    centre, deviation = _gaussian(*_moments("ucb", mean, variance, maximize, output))
    return (centre + kappa * deviation).to(full(mean).dtype)


def _lead(
    name: str,
    mean: Tensor,
    variance: Tensor | None,
    best: float,
    xi: float,
    maximize: bool,
    output: int | None,
    form: str,
) -> tuple[Tensor, Tensor]:
    """By how much each Gaussian is ahead of the incumbent, and its deviation: [N, 1] or [N, S]."""
    if form not in ("gaussian", "members"):
        raise ValueError(f"form is 'gaussian' or 'members', got {form!r}")
    values, own = _moments(name, mean, variance, maximize, output)
    if form == "members":
        deviation = torch.zeros_like(values) if own is None else own.sqrt()
    else:
        values, deviation = (part[:, None] for part in _gaussian(values, own))
    return values - (best if maximize else -best) - xi, deviation


def expected_improvement(
    mean: Tensor,
    variance: Tensor | None = None,
    *,
    best: float,
    xi: float = 0.0,
    maximize: bool = True,
    output: int | None = None,
    form: str = "gaussian",
    log: bool = False,
) -> Tensor:
    """Mean of what exceeds the incumbent: mean [N, S, D] (, variance) -> [N] >= 0, target units.

    With d = mean - best - xi (to minimise, best - mean - xi) and z = d / std it is
    d Phi(z) + std phi(z); its limit relu(d) at std = 0.

    Args:
        mean: members' means.
        variance: members' own noise, added to their spread.
        best: the incumbent, in target units.
        xi: improvement that counts as none, in target units.
        maximize: whether high or low values are wanted.
        output: which of several outputs.
        form: "gaussian" takes the posterior as one Gaussian of its mean and total variance;
            "members" as the mixture that it is, the mean of the members' own expectations.
        log: the logarithm, exact where the value itself is too small for a float.

    Source: Mockus (1975); Jones, Schonlau and Welch (1998), equation 15; the logarithm: Ament et
    al. (2023).

    Raises:
        ValueError: wrong shapes, D > 1 without ``output``, an unknown form.

    >>> expected_improvement(torch.tensor([[[4.0], [6.0]]]), best=5.0, form="members")
    tensor([0.5000])
    """
    ahead, deviation = _lead("ei", mean, variance, best, xi, maximize, output, form)
    z = ahead / deviation.clamp_min(torch.finfo(ahead.dtype).tiny)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    gain = torch.maximum(ahead * torch.special.ndtr(z) + deviation * density, ahead.clamp_min(0))
    if log:
        tail = torch.where(deviation == 0, -torch.inf, deviation.log() + _log_tail(z))
        gain = torch.where(z > -1, gain.log(), tail)
    return _mean_over_members(gain, log).to(full(mean).dtype)


def _log_tail(z: Tensor) -> Tensor:
    """Log(phi(z) + z Phi(z)) for z <= -1, without the cancellation in the sum."""
    a = -z.clamp_max(-1)
    share = 1 - a * math.sqrt(math.pi / 2) * torch.special.erfcx(a / math.sqrt(2))
    series = (1 - 3 / a.square()) / a.square()
    far = torch.where(a > 1e3, series, share).log()
    return far - 0.5 * a.square() - 0.5 * math.log(2 * math.pi)


def _mean_over_members(values: Tensor, log: bool) -> Tensor:
    if not log:
        return values.mean(1)
    return values.logsumexp(1) - math.log(values.shape[1])


def probability_of_improvement(
    mean: Tensor,
    variance: Tensor | None = None,
    *,
    best: float,
    xi: float = 0.0,
    maximize: bool = True,
    output: int | None = None,
    form: str = "gaussian",
    log: bool = False,
) -> Tensor:
    """Probability of exceeding the incumbent by xi: mean [N, S, D] (, variance) -> [N] in [0, 1].

    Phi((mean - best - xi) / std); at std = 0 it is 1 where the mean is ahead, else 0. Arguments
    as for :func:`expected_improvement`.

    Source: Kushner (1964).

    Raises:
        ValueError: wrong shapes, D > 1 without ``output``, an unknown form.

    >>> probability_of_improvement(torch.tensor([[[4.0], [6.0]], [[5.5], [5.5]]]), best=5.0)
    tensor([0.5000, 1.0000])
    """
    ahead, deviation = _lead("pi", mean, variance, best, xi, maximize, output, form)
    z = ahead / deviation.clamp_min(torch.finfo(ahead.dtype).tiny)
    certain = (ahead > 0).to(z.dtype).masked_fill(ahead.isnan(), torch.nan)
    chance = torch.special.log_ndtr(z) if log else torch.special.ndtr(z)
    chance = torch.where(deviation == 0, certain.log() if log else certain, chance)
    return _mean_over_members(chance, log).to(full(mean).dtype)


def regression_bald(mean: Tensor, variance: Tensor | None = None) -> Tensor:
    """Information on the function in one noisy answer: mean [N, S, D] (, variance) -> [N] >= 0.

    ½ log(1 + epistemic / aleatoric), summed over outputs: the mutual information of a Gaussian
    value (variance: the members' spread) and its answer under Gaussian noise (variance: the mean
    of the members' own). Without ``variance`` the noise is 1, in squared target units, and the
    score ranks one output as :func:`variance` does. Infinite where noise 0 meets a spread.

    Source: Houlsby et al. (2011); for one Gaussian MacKay (1992).

    Raises:
        ValueError: not [N, S, D], or two shapes.

    >>> regression_bald(torch.tensor([[[0.0], [2.0]], [[1.0], [1.0]]]))
    tensor([0.3466, 0.0000])
    """
    check_regression("regression_bald", mean, variance)
    spread = mean.double().var(1, correction=0)
    if variance is not None:
        noise = variance.double().mean(1)
        spread = (spread / noise).masked_fill((spread == 0) & (noise == 0), 0.0)
    return (0.5 * spread.log1p()).sum(-1).to(full(mean).dtype)
