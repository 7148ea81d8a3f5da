"""What importing lightning_al costs beyond importing pytorch_lightning.

    python benchmarks/import_time.py

Each import in a fresh process, in turn, the median of 5; CPU seconds on one thread. Asked: at most
0.3 s more than ``import pytorch_lightning`` for ``import lightning_al``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial

from timing import interleaved, medians, show

ASK, BASE = 0.3, "pytorch_lightning"
MODULES = (
    "lightning_al",
    "lightning_al.rounds",
    "lightning_al.datamodules",
    "lightning_al.strategies",
    "lightning_al.tasks",
    "lightning_al.cli",
)
PROGRAM = """
import time
import {base}
start = time.process_time()
import {module}
print(time.process_time() - start)
"""


def once(module: str, base: str) -> float:
    """CPU seconds to import one module in a process that has imported ``base``."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(module=module, base=base)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    calls = {f"{module}, after {BASE}": partial(once, module, BASE) for module in MODULES}
    calls["all of them"] = partial(once, ", ".join(MODULES), BASE)
    calls |= {
        BASE: partial(once, BASE, "sys"),
        "lightning_al": partial(once, "lightning_al", "sys"),
    }
    figures = interleaved(calls, args.repeat)
    show(figures, "CPU s")
    middle = medians(figures)
    one, whole = middle[f"lightning_al, after {BASE}"], middle["all of them"]
    print(f"\nimport lightning_al adds {one:.3f} s, everything {whole:.3f} s; asked: at most {ASK}")
    sys.exit(one > ASK)


if __name__ == "__main__":
    main()
