"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.killing import Killer

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Leave what has been imported out of the search for garbage: every training ends with one, which took much of its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real human ratings: `data` under $ZREWARD_SHARED, by default `shared` beside the repository."""
    folder = Path(os.environ.get("ZREWARD_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(
            f"real ratings are not here: {folder} is no folder; set ZREWARD_SHARED to the folder that holds data/"
        )
    return folder


@pytest.fixture
def float64(monkeypatch):
    """The whole test in float64."""
    import torch

    from tests.plain_model import compute_in_float64

    compute_in_float64(monkeypatch)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def killer(tmp_path_factory) -> Iterator[Killer]:
    """Runs commands that kill themselves at a chosen place (tests/killing.py)."""
    killer = Killer(tmp_path_factory.mktemp("killer"))
    yield killer
    killer.close()
