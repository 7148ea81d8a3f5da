"""What every query strategy must hold, property by property."""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.protocols import QueryStrategy, remembers
from lightning_al.randomness import seeded
from lightning_al.records import FIELDS, Acquisition, Pool

from .world import CANDIDATES, GIVEN, World

__all__ = ["check_strategy", "rehearsed"]

K = 6


def rehearsed(strategy: Any) -> Any:
    """A strategy as it can be tried anywhere: with the arguments that it names for that.

    A strategy that is nothing without files of its own names in ``rehearsal`` what stands in.
    """
    arguments = getattr(strategy, "rehearsal", None)
    return replace(strategy, **arguments) if arguments else strategy


def most_of(strategy: Any, k: int = K) -> int:
    """``k``, or as many candidates as a strategy chooses at a time at the ``most``."""
    return min(k, getattr(strategy, "most", k))


def check_strategy(strategy: Any, *, kind: str | None = None) -> None:
    """Check a query strategy against the contract that rounds rely on.

    Args:
        strategy: a strategy, a factory of one, a registered name or a specification.
        kind: "classification", "regression", "density" (whole predictive densities), or "safe"
            (outputs y and z, a safety measurement); by default that of
            :func:`lightning_al.strategies.kind_of`.

    Raises:
        AssertionError: a property that does not hold; the message names it.
        ValueError: an unknown ``kind``, or no strategy at all.
    """
    from lightning_al.strategies import kind_of, resolve

    if isinstance(strategy, type) or (callable(strategy) and not hasattr(strategy, "choose")):
        strategy = strategy()
    strategy = rehearsed(resolve(strategy))
    kind = kind_of(strategy) if kind is None else kind
    if kind not in GIVEN:
        raise ValueError(f"kind is one of {', '.join(map(repr, GIVEN))}, got {kind!r}")
    with seeded(0, 0, "check_strategy"):
        for name, check in CHECKS.items():
            with _named(strategy, name):
                check(strategy, kind)


@contextmanager
def _named(strategy: Any, name: str) -> Iterator[None]:
    who = type(strategy).__name__
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{who} fails `{name}`: {error}") from None
    except Exception as error:
        raise AssertionError(
            f"{who} fails `{name}`: raised {type(error).__name__}: {error}"
        ) from error


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _world(strategy: QueryStrategy, kind: str) -> World:
    return World.make(kind, samples=4 if strategy.members == "many" else 1)


def _choose(
    strategy: QueryStrategy, pool: Pool, k: int, seed: int = 0, *, learning: bool = False
) -> list[int]:
    """The choice as a list, after checking what every choice must be.

    A strategy with a memory is left as it was, but where it is ``learning``.
    """
    if remembers(strategy) and not learning:
        strategy = copy.deepcopy(strategy)
    chosen = strategy.choose(pool, k, torch.Generator().manual_seed(seed))
    _require(isinstance(chosen, Acquisition), f"choose() gave {chosen!r}, expected an Acquisition")
    index = chosen.index
    if not isinstance(index, Tensor):
        raise AssertionError(f"choose() gave index {index!r}, expected a tensor [K]")
    _require(
        index.shape == (k,) and index.dtype == torch.int64,
        f"asked for {k}, choose() gave {index.dtype} {list(index.shape)}, expected int64 [{k}]",
    )
    listed = index.tolist()
    _require(len(set(listed)) == k, f"the chosen items are not distinct: {sorted(listed)}")
    strangers = sorted(set(listed) - set(pool.index.tolist()))
    _require(
        not strangers,
        f"chose {strangers}, which are not in the pool; return candidates.index[rows], "
        "positions in the data set",
    )
    scores = chosen.scores
    _require(
        scores is None or scores.shape == (k,),
        f"the acquisition's scores are {scores!r}, expected [{k}] or None",
    )
    json.dumps(chosen.to_json())
    return listed


