"""Notes in a run's model what it is trained on: `zreward bench` refuses benchmarks that overlap with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from zreward.common.errors import InputError
from zreward.common.runs import say
from zreward.data import Record, Records
from zreward.data.images import ImageSource
from zreward.data.looks import check_library
from zreward.data.seen import SEEN_FILE, load_seen, save_seen, seen_of
from zreward.models.reward_model import RewardModel
from zreward.models.training_data import seen_by


def note_training_data(run: Path, model: RewardModel, records: Sequence[Record]) -> None:
    """Hash the prompts and pictures of a run once, with those that its starting model was trained on.

    Args:
        run: the run's folder, which keeps the hashes: a run that goes on does not make them again.
        model: what is trained.
        records: what it is trained on.

    Raises:
        InputError: a picture that cannot be read.
    """
    file = run / SEEN_FILE
    if not file.exists():
        prompts = records.prompts() if isinstance(records, Records) else (record.prompt for record in records)
        seen = seen_of(prompts, _images(records) if _can_hash() else None)
        before = seen_by(model)
        save_seen(seen if before is None else seen.merged(before), file)
    model.seen = load_seen(file)


def _images(records: Sequence[Record]) -> Iterator[ImageSource]:
    """The pictures; a file that stands in many pairs once."""
    known: set[int] = set()
    for record in records:
        key = hash(record.image) if isinstance(record.image, str) else None
        if key not in known:
            yield record.image
        if key is not None:
            known.add(key)


def _can_hash() -> bool:
    try:
        check_library()
    except InputError as error:
        say(f"pictures of the training data are not noted in the model: {error}")
        return False
    return True
