"""Stacks of small fits in float64, and the same fits one by one."""

import torch

from lightning_al.compat import family_of
from lightning_al.fits.lean import lean_fit
from lightning_al.fits.recipe import Recipe
from lightning_al.fits.stacked import Member

from . import small


def doubled(items):
    """The same items in float64."""
    items.inputs = tuple(t.double() for t in items.inputs)
    if items.targets.is_floating_point():
        items.targets = items.targets.double()
    return items


def classes(seed, **changes):
    """Data of one replica: other items, another start."""
    pair = [doubled(small.blobs(n, seed=s)) for n, s in ((60, seed), (30, 100 + seed))]
    return small.datamodule(*pair, **({"val": 0.2, "initial": 9} | changes))


def numbers(seed, **changes):
    """The same, with targets that are numbers."""
    pair = [doubled(small.line(n, seed=s)) for n, s in ((60, seed), (30, 100 + seed))]
    return small.datamodule(*pair, **({"val": 0.2, "initial": 9} | changes))


def members(task, n=5, *, data=classes, restore="last", callbacks=None, round=1, **trainer):
    """Replicas 0 to n - 1 of a task; callbacks are made by ``callbacks(seed)``."""
    made = []
    for seed in range(n):
        items = data(seed)
        items.prepare_data()
        items.start(seed)
        items.round = round
        own = {"callbacks": callbacks(seed)} if callbacks else {}
        recipe = Recipe(
            lambda: task().double(),
            small.TRAINER | {"max_epochs": 3} | trainer | own,
            restore=restore,
        )
        module = recipe.build_task(seed, round, None)
        built = recipe.build_trainer((), None, family_of(module))
        made.append(Member(module, recipe, items, built, seed, round))
    return made


def alone(member):
    """The trainer of a member that is fitted by itself, by the bare loop."""
    where = {"seed": member.seed, "round": member.round}
    return lean_fit(member.module, member.recipe, member.datamodule, member.trainer, **where)


def gap(one, other):
    """The largest difference between the weights and buffers of two modules."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs if a.numel())


def agree(stack, twins, found, limit=1e-9):
    """What a stack gave is what its members give one by one."""
    assert len(found) == len(stack) == len(twins)
    for member, twin, trainer in zip(stack, twins, found, strict=True):
        usual = alone(twin)
        assert gap(member.module, twin.module) < limit
        assert trainer.global_step == usual.global_step > 0
        assert trainer.current_epoch == usual.current_epoch
        mine, theirs = trainer.callback_metrics, usual.callback_metrics
        assert list(mine) == list(theirs)
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=0, atol=limit, equal_nan=True)
        modes = [[part.training for part in m.module.modules()] for m in (member, twin)]
        assert modes[0] == modes[1]