def _facts(strategy: QueryStrategy, kind: str) -> None:
    for name in ("needs", "keeps"):
        value = getattr(strategy, name)
        _require(
            not isinstance(value, str) and all(isinstance(v, str) for v in value),
            f"{name} is {value!r}, expected a collection of names",
        )
    unknown = sorted(set(strategy.needs) - set(FIELDS))
    _require(not unknown, f"needs {unknown}, which are none of {', '.join(FIELDS)}")
    absent = sorted(set(strategy.needs) - set(GIVEN[kind]))
    _require(not absent, f"needs {absent}, which a {kind} model does not give")
    extra = sorted(set(strategy.keeps) - set(strategy.needs))
    _require(not extra, f"keeps {extra} without naming it in needs")
    _require(
        strategy.members in ("one", "many"),
        f"members is {strategy.members!r}, expected 'one' or 'many'",
    )
    _require(isinstance(strategy.privileged, bool), f"privileged is {strategy.privileged!r}")


def _scores(strategy: Any, kind: str) -> None:
    if not (strategy.needs and hasattr(strategy, "score")):
        return
    n, width = CANDIDATES, getattr(strategy, "columns", None)
    shape = (n,) if width is None else (n, width)
    worlds = [_world(strategy, kind)]
    if strategy.members == "one":  # the plain network may be an ensemble
        worlds.append(World.make(kind, samples=3))
    for world in worlds:
        whole = strategy.score(world.see(world.index, strategy.needs), world.context)
        if not isinstance(whole, Tensor):
            raise AssertionError(f"score() gave {whole!r}, expected a tensor")
        _require(
            whole.shape == shape and whole.is_floating_point(),
            f"score() gave {whole.dtype} {list(whole.shape)} for {n} items, "
            f"expected floats {list(shape)} (more columns: declare `columns`)",
        )
        _require(bool(whole.isfinite().all()), "scores of finite predictions are not finite")
        parts = world.pool(strategy).scores
        _require(
            parts is not None and torch.allclose(parts, whole, rtol=1e-4, atol=1e-5),
            "scores depend on how the items are batched; score() must look at one item at a time, "
            "what compares items belongs in choose()",
        )


def _distinct(strategy: QueryStrategy, kind: str) -> None:
    world = _world(strategy, kind)
    for k in (K, 1, CANDIDATES):
        _choose(strategy, world.pool(strategy), most_of(strategy, k))


def _too_many(strategy: QueryStrategy, kind: str) -> None:
    pool = _world(strategy, kind).pool(strategy)
    try:
        strategy.choose(pool, CANDIDATES + 1, torch.Generator().manual_seed(0))
    except ValueError:
        return
    raise AssertionError(f"{CANDIDATES + 1} of {CANDIDATES} candidates must raise ValueError")


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _global_random_state(strategy: QueryStrategy, kind: str) -> None:
    world = _world(strategy, kind)

    def state() -> tuple[bytes, str, str]:
        torch_state = bytes(torch.get_rng_state().tolist())
        return torch_state, repr(np.random.get_state()), repr(random.getstate())

    _seed_all(987_654_321)  # a seed that no strategy sets by itself
    before = state()
    _choose(strategy, world.pool(strategy), most_of(strategy))
    changed = [
        name
        for name, old, new in zip(("torch", "numpy", "python"), before, state(), strict=True)
        if old != new
    ]
    _require(
        not changed,
        f"the global random state of {', '.join(changed)} was used or set; "
        "draw from the generator that choose() gets",
    )


def _same_seed(strategy: QueryStrategy, kind: str) -> None:
    world = _world(strategy, kind)
    results = []
    for seed in (1, 2, 3):
        _seed_all(seed)
        results.append(_choose(strategy, world.pool(strategy), most_of(strategy), seed=5))
    _require(
        results[0] == results[1] == results[2],
        f"the same generator seed gave different choices: {results}; draw only from the "
        "generator, and keep what is learnt across rounds in state_dict / load_state_dict",
    )


def _memory(strategy: QueryStrategy, kind: str) -> None:
    """Two choices in a row are those of a strategy that was saved and read back in between."""
    if not remembers(strategy):
        return
    rounds = [_world(strategy, kind), _world(strategy, kind).changed(lambda t: t.roll(3, 0))]
    begun = copy.deepcopy(strategy)
    one, k = copy.deepcopy(strategy), most_of(strategy)
    straight = [_choose(one, w.pool(one), k, seed, learning=True) for seed, w in enumerate(rounds)]
    first, second = copy.deepcopy(strategy), copy.deepcopy(begun)
    halting = [_choose(first, rounds[0].pool(first), k, 0, learning=True)]
    second.load_state_dict(_through_a_file(first.state_dict()))  # type: ignore[attr-defined]
    halting.append(_choose(second, rounds[1].pool(second), k, 1, learning=True))
    _require(
        halting == straight,
        f"saved and read back between two rounds it chose {halting}, straight on {straight}; "
        "state_dict must hold all that is learnt",
    )
    told = [_through_a_file(s.state_dict()) for s in (one, second)]  # type: ignore[attr-defined]
    _require(
        repr(told[0]) == repr(told[1]),
        f"what it remembers differs after that: {told[0]} and {told[1]}",
    )


