"""A small real model and pictures for it."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.tiny import noise_pictures, sharpen, tiny_model


@pytest.fixture(scope="session")
def model():
    return sharpen(tiny_model())


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    return noise_pictures(6)
