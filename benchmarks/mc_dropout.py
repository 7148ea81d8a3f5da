"""MC dropout: 20 members on 1,000 images of 28 x 28 pixels, ours beside BaaL's.

    python benchmarks/mc_dropout.py

One thread, ours and the peers in turn, the median of 5; each in a process of its own, so that the
growth of the peak resident memory is that of the prediction alone. Peers that cannot be imported
are left out. Prints JSON lines and the ratio that the project asks for (at most 0.45).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch

MEMBERS, IMAGES, REPEATS = 20, 1000, 5
BATCHES = {"ours": 256, "baal": 32}  # ours: any; BaaL: its default


def images() -> torch.Tensor:
    return torch.rand(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def network() -> torch.nn.Module:
    from lightning_al.networks import SmallCNN

    torch.manual_seed(0)
    return SmallCNN(in_channels=1, outputs=10, image_size=28).eval()


def ours(batch: int) -> Callable[[], torch.Tensor]:
    from lightning_al.posteriors import MCDropout
    from lightning_al.records import Predictions
    from lightning_al.tasks import Classification

    task, x = Classification(network(), classes=10), images()

    def predict() -> torch.Tensor:
        session = MCDropout(MEMBERS).start(0, 0)
        parts = [
            session.predict(task, task.adapter, rows, x[rows], ["probs"])
            for rows in torch.arange(IMAGES).split(batch)
        ]
        probs = Predictions.cat(parts).probs
        if probs is None:
            raise RuntimeError("no probabilities came back")
        return probs

    return predict


def baal(batch: int) -> Callable[[], torch.Tensor]:
    import structlog
    from baal import ModelWrapper
    from baal.bayesian.dropout import patch_module
    from baal.modelwrapper import TrainingArgs

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    data = torch.utils.data.TensorDataset(images(), torch.zeros(IMAGES, dtype=torch.long))
    args = TrainingArgs(batch_size=batch, use_cuda=False)
    wrapper = ModelWrapper(patch_module(network(), inplace=False), args)

    def predict() -> torch.Tensor:
        logits = wrapper.predict_on_dataset(data, iterations=MEMBERS, verbose=False)
        return torch.from_numpy(logits).transpose(1, 2).softmax(2)

    return predict


def once(name: str, batch: int) -> dict[str, float | str]:
    """CPU seconds, and growth of the peak resident memory in MiB, of one prediction."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    predict = {"ours": ours, "baal": baal}[name](batch)
    with torch.no_grad():  # kernels and buffers that any network needs
        network()(images()[:batch])
    before = resource.getrusage(resource.RUSAGE_SELF)
    start, wall = time.process_time(), time.perf_counter()
    probs = predict()
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_SELF)
    if probs.shape != (IMAGES, MEMBERS, 10):
        raise RuntimeError(f"{name} returned {list(probs.shape)}")
    spread = probs.std(1).mean().item()  # both must be uncertain to the same degree
    mib = (after.ru_maxrss - before.ru_maxrss) / 1024
    return {
        "name": name,
        "cpu_seconds": seconds,
        "wall_seconds": wall,
        "extra_mib": mib,
        "spread": spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=BATCHES, help="run one of them once, in this process")
    parser.add_argument("--batch", type=int, default=None, help="batch of all of them")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(once(chosen.one, chosen.batch or BATCHES[chosen.one])))
        return
    names = [n for n in BATCHES if n == "ours" or importlib.util.find_spec(n) is not None]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(REPEATS):
        for name in names:
            command = [sys.executable, __file__, "--one", name]
            command += ["--batch", str(chosen.batch)] if chosen.batch else []
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {
            key: round(statistics.median(run[key] for run in runs), 4)
            for key in ("cpu_seconds", "wall_seconds", "extra_mib", "spread")
        }
        for name, runs in results.items()
    }
    for name, row in medians.items():
        print(json.dumps({"name": name, "batch": chosen.batch or BATCHES[name], **row}))
    for name in names[1:]:
        ratio = medians["ours"]["cpu_seconds"] / medians[name]["cpu_seconds"]
        print(json.dumps({"ours_over": name, "cpu_ratio": round(ratio, 3), "asked": 0.45}))


if __name__ == "__main__":
    main()
