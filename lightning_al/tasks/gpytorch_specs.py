"""Parts of GPyTorch from specifications: class paths with arguments, kernels inside kernels.

GPyTorch is imported inside functions: it loads slowly.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lightning_al.gp.kernels import SHAPES

__all__ = ["PartSpec", "called", "class_of", "from_spec", "library", "parsed"]


@functools.cache
def library() -> Any:
    """The package gpytorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch.jit, at import
        return importlib.import_module("gpytorch")


@dataclass(frozen=True)
class PartSpec:
    """A class, and its arguments as they were written."""

    kind: type
    arguments: dict[str, Any]


def from_spec(spec: Any, width: int | None) -> Any:
    """An object from a mapping as :func:`parsed` reads it, inner ones too; else the value itself.

    Kernels with length scales are given ``ard_num_dims=width`` (the number of ``active_dims``,
    where there are some) where they are not told.

    Raises:
        LookupError: no such class.
        ValueError: arguments that it does not take.
    """
    if isinstance(spec, list):
        return [from_spec(value, width) for value in spec]
    if isinstance(spec, Mapping) and ("class_path" in spec or "name" in spec):
        spec = PartSpec(*parsed(spec))
    if not isinstance(spec, PartSpec):
        return spec
    arguments = {k: from_spec(v, width) for k, v in spec.arguments.items()}
    takes = inspect.signature(spec.kind).parameters
    scaled = getattr(spec.kind, "has_lengthscale", False) is True or "ard_num_dims" in takes
    if issubclass(spec.kind, library().kernels.Kernel) and scaled and width is not None:
        active = arguments.get("active_dims")
        arguments.setdefault("ard_num_dims", width if active is None else len(active))
    several: list[Any] = []  # AdditiveKernel(*kernels)
    for name, parameter in takes.items():
        if parameter.kind is parameter.VAR_POSITIONAL and name in arguments:
            several = list(arguments.pop(name))
    return called(spec.kind, tuple(several), arguments)


def parsed(spec: Any) -> tuple[type, dict[str, Any]]:
    """Class and arguments of a specification.

    Args:
        spec: a class, its path, or its name where GPyTorch has it among its kernels, priors or
            constraints; ``{name: …, **arguments}`` or ``{class_path: …, init_args: {…}}``.

    Raises:
        LookupError: no such class.
        ValueError: anything else.
    """
    if isinstance(spec, type):
        return spec, {}
    given: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "class_path" in given:
        path, arguments = str(given.pop("class_path")), dict(given.pop("init_args", None) or {})
        if given:
            raise ValueError(
                f"a part of GPyTorch is {{class_path, init_args}} or {{name, **arguments}}, got "
                f"{', '.join(given)} beside class_path; put arguments into init_args"
            )
    else:
        path, arguments = str(given.pop("name", "")), given
    return (_at(path) if "." in path else _called_so(path)), arguments


def _at(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        if module.partition(".")[0] == "gpytorch":
            library()
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(
            f"no class at {path!r} ({error}); give an importable path such as "
            "gpytorch.kernels.MaternKernel"
        ) from None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(
            f"{path} is no part of a Gaussian process, which is a class of torch modules such as "
            "gpytorch.kernels.MaternKernel"
        )
    return kind


def _called_so(name: str) -> type:
    places = [getattr(library(), place) for place in ("kernels", "priors", "constraints")]
    for place in places:
        if isinstance(kind := getattr(place, name, None), type):
            return kind
    known = [*SHAPES, *(n for place in places for n in place.__all__)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise LookupError(
        f"no kernel named {name!r}{hint}; choose one of {', '.join(SHAPES)}, one of GPyTorch's "
        "such as RQKernel, or give the path of your own class"
    )


def class_of(spec: Any) -> type:
    """The class that a specification names."""
    return parsed(spec)[0]


def called(kind: type, given: tuple[Any, ...], arguments: dict[str, Any]) -> Any:
    """An object of a class.

    Raises:
        ValueError: arguments that it does not take.
    """
    try:
        return kind(*given, **arguments)
    except (TypeError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        takes = inspect.signature(kind)
        raise ValueError(f"{kind.__name__}: {said}; it takes {takes}") from error
