"""Processes that tests start, wait for, and end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import HERE, with_helpers


def start(script, *words, **environment):
    """A script of this folder (or ``-m MODULE``), in a process group of its own.

    So nothing outlives the test.
    """
    script = script if script == "-m" else str(HERE / script)
    clean = {k: v for k, v in with_helpers(**environment).items() if k != "LOCAL_RANK"}
    return subprocess.Popen(
        [sys.executable, script, *map(str, words)],
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process, within):
    """(exit status, output); the whole group is killed where it takes longer."""
    try:
        output, _ = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"still running after {within} s:\n{output[-3000:]}")
    return process.returncode, output


def alive(pid):
    """Whether a process runs (one that waits to be reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid, within):
    """Whether a process ends in time; it is killed where it does not."""
    until = time.monotonic() + within
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.1)
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
        return False
    return True
