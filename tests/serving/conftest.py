"""A small real model and pictures for it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from zreward.world.base_models import load_base


@pytest.fixture(scope="session")
def model():
    return load_base("small").eval()


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(6)]
