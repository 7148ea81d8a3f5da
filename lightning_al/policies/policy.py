"""Trained policies at work: load one, ask it for the next query, or keep a session with it.

A policy is two files: ``NAME.safetensors`` with the weights and ``NAME.json``, its card, which
says what network they belong to and how far they were trained. Loading them runs no code.
"""

from __future__ import annotations

import copy
import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_al.threads import small

from .candidates.engine import Looking
from .candidates.network import CandidatePolicy
from .card import FORMAT, Card
from .export import Exported, write
from .fused import Fused, fuse
from .gate import pass_or_refuse
from .layers import settle
from .limits import Limits, array
from .networks import FlexiblePolicy, History, PolicyNetwork, SetPolicy
from .scales import Outcomes
from .shipped import shelf

__all__ = ["FORMAT", "Card", "Policy", "Session"]

KINDS: dict[str, type[PolicyNetwork] | type[CandidatePolicy]] = {
    "CandidatePolicy": CandidatePolicy,
    "SetPolicy": SetPolicy,
    "FlexiblePolicy": FlexiblePolicy,
}


class Policy:
    """A trained policy on inputs in [0, 1]^D.

    Args:
        network: with its weights.
        card: what it is.
    """

    def __init__(self, network: PolicyNetwork | CandidatePolicy, card: Card) -> None:
        self.network, self.card = copy.deepcopy(network).eval().requires_grad_(False).cpu(), card
        if isinstance(network, CandidatePolicy):
            flexible = network.flexible
        else:
            flexible = isinstance(network, FlexiblePolicy)
        self._outcomes = Outcomes()
        self._limits = Limits(network.dimension, network.safe, flexible, card.history, card.budget)
        self._engine: Fused | Looking | _Whole
        if isinstance(self.network, CandidatePolicy):
            self._engine = Looking(self.network.float(), card.history)
        elif type(self.network) is SetPolicy:
            self._engine = fuse(self.network, card.budget)
        else:
            settle(self.network)
            self._engine = _Whole(self.network)
        self._size = sum(value.numel() for value in self.network.state_dict().values())

    def __repr__(self) -> str:
        card = self.card
        settings = ", ".join(f"{k} {v}" for k, v in card.settings.items())
        said = card.training.get("summary") or "how it was trained is not known"
        return (
            f"Policy of {len(self.network.state_dict())} tensors, {card.kind}\n"
            f"  {settings}\n"
            f"  for {card.history} points of history and {card.budget} queries at most\n"
            f"  {said}"
        )

    @classmethod
    def of(
        cls, network: PolicyNetwork | CandidatePolicy, history: int, budget: int, **training: Any
    ) -> Policy:
        """A policy from a network, such as the one that a PolicyModule has trained."""
        spec: Any = getattr(network, "spec", None)
        kind = type(network).__name__
        if kind not in KINDS or spec is None:
            raise ValueError(
                f"only {', '.join(KINDS)} can be written to a file, got {kind}; a class of your "
                "own can be kept in a checkpoint"
            )
        return cls(network, Card(kind, spec["init_args"], history, budget, training))

    @classmethod
    def load(cls, name: str | Path, *, unchecked: bool = False) -> Policy:
        """A policy of this package by name, or one's own by the path of either of its files.

        Args:
            name: or path.
            unchecked: take one, too, that was measured to fall short of what its card promises.

        Raises:
            LookupError: no such policy.
            ValueError: files that are damaged, do not go together, or are of another format; a
                policy that falls short of its promise, such as a share of safe queries.
        """
        path = _locate(name)
        text = path.with_suffix(".json")
        card = Card.read(text.read_bytes(), str(text))
        pass_or_refuse(card, path.with_suffix("").name, unchecked)
        weights = path.with_suffix(".safetensors")
        if not weights.is_file():
            raise LookupError(f"{path.with_suffix('.json')} has no {weights.name} beside it")
        data = weights.read_bytes()
        if card.sha256 is not None and hashlib.sha256(data).hexdigest() != card.sha256:
            raise ValueError(f"{weights} is not the file that its card describes; fetch both again")
        from safetensors import SafetensorError
        from safetensors.torch import load

        if card.kind not in KINDS:
            raise ValueError(f"{path.name}: no policy of kind {card.kind!r}; know {list(KINDS)}")
        try:
            network = KINDS[card.kind](**card.settings)
            network.load_state_dict(load(data))
        except (SafetensorError, TypeError, RuntimeError, ValueError) as error:
            raise ValueError(f"{weights} holds no weights of its card's network: {error}") from None
        if not all(bool(v.isfinite().all()) for v in network.state_dict().values()):
            raise ValueError(f"{weights} holds weights that are NaN or infinite; fetch it again")
        return cls(network, card)

    def save(self, path: str | Path) -> Path:
        """Write both files; returns the path of the weights."""
        from safetensors.torch import save

        path = Path(path).with_suffix(".safetensors")
        data = save({k: v.contiguous().cpu() for k, v in self.network.state_dict().items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        card = replace(self.card, sha256=hashlib.sha256(data).hexdigest())
        path.with_suffix(".json").write_text(card.text())
        return path

    @torch.inference_mode()
    def query(self, x: Any, y: Any, budget: Any, z: Any = None) -> Tensor:
        """The next query [D], or [B, D] for a batch of users.

        Args:
            x: points measured, [n, D] or [B, n, D], in [0, 1].
            y: outcomes, [n] or [B, n].
            budget: queries left, this one included; one number or [B].
            z: safety measurements, as y, for a safe policy.

        Raises:
            ValueError: points outside the box, NaN, wrong shapes, a z missing or too many, more
                history than the policy was trained on, or a budget that is spent or too large.

        Warns:
            UserWarning: y or z lies far from what the policy was trained on; once a policy.
        """
        points, single = self._limits.points(x, y, z)
        self._outcomes = Outcomes(said=self._outcomes.said).told(points, self._limits.outcomes)
        left = torch.from_numpy(self._limits.left(budget, len(points)))
        with self.alone(points.shape[0] * points.shape[1]):
            query = self._engine.query(torch.from_numpy(points), left)
        return query[0] if single else query

    @property
    def scores_candidates(self) -> bool:
        """Whether :meth:`score` is there."""
        return isinstance(self._engine, Looking)

    @torch.inference_mode()
    def score(self, x: Any, y: Any, candidates: Any, z: Any = None) -> Tensor:
        """What asking at each of some places is worth: scores [A]; the highest is asked first.

        A score depends on its own place and on what was measured alone.

        Args:
            x: points measured, [n, D], in [0, 1].
            y: outcomes, [n].
            candidates: [A, D], in [0, 1].
            z: safety measurements, [n], for a safe policy.

        Raises:
            ValueError: see :meth:`query`; candidates of another shape, outside the box, or NaN.
            NotImplementedError: a policy that names places and scores none.

        Warns:
            UserWarning: see :meth:`query`.
        """
        if not isinstance(self._engine, Looking):
            raise NotImplementedError(
                f"a {self.card.kind} names a place and scores none; take a CandidatePolicy, or the "
                "nearest candidate to what query gives"
            )
        points, single = self._limits.points(x, y, z)
        rows = self._limits.candidates(candidates, points.shape[-1] - self._limits.outcomes)
        if not single:
            raise ValueError(
                f"score takes the points of one user, x [n, D], got {len(points)} users; score "
                "for one after another"
            )
        self._outcomes = Outcomes(said=self._outcomes.said).told(points, self._limits.outcomes)
        with self.alone(len(rows) * points.shape[1]):
            return self._engine.scores(torch.from_numpy(points), torch.from_numpy(rows))[0]

    def alone(self, points: int) -> AbstractContextManager[None]:
        """One thread, where the network sees few points."""
        return small(points * self._size, blas=False)

    def export(self, path: str | Path) -> Exported:
        """Write one ONNX file, which onnxruntime runs without the weights here.

        Returns:
            The file, loaded; later :meth:`lightning_al.policies.Exported.load` loads it.

        Raises:
            ImportError: onnx or onnxruntime is missing.
            NotImplementedError: a network of one's own.
        """
        if isinstance(self._engine, Looking) or isinstance(self.network, CandidatePolicy):
            raise NotImplementedError(
                "policies that score candidates are not exported yet; use Policy.query or a session"
            )
        path = write(self.network, self._engine, self.card, path)
        return Exported.load(path, unchecked=True)

    def session(self, budget: int) -> Session:
        """A session of one user who may ask `budget` times."""
        return Session(self, budget)


class Session:
    """Points told one after another are encoded once; see :meth:`Policy.session`.

    Attributes:
        budget: how often one may still ask.
        told: how many points were told.
    """

    def __init__(self, policy: Policy, budget: int) -> None:
        self.policy = policy
        self._lefts = torch.arange(1, int(policy._limits.left(budget, 1)[0]) + 1)
        self.budget = len(self._lefts)
        self._state: Any = None
        self._outcomes = Outcomes()
        self.told = 0

    @torch.inference_mode()
    def tell(self, x: Any, y: Any, z: Any = None) -> None:
        """Add points x [D] or [n, D] with their outcomes; all of them or, with an error, none.

        Raises:
            ValueError: see :meth:`Policy.query`.

        Warns:
            UserWarning: y or z lies far from what the policy was trained on; once a session.
        """
        limits, engine = self.policy._limits, self.policy._engine
        place = array("x", x)
        place = place if place.ndim > 1 else place.reshape(1, -1)
        safety = None if z is None else array("z", z).reshape(-1)
        points, _ = limits.points(place, array("y", y).reshape(-1), safety)
        if self.budget < 1:  # nothing will be asked after this: the outcome of the last query
            self.told += points.shape[1]
            return
        if self.told + points.shape[1] > limits.history:
            raise ValueError(
                f"the policy was trained on {limits.history} points at most, the session has "
                f"{self.told} and this would be the {self.told + points.shape[1]}th; begin a new "
                "session with fewer"
            )
        self._outcomes = self._outcomes.told(points, limits.outcomes)
        with self.policy.alone(points.shape[1]):
            new: Any = engine.encode(torch.from_numpy(points))
            self._state = new if self._state is None else engine.join(self._state, new)
        self.told += points.shape[1]

    @torch.inference_mode()
    def ask(self) -> Tensor:
        """The next query [D]; takes one from the budget.

        Raises:
            ValueError: nothing was told yet, or the budget is spent.
        """
        if self._state is None:
            raise ValueError("tell the session a point first; any point of the box will do")
        if self.budget < 1:
            raise ValueError("the budget is spent: 0 queries left; begin a new session")
        left = self._lefts[self.budget - 1 : self.budget]
        with self.policy.alone(self.told):
            query = self.policy._engine.answer(self._state, left)[0]
        self.budget -= 1
        return query


@dataclass(frozen=True)
class _Whole:
    """A network as it was trained, with what :class:`Fused` offers."""

    network: PolicyNetwork

    def encode(self, points: Tensor) -> History:
        """Points with their outcomes, [R, n, D + S]."""
        split = points.shape[-1] - self.network.branches
        outcomes = points[..., split:].unbind(-1)
        return self.network.encode(points[..., :split], *outcomes)

    def join(self, state: History, new: History) -> History:
        """With further points behind."""
        return state.extended(new)

    def answer(self, state: History, left: Tensor) -> Tensor:
        """Queries [R, D] from encoded points and budgets [R]."""
        aware = self.network.budget_aware
        return self.network.propose(state, self.network.remaining(left) if aware else None)

    def query(self, points: Tensor, left: Tensor) -> Tensor:
        """Both in one."""
        return self.answer(self.encode(points), left)


def _locate(name: str | Path) -> Path:
    path = Path(name)
    if path.with_suffix(".json").is_file() and path.suffix in ("", ".json", ".safetensors"):
        return path
    known = {card.stem: card for card in shelf()}
    if str(name) in known:
        return known[str(name)]
    raise LookupError(
        f"no policy named {str(name)!r}, and no card {path.with_suffix('.json')}; "
        + (f"choose one of {', '.join(known)}" if known else "give the path of one you trained")
    )
