"""From a name, an import path or a specification to an estimator of scikit-learn's form."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lightning_al.spec import call, find

__all__ = ["estimator_of", "find_estimator", "plain", "warn_of_lost_digits"]

MODULES = (
    *("ensemble", "linear_model", "svm", "neighbors", "gaussian_process", "naive_bayes", "tree"),
    *("neural_network", "discriminant_analysis", "kernel_ridge", "dummy", "calibration"),
)
METHODS = ("fit", "get_params", "set_params")
"""What every estimator has."""
FAR, NEAR = 1e5, 1e-7  # mean of targets over their deviation, and deviation


def estimator_of(spec: Any) -> Any:
    """The estimator that ``{"class_path": …, "init_args": {…}}`` means; anything else as it is.

    Arguments that are such specifications themselves are estimators too.

    Raises:
        LookupError: no such class.
        ValueError: a class of something else, or arguments that it does not take.
    """
    given = vars(spec) if type(spec).__name__ == "Namespace" else spec  # of the command line
    if isinstance(given, list):
        return [estimator_of(each) for each in given]
    if not isinstance(given, Mapping) or "class_path" not in given:
        return spec
    path, arguments = str(given["class_path"]), given.get("init_args") or {}
    arguments = vars(arguments) if type(arguments).__name__ == "Namespace" else arguments
    inside = {name: estimator_of(value) for name, value in arguments.items()}
    return call(find_estimator(path), inside, f"estimator {path!r}")


def find_estimator(name: str) -> type:
    """The class ``name``: a short name such as "RandomForestClassifier", or an import path.

    Raises:
        LookupError: no such class; the message lists close names.
        ValueError: a class of something else; it is not called.
    """
    if "." in name:
        found = find(name, "estimator", "give the path of a class, such as 'package.module.Class'")
        if not isinstance(found, type):
            raise LookupError(f"{name} is no estimator: it is no class but {type(found).__name__}")
        if absent := [method for method in METHODS if not callable(getattr(found, method, None))]:
            raise ValueError(f"{name} is no estimator: it has no method {' and '.join(absent)}")
        return found
    known: list[str] = []
    for part in MODULES:
        module = importlib.import_module(f"sklearn.{part}")
        cls = getattr(module, name, None)
        if isinstance(cls, type):
            return cls
        known += [n for n in dir(module) if n[:1].isupper()]
    near = difflib.get_close_matches(name, known, n=3) or ["RandomForestClassifier"]
    raise LookupError(
        f"no estimator {name!r}; did you mean {', '.join(near)}? Others are given by their import "
        "path, such as 'package.module.Class'"
    )


def plain(value: Any) -> bool:
    """Whether an argument can be kept as it is written."""
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def warn_of_lost_digits(mean: Tensor, deviation: Tensor) -> None:
    """Say so where sums of squared targets leave few digits of their differences: both [D]."""
    if bool(((mean.abs() > FAR * deviation) | (deviation < NEAR)).any()):
        warnings.warn(
            f"targets of mean {mean.tolist()} and deviation {deviation.tolist()} cost the "
            "estimators of scikit-learn their digits; pass standardize_targets=True",
            stacklevel=3,
        )
