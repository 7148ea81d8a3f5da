"""Any scikit-learn estimator as a task: random forests, support vector machines, and the rest.

A checkpoint holds the labelled set and the seed of the fit, no pickle: an estimator is fitted again
from them when it is first wanted after loading, which gives the same estimator under the same
version of scikit-learn, and loading a checkpoint runs no code from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_al.randomness import seeded
from lightning_al.readings import Classes, Numbers
from lightning_al.threads import small, working_alone

from .adapter import Adapter
from .classification import check_labels, feed_probabilities
from .full_batch import FullBatch
from .metric_feeding import MetricFamily
from .metric_specs import MetricSpec
from .metrics import CLASSIFICATION, REGRESSION_METRICS
from .sklearn_specs import estimator_of, find_estimator, plain, warn_of_lost_digits
from .standardisation import standardised

__all__ = ["SklearnClassification", "SklearnRegression", "find_estimator"]

LEAST_NOISE = 1e-12  # in squared standard deviations of the targets
WITH_MEMBERS = ("RandomForest", "ExtraTrees", "Bagging", "Voting")


def _work(task: _Sklearn, inputs: Any) -> float:
    """Multiplications, as if every row [n, d] met every labelled one: n d L."""
    return (inputs.numel() if isinstance(inputs, Tensor) else 0) * len(task.x)


class _Sklearn(FullBatch):
    """What both tasks share: the estimator's recipe, the labelled set as state, refits."""

    x: Tensor  # [L, d] float64
    y: Tensor  # [L] or [L, D]
    random_state: Tensor  # []

    def __init__(
        self,
        estimator: Any,
        params: Mapping[str, Any] | None,
        *,
        method: str,
        metrics: Sequence[MetricSpec] | None,
        known: MetricFamily,
        settings: dict[str, Any],
        metric_arguments: dict[str, int],
        y: Tensor,
    ) -> None:
        from sklearn.base import clone  # inside: scikit-learn loads slowly

        given = dict(params or {})
        estimator = estimator_of(estimator)
        if isinstance(estimator, str):
            path: str | None = estimator
            self.recipe = find_estimator(estimator)(**given)
        else:
            self.recipe = clone(estimator).set_params(**given)
            given = self.recipe.get_params(deep=False)
            cls = type(self.recipe)
            path = f"{cls.__module__}.{cls.__qualname__}"
            if not all(map(plain, given.values())):  # cannot be rebuilt from plain values
                path = None
        if not hasattr(self.recipe, method):
            raise ValueError(
                f"{type(self.recipe).__name__} has no {method}(), which this task needs; "
                "wrap it, as in CalibratedClassifierCV(SVC(), ensemble=False), or take another"
                if method == "predict_proba"
                else f"{type(self.recipe).__name__} has no {method}()"
            )
        spec = {} if path is None else {"estimator": path, "params": given}
        super().__init__(
            metrics=metrics,
            known=known,
            settings={**spec, **settings},
            metric_arguments=metric_arguments,
        )
        self.register_buffer("x", torch.zeros(0, 0, dtype=torch.float64))
        self.register_buffer("y", y)
        self.register_buffer("random_state", torch.zeros((), dtype=torch.int64))
        self._fitted: Any = None

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Take the labelled set and a seed, and fit."""
        self.forget()
        self.x, self.y = self.features(inputs), self._checked(targets)
        self.random_state = torch.randint(2**31 - 1, (), device="cpu").to(self.x.device)
        self.estimator()

    def _checked(self, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def forget(self) -> None:
        """Drop the fitted estimator; it is fitted again from the state when it is wanted."""
        self._fitted = None

    def estimator(self) -> Any:
        """The estimator fitted to the labelled set, of targets as it is given them."""
        if self._fitted is None:
            from sklearn.base import clone

            fresh, seed = clone(self.recipe), int(self.random_state)
            unset = {
                name: seed
                for name, value in fresh.get_params(deep=True).items()
                if name.rpartition("__")[2] == "random_state" and value is None
            }
            y = self._goal().cpu().numpy()
            with seeded(seed, 0, "estimator"), small(_work(self, self.x)):
                fresh.set_params(**unset).fit(self._numpy(self.x), y)
            self._fitted = fresh
        return self._fitted

    def _goal(self) -> Tensor:
        """Targets as the estimator is given them."""
        return self.y

    def places(self) -> set[torch.device]:
        """None: scikit-learn's estimators stay where they are."""
        return set()

    @staticmethod
    def _numpy(features: Tensor) -> Any:
        return features.cpu().numpy()

    @property
    def _last(self) -> Any:
        """The recipe's last step, where it is a pipeline."""
        return self.recipe[-1] if hasattr(self.recipe, "steps") else self.recipe

    @property
    def _many(self) -> bool:
        """Whether the estimator has members of equal weight."""
        if getattr(self._last, "weights", None) is not None:
            return False
        return type(self._last).__name__.startswith(WITH_MEMBERS)

    def _members(self, features: Tensor) -> tuple[Any, list[Any], list[Any]]:
        """The ensemble, its members, and the inputs of each."""
        fitted, inputs = self.estimator(), self._numpy(features)
        if hasattr(fitted, "steps"):
            inputs = fitted[:-1].transform(inputs) if len(fitted) > 1 else inputs
            fitted = fitted[-1]
        members = list(fitted.estimators_)
        columns = getattr(fitted, "estimators_features_", None)
        given = [inputs] * len(members) if columns is None else [inputs[:, c] for c in columns]
        return fitted, members, given

    def forward(self, inputs: Any) -> Tensor:
        """What :meth:`raw` returns."""
        return self.raw(inputs)


