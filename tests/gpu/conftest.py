"""Tests that need a CUDA device: `make test-gpu`. Elsewhere they are collected, and skipped with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items) -> None:
    """Everything in this folder is marked `gpu`; pytest hands over the items of other folders too."""
    here = Path(__file__).parent
    for item in items:
        if here not in Path(item.path).parents:
            continue
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
