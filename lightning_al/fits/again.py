"""A checkpoint that is not the one the journal names: its fit is done again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning_al.journal.run_folder import RunFolder
from lightning_al.journal.standing import HASH, Standing
from lightning_al.records.stages import REFITTED

from .lightning import LightningFits

__all__ = ["sound_checkpoint"]

log = logging.getLogger(__name__)


def sound_checkpoint(
    r: int, folder: RunFolder, standing: Standing, fits: LightningFits
) -> dict[str, Any]:
    """The checkpoint of round ``r``; where it is damaged, gone or foreign the fit is done again.

    Collective: every rank calls it. Fits that start from the weights of earlier rounds need those
    too, which may be done again in turn.

    Args:
        r: of a round that was fitted.
        folder: of the run.
        standing: what the journal says.
        fits: fits the models; its datamodule is left as it stands.
    """
    name = standing.checkpoint(r)
    assert name is not None  # of a round that was fitted
    if why := folder.trouble(name, standing.hash_of(r)):
        if folder.ranks.rank == 0:
            log.warning(
                "%s: the checkpoint %s %s: the fit of round %d is done again",
                *(folder.path, name, why, r),
            )
        _fit_again(r, folder, standing, fits)
    return folder.checkpoint(name)


def _fit_again(r: int, folder: RunFolder, standing: Standing, fits: LightningFits) -> None:
    previous: Mapping[str, Any] | None = None
    if fits.recipe.weights != "reset" and standing.checkpoint(r - 1) is not None:
        previous = sound_checkpoint(r - 1, folder, standing, fits)["state_dict"]
    data, ranks = fits.datamodule, folder.ranks
    here = data.round
    ranks.together(lambda: _stand(data, standing, fits.seed, r, before=r))
    try:
        fits.adopt(standing.settings(r))
        name = fits.again(r, previous)
    finally:
        fits.adopt(standing.settings(here))
        _stand(data, standing, fits.seed, here)
    found = ranks.on_zero(lambda: folder.hash_of(name))
    if found != standing.hash_of(r):  # not the same to the last bit, or of an older run
        fields = {"round": r, "checkpoint": name, HASH: found}
        standing.add(ranks.on_zero(lambda: folder.append(REFITTED, **fields)))


def _stand(data: Any, standing: Standing, seed: int, round: int, before: int | None = None) -> None:
    data.start(seed)
    standing.replay(data, before=before)
    data.round = round
