"""Which metrics a task logs: from names, class paths, mappings and objects to fresh metrics."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torchmetrics import Metric

from lightning_al.randomness import seeded

from .metric_feeding import MetricFamily
from .plain_values import is_plain

__all__ = ["ChosenMetrics", "MetricSpec", "NamedMetric"]

if TYPE_CHECKING:
    MetricSpec = str | Mapping[str, Any] | Metric | Callable[..., Metric]
else:  # what a configuration can say: the parser would build the others too early
    MetricSpec = str | dict[str, Any]

EXAMPLE = "torchmetrics.classification.MulticlassF1Score"


@dataclass(frozen=True)
class NamedMetric:
    """One metric of a task.

    Args:
        name: what it is logged under.
        make: builds a fresh one.
        plain: what a checkpoint keeps of it; None where that is no plain value.
    """

    name: str
    make: Callable[[], Metric]
    plain: Any


@dataclass(frozen=True)
class ChosenMetrics:
    """The metrics of a task; made by :meth:`of`. Called, it builds them anew."""

    members: tuple[NamedMetric, ...]
    default: bool

    @classmethod
    def of(
        cls,
        family: MetricFamily,
        specs: Sequence[MetricSpec] | None,
        sizes: Mapping[str, int],
    ) -> ChosenMetrics:
        """Read the ``metrics`` of a task, and try those that are not of the family.

        Args:
            family: of the task's predictions.
            specs: each a short name of the family; the path of a torchmetrics class, or of one's
                own ``Metric``; ``{class_path: …, init_args: {…}}`` with a ``name`` of one's own
                where wanted; ``{name: …, **arguments}`` for a short name with arguments; in Python
                also a ``Metric``, a class, or a function without arguments that builds one. None
                for all short names.
            sizes: of the predictions: classes, labels or outputs. They are given to classes that
                take ``num_classes``, ``num_labels``, ``num_outputs`` or ``task``.

        Raises:
            LookupError: an unknown name or path.
            ValueError: a class that is no ``Metric``, an argument that it does not take, a metric
                that cannot be fed such predictions or gives more than one number, or two metrics
                of one name.
        """
        default = specs is None
        if isinstance(specs, str):
            raise ValueError(f"metrics is a list, got {specs!r}; write [{specs}]")
        given: Sequence[Any] = family.names() if specs is None else list(specs)
        members = tuple(_read(family, spec, sizes) for spec in given)
        seen: set[str] = set()
        for name in (member.name for member in members):
            if not name.isidentifier() or hasattr(nn.ModuleDict, name):
                raise ValueError(
                    f"a {family.kind} cannot be called {name!r}; take letters, digits and _"
                )
            if name in seen:
                raise ValueError(
                    f"two {family.plural} are called {name!r}; give one a name of its own: "
                    "{name: …, class_path: …}"
                )
            seen.add(name)
        return cls(members, default)

    @property
    def plain(self) -> list[Any] | None:
        """What a checkpoint keeps: plain values; objects are left out, and given again to load."""
        if self.default:
            return None
        return [member.plain for member in self.members if member.plain is not None]

    def __call__(self) -> nn.ModuleDict:
        """Fresh metrics by name, each for itself."""
        return nn.ModuleDict({member.name: member.make() for member in self.members})


def _read(family: MetricFamily, spec: Any, sizes: Mapping[str, int]) -> NamedMetric:
    if isinstance(spec, str):
        if "." not in spec:
            return _of_family(family, {"name": spec}, sizes)
        return _of_path(family, spec, {}, None, spec, sizes)
    if isinstance(spec, Mapping):
        return _of_mapping(family, dict(spec), sizes)
    if isinstance(spec, Metric):
        whose = type(spec).__name__
        return _tried(family, _snake(whose), functools.partial(_fresh, spec), None, whose, sizes)
    arguments: dict[str, Any] = {}
    if isinstance(spec, functools.partial) and isinstance(spec.func, type) and not spec.args:
        spec, arguments = spec.func, spec.keywords
    if isinstance(spec, type) and issubclass(spec, Metric):
        path = f"{spec.__module__}.{spec.__qualname__}"
        build = functools.partial(_built, family, spec, path, arguments, sizes)
        kept = {"class_path": path, "init_args": arguments} if arguments else path
        plain = kept if "<locals>" not in path and is_plain(arguments) else None
        return _tried(family, _snake(spec.__name__), build, plain, path, sizes)
    if not callable(spec):
        raise ValueError(
            f"a {family.kind} is a name, a class path, {{name, class_path, init_args}} or a "
            f"torchmetrics.Metric, got {type(spec).__name__} {spec!r}"
        )
    made, whose = spec(), getattr(spec, "__qualname__", type(spec).__name__)
    if not isinstance(made, Metric):
        raise ValueError(
            f"a {family.kind} is a torchmetrics.Metric, got {type(made).__name__} from "
            f"{whose}(); let it return one such as {EXAMPLE}(…)"
        )
    return _tried(family, _snake(type(made).__name__), spec, None, whose, sizes)


def _of_mapping(
    family: MetricFamily, given: dict[str, Any], sizes: Mapping[str, int]
) -> NamedMetric:
    if "class_path" not in given:
        return _of_family(family, given, sizes)
    if odd := [key for key in given if key not in ("name", "class_path", "init_args")]:
        raise ValueError(
            f"a {family.kind} is {{name, class_path, init_args}}, got {', '.join(odd)} too; put "
            "arguments into init_args"
        )
    arguments = dict(given.get("init_args") or {})
    plain = given if is_plain(arguments) else None
    return _of_path(family, str(given["class_path"]), arguments, given.get("name"), plain, sizes)


def _of_path(
    family: MetricFamily,
    path: str,
    arguments: dict[str, Any],
    name: str | None,
    plain: Any,
    sizes: Mapping[str, int],
) -> NamedMetric:
    kind = _found(family, path)
    build = functools.partial(_built, family, kind, path, arguments, sizes)
    return _tried(family, name or _snake(path.rpartition(".")[2]), build, plain, path, sizes)


def _of_family(
    family: MetricFamily, given: dict[str, Any], sizes: Mapping[str, int]
) -> NamedMetric:
    """One with a short name: ``{name, **arguments}``."""
    if "name" not in given:
        raise ValueError(f"a {family.kind} needs a name or a class_path, got {given}")
    plain = given["name"] if len(given) == 1 else dict(given)
    name = given.pop("name")
    try:
        family.factory(name)
    except LookupError as error:
        raise LookupError(
            f"{error.args[0]}, or name a torchmetrics class by its path, such as {EXAMPLE}"
        ) from None
    make = functools.partial(family.build, name, **{**sizes, **given})
    if given:
        make()  # refuses arguments that it does not take
    return NamedMetric(name, make, plain)


def _found(family: MetricFamily, path: str) -> type:
    module, _, last = path.rpartition(".")
    near: list[str] = []
    try:
        place = importlib.import_module(module)
        kind = getattr(place, last, None)
        near = difflib.get_close_matches(last, dir(place), n=1)
    except ImportError:
        kind = None
    if kind is None:
        hint = f" (did you mean {module}.{near[0]}?)" if near else ""
        raise LookupError(
            f"no {family.kind} at {path!r}{hint}; give the path of a torchmetrics class, such as "
            f"{EXAMPLE}, or one of {', '.join(family.names())}"
        )
    if not (isinstance(kind, type) and issubclass(kind, Metric)):
        raise ValueError(
            f"{path} is no torchmetrics.Metric class; derive one from it, or take one such as "
            f"{EXAMPLE}"
        )
    return kind


def _built(
    family: MetricFamily,
    kind: type,
    path: str,
    arguments: Mapping[str, Any],
    sizes: Mapping[str, int],
) -> Metric:
    """A fresh metric of a class, the sizes filled in where it takes them."""
    takes = inspect.signature(kind).parameters
    offered = {k: v for k, v in family.offers(sizes).items() if k in takes}
    try:
        return kind(**{**offered, **arguments})  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        shown = [str(p.replace(annotation=p.empty)) for p in takes.values()]
        raise ValueError(
            f"{family.kind} {path}: {_line(error)}; it takes {', '.join(shown) or 'no arguments'}"
        ) from None


def _fresh(metric: Metric) -> Metric:
    again = metric.clone()
    again.reset()
    return again


def _tried(
    family: MetricFamily,
    name: str,
    build: Callable[[], Metric],
    plain: Any,
    whose: str,
    sizes: Mapping[str, int],
) -> NamedMetric:
    """A metric that is not of the family, after it was fed one small batch.

    Raises:
        ValueError: it cannot be fed, or gives more than one number.
    """

    def refused(why: str) -> ValueError:
        return ValueError(f"{family.kind} {whose}: {why}")

    with seeded(0, 0, "metric"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = build()
        for part in metric.modules():
            if isinstance(part, Metric):
                part.distributed_available_fn = _alone
        try:
            fed = family.fed(metric, sizes)
        except ValueError as error:
            raise refused(str(error)) from None
        try:
            fed.update(*family.example(sizes))
            value = fed.compute()
        except Exception as error:
            raise refused(
                f"it cannot be fed {family.feeds} ({_line(error)}); wrap it in a "
                "torchmetrics.Metric whose update takes these"
            ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise refused(
            f"it computes {got}, and a logged metric is one number; set its average, or wrap it in "
            "a torchmetrics.Metric that computes one"
        )
    return NamedMetric(name, functools.partial(_made, family, build, sizes), plain)


def _made(family: MetricFamily, build: Callable[[], Metric], sizes: Mapping[str, int]) -> Metric:
    return family.fed(build(), sizes)


def _alone() -> bool:
    return False  # a trial is no matter of other ranks


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".;")


def _snake(name: str) -> str:
    """A class name in small letters.

    >>> _snake("MulticlassFBetaScore"), _snake("MultilabelAUROC"), _snake("R2Score")
    ('multiclass_f_beta_score', 'multilabel_auroc', 'r2_score')
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return words.lower()
