"""Which of the shipped policies serves how many inputs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .card import Card
from .gate import checks

__all__ = ["fitting", "shelf"]


def shelf() -> list[Path]:
    """The cards of the policies that can be loaded by name, sorted."""
    return sorted((Path(str(files("lightning_al.policies"))) / "pretrained").glob("*.json"))


def fitting(dimension: int, safe: bool) -> str:
    """The shipped policy that scores candidates for as many inputs; a flexible one if need be.

    Args:
        dimension: D.
        safe: with a safety measurement.

    Raises:
        LookupError: none; the message says which there are, and how to train one.
    """
    cards = {path.stem: Card.read(path.read_bytes(), str(path)) for path in shelf()}
    good = {
        name: card.settings
        for name, card in cards.items()
        if card.kind == "CandidatePolicy" and all(check.passed for check in checks(card))
    }
    own = {n: s for n, s in good.items() if bool(s["safe"]) == safe}
    for flexible in (False, True):
        for name, settings in own.items():
            size = int(settings["dimension"])
            if bool(settings["flexible"]) == flexible and (
                dimension <= size if flexible else dimension == size
            ):
                return name
    kind = " with a safety measurement" if safe else ""
    there = ", ".join(
        f"{n} ({'1 to ' if s['flexible'] else ''}{s['dimension']})" for n, s in own.items()
    )
    raise LookupError(
        f"no shipped policy has {dimension} inputs{kind}; there are {there or 'none'}. Train one: "
        f"lightning-al fit --config policy/candidate-flexible{'-safe' if safe else ''} with "
        f"--model.network.init_args.dimension {dimension} and "
        f"--data.simulator.init_args.dimension {dimension}, then lightning-al policy last.ckpt "
        "--out mine, and give --policy mine"
    )
