"""``python agreeing.py FOLDER RANK``: two processes that only talk; what each heard, as JSON."""

import json
import os
import sys
import threading
from pathlib import Path

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer
from torch import nn

from lightning_al.ranks import ranks as module
from lightning_al.ranks.ranks import Ranks, join

folder, rank = Path(), 0
if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
SIZES, BLOCK = (0, 1, 2, 3, 5, 8), 48
DTYPES = ("float32", "int64", "bool", "float64", "bfloat16")
found = {}


class Odd(Exception):
    """Cannot be sent to another process."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def caught(work):
    """What an error says, of which kind it is, and its notes."""
    try:
        return {"result": work()}
    except Exception as error:
        notes = list(getattr(error, "__notes__", []))
        return {"kind": type(error).__name__, "said": str(error), "notes": notes}


def fails_on(bad, error):
    def work():
        if rank == bad:
            raise error
        return rank

    return work


def rows(n, dtype):
    """n rows of an item [2, 3], each with its number."""
    count = torch.arange(n).reshape(n, 1, 1).expand(n, 2, 3).contiguous()
    return (count % 2 == 1) if dtype == "bool" else count.to(getattr(torch, dtype))


def gathered(ranks, n, dtype):
    whole = rows(n, dtype)
    out = torch.empty_like(whole) if rank == 0 else None
    ranks.gather_rows(whole[rank :: ranks.size].clone(), out)
    return None if out is None else bool(torch.equal(out, whole))


class Extra(nn.Module):
    """Its state is more than tensors."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def get_extra_state(self):
        return {"value": self.value}

    def set_extra_state(self, state):
        self.value = state["value"]


class Grown(nn.Module):
    """A buffer whose length only its rank knows; strict loading is off."""

    strict_loading = False

    def __init__(self):
        super().__init__()
        self.register_buffer("kept", torch.full((2 + rank,), float(rank)))

    def _load_from_state_dict(self, state, prefix, *rest):
        self.kept = state[f"{prefix}kept"].clone()


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3, 2), float(rank)))
        self.register_buffer("flag", torch.tensor([bool(rank), True]))
        self.register_buffer("count", torch.tensor(7 * rank))
        self.register_buffer("none", torch.zeros(0))
        self.register_buffer("small", torch.full((2,), float(rank), dtype=torch.bfloat16))
        self.register_buffer("turned", torch.full((2, 3), float(rank)).T)


def weights(ranks):
    plain, grown, extra = Plain(), Grown(), Extra(f"of rank {rank}")
    before = plain.weight
    for each in (plain, grown, extra):
        ranks.sync_weights(each)
    same = {name: value.flatten().tolist() for name, value in plain.state_dict().items()}
    return {
        "plain": same,
        "kept": plain.weight is before,
        "grown": grown.kept.tolist(),
        "extra": extra.value,
    }


def joined():
    """This rank's place by a Trainer, twice; the control group is made once."""
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    first, second = join(trainer), join(trainer)
    return {
        "place": [first.rank, first.size],
        "backend": dist.get_backend(first.group),
        "one group": first.group is second.group,
        "its own": first.group is not dist.group.WORLD,
        "heard": first.all_gather(rank),
    }


def main():
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": str(rank)}
    file = f"file://{folder / 'group'}"
    dist.init_process_group("gloo", init_method=file, rank=rank, world_size=2)
    ranks = Ranks(rank, 2, dist.new_group(backend="gloo"))
    values = (0, None, "text", {"a": [1, 2]}, False)
    found["broadcast"] = [ranks.broadcast(v if rank == 0 else "mine") for v in values]
    found["all_gather"] = [ranks.all_gather([v, rank]) for v in values]
    module.BLOCK = BLOCK  # two rows of float32
    found["rows"] = [gathered(ranks, n, dtype) for n in SIZES for dtype in DTYPES]
    module.BLOCK = 1
    found["rows one by one"] = [gathered(ranks, n, "float32") for n in SIZES]
    called = []
    found["on_zero"] = ranks.on_zero(lambda: called.append(rank) or {"rank": rank})
    found["called"] = called
    found["alone inside"] = ranks.on_zero(lambda: dist.is_initialized())
    found["alone outside"] = dist.is_initialized()
    found["on_zero fails"] = caught(lambda: ranks.on_zero(fails_on(0, KeyError("k"))))
    found["on_zero odd"] = caught(lambda: ranks.on_zero(fails_on(0, Odd("a", "b"))))
    found["together"] = ranks.together(lambda: rank * 10)
    for bad in (0, 1):
        error = ValueError(f"bad {bad}")
        found[f"together {bad}"] = caught(lambda e=error, b=bad: ranks.together(fails_on(b, e)))
    found["together odd"] = caught(lambda: ranks.together(fails_on(1, Odd("a", "b"))))
    found["together both"] = caught(lambda: ranks.together(lambda: [][rank]))
    found["agree"] = caught(lambda: ranks.agree("same", "the labels"))
    found["disagree"] = caught(lambda: ranks.agree(f"of {rank}", "the labels"))
    found["weights"] = weights(ranks)
    found["joined"] = joined()
    found["threads"] = sorted(t.name for t in threading.enumerate() if t.name == "watch")
    write()
    if rank == 1:  # without a word to the other
        module._leave()
        found["left"] = [dist.is_initialized(), len(module._control)]
        module._leave()  # once more is no error
        write()
        os._exit(0)
    found["lost"] = caught(lambda: ranks.all_gather(1))
    found["lost too"] = caught(lambda: ranks.broadcast(1))
    write()
    os._exit(0)


def write():
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
