"""A strategy that takes its process down."""

import os
import signal


class Deadly:
    """Kills the process that asks it to choose."""

    needs = keeps = ()
    members = "one"
    privileged = False

    def choose(self, candidates, k, generator):
        """Never returns."""
        os.kill(os.getpid(), signal.SIGKILL)
