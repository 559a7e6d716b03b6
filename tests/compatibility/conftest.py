"""What commit 07f77a1 wrote, copied to where a test may go on with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

WRITTEN = Path(__file__).parent / "written"
CHANGED = 1_700_000_000  # seconds, as in write.py: git keeps no dates, and `score --data` recorded its source's


@pytest.fixture
def written(tmp_path, monkeypatch) -> Path:
    """A copy, as the working directory: recipes, adapters and runs name their files relative to it."""
    folder = shutil.copytree(WRITTEN, tmp_path / "written")
    os.utime(folder / "records.jsonl", (CHANGED, CHANGED))
    monkeypatch.chdir(folder)
    return folder
