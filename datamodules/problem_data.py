"""A problem of sequential design by its name: as a pool of points, or as a box to measure in."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.randomness import generator
from lightning_al.records import Outcomes

from . import problems
from .continuous import ContinuousDataModule
from .pool_data import PoolDataModule, Splits
from .problems.problem import CENTRE, NOISE
from .tensors import TensorItems

__all__ = ["ProblemDataModule", "ProblemPoolDataModule"]

SAFE = Outcomes(("y", "z"), safety="z")


class ProblemPoolDataModule(PoolDataModule):
    """A pool of points of a problem (see :func:`lightning_al.datamodules.problems.names`).

    Items are the initial points, then the pool; inputs float32 [N, D] in the unit cube, targets
    float32 [N], or [N, 2] with y and the safety measurement z beside each other (safe from 0).
    The test set is the problem's own; in a safe problem all of it is safe. A chosen point leaves
    the pool. All points and their noise are drawn anew for each seed of a run; initial and test
    points of a seed do not depend on ``pool_size`` where the problem is no table.

    Args:
        name: of the problem.
        pool_size: candidates; None for those of the problem (5000, a million for the fluid
            system, all remaining rows of a table).
        n_test: test points; None for those of the problem.
        initial: how many points are measured before round 0; None for those of the problem.
        problem_seed: of all points; None takes the seed of the run.
        variant: "exact" constants, or "published": estimated from 5000 random points each time.
        data_dir: data folder; default ``$LIGHTNING_AL_DATA``, else the user's cache.
        kwargs: see :class:`PoolDataModule`.

    Raises:
        LookupError: no such problem.
        ValueError: an unknown variant, or numbers that make no sense.
    """

    def __init__(
        self,
        name: str,
        *,
        pool_size: int | None = None,
        n_test: int | None = None,
        initial: int | None = None,
        problem_seed: int | None = None,
        variant: Literal["exact", "published"] = "exact",
        data_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.problem = problems.problem(name, data_dir=data_dir)
        self.n_initial = self.problem.n_initial if initial is None else initial
        self.n_test = self.problem.n_test if n_test is None else n_test
        if variant not in ("exact", "published"):
            raise ValueError(f"variant must be 'exact' or 'published', got {variant!r}")
        for what, value, least in (
            ("pool_size", pool_size, 1),
            ("n_test", self.n_test, 1),
            ("initial", self.n_initial, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"{what} must be {least} or more points, got {value}")
        super().__init__(
            collate=None,
            initial=list(range(self.n_initial)),
            **kwargs,
        )
        self.name, self.pool_size = name, pool_size
        self.problem_seed, self.variant = problem_seed, variant
        self.in_features = self.problem.dimension
        self.outcomes = SAFE if self.problem.safe else Outcomes()
        self.outputs = len(self.outcomes)

    def prepare_data(self) -> None:
        """Download what is missing.

        Raises:
            FileNotFoundError: a file could not be had; the message says where to put it.
        """
        self.problem.prepare()

    def load(self) -> Splits:
        """Draw all points of the seed."""
        self._drawn = self._key(self.seed)
        draws = generator(self._drawn, 0, "problem")
        problem = self.problem
        if self.variant == "published":
            problem = problem.published(draws)
        drawn = problem.draw(self.n_initial, self.pool_size, self.n_test, draws)
        inputs = torch.cat((drawn.initial.x.float(), drawn.pool.x.float()))
        targets = torch.cat((drawn.initial.targets.float(), drawn.pool.targets.float()))
        digest = hashlib.sha256(f"{self.name} {self.variant}".encode())
        digest.update(inputs.numpy().tobytes())  # not the targets: their last digits may vary
        self._data = digest.digest()
        test = TensorItems(drawn.test.x.float(), drawn.test.targets.float())
        return Splits(TensorItems(inputs, targets), test)

    def start(self, seed: int) -> None:
        """Back to round 0 of the run with this seed, with the points of that seed."""
        if self._loaded and self._key(seed) != self._drawn:
            self._loaded = False  # so that setup() loads again
        super().start(seed)

    def _key(self, seed: int) -> int:
        return seed if self.problem_seed is None else self.problem_seed

    def fingerprint(self) -> str:
        """Hash of the points, of who is labelled and of all answers."""
        return hashlib.sha256(self._data + super().fingerprint().encode()).hexdigest()[:16]


class ProblemDataModule(ContinuousDataModule):
    """The unit cube of a problem given by a formula, any place of which may be measured.

    Units, noise, initial and test points are those of :class:`ProblemPoolDataModule`.

    Args:
        name: of the problem: sin, branin, simionescu or townsend.
        n_test: test points; None for those of the problem.
        initial: how many places are measured before round 0; None for those of the problem.
        kwargs: see :class:`ContinuousDataModule`.

    Raises:
        LookupError: no such problem.
        ValueError: a problem that can be measured at given points alone.
    """

    def __init__(
        self,
        name: str,
        *,
        n_test: int | None = None,
        initial: int | None = None,
        **kwargs: Any,
    ) -> None:
        found = problems.problem(name)
        if not isinstance(found, problems.Analytic):
            free = [n for n in problems.names() if _is_formula(n)]
            raise ValueError(
                f"{name} can be measured at the points of its pool alone; use "
                f"ProblemPoolDataModule, or one of {', '.join(free)}"
            )
        self.problem, self.name = found, name
        low, high = ([side] * found.dimension for side in CENTRE)
        super().__init__(
            low=[0.0] * found.dimension,
            high=[1.0] * found.dimension,
            function=self._truth,
            noise=NOISE,
            outcomes=SAFE.names if found.safe else ("y",),
            safety=SAFE.safety if found.safe else None,
            initial=found.n_initial if initial is None else initial,
            initial_box=(low, high) if found.safe else None,
            test=found.n_test if n_test is None else n_test,
            **kwargs,
        )

    def portrait(self) -> dict[str, Any]:
        """What this domain is, by the name of its problem too."""
        return {**super().portrait(), "name": self.name}

    def _truth(self, x: Tensor) -> dict[str, Tensor]:
        f, g = self.problem.truth(x)
        return {"y": f} if g is None else {"y": f, "z": g}


def _is_formula(name: str) -> bool:
    return isinstance(problems.problem(name), problems.Analytic)
