"""Trained policies that score candidates, watched on fresh simulated functions of their own law.

The figures of their gate once more, on functions that neither training, nor choice among seeds, nor
card has seen, ± half a 95 % interval over functions: expected error at the end beside that of a
shifted Sobol sequence and of random places, the information of the queries about a grid (the
published GPMI2, the mean over all budgets up to the horizon; low is good), the share of safe
queries, the same on pools of 400 uniform rows, and the held-out loss by which seeds are chosen.
``python benchmarks/simulated.py NAME|PATH ... [--functions 500]``; without names those that are
shipped. Ends with status 1 where a policy's error is above Sobol's by more than the interval of
their paired difference, or its safe share below what its card promises by more than its own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace

import torch
from timing import one_thread
from torch import Tensor

from lightning_al.policies import Batch, CandidatePolicy, Policy, Simulator, Streams
from lightning_al.policies.candidates.asking import asking, error
from lightning_al.policies.candidates.places import shifted
from lightning_al.policies.candidates.targets import Target
from lightning_al.policies.candidates.worlds import Asked, World
from lightning_al.policies.shipped import shelf
from lightning_al.policies.training_progress import simulator_of

SEED = 40_961  # of the functions: not one of trainings, validations (31) or cards (977)
HELD_OUT = 31  # those that validations look at, see candidates/module.py


@dataclass(frozen=True)
class Played:
    """Some functions after a design's queries."""

    world: World
    asked: Asked
    first: int

    def error(self) -> Tensor:
        """[R]."""
        return error(self.world, self.asked)

    def worth(self, target: Target) -> Tensor:
        """Of each query [R, T], before its answer."""
        worth, asked = target.of(self.world, self.asked), self.asked
        return torch.cat(
            [worth.at(n, asked.x[:, n : n + 1]) for n in range(self.first, len(asked))], 1
        )

    def safe(self) -> Tensor | None:
        """Share of safe queries of each function [R]."""
        z = self.asked.z
        return None if z is None else (z[:, self.first :] >= 0).double().mean(-1)


def played(law: Simulator, seed: int, role: str, functions: int, design: object) -> Played:
    """A design's queries: a CandidatePolicy, "sobol" or "random"."""
    world = World.of(replace(law, batch=Batch(functions, 1, 1)), Streams.of(seed, 0, role))
    first = law.starts[1]
    if isinstance(design, CandidatePolicy):
        asked = world.play(asking(design, world.active if design.flexible else None))
    else:
        drawn = world.uniform("sobol", law.dimension)
        places = (
            shifted(drawn, law.horizon)
            if design == "sobol"
            else world.uniform("random", law.horizon, law.dimension)
        )
        places = places * world.active[:, None]
        asked = world.play(lambda x, y, z: places[:, x.shape[1] - first])
    return Played(world, asked, first)


def information(found: Played) -> Tensor:
    """GPMI2 of each function [R]: its mean over budgets 1..T, as published trainings draw them."""
    worth = found.worth(Target("mutual"))
    count = found.first + torch.arange(1, worth.shape[1] + 1)
    return -(worth.cumsum(-1) / count).mean(-1)


def half(values: Tensor) -> float:
    """Half the 95 % interval of a mean [R]."""
    return float(1.96 * values.std() / len(values) ** 0.5)


def shown(values: Tensor) -> str:
    """Mean ± half its interval."""
    return f"{float(values.mean()):.4f} ± {half(values):.4f}"


@torch.no_grad()
def watch(name: str, functions: int) -> list[str]:
    """Print a policy's figures; returns where it is short."""
    policy = Policy.load(name, unchecked=True)
    network, training = policy.network, policy.card.training
    if not isinstance(network, CandidatePolicy):
        raise ValueError(f"{name} names places and scores none; give one that scores candidates")
    law, config = simulator_of(training["config"]["simulator"]), training["config"]
    designs = {"policy": network, "sobol": "sobol", "random": "random"}
    found = {k: played(law, SEED, "simulated", functions, d) for k, d in designs.items()}
    errors = {k: p.error() for k, p in found.items()}
    held = played(law, HELD_OUT, "validate", min(64, functions), network)
    loss = -held.worth(Target(config["target"], config["gamma"], config["points"])).mean()
    line = [name, f"{training['cpu_seconds']:.0f}", f"{float(loss):.4f}"]
    line += [shown(e) for e in errors.values()]
    if law.safety is None:
        told = information(found["policy"])
        line += [shown(told), ""]
    else:
        line += ["", shown(found["policy"].safe())]  # type: ignore[arg-type]
    print("| " + " | ".join(line) + " |", flush=True)
    short, safe = [], found["policy"].safe()
    worse = errors["policy"] - errors["sobol"]
    if safe is None and float(worse.mean()) > half(worse):
        short.append(f"{name}: error {float(worse.mean()):.4f} above Sobol's")
    if safe is not None and float(safe.mean()) + half(safe) < 1 - config["promised"]:
        short.append(f"{name}: {100 * float(safe.mean()):.1f} % safe")
    return short


def shipped() -> list[str]:
    """Names of the policies of the package that score candidates."""
    return [p.stem for p in shelf() if '"CandidatePolicy"' in p.read_text()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--functions", type=int, default=500)
    options = parser.parse_args()
    one_thread()
    heads = [
        "policy",
        "CPU s",
        "held-out loss",
        "error",
        "Sobol's",
        "random's",
        "GPMI2",
        "safe share",
    ]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    short = [s for name in options.names or shipped() for s in watch(name, options.functions)]
    print("\n" + ("\n".join(short) or "none is short of what it promises"))
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
