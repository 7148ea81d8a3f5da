"""Who of some items is labelled, asked for, refused, held or in the pool, and what was answered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_al.records import Acquisition, Answers, Status, positions

from .overlay import Overlay

__all__ = ["LabelState"]

SAID = {
    Status.POOL: "in the pool",
    Status.ASKED: "asked for already",
    Status.LABELLED: "labelled already",
    Status.REFUSED: "refused by the oracle",
    Status.HELD: "held for validation or test",
}


class LabelState:
    """The status of N items, their answers, and on a continuous domain their places.

    Every change is whole or not at all, and every change of a run is a line of its journal:
    :meth:`apply` takes lines, so that reading the journal back gives the same state.

    Args:
        n: N; on a continuous domain how many places were measured so far.
        places: [N, D] of a continuous domain, which grows; None for a finite one.
        room: how many items of a finite one there are, where more than N may join later.
    """

    def __init__(self, n: int, places: Tensor | None = None, *, room: int | None = None) -> None:
        self._status = torch.zeros(n, dtype=torch.int8)
        self.answers = Overlay(n)
        self.places = places
        self.room = n if room is None else room
        self._asked: dict[int, Tensor] = {}  # round -> the items of its query
        self._found: dict[Status, Tensor] = {}

    def __len__(self) -> int:
        return len(self._status)

    # --- what is known -----------------------------------------------------------------------

    @property
    def status(self) -> Tensor:
        """Status of every item [N], int8; a copy."""
        return self._status.clone()

    def where(self, status: Status) -> Tensor:
        """Positions of the items with this status, ascending."""
        if status not in self._found:  # NumPy's search is the fast one
            found = np.flatnonzero(self._status.numpy() == int(status))
            self._found[status] = torch.from_numpy(found)
        return self._found[status]

    @property
    def labelled(self) -> Tensor:
        """Positions of the labelled items [L], ascending."""
        return self.where(Status.LABELLED)

    @property
    def pool(self) -> Tensor:
        """Positions of the items that may be chosen, ascending."""
        return self.where(Status.POOL)

    def fingerprint(self) -> str:
        """Hash of who is labelled, of all places, and of all answers; equal on all ranks."""
        digest = hashlib.sha256(self._status.numpy().tobytes())
        if self.places is not None:
            digest.update(self.places.contiguous().numpy().tobytes())
        self.answers.update_hash(digest)
        return digest.hexdigest()[:16]

    # --- changes -----------------------------------------------------------------------------

    def put(self, index: Tensor, status: Status) -> None:
        """Give items [K] a status; nothing is checked."""
        self._status[index] = int(status)
        self._found.clear()

    def require(self, index: Tensor, what: str, *, asked: bool = False) -> None:
        """Refuse positions [K] that are out of range, repeated, or no candidates.

        Args:
            index: positions.
            what: is to be done with them, for the message.
            asked: items that wait for an answer will do too.

        Raises:
            ValueError: such positions; the message says what they are.
        """
        if not len(index):
            return
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(self):
            bad = low if low < 0 else high
            raise ValueError(f"{what}: item {bad} is outside the data set of {len(self)} items")
        states = self._status[index]
        wrong = states != int(Status.POOL)
        if asked:
            wrong &= states != int(Status.ASKED)
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise ValueError(
                f"{what}: {int(wrong.sum())} item(s) are not in the pool, first: item "
                f"{int(index[first])} is {SAID[Status(int(states[first]))]}; overlap would leak "
                "labels or buy them twice"
            )
        ordered = index.sort().values
        if bool((ordered[1:] == ordered[:-1]).any()):
            twice = ordered[1:][ordered[1:] == ordered[:-1]].unique().tolist()
            raise ValueError(
                f"{what}: item(s) {', '.join(map(str, twice[:5]))} are named twice; name each once"
            )

    def hold(self, index: Tensor) -> None:
        """Keep items [K] out of the pool: they belong to validation or test."""
        self.put(index, Status.HELD)

    def ask(self, index: Tensor) -> None:
        """Mark pool items [K] as asked for: no longer candidates, not yet labelled.

        Raises:
            ValueError: see :meth:`require`; nothing has changed then.
        """
        self.require(index, "ask")
        self.put(index, Status.ASKED)

    def settle(self, index: Tensor, answers: Answers | None = None) -> None:
        """Items [K] of the pool (or asked ones) are labelled, refused, or wait.

        Args:
            index: positions.
            answers: of them; None where the data set itself carries their labels.

        Raises:
            ValueError: see :meth:`require`, or answers that cannot lie beside the earlier ones;
                nothing has changed then.
        """
        self.require(index, "acquire", asked=True)
        if answers is None:
            self.put(index, Status.LABELLED)
            return
        n = len(index)
        late, refused = answers.mask("pending", n), answers.mask("refused", n)
        given = ~(late | refused)
        if bool(given.any()):
            self.answers.put(index[given], {k: v[given] for k, v in answers.values.items()})
        self.put(index[late], Status.ASKED)
        self.put(index[given], Status.LABELLED)
        self.put(index[refused & ~late], Status.REFUSED)

    def place(self, x: Tensor, first: int) -> None:
        """Let places [K, D] be the items from position ``first`` on; later ones are dropped.

        Nothing changes where they lie there already.

        Raises:
            ValueError: a finite domain, a gap, or a place that is answered already.
        """
        if self.places is None:
            raise ValueError("these items have no places: the domain is finite")
        x, n = x.to(self.places), len(self)
        if n == first + len(x) and torch.equal(self.places[first:], x):
            return
        if first > n or bool((self._status[first:] != int(Status.POOL)).any()):
            raise ValueError(
                f"the next place takes position {n}, got {first}: the journal and the data do not "
                "go together"
            )
        self.places = torch.cat([self.places[:first], x])
        self._status = torch.cat([self._status[:first], self._status.new_zeros(len(x))])
        self.answers.resize(len(self))
        self._found.clear()

    def grow(self, n: int, labelled: Tensor, held: Tensor) -> None:
        """Let items join behind those that are there, until there are n.

        Args:
            n: how many there are then.
            labelled: positions of new ones that are labelled by what the data set says.
            held: positions of new ones that belong to validation or test; the rest join the pool.

        Raises:
            ValueError: more than the data set has, or fewer than there are.
        """
        if not len(self) <= n <= self.room:
            raise ValueError(
                f"the journal says that {n - len(self)} items joined the {len(self)}, the data set "
                f"has {self.room}; bring the items back that joined"
            )
        new = self._status.new_full((n - len(self),), int(Status.POOL))
        self._status = torch.cat([self._status, new])
        self.answers.resize(n)
        self.put(labelled, Status.LABELLED)
        self.put(held, Status.HELD)

    def fix(self, index: Tensor, answers: Answers | None, status: Status) -> None:
        """Give labelled items [K] another answer, or take theirs back.

        Args:
            index: positions.
            answers: that hold from here on; None for none.
            status: of the items then.

        Raises:
            ValueError: an item that is not labelled; nothing has changed then.
        """
        wrong = index[self._status[index] != int(Status.LABELLED)]
        if len(wrong):
            item = int(wrong[0])
            said = SAID[Status(int(self._status[item]))]
            raise ValueError(f"fix: item {item} has no answer, it is {said}")
        self.answers.drop(index)
        if answers is not None:
            self.answers.put(index, answers.values)
        self.put(index, status)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take one journal line; those that change nobody's state are passed by.

        Raises:
            ValueError: a line that this state cannot follow.
        """
        event, r = record["event"], record.get("round", -1)
        if event == "chosen":
            chosen = Acquisition.from_json(record)
            if chosen.index is None:
                return
            if chosen.x is not None and len(chosen):
                self.place(chosen.x, int(chosen.index[0]))
            self._asked[r] = chosen.index
        elif event == "extended":
            joined = (positions(record.get(name) or ()) for name in ("labelled", "held"))
            self.grow(record["new"], *joined)
        elif event == "fixed":
            new = record["new"]
            answers = None if new is None else Answers.from_json({"values": new})
            self.fix(positions([record["item"]]), answers, Status[record["to"].upper()])
        elif event == "labelled":
            self.settle(self._asked[r], Answers.from_json(record))
        elif event == "collected":
            index = torch.tensor(record["index"], dtype=torch.int64)
            self.settle(index, Answers.from_json(record))

    # --- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors only, as a weights-only load wants them."""
        places = {} if self.places is None else {"places": self.places.clone()}
        return {"status": self._status.clone(), "overlay": self.answers.state_dict(), **places}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`, also inside of a pass without gradients.

        Raises:
            ValueError: a state of another number of items, on a finite domain.
        """
        with torch.inference_mode(False):  # a tensor made in there could never be changed again
            self._take(state)

    def _take(self, state: Mapping[str, Any]) -> None:
        status = state["status"]
        if self.places is not None:
            self.places = state["places"].clone()
        elif not len(self) <= len(status) <= max(self.room, len(self)):
            raise ValueError(
                f"the saved state is of {len(status)} items, this data set has {len(self)}; give "
                "the same data"
            )
        self._status = status.clone()
        self.answers = Overlay(len(status))
        self.answers.load_state_dict(state["overlay"])
        self._found.clear()
