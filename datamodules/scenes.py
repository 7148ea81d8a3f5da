"""Pictures of several handwritten digits: which of them are there, or which lies where."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from lightning_al.randomness import generator

from . import named as datasets
from .pool_data import PoolDataModule, Splits
from .tensors import TensorItems

__all__ = ["ScenesDataModule"]

SIDE = 8  # of a digit, in pixels
GRID = 3  # digits a row of a scene at most
INK = 0.25  # from which on a pixel belongs to its digit


class ScenesDataModule(PoolDataModule):
    """Scenes of 24 x 24 pixels with one to four digits each, made of scikit-learn's digits.

    A small real test bed for two kinds of targets. ``targets="labels"``: which of ten digits are
    there, 0 or 1 each, int64 [10]. ``targets="places"``: the class of every pixel, int64
    [24, 24], 0 to 9 where a digit has ink, 10 elsewhere. Items are float32 [1, 24, 24] in [0, 1].
    The digits of the test scenes occur in no other scene.

    Args:
        targets: "labels" or "places".
        scenes: how many make the pool.
        test: how many are made for the test.
        val: share or number of scenes for validation; None for none.
        scene_seed: of the making; it does not change with the seed of a run.
        kwargs: see :class:`PoolDataModule`.

    Raises:
        ValueError: other targets, or no scenes.
    """

    in_channels: int | None = 1
    image_size: int | None = SIDE * GRID

    def __init__(
        self,
        *,
        targets: Literal["labels", "places"] = "labels",
        scenes: int = 1000,
        test: int = 300,
        val: int | float | None = None,
        scene_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if targets not in ("labels", "places") or min(scenes, test) < 1:
            raise ValueError(
                "targets are 'labels' or 'places', and there is 1 scene or more of each part; got "
                f"{targets!r}, {scenes} and {test}"
            )
        super().__init__(collate=None, **kwargs)
        self.targets, self.scenes, self.test_scenes = targets, scenes, test
        self.val_size, self.scene_seed = val, scene_seed
        if targets == "places":
            self.classes = 11
            self.class_names = (*"0123456789", "background")
        else:
            self.outputs = 10

    def load(self) -> Splits:
        """Make the scenes."""
        table = datasets.load("digits")
        glyphs = table.features.float().reshape(-1, SIDE, SIDE) / table.features.max()
        drawn = generator(self.scene_seed, 0, "scenes")
        order = torch.randperm(len(glyphs), generator=drawn)
        held = len(order) // 4
        made = [
            self._scenes(glyphs[rows], table.targets[rows], count, drawn)
            for rows, count in ((order[held:], self.scenes), (order[:held], self.test_scenes))
        ]
        return Splits(train=made[0], test=made[1], val=self.val_size)

    def _scenes(
        self, glyphs: Tensor, labels: Tensor, count: int, drawn: torch.Generator
    ) -> TensorItems:
        """Scenes of some glyphs [G, 8, 8], whose digits are ``labels`` [G]."""
        side = SIDE * GRID
        pictures = torch.zeros(count, 1, side, side)
        places = torch.full((count, side, side), 10)
        present = torch.zeros(count, 10, dtype=torch.int64)
        for scene in range(count):
            several = int(torch.randint(1, 5, (1,), generator=drawn))
            cells = torch.randperm(GRID**2, generator=drawn)[:several].tolist()
            for cell in cells:
                glyph = int(torch.randint(len(glyphs), (1,), generator=drawn))
                top, left = SIDE * (cell // GRID), SIDE * (cell % GRID)
                where = (scene, slice(top, top + SIDE), slice(left, left + SIDE))
                pictures[where[0], 0, where[1], where[2]] = glyphs[glyph]
                places[where] = torch.where(glyphs[glyph] > INK, labels[glyph], 10)
                present[scene, labels[glyph]] = 1
        return TensorItems(pictures, places if self.targets == "places" else present)
