"""Commands as they are typed, in this process."""

import sys

import pytest

from lightning_al.cli import main

QUICK = [
    *("run", "--config", "quickstart", "--trainer.max_epochs", "1", "--budget", "20"),
    *("--progress", "false"),
]
"""A run of seconds."""


def ended(words, monkeypatch, capsys):
    """(the message with which a command ends, its status, what it said before): no bare error."""
    monkeypatch.setattr(sys, "argv", ["lightning-al", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr().err.strip()
    assert "Traceback" not in shown
    *before, message = shown.split("lightning-al: ")
    assert before, shown
    return message, stop.value.code, "".join(before)
