"""The Trainer of the command line: Lightning's own, as the parser reads it."""

from __future__ import annotations

import functools
import inspect
from typing import Any, get_args, get_origin, get_type_hints

import pytorch_lightning

from lightning_al.compat import kinds

__all__ = ["trainer_class"]


def trainer_class() -> type:
    """Lightning's Trainer with a method ``run``; callbacks and loggers may be of either name."""
    return _of(len(kinds("Trainer")))


@functools.cache
def _of(names: int) -> type:
    """The class, where so many Lightnings are imported."""
    own = pytorch_lightning.Trainer
    hints = get_type_hints(own.__init__)
    signature = inspect.signature(own.__init__)
    either = [kinds("Callback"), kinds("loggers.Logger")]

    class ActiveTrainer(own):  # type: ignore[misc,valid-type]
        """Settings of Lightning's Trainer; one is built anew for each round."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

        def run(self, model: Any, datamodule: Any) -> None:
            """Run active learning: fit, evaluate, score, choose, ask, and again."""
            raise NotImplementedError("call `lightning-al run`, or ActiveLearner(…).run()")

    parameters = [
        each.replace(annotation=_widened(hints.get(name, each.annotation), either))
        for name, each in signature.parameters.items()
    ]
    made: Any = ActiveTrainer.__init__
    made.__signature__ = signature.replace(parameters=parameters)
    made.__annotations__ = {each.name: each.annotation for each in parameters}
    return ActiveTrainer


def _widened(hint: Any, either: list[tuple[type, ...]]) -> Any:
    """A type in which a class of Lightning's stands for it under all its names."""
    for names in either:
        if hint is names[0]:
            found: Any = names[0]
            for other in names[1:]:
                found = found | other
            return found
    inside = get_args(hint)
    if not inside:
        return hint
    new = tuple(_widened(part, either) for part in inside)
    if new == inside:
        return hint
    origin = get_origin(hint)
    if origin in (list, dict, tuple, set):
        return origin[new if len(new) > 1 else new[0]]
    union: Any = new[0]
    for part in new[1:]:
        union = union | part
    return union
