"""What a checkpoint says of its training data: hashes in `training_data.parquet`, and a word in `zreward.json`.

    "training_data": {"prompts": 2000, "pictures": 8000}

A checkpoint of an older version, or of another program, says nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zreward.common.errors import InputError
from zreward.data.seen import SEEN_FILE, SeenData, load_seen, save_seen
from zreward.models.checkpoint_files import META_FILE, read_part

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

KEY = "training_data"


def stored_in(folder: Path) -> Path | None:
    """The file of a checkpoint's folder, None where its `zreward.json` says nothing. InputError where it is missing."""
    if read_part(folder, META_FILE).get(KEY) is None:
        return None
    file = folder / SEEN_FILE
    if not os.path.lexists(file):
        raise InputError(f"{folder / META_FILE} names {SEEN_FILE}, which is not there: fetch the checkpoint again")
    return file


def seen_by(model: RewardModel) -> SeenData | None:
    """Hashes of a model's training data, None where its checkpoint says nothing. InputError: a damaged file."""
    return load_seen(model.seen) if isinstance(model.seen, Path) else model.seen


def note_seen(model: RewardModel, folder: Path) -> dict[str, Any]:
    """Write the hashes into a checkpoint's folder; returns what its `zreward.json` says of them."""
    seen = seen_by(model)
    if seen is None:
        return {}
    save_seen(seen, folder / SEEN_FILE)
    return {KEY: seen.counts()}
