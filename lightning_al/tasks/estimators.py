"""Estimators of scikit-learn by their names."""

from __future__ import annotations

import difflib
import importlib

from lightning_al.spec import find

__all__ = ["find_estimator"]

MODULES = (
    *("ensemble", "linear_model", "svm", "neighbors", "gaussian_process", "naive_bayes", "tree"),
    *("neural_network", "discriminant_analysis", "kernel_ridge", "dummy", "calibration"),
)


def find_estimator(name: str) -> type:
    """The class ``name``: a short name such as "RandomForestClassifier", or an import path.

    Raises:
        LookupError: no such class; the message lists close names.
    """
    if "." in name:
        found = find(name, "estimator", "give the path of a class, such as 'package.module.Class'")
        if isinstance(found, type):
            return found
        raise LookupError(f"{name} is no estimator: it is no class but {type(found).__name__}")
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