def _through_a_file(state: Any) -> Any:
    """A memory as a run folder gives it back: tensors and plain values only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _not_mutated(strategy: QueryStrategy, kind: str) -> None:
    world = _world(strategy, kind)
    batch = world.see(world.index, strategy.needs)
    pool = world.pool(strategy)
    tensors: dict[str, Tensor] = {f"batch.{n}": v for n, v in batch.tensors().items()}
    tensors |= {"pool.index": pool.index}
    tensors |= {} if pool.scores is None else {"pool.scores": pool.scores}
    tensors |= {} if world.context.targets is None else {"context.targets": world.context.targets}
    if pool.kept is not None and pool.labelled.kept is not None:
        tensors |= {f"pool.{n}": v for n, v in pool.kept.tensors().items()}
        tensors |= {f"pool.labelled.{n}": v for n, v in pool.labelled.kept.tensors().items()}
    before = {name: value.clone() for name, value in tensors.items()}
    if strategy.needs and hasattr(strategy, "score"):
        strategy.score(batch, world.context)
    _choose(strategy, pool, most_of(strategy))
    changed = [n for n, v in tensors.items() if not torch.equal(v, before[n])]
    _require(not changed, f"the strategy writes into its input: {', '.join(changed)} changed")


def _order(strategy: QueryStrategy, kind: str) -> None:
    world = _world(strategy, kind)
    moved = world.index[torch.randperm(CANDIDATES, generator=torch.Generator().manual_seed(1))]
    k = most_of(strategy)
    here = [set(_choose(strategy, world.pool(strategy), k, s)) for s in range(8)]
    there = [set(_choose(strategy, world.pool(strategy, moved), k, s)) for s in range(8)]
    deterministic = all(chosen == here[0] for chosen in here)
    _require(
        not deterministic or here == there,
        "the same candidates in another order give another choice; data order must not decide",
    )


def _ties(strategy: QueryStrategy, kind: str) -> None:
    world = _world(strategy, kind).changed(lambda v: v[:1].expand_as(v).clone())
    k = most_of(strategy, 3)
    draws = 40 + 120 // k  # so that no candidate is left out by chance
    pool = world.pool(strategy)
    count = dict.fromkeys(pool.index.tolist(), 0)
    for seed in range(draws):
        for item in _choose(strategy, pool, k, seed):
            count[item] += 1
    rows = list(count.values())
    always = [row for row, times in enumerate(rows) if times == draws]
    never = [row for row, times in enumerate(rows) if times == 0]
    _require(
        not always and not never,
        f"{CANDIDATES} equal candidates, {draws} seeds: rows {always} always chosen, "
        f"rows {never} never; ties must be broken by the generator, not by data order",
    )
    _choose(strategy, pool, most_of(strategy, CANDIDATES))


def _nan(strategy: QueryStrategy, kind: str) -> None:
    if not strategy.needs:
        return
    world = _world(strategy, kind)
    bad = world.index[[0, 4, 11]]

    def spoil(values: Tensor) -> Tensor:
        values[bad] = torch.nan
        return values

    world = world.changed(spoil)
    good = CANDIDATES - len(bad)
    for seed in range(4):
        chosen = _choose(strategy, world.pool(strategy), good, seed)
        wrong = sorted(set(chosen) & set(bad.tolist()))
        _require(not wrong, f"items {wrong} with NaN predictions came before items without")
    _choose(strategy, world.pool(strategy), CANDIDATES)


CHECKS: dict[str, Callable[[Any, str], None]] = {
    "facts": _facts,
    "scores": _scores,
    "distinct members of the pool": _distinct,
    "too many": _too_many,
    "global random state": _global_random_state,
    "same seed": _same_seed,
    "memory": _memory,
    "input not mutated": _not_mutated,
    "order of the pool": _order,
    "ties": _ties,
    "NaN last": _nan,
}
"""The properties, in the order in which they are checked."""
