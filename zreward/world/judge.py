"""The judge `oracle`: it reads every defect off the pixels of a picture of the built-in world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from zreward.generation.judges import Judge
from zreward.world.oracle import read_picture
from zreward.world.scenes import DIMENSIONS

ORACLE = "oracle"


def oracle() -> Judge:
    """The entry point of the judge `oracle`."""

    def score(images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        readings = [read_picture(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        return np.array([[reading.score(name) for name in DIMENSIONS] for reading in readings])

    return Judge(ORACLE, DIMENSIONS, score)
