"""``python ddp_run.py FOLDER``: the long run, with the trouble that TROUBLE names."""

import os
import signal
import sys
from pathlib import Path

from helpers import ddp_parts as parts
from lightning_al.journal import journal

folder = Path(sys.argv[1])
parts.mark(folder, "run")


def kill_at(rank, moment, event, count):
    """Kill a rank when rank 0 writes its journal for the count-th time in that way."""
    left = int(count)

    def hook(now, what):
        nonlocal left
        left -= (now, what) == (moment, event)
        if left == 0:
            left = -1
            pid = int((folder / f"run-{rank}.pid").read_text())
            os.kill(pid, signal.SIGKILL)

    return hook


if os.environ.get("TROUBLE", "").startswith("kill"):
    journal.fault_hook = kill_at(*os.environ["TROUBLE"].split()[1:])
parts.long_run(folder / "run").run()
