"""The weights of a trained CandidatePolicy for few operations: weights that meet are multiplied.

The same function as ``CandidatePolicy.forward`` for a number of inputs that is known, of a network
that learns no more. Letters: D inputs, S outcomes, K frequencies, E width, H heads of e features,
F hidden features of a perceptron. A key or a query has e + D + 2 features a head, the last D + 2 of
which say where it is; a value of the second block e + D + 1, the last of which say where the point
is that it belongs to. W is the width of all keys and values side by side.

- The features of a place are its coordinates and one sine: cosines are sines of a quarter more.
- Inputs that a flexible network leaves out are left out of the weights.
- The scale of an attention goes into its queries; keys and values of both blocks are one product,
  into which the normalisation before goes.
- The bias behind an attention, and that behind a perceptron, go into what they are added to.
- Minus the squared distance of candidate and point is a product of features, each a linear function
  of coordinates and their squares. Weights have columns of zeros where these features lie, so that
  they and what the tokens give are added in one product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..fused import EPSILON
from .network import MANY, SINK, CandidatePolicy

__all__ = ["After", "Feed", "Folded", "folded"]

BLOCKS = ("blocks.0", "blocks.1")
KNOWN = ("blocks.0.known", "blocks.1.known")
Linear = tuple[Tensor, Tensor]  # bias [outputs], weights [inputs, outputs]


@dataclass(frozen=True)
class Feed:
    """A perceptron on places and what lies beside them."""

    phase: Tensor  # [2 K D]
    turn: Tensor  # [D + S, 2 K D]
    direct: Linear  # [D + S] -> [F], of the numbers themselves
    waves: Tensor  # [2 K D, F], of their sines
    last: Linear  # [F] -> [E]

    def __call__(self, given: Tensor) -> Tensor:
        """[n, D + S] -> [n, E]."""
        hidden = torch.addmm(self.direct[0], given, self.direct[1])
        hidden.addmm_(torch.addmm(self.phase, given, self.turn).sin_(), self.waves)
        return torch.addmm(self.last[0], functional.gelu(hidden), self.last[1])


@dataclass(frozen=True)
class After:
    """What follows an attention: its last matrix, a perceptron, two normalisations."""

    out: Tensor  # [E, E]; its bias lies in the tokens that it is added to
    norm: tuple[Tensor, Tensor]  # weights, bias [E]; in the bias that of `narrow`
    wide: Linear  # [E] -> [F]
    narrow: Tensor  # [F, E]
    end: tuple[Tensor, Tensor] | None  # None where its weights went into what follows

    def __call__(self, token: Tensor, seen: Tensor) -> Tensor:
        """Tokens [n, E], which are written into, and what was seen [n, E]: [n, E], normalised."""
        token.addmm_(seen, self.out)
        size = token.shape[-1:]
        flat = torch.layer_norm(token, size, *self.norm, EPSILON)
        wide = torch.addmm(self.wide[0], flat, self.wide[1])
        flat.addmm_(functional.gelu(wide), self.narrow)
        weight, bias = (None, None) if self.end is None else self.end
        return torch.layer_norm(flat, size, weight, bias, EPSILON)


@dataclass(frozen=True)
class Folded:
    """All weights, for D inputs."""

    inputs: int
    heads: int
    token: Feed  # of points
    sink: Tensor  # [1, E]
    own: Linear  # [E] -> [3 E]: queries, keys and values of the history's attention
    history: After
    near: Linear  # [2 D] -> [W], of points, from coordinates and their squares
    sunk: Tensor  # [1, W], the same of the sink
    held: Tensor  # [E, W]: keys of both blocks, values of the first, of the second
    place: Feed  # of candidates
    here: Linear  # [2 D] -> [2 blocks, H (e + D + 2)]: of candidates
    count: Tensor  # [N + 1, E]: what is added to candidates for 0 to N points
    first: Tensor  # [E, H (e + D + 2)]: queries of the first block
    counted: Tensor  # [N + 1, H (e + D + 2)]: what is added to those for 0 to N points
    blocks: tuple[After, After]
    second: Tensor  # [E, H (e + D + 2)]: queries of the second block; their bias is in `here`
    head: Linear  # [E] -> [1 + H + 1]: worth after the move, of which each head, and without
    reach: float


@torch.no_grad()
def folded(network: CandidatePolicy, inputs: int, most: int) -> Folded:
    """The weights of a network, multiplied in float64.

    Args:
        network: that learns no more.
        inputs: D, as many as it has, or fewer where it is flexible.
        most: N, points measured at most.
    """
    state = {name: value.detach().double().cpu() for name, value in network.state_dict().items()}
    waves, outcomes = network.frequencies, 1 + network.safe

    def linear(name: str) -> Linear:
        return state[f"{name}.bias"], state[f"{name}.weight"].T

    def queries(name: str) -> Linear:
        bias, weight = linear(f"{name}.query")
        scale = (network.width // network.heads) ** -0.5
        return scale * bias, scale * weight

    def feed(name: str, outcomes: int) -> Feed:
        return _feed(linear(f"{name}.0"), linear(f"{name}.2"), inputs, waves, outcomes)

    # the history: the bias behind its attention lies in the tokens, and is taken off what they ask
    behind = state["history.out.bias"]
    owns = queries("history"), linear("history.known")
    bias, own = (torch.cat(pair, -1) for pair in zip(*owns, strict=True))
    token = feed("token", outcomes)
    token = replace(token, last=(token.last[0] + behind, token.last[1]))
    # the normalisation behind the history goes into keys and values of both blocks
    end, shift = state["history.end.weight"], state["history.end.bias"]
    held_bias, held = map(
        partial(_spread_held, network, inputs),
        zip(*((b + shift @ w, end[:, None] * w) for b, w in map(linear, KNOWN)), strict=True),
    )
    # what is added to candidates for the number of points, with the first attention's bias
    many = torch.arange(most + 1.0, dtype=torch.float64)[:, None] / MANY
    bias_in, weight_in = linear("count.0")
    hidden = functional.gelu(many @ weight_in + bias_in)
    count = hidden @ linear("count.2")[1] + linear("count.2")[0]
    asked_bias, asked = queries(BLOCKS[0])
    # the second attention's bias lies in the normalisation before it
    between, after = state["blocks.0.end.bias"], state["blocks.1.out.bias"]
    bias_two, two = queries(BLOCKS[1])
    head_bias, head = map(
        partial(torch.cat, dim=-1), zip(*map(linear, ("head", "here")), strict=True)
    )
    there, here, sunk = _distances(network, inputs)
    spread = partial(_spread, network, inputs)
    near = held_bias + _held_places(network, there[0]), _held_places(network, there[1])
    lying = here[0].clone()
    lying[1] += spread(bias_two - after @ two).view(lying[1].shape)
    return _single(
        Folded(
            inputs=inputs,
            heads=network.heads,
            token=token,
            sink=(state["sink"] + behind)[None],
            own=(bias - behind @ own, own),
            history=_after(state, "history", None),
            near=near,
            sunk=(held_bias + _held_places(network, sunk))[None],
            held=held,
            place=feed("place", 0),
            here=(lying.flatten(), here[1].flatten(1)),
            count=count + state["blocks.0.out.bias"],
            first=spread(asked),
            counted=spread(count @ asked + asked_bias),
            blocks=(
                _after(state, BLOCKS[0], (state["blocks.0.end.weight"], between + after)),
                _after(state, BLOCKS[1], None),
            ),
            second=spread(two),
            head=(
                head_bias + state["blocks.1.end.bias"] @ head,
                state["blocks.1.end.weight"][:, None] * head,
            ),
            reach=network.reach,
        )
    )


def _feed(first: Linear, last: Linear, inputs: int, waves: int, outcomes: int) -> Feed:
    """A perceptron on the features of :func:`.network.waves` of the first inputs, and outcomes."""
    each = 1 + 2 * waves
    rows = first[1][: inputs * each].unflatten(0, (inputs, each))
    angles = math.pi * torch.arange(1, waves + 1, dtype=torch.float64)
    turn = torch.zeros(inputs + outcomes, inputs, 2, waves, dtype=torch.float64)
    for d in range(inputs):
        turn[d, d] = angles
    quarter = torch.tensor([0.0, math.pi / 2], dtype=torch.float64)[:, None]
    phase = (quarter - angles / 2).expand(inputs, 2, waves)
    beside = first[1][len(first[1]) - outcomes :] if outcomes else first[1][:0]
    return Feed(
        phase=phase.flatten(),
        turn=turn.flatten(1),
        direct=(first[0] - rows[:, 0].sum(0) / 2, torch.cat([rows[:, 0], beside])),
        waves=rows[:, 1:].flatten(0, 1),
        last=last,
    )


def _after(state: dict[str, Tensor], name: str, end: tuple[Tensor, Tensor] | None) -> After:
    """What follows the attention of a block; its own bias is elsewhere."""
    first, last = state[f"{name}.feed.0.weight"].T, state[f"{name}.feed.2.bias"]
    return After(
        out=state[f"{name}.out.weight"].T,
        norm=(state[f"{name}.norm.weight"], state[f"{name}.norm.bias"] + last),
        wide=(state[f"{name}.feed.0.bias"] - last @ first, first),
        narrow=state[f"{name}.feed.2.weight"].T,
        end=end,
    )


def _distances(network: CandidatePolicy, inputs: int) -> tuple[Linear, Linear, Tensor]:
    """Features [2 blocks, H, e + D + 2] by which distances are products; the first e are 0.

    Of points and of candidates, as linear functions of coordinates and their squares; the sink's.
    """
    near = torch.stack([near.detach().double() for near in network.near])[..., :inputs]
    sharp = (near / 2).exp() * (2 / inputs) ** 0.5  # [2, H, D]
    blocks, heads, _ = sharp.shape
    e = network.width // heads
    square, one = sharp.square(), torch.ones(blocks, heads, 1, dtype=torch.float64)
    whole = square.sum(-1, keepdim=True)

    def placed(features: Tensor) -> Tensor:
        return functional.pad(features, (e, 0))

    def linear(bias: tuple[Tensor, ...], own: float, far: tuple[float, float]) -> Linear:
        """Coordinates times `own` sharpness, and squared distances from the middle at `far`."""
        weight = torch.zeros(2, inputs, blocks, heads, inputs + 2, dtype=torch.float64)
        for d in range(inputs):
            apart = square[..., d, None] * torch.tensor(far, dtype=torch.float64)
            weight[0, d, :, :, d] = own * sharp[..., d]
            weight[0, d, :, :, inputs:] = -apart
            weight[1, d, :, :, inputs:] = apart
        return placed(torch.cat(bias, -1)), placed(weight.flatten(0, 1))

    points = linear((-sharp / 2, 0 * one, -whole / 4), 1.0, (0.0, -1.0))
    candidates = linear((-sharp, whole / 4, one), 2.0, (1.0, 0.0))
    sunk = placed(torch.cat([0 * sharp, one, -SINK / 2 * whole], -1))
    return points, candidates, sunk


def _spread(network: CandidatePolicy, inputs: int, value: Tensor) -> Tensor:
    """[..., E] -> [..., H (e + D + 2)], with zeros where places lie."""
    wide = value.unflatten(-1, (network.heads, -1))
    return functional.pad(wide, (0, inputs + 2)).flatten(-2)


def _spread_held(network: CandidatePolicy, inputs: int, parts: tuple[Tensor, Tensor]) -> Tensor:
    """Keys and values [..., 2 E] of both blocks -> [..., W], with zeros where places lie."""
    (key, value), (key_two, value_two) = (part.chunk(2, -1) for part in parts)
    wide = functional.pad(value_two.unflatten(-1, (network.heads, -1)), (0, inputs + 1))
    keys = [_spread(network, inputs, k) for k in (key, key_two)]
    return torch.cat([*keys, value, wide.flatten(-2)], -1)


def _held_places(network: CandidatePolicy, places: Tensor) -> Tensor:
    """Features [..., 2 blocks, H, e + D + 2] of points -> [..., W], zeros where tokens lie."""
    nothing = places.new_zeros(*places.shape[:-3], network.width)
    return torch.cat([places.flatten(-3), nothing, places[..., 1, :, :-1].flatten(-2)], -1)


def _single(value: Any) -> Any:
    """The same in float32, each tensor in one piece."""
    if isinstance(value, Tensor):
        return value.float().contiguous()
    if isinstance(value, tuple):
        return tuple(map(_single, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _single(getattr(value, f.name)) for f in fields(value)})
    return value
