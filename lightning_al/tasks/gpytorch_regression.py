"""Gaussian processes of GPyTorch as a task: sparse, with deep kernels, or a user's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lightning_al.networks import build, spec_of

from .adapter import Adapter
from .gaussian_process import GPRegression, Process, Variance
from .gpytorch_fit import ModelSearch, fit_model
from .gpytorch_models import ModelRecipe
from .gpytorch_posterior import posterior_of
from .metric_specs import MetricSpec
from .plain_values import is_plain

__all__ = ["GPyTorchRegression"]

if TYPE_CHECKING:
    PartOption = str | Mapping[str, Any] | nn.Module | type
else:  # what a configuration can say: the parser would build the others too early
    PartOption = str | dict[str, Any]

Search = Literal["map", "evidence", "fixed"]


class GPyTorchRegression(GPRegression):
    """Gaussian process regression by GPyTorch, one process an output; float64, all items at once.

    For what :class:`GPRegression` and :class:`SparseGPRegression` have not: kernels of any shape,
    a network before the kernel, and models of a user's own. Targets and features are standardised,
    and predictions, members, ``joint``, metrics and units are as in :class:`GPRegression`.

    - **Sparse**: with ``points`` M the kernel sees M inducing points, O(L M²), which start at
      labelled items of greatest conditional variance and are optimised: the collapsed bound of
      Titsias (2009), "Variational Learning of Inducing Variables in Sparse Gaussian Processes".
      With ``points`` of at least L it is the exact process.
    - **Deep kernel**: ``network`` turns features [n, d] into [n, E], on which the kernel works; all
      weights are fitted with the hyper-parameters (Wilson et al. (2016), "Deep Kernel Learning").
      Its outputs are the embeddings that strategies are given. A wide network over few labelled
      items is surer than it should be: raise ``weight_decay``, lower ``steps``.
    - **Kernels**: any ``gpytorch.kernels.Kernel``: a name of theirs ("RQKernel"), a class path,
      ``{class_path, init_args}``, or ``{name: …, **arguments}`` where kernels hold kernels (or
      priors, or constraints): ``{name: ScaleKernel, base_kernel: {name: MaternKernel, nu: 1.5}}``,
      ``{name: AdditiveKernel, kernels: [{name: LinearKernel}, …]}``; or a module, which is copied.
      Length scales are one a feature where ``ard`` and where ``ard_num_dims`` is not given.
    - **Models**: a user's ``gpytorch.models.ExactGP`` or ``ApproximateGP`` as ``gp``. A class of
      the former is called with train inputs [n, d], train targets [n], a ``GaussianLikelihood``
      and its ``init_args``; one of the latter with ``init_args`` and, where it takes
      ``inducing_points``, with ``points`` items. A module is copied for each fit. They see
      standardised features and targets.

    Kernels and models given as modules are left out of checkpoints, and given again:
    ``load_from_checkpoint(path, kernel=...)``.

    Args:
        outputs: D.
        kernel: "rbf", "matern12", "matern32", "matern52" with an output scale, or see above.
        points: M, the inducing points; None for none.
        network: module, or spec ``{"class_path": ..., "init_args": {...}}``; None for none.
        gp: a model of one's own, instead of ``kernel`` and ``network``.
        ard: one length scale a feature.
        hyperparameters: "map" takes the priors of :class:`GPRegression` into account for kernels
            with short names and for the noise, "evidence" none of them ("fixed" searches for no
            hyper-parameters). Priors that are registered with a user's kernel or model always
            count.
        noise: variance of the noise, standardised; where the search starts, or the value.
        optimizer: "lbfgs", or "adam"; None: Adam with a network or an ``ApproximateGP``, else
            L-BFGS.
        steps: of Adam, or evaluations of L-BFGS at most.
        lr: of Adam.
        weight_decay: half of it times the sum of the network's squared weights is added to the
            loss, which is in nats an item.
        standardize: features and targets.
        variance: "latent" or "predictive".
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        safety: whether the last output is the safety measurement.

    Raises:
        ValueError: settings that make no sense; in a fit, data that are not finite, or parts that
            do not fit together.
        LookupError: an unknown kernel, class or metric.
    """

    def __init__(
        self,
        outputs: int | None = 1,
        kernel: PartOption = "rbf",
        points: int | None = None,
        network: nn.Module | None = None,
        gp: PartOption | None = None,
        ard: bool = True,
        hyperparameters: Search = "map",
        noise: float | None = None,
        optimizer: Literal["lbfgs", "adam"] | None = None,
        steps: int = 300,
        lr: float = 0.02,
        weight_decay: float = 0.03,
        standardize: bool = True,
        variance: Variance = "latent",
        metrics: Sequence[MetricSpec] | None = None,
        safety: bool | None = None,
    ) -> None:
        if hyperparameters not in ("map", "evidence", "fixed"):
            raise ValueError(
                f"hyperparameters is one of map, evidence, fixed, got {hyperparameters!r}"
            )
        if points is not None and points < 1:
            raise ValueError(f"a sparse process needs 1 inducing point or more, got {points}")
        if gp is not None and (kernel != "rbf" or network is not None):
            raise ValueError("a gp of one's own brings its kernel and network; leave them out here")
        super().__init__(
            outputs,
            hyperparameters=hyperparameters,
            ard=ard,
            noise=noise,
            standardize=standardize,
            variance=variance,
            metrics=metrics,
            safety=safety,
        )
        self.recipe = ModelRecipe(
            kernel=kernel,
            ard=ard,
            network=None if network is None else build(network),
            points=points,
            gp=gp,
            noise=self._noise_prior(),
            priors=hyperparameters == "map",
        )
        many = self.recipe.network is not None or self.recipe.approximate  # parameters
        self.search = ModelSearch(
            optimizer or ("adam" if many else "lbfgs"), steps, lr, weight_decay
        )
        self.models = nn.ModuleList()  # one an output, built when the features are known
        self._layout: tuple[int, int | None] | None = None  # features, inducing points
        parts = {name: _plain(part) for name, part in (("kernel", kernel), ("gp", gp))}
        parts["network"] = _plain(self.recipe.network)
        self.hparams.clear()  # those of GPRegression are others
        self.save_hyperparameters(
            {
                "outputs": self.outputs,
                "points": points,
                "ard": ard,
                "hyperparameters": hyperparameters,
                "noise": noise,
                "optimizer": optimizer,
                "steps": steps,
                "lr": lr,
                "weight_decay": weight_decay,
                "standardize": standardize,
                "variance": variance,
                "metrics": self._build_metrics.plain,
                "safety": safety,
                **{name: part for name, part in parts.items() if part is not UNKEPT},
            }
        )

    @property
    def adapter(self) -> Adapter:
        """Moments in target units; features as the kernels see them."""
        return dataclasses.replace(super().adapter, embedding="embedding")

    # --- the fit -----------------------------------------------------------------------------

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Condition on all labelled items, after the search for parameters."""
        super().learn(inputs, targets)
        if self.hyperparameters == "fixed":
            self._search(started=False)

    def _search(self, started: bool) -> None:
        layout = self.x.shape[1], self.recipe.inducing(len(self.x))
        wanted = self.hyperparameters != "fixed"
        if layout != self._layout or not wanted:  # else it starts where the last one ended
            self._assemble(choose=True)
        for d in range(self.outputs):
            model: Any = self.models[d]
            fit_model(model, self.x, self.y[:, d], self.search, hyperparameters=wanted)
            likelihood: Any = model.likelihood
            self.noise[d] = likelihood.noise.detach().squeeze()

    def _assemble(self, *, choose: bool) -> None:
        """Build the models for the labelled set at hand."""
        targets = self.y.unbind(1)
        self.models = nn.ModuleList(self.recipe.build(self.x, y, choose=choose) for y in targets)
        self.models.train(self.training)
        self._layout = self.x.shape[1], self.recipe.inducing(len(self.x))

    # --- predictions -------------------------------------------------------------------------

    def _process(self, d: int) -> Process:
        model: Any = self.models[d]
        return posterior_of(model, self.x, self.y[:, d], own=self.recipe.gp is not None)

    def embedding(self, inputs: Any) -> Tensor:
        """Features [n, E] that the kernels see: of all networks side by side, or scaled ones."""
        points = self.scaled(inputs)
        networks: list[Any] = [getattr(process.model, "network", None) for process in self.models]
        if self.recipe.network is None or not networks:
            return points
        return torch.cat([network.eval()(points) for network in networks], dim=1)

    # --- state -------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Without the posteriors: a copy makes its own."""
        return super().__getstate__() | {"_given": None}

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        x, y = state_dict.get(f"{prefix}x"), state_dict.get(f"{prefix}y")
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if isinstance(x, Tensor) and len(x) and isinstance(y, Tensor):
            self._assemble(choose=False)  # their parameters are loaded after this


UNKEPT = object()  # what a checkpoint does not keep


def _plain(part: Any) -> Any:
    """A part as plain values; UNKEPT where it holds a live module without a spec."""
    if isinstance(part, nn.Module):
        spec = spec_of(part)
        return UNKEPT if spec is None else spec
    if isinstance(part, type):
        path = f"{part.__module__}.{part.__qualname__}"
        return UNKEPT if "<locals>" in path else path
    return part if is_plain(part) else UNKEPT
