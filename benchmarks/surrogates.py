"""Surrogates against what they stand for, on functions held out: error in nats, and time.

``gp``: hyper-parameters by one pass against the evidence fit and MAP, on the same data, and the
time of scikit-learn's fit with five restarts. ``pfn``: predictions against the Gaussian process
with its hyper-parameters integrated out under the law that the functions are drawn from.

    python benchmarks/surrogates.py gp --inputs 1 2 --points 10 50 200
    python benchmarks/surrogates.py pfn --inputs 1 --points 10 50 --surrogate pfn-1d
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.gp import ExactGP, Prior, Stationary, fit_exact
from lightning_al.policies.priors import SIGNAL, TOTAL, KernelPrior
from lightning_al.policies.streams import Streams
from lightning_al.surrogates import FunctionPrior, Problems, load
from lightning_al.surrogates.amortised_gp import hyperparameters_of, in_units

ASKED = 100
RESTARTED = 2  # functions that scikit-learn is timed on
Values = tuple[Tensor, Tensor, Tensor]


def nll(values: Values, x: Tensor, y: Tensor, asked: Tensor, answers: Tensor) -> float:
    """Mean negative log density of answers under a process with some hyper-parameters."""
    scale, output, noise = values
    mean, variance = ExactGP.given(Stationary("rbf", scale, output), noise, x, y).moments(asked)
    law = torch.distributions.Normal(mean, (variance + noise).sqrt())
    return float(-law.log_prob(answers).mean())


def searched(priors: Callable[[int], tuple[Prior, Prior, Prior]]) -> Callable[..., Values]:
    def fit(x: Tensor, y: Tensor) -> Values:
        kernel, noise, _ = fit_exact(x, y, "rbf", *priors(x.shape[1]))
        return kernel.lengthscale, kernel.outputscale, noise

    return fit


def flat(_: int) -> tuple[Prior, Prior, Prior]:
    return Prior(1.0), Prior(1.0), Prior(0.1, None, 1e-6, 1e3)


def usual(inputs: int) -> tuple[Prior, Prior, Prior]:
    scale = Prior(2 * math.sqrt(inputs), 1.0, 1e-3, 1e4)
    return scale, Prior(1.0, 1.0, 1e-3, 1e3), Prior(0.1, 2.0, 1e-6, 1e3)


def restarted(x: Tensor, y: Tensor) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1.0) * RBF(np.ones(x.shape[1])) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, n_restarts_optimizer=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x.numpy(), y.numpy())


def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    begun = time.process_time()
    return function(*args), 1000 * (time.process_time() - begun)


def gp(problems: Problems, surrogate: str) -> str:
    network = load(surrogate, "AmortisedGP").network
    ways: dict[str, Callable[..., Values]] = {
        "evidence": searched(flat),
        "map": searched(usual),
        "amortised": lambda x, y: hyperparameters_of(network, x, y),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in (*ways, "restarted")}
    x, y = in_units(problems)
    n = problems.context
    for i in range(len(x)):
        known = x[i, :n], y[i, :n]
        for name, way in ways.items():
            values, took = timed(way, *known)
            found[name].append(nll(values, *known, x[i, n:], y[i, n:]))
            spent[name].append(took)
        if i < RESTARTED:
            spent["restarted"].append(timed(restarted, *known)[1])
    gap = np.array(found["amortised"]) - np.array(found["evidence"])
    told = ", ".join(f"{k} {np.mean(v):.3f}" for k, v in found.items())
    times = ", ".join(f"{k} {np.median(v):.1f}" for k, v in spent.items())
    return f"{told}; amortised - evidence {shown(gap)}; CPU ms: {times}"


def integrated(problems: Problems, i: int, draws: int) -> float:
    """NLL of one problem's answers, weighted over draws of the law of hyper-parameters."""
    inputs = problems.x.shape[2]
    u = torch.quasirandom.SobolEngine(inputs + 1, scramble=True, seed=1).draw(draws).double()
    u = u.clamp(1e-9, 1 - 1e-9)
    scale = KernelPrior().lengthscales(u[:, :inputs])
    signal = SIGNAL + (1 - SIGNAL) * u[:, inputs]
    noise = TOTAL - signal
    (x, y), (asked, answers) = (tuple(v[i] for v in p) for p in (problems.given, problems.asked))
    every = (draws, -1, -1)
    process = ExactGP.given(
        Stationary("rbf", scale, signal), noise, x.expand(every), y.expand(draws, -1)
    )
    weight = process.log_evidence().log_softmax(0)
    mean, variance = process.moments(asked.expand(every))
    each = torch.distributions.Normal(mean, (variance + noise[:, None]).sqrt()).log_prob(answers)
    return float(-(weight[:, None] + each).logsumexp(0).mean())


def pfn(problems: Problems, surrogate: str) -> str:
    network = load(surrogate, "PFN").network
    (x, y), (asked, answers) = problems.given, problems.asked
    with torch.no_grad():
        (bars, _), took = timed(network.predict, x.float(), y.float(), asked.float())
        own = -bars.log_density(answers.float()).double().mean(1).numpy()
    draws = 512 if x.shape[2] == 1 else 4096
    best = np.array([integrated(problems, i, draws) for i in range(len(x))])
    told = f"pfn {own.mean():.3f}, integrated {best.mean():.3f}; pfn - integrated"
    return f"{told} {shown(own - best)}; CPU ms: {took / len(x):.1f}"


def shown(gap: np.ndarray) -> str:
    error = gap.std(ddof=1) / math.sqrt(len(gap))
    return f"{gap.mean():.3f} ± {error:.3f} (median {np.median(gap):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("gp", "pfn"))
    parser.add_argument("--inputs", type=int, nargs="+", default=[1])
    parser.add_argument("--points", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--functions", type=int, default=40)
    parser.add_argument("--law", default="gamma", help="of the functions")
    parser.add_argument("--surrogate", help="name or path")
    known = parser.parse_args()
    torch.set_num_threads(1)
    for inputs in known.inputs:
        name = known.surrogate or ("amortised-gp" if known.part == "gp" else f"pfn-{inputs}d")
        for n in known.points:
            law = FunctionPrior(inputs, (n, n), ASKED, known.functions, None, [known.law])
            problems = law(Streams.of(99, 10 * n + inputs, "held out"))
            told = (gp if known.part == "gp" else pfn)(problems, name)
            print(f"{inputs} input(s), {n} points: {told}", flush=True)


if __name__ == "__main__":
    main()
