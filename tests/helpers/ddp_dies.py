"""``python ddp_dies.py FOLDER``: one of two processes dies where DIES says: "1 fit", "0 test"."""

import os
import signal
import sys
from pathlib import Path

from helpers import ddp_parts as parts

folder = Path(sys.argv[1])
rank, moment = os.environ.get("DIES", "none none").split()


class Dies(type(parts.classifier())):
    """Dies in the middle of its second round."""

    def _here(self, now, batch_idx):
        second = self.trainer.datamodule.round == 1
        if second and now == moment and str(parts.RANK) == rank and batch_idx == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def training_step(self, batch, batch_idx):
        self._here("fit", batch_idx)
        return super().training_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        self._here("test", batch_idx)
        return super().test_step(batch, batch_idx)


def task():
    return Dies(parts.classifier().network, classes=parts.C, lr=0.01)


if __name__ == "__main__":
    parts.mark(folder, "run")
    data = parts.classes(eval_batch_size=8)
    parts.long_run(folder / "run").with_(
        task=task, datamodule=data, budget=8, config={"a": 1}
    ).run()