class SklearnClassification(_Sklearn):
    """A scikit-learn classifier; probabilities [n, S, C].

    Members S are the trees of a random forest or of extra trees, or those of bagging and of
    (unweighted) voting, also as the last step of a pipeline; one for any other estimator. Classes
    that no labelled item has get probability 0. With labels of one class only the prediction is
    that class, whether or not the estimator could be fitted to it.

    Seeds (``random_state``) that are not set are drawn anew each fit, by the run's seed.

    Logged: ``val/`` and ``test/`` ``accuracy``, ``balanced_accuracy``, ``auroc``, ``nll``,
    ``ece``.

    Args:
        estimator: a class of scikit-learn by its name, any other by its import path, or an
            instance (of which an unfitted copy is taken). An instance that holds other estimators
            is given again when loading: ``load_from_checkpoint(path, estimator=...)``.
        classes: C.
        params: arguments of the estimator.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.

    Raises:
        ValueError: an estimator without probabilities; in a fit, labels outside 0..C-1.
        LookupError: an unknown estimator or metric.
    """

    def __init__(
        self,
        estimator: Any = "RandomForestClassifier",
        classes: int | None = None,
        params: dict[str, Any] | None = None,
        metrics: Sequence[MetricSpec] | None = None,
    ) -> None:
        if classes is None or classes < 2:
            raise ValueError(f"a classification needs 2 classes or more, got {classes}")
        super().__init__(
            estimator,
            params,
            method="predict_proba",
            metrics=metrics,
            known=CLASSIFICATION,
            settings={"classes": classes},
            metric_arguments={"classes": classes},
            y=torch.zeros(0, dtype=torch.int64),
        )
        self.classes = classes

    @property
    def adapter(self) -> Adapter:
        """Probabilities of all members."""
        return Adapter("raw", "features", Classes(self.classes, "probs", members=True))

    def _checked(self, targets: Tensor) -> Tensor:
        check_labels(targets, self.classes)
        if targets.ndim != 1:
            raise ValueError(f"labels must be [n], one an item, got {list(targets.shape)}")
        return targets.long()

    def estimator(self) -> Any:
        """The classifier fitted to the labelled set; None where that has one class, or none."""
        return super().estimator() if len(self.y.unique()) > 1 else None

    @working_alone(_work)
    def raw(self, inputs: Any) -> Tensor:
        """Probabilities [n, S, C] of all members."""
        features = self.features(inputs)
        seen = self.y.unique().tolist()
        if len(seen) < 2:
            count = 2 if self._many else 1
            probs = features.new_full((len(features), count, self.classes), 1 / self.classes)
            for only in seen:
                probs[...] = 0.0
                probs[..., only] = 1.0
            return probs
        if self._many:
            whole, members, given = self._members(features)
            each = [
                (m.predict_proba(x), whole.classes_[m.classes_.astype(int)])
                for m, x in zip(members, given, strict=True)
            ]
        else:
            fitted = self.estimator()
            each = [(fitted.predict_proba(self._numpy(features)), fitted.classes_)]
        spread = np.zeros((len(features), len(each), self.classes))
        for s, (probs_of, classes) in enumerate(each):
            spread[:, s, classes] = probs_of
        return torch.from_numpy(spread).to(features.device)

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch."""
        feed_probabilities(metrics, raw.mean(1), targets, self.classes)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Probabilities [n, C] of a batch as in testing, or of a bare tensor of inputs."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        return self.raw(inputs).mean(1)


class SklearnRegression(_Sklearn):
    """A scikit-learn regressor; means [n, S, D] in target units.

    Members are those of :class:`SklearnClassification`. Estimators whose ``predict`` takes
    ``return_std`` (``GaussianProcessRegressor``, ``BayesianRidge``) also give a variance. The
    noise of ``nll`` is the mean squared residual of the labelled set, which is optimistic for an
    estimator that overfits; the members' spread, or the estimator's own variance, is added to it.

    Logged: ``val/`` and ``test/`` ``mse``, ``rmse``, ``mae``, ``nll``.

    Args:
        estimator: see :class:`SklearnClassification`.
        outputs: D.
        params: arguments of the estimator.
        metrics: those to log, by name or as torchmetrics classes; None for all with a name.
        standardize_targets: give the estimator targets of mean 0 and deviation 1; far from zero,
            or where they hardly differ, most estimators lose digits, and trees all of them.

    Raises:
        ValueError: settings that make no sense, or targets of another shape.
        LookupError: an unknown estimator or metric.
    """

    noise: Tensor  # [D]

    def __init__(
        self,
        estimator: Any = "RandomForestRegressor",
        outputs: int | None = 1,
        params: dict[str, Any] | None = None,
        metrics: Sequence[MetricSpec] | None = None,
        standardize_targets: bool = False,
    ) -> None:
        if outputs is None or outputs < 1:
            raise ValueError(f"a regression needs 1 output or more, got {outputs}")
        super().__init__(
            estimator,
            params,
            method="predict",
            metrics=metrics,
            known=REGRESSION_METRICS,
            settings={"outputs": outputs, "standardize_targets": standardize_targets},
            metric_arguments={"outputs": outputs},
            y=torch.zeros((0,) if outputs == 1 else (0, outputs), dtype=torch.float64),
        )
        self.outputs = outputs
        self.standardize_targets = standardize_targets
        self.register_buffer("noise", torch.ones(outputs, dtype=torch.float64))

    @property
    def adapter(self) -> Adapter:
        """Means, and the variance where the estimator gives one."""
        return Adapter("raw", "features", Numbers(self.outputs, self._split, members=True))

    @property
    def _has_std(self) -> bool:
        return "return_std" in inspect.signature(self._last.predict).parameters

    def _split(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self._has_std:
            return raw, None
        mean, variance = raw.chunk(2, dim=-1)
        return mean, variance

    def _checked(self, targets: Tensor) -> Tensor:
        shaped = targets.unsqueeze(1) if targets.ndim == 1 else targets
        if shaped.ndim != 2 or shaped.shape[1] != self.outputs:
            raise ValueError(f"targets must be [n, {self.outputs}], got {list(targets.shape)}")
        return (shaped.squeeze(1) if self.outputs == 1 else shaped).double()

    def learn(self, inputs: Any, targets: Tensor) -> None:
        """Fit, and take the mean squared residual for the noise."""
        super().learn(inputs, targets)
        mean = self._moments(self.raw(self.x))[0]
        goal = self.y.reshape(mean.shape)
        centre, unit, _ = self._units()
        self.noise = (mean - goal).square().mean(0).clamp_min(LEAST_NOISE * unit.square())
        if not self.standardize_targets:
            warn_of_lost_digits(centre, unit)

    def _goal(self) -> Tensor:
        return self._units()[2].reshape(self.y.shape) if self.standardize_targets else self.y

    def _units(self) -> tuple[Tensor, Tensor, Tensor]:
        return standardised(self.y.reshape(len(self.y), -1))

    @working_alone(_work)
    def raw(self, inputs: Any) -> Tensor:
        """Means [n, S, D]; for estimators with a variance mean and variance [n, 1, 2 D]."""
        features = self.features(inputs)
        n = len(features)
        if not len(self.y):
            count = 2 if self._many else 1
            return features.new_zeros(n, count, self.outputs * (2 if self._has_std else 1))
        if self._many:
            _, members, given = self._members(features)
            each = [m.predict(x).reshape(n, -1) for m, x in zip(members, given, strict=True)]
        elif self._has_std:
            mean, std = self.estimator().predict(self._numpy(features), return_std=True)
            each = [np.concatenate([mean.reshape(n, -1), std.reshape(n, -1) ** 2], axis=1)]
        else:
            each = [self.estimator().predict(self._numpy(features)).reshape(n, -1)]
        raw = torch.from_numpy(np.stack(each, axis=1)).double().to(features.device)
        if not self.standardize_targets:
            return raw
        centre, unit, _ = self._units()
        mean, variance = self._split(raw)
        mean = mean * unit + centre
        return mean if variance is None else torch.cat([mean, variance * unit**2], dim=-1)

    def _moments(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [n, D] of the members' mixture, without the noise."""
        mean, own = self._split(raw)
        spread = mean.var(1, unbiased=False)
        return mean.mean(1), spread if own is None else spread + own.mean(1)

    def forward(self, inputs: Any) -> Tensor:
        """Predictive mean [n, D]."""
        return self._moments(self.raw(inputs))[0]

    def measure(self, metrics: Sequence[Metric], raw: Tensor, targets: Tensor) -> None:
        """Feed one batch, in target units."""
        mean, variance = self._moments(raw)
        goal = self._checked(targets).reshape(mean.shape)
        for metric in metrics:
            metric.update(mean, variance + self.noise, goal)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """``mean`` and predictive ``variance`` [n, D] of a batch, or of a bare tensor."""
        inputs = batch if isinstance(batch, Tensor) else self.split(batch)[0]
        mean, variance = self._moments(self.raw(inputs))
        return {"mean": mean, "variance": variance + self.noise}
