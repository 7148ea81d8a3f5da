"""Refit of an exact GP and its variance over a pool of 2,000, beside scikit-learn and others.

One L-BFGS search from one start for two length scales, the output scale and the noise, then mean
and variance at 2,000 points, at 10, 50 and 200 labelled items. CPU milliseconds on one thread,
median of interleaved repetitions: ``python benchmarks/gp.py``. Ends with status 1 where
``lightning_al.gp`` misses the 4 / 4 / 25 ms that were asked for; the task around it adds its
standardisation and priors.

Then the step of an active learning run with the model that policies are compared with: fixed
output scale, 30 labelled items, the best of 5 searches (and of 1), mean and variance at 5,000
points; beside them the sparse process and the mixture over 30 draws of the hyper-parameters.

Then the same as users run it: one thread, as it comes, and beside a process that keeps a core busy,
see ``threads.py``; status 1 too where threads wait.

Last the tasks beside those of GPyTorch, time and worth of the predictions, see ``gp_tasks.py``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gp_tasks
import threads
import torch
from peers import with_peers
from timing import interleaved, medians, one_thread, seconds, show
from torch import Tensor

from lightning_al.gp import ExactGP, Prior, fit_exact
from lightning_al.tasks import GPRegression, MarginalGPRegression, SparseGPRegression

ASKED = {10: 4.0, 50: 4.0, 200: 25.0}  # milliseconds
FEATURES = 2


def data(n: int, seed: int, pool_size: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [n, 2], standardised targets [n], pool [pool_size, 2]; float64."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(n, FEATURES, generator=drawn, dtype=torch.float64)
    pool = torch.randn(pool_size, FEATURES, generator=drawn, dtype=torch.float64)
    y = torch.sin(x.sum(1)) + 0.1 * torch.randn(n, generator=drawn, dtype=torch.float64)
    return x, (y - y.mean()) / y.std(), pool


def ours(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
    """Flat priors, as scikit-learn has them."""
    kernel, noise, _ = fit_exact(x, y, "rbf", Prior(1.0), Prior(1.0), Prior(0.1, low=1e-6))
    return ExactGP.given(kernel, noise, x, y).moments(pool)[1]


def our_task(count: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Fresh tasks without a Trainer: standardisation, priors, search, moments."""
    fresh = iter([GPRegression() for _ in range(count)])

    def run(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
        task = next(fresh)
        task.learn(x, y)
        return task.moments(pool)[1][:, 0]

    return run


def scikit_learn() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    def run(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
        kernel = ConstantKernel(1.0) * RBF([1.0] * FEATURES) + WhiteKernel(0.1, (1e-6, 1e5))
        model = GaussianProcessRegressor(kernel, alpha=0.0).fit(x.numpy(), y.numpy())
        return torch.from_numpy(model.predict(pool.numpy(), return_std=True)[1])

    return run


def a_step(kind: type[GPRegression], count: int, **settings: Any) -> Callable[..., Tensor]:
    """Fresh tasks of the model that policies are compared with: search, moments."""
    fresh = iter([kind(hyperparameters="gamma", **settings) for _ in range(count)])

    def run(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
        task = next(fresh)
        task.learn(x, y)
        return task.moments(pool)[1][:, 0]

    return run


def scikit_learn_step() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    def run(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
        rbf = ConstantKernel(1.0, "fixed") * RBF([0.2] * FEATURES)
        kernel = rbf + WhiteKernel(0.01, (1e-6, 1e3))
        model = GaussianProcessRegressor(
            kernel, alpha=0.0, n_restarts_optimizer=4, random_state=0
        ).fit(x.numpy(), y.numpy())
        return torch.from_numpy(model.predict(pool.numpy(), return_std=True)[1])

    return run


def botorch() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    def run(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
        model = SingleTaskGP(x, y[:, None])
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        with torch.no_grad():
            return model.posterior(pool).variance

    return run


def gpytorch_adam(steps: int = 100) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    import gpytorch as gpt

    class Model(gpt.models.ExactGP):
        def __init__(self, x: Tensor, y: Tensor, likelihood: gpt.likelihoods.Likelihood) -> None:
            super().__init__(x, y, likelihood)
            self.mean_module = gpt.means.ZeroMean()
            rbf = gpt.kernels.RBFKernel(ard_num_dims=FEATURES)
            self.covar_module = gpt.kernels.ScaleKernel(rbf)

        def forward(self, x: Tensor) -> gpt.distributions.MultivariateNormal:
            return gpt.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def run(x: Tensor, y: Tensor, pool: Tensor) -> Tensor:
        likelihood = gpt.likelihoods.GaussianLikelihood()
        model = Model(x, y, likelihood).double().train()
        goal = gpt.mlls.ExactMarginalLogLikelihood(likelihood, model)
        adam = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(steps):
            adam.zero_grad()
            loss = -goal(model(x), y)
            loss.backward()
            adam.step()
        model.eval()
        with torch.no_grad():
            return model(pool).variance

    return run


def main() -> int:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="no peers")
    args = parser.parse_args()
    one_thread()
    warnings.simplefilter("ignore")
    missed = False

    def compare(contenders: dict[str, Any], sets: list[Any]) -> dict[str, Any]:
        def timed(call: Callable[..., Tensor]) -> Callable[[], float]:
            turn = iter(sets)
            return lambda: seconds(lambda: call(*next(turn)))

        return interleaved({name: timed(call) for name, call in contenders.items()}, args.repeat)

    for n, asked in ASKED.items():
        contenders, absent = with_peers(
            {"lightning_al.gp": ours, "lightning_al GPRegression (MAP)": our_task(args.repeat + 1)},
            {}
            if args.quick
            else {
                "scikit-learn": ("sklearn", scikit_learn),
                "botorch SingleTaskGP": ("botorch", botorch),
                "gpytorch, 100 Adam steps": ("gpytorch", gpytorch_adam),
            },
        )
        figures = compare(contenders, [data(n, seed) for seed in range(args.repeat + 1)])
        print(f"\n{n} labelled items, a pool of 2,000; asked: at most {asked:g} ms")
        show(figures, "ms CPU", 1e3, absent)
        missed |= 1e3 * medians(figures)["lightning_al.gp"] > asked
    count = args.repeat + 1
    contenders, absent = with_peers(
        {
            "GPRegression, 5 searches": a_step(GPRegression, count),
            "GPRegression, 1 search": a_step(GPRegression, count, starts=1),
            "SparseGPRegression, 15 points": a_step(SparseGPRegression, count),
            "MarginalGPRegression, 30 draws": a_step(MarginalGPRegression, count),
        },
        {} if args.quick else {"scikit-learn, 5 searches": ("sklearn", scikit_learn_step)},
    )
    figures = compare(contenders, [data(30, seed, 5000) for seed in range(count)])
    print("\nA step of a run: 30 labelled items, output scale fixed, 5,000 points")
    show(figures, "ms CPU", 1e3, absent)
    missed |= threads.table([name for name in threads.PARTS if "gp-" in name or "GP" in name])
    if not args.quick:
        gp_tasks.table()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
