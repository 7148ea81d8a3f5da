"""Scores of what an answer would bring: improvement on the best one, information on the rest.

Exported by :mod:`lightning_al.measures`, whose conventions hold. Gaussian forms take a posterior
as its members: ``mean [N, S, D]``, and where a member predicts its own noise ``variance`` of the
same shape. They are computed in float64 and given back in the precision of ``mean``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .numerics import check_regression, full, one_output, p_log_p

__all__ = [
    "epig",
    "expected_improvement",
    "incumbent",
    "min_unsafe_entropy",
    "needed_deviations",
    "predictive_entropy",
    "probability_of_improvement",
    "regression_bald",
    "regression_epig",
    "safe_deviations",
    "upper_confidence_bound",
]

# Elements of a block [n, t, ...] of pairs of a candidate and a target: 1 MiB of float32
_CPU_BLOCK, _GPU_BLOCK = 2**18, 2**26


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


def _blocks(n: int, targets: int, pair: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Slices of candidates and of targets whose pairs, of so many elements each, fit a block."""
    room = max(1, (_CPU_BLOCK if device.type == "cpu" else _GPU_BLOCK) // pair)
    wide = min(targets, room)
    high = max(1, room // wide)
    for i in range(0, n, high):
        for j in range(0, targets, wide):
            yield slice(i, i + high), slice(j, j + wide)


def _check_targets(name: str, values: Tensor, targets: Tensor, last: str) -> None:
    if values.ndim != 3 or targets.ndim != 3 or values.shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"{name} needs candidates [N, S, {last}] and targets [T, S, {last}] of the same "
            f"members, got {list(values.shape)} and {list(targets.shape)}"
        )
    if len(targets) == 0:
        raise ValueError(f"{name} needs at least one target, got none")


def epig(probs: Tensor, targets: Tensor) -> Tensor:
    """Information on targets' labels: probs [N, S, C], targets [T, S, C] -> [N] in [0, log C].

    Expected predictive information gain: the mutual information of a candidate's label y and a
    target's label y*, mean over the targets. Given a member the two are independent, so the joint
    is the mean over the S members of p(y) p(y*); for these members the result is exact, H(y) +
    H(y*) - H(y, y*). At most :func:`bald`. Takes N T C² (S + 2) operations in blocks of a MiB.

    Source: Bickford Smith et al. (2023).

    Raises:
        ValueError: not three axes each, other members or classes, no targets.

    >>> one_hot = torch.eye(2)[None]
    >>> epig(torch.cat([one_hot, torch.full((1, 2, 2), 0.5)]), one_hot)
    tensor([0.6931, 0.0000])
    """
    _check_targets("epig", probs, targets, "C")
    probs, targets = full(probs), full(targets)
    n, members, classes = probs.shape
    joint = torch.zeros(n, dtype=probs.dtype, device=probs.device)  # -sum over targets of H(y, y*)
    for rows, some in _blocks(n, len(targets), classes**2, probs.device):
        left = probs[rows].transpose(1, 2).flatten(0, 1) / members  # [n C, S]
        right = targets[some].transpose(0, 1).flatten(1)  # [S, t C]
        joint[rows] += p_log_p(left @ right).reshape(-1, classes * right.shape[1]).sum(1)
    own = -p_log_p(probs.mean(1)).sum(1)
    theirs = -p_log_p(targets.mean(1)).sum(1).mean()
    return (own + theirs + joint / len(targets)).clamp_min(0)


def regression_epig(
    mean: Tensor,
    targets: Tensor,
    noise: Tensor | float,
    target_noise: Tensor | float,
    *,
    output: int | None = None,
) -> Tensor:
    """Information on targets' answers: mean [N, S, D], targets [T, S, D] -> [N] >= 0.

    Expected predictive information gain of a Gaussian: -½ log(1 - rho²), mean over the targets,
    rho the correlation of the two noisy answers. Their covariance is that of the means over the S
    members, an approximation unless the posterior is Gaussian and S large: by chance alone rho²
    is about 1 / S.

    Args:
        mean: members' means of the candidates.
        targets: members' means of the targets.
        noise: variance of the candidates' noise, [N] or one for all, in squared target units.
        target_noise: of the targets', [T] or one for all.
        output: which of several outputs.

    Source: Bickford Smith et al. (2023), in the closed form for a bivariate Gaussian.

    Raises:
        ValueError: not three axes each, other members, no targets, D > 1 without ``output``.

    >>> mean = torch.tensor([[[1.0], [-1.0]], [[1.0], [1.0]]])
    >>> regression_epig(mean, mean[:1], 1.0, 1.0)
    tensor([0.1438, 0.0000])
    """
    _check_targets("regression_epig", mean, targets, "D")
    left, right = (one_output("regression_epig", v, output).double() for v in (mean, targets))
    left, right = (v - v.mean(1, keepdim=True) for v in (left, right))
    members, tiny = left.shape[1], torch.finfo(left.dtype).tiny
    own = (left.square().mean(1) + noise).clamp_min(tiny)  # [N]
    theirs = (right.square().mean(1) + target_noise).clamp_min(tiny)  # [T]
    score = torch.zeros(len(left), dtype=left.dtype, device=left.device)
    for rows, some in _blocks(len(left), len(right), 1, left.device):
        shared = (left[rows] @ right[some].T / members).square()
        square = shared / own[rows, None] / theirs[some]
        score[rows] -= 0.5 * torch.log1p(-square.clamp_max(1)).sum(1)
    return (score / len(right)).to(full(mean).dtype)


SURE = 1e6  # deviations; more are as many
UNSAFE_FLOOR = 1e-5  # added inside the logarithm of `min_unsafe_entropy`, as published


def _with_safety(
    name: str, mean: Tensor, variance: Tensor | None
) -> tuple[Tensor, Tensor, torch.dtype]:
    """Mean and total variance [N, D] of all outputs, the last of which is z; float64."""
    check_regression(name, mean, variance)
    if mean.shape[-1] < 2:
        raise ValueError(
            f"{name} needs a safety measurement z: the last of two outputs or more, mean "
            f"[N, S, D >= 2], got D = {mean.shape[-1]}; give data with targets (y, z) and a task "
            "with outputs=2"
        )
    centre = mean.double()
    spread = centre.var(1, correction=0)
    if variance is not None:
        spread = spread + variance.double().mean(1)
    return centre.mean(1), spread, full(mean).dtype


def needed_deviations(gamma: float) -> float:
    """Deviations that z must lie above 0 to be safe but for a probability of gamma, in (0, 1].

    Minus infinity at gamma = 1. What :func:`safe_deviations` is compared with.
    """
    return float(-torch.special.ndtri(torch.tensor(gamma, dtype=torch.float64)))


def safe_deviations(mean: Tensor, variance: Tensor | None = None) -> Tensor:
    """Deviations by which z is expected above 0: mean [N, S, D >= 2] (, variance) -> [N].

    The last output is the safety measurement z, safe where z >= 0. With the result r, as one
    Gaussian of its mean and total variance, P(z >= 0) = Phi(r), so that P >= 1 - gamma where
    r >= Phi^-1(1 - gamma). At most 1e6 either way; a z that is known for certain is at one end.

    Raises:
        ValueError: wrong shapes, or one output alone.

    >>> safe_deviations(torch.tensor([[[9.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]]))
    tensor([1.])
    """
    centre, spread, kind = _with_safety("the safe choice", mean, variance)
    z, deviation = centre[:, -1], spread[:, -1].sqrt()
    ratio = z / deviation.clamp_min(torch.finfo(z.dtype).tiny)
    ratio = ratio.masked_fill((deviation == 0) & (z == 0), SURE)
    return ratio.clamp(-SURE, SURE).to(kind)


def predictive_entropy(mean: Tensor, variance: Tensor | None = None) -> Tensor:
    """Entropy of the answer y in nats: mean [N, S, D >= 2] (, variance) -> [N].

    1/2 log(2 pi e v), v the total variance, summed over all outputs but the last, which is the
    safety measurement. May be negative: y has a density. Where v is 0 it is about -350.

    Raises:
        ValueError: wrong shapes, or one output alone.

    >>> predictive_entropy(torch.tensor([[[9.0, 2.0]]]), torch.tensor([[[1.0, 4.0]]]))
    tensor([1.4189])
    """
    _, spread, kind = _with_safety("the entropy of y", mean, variance)
    least = torch.finfo(spread.dtype).tiny
    each = 0.5 * (2 * math.pi * math.e * spread[:, :-1].clamp_min(least)).log()
    return each.sum(-1).to(kind)


def min_unsafe_entropy(
    mean: Tensor, variance: Tensor | None = None, *, gamma: float = 0.05
) -> Tensor:
    """Entropy of y, less what is lost where it is unsafe: mean [N, S, D >= 2] (, variance) -> [N].

    H(y) - log(1 - min(p, 1 - gamma) + 1e-5) in nats, p = P(z >= 0). What is safer than 1 - gamma
    gains nothing by it.

    Source: Li, Toussaint, Rakitsch and Zimmer (2026), whose loss this is for one step.

    Raises:
        ValueError: wrong shapes, or one output alone.

    >>> min_unsafe_entropy(torch.tensor([[[0.0, 9.0]]]), torch.ones(1, 1, 2))
    tensor([4.4145])
    """
    unsafe = torch.special.ndtr(-safe_deviations(mean, variance).double())
    lost = (unsafe.clamp_min(gamma) + UNSAFE_FLOOR).log()
    entropy = predictive_entropy(mean, variance)
    return (entropy.double() - lost).to(entropy.dtype)
