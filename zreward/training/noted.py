"""Notes in a run's model what it is trained on: `zreward bench` refuses benchmarks that overlap with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from zreward.common.runs import say
from zreward.data import Record
from zreward.data.images import ImageSource
from zreward.data.looks import can_compare, looks_of
from zreward.data.seen import SEEN_FILE, SeenData, save_seen, seen_of
from zreward.data.splits import texts_of
from zreward.models.reward_model import RewardModel
from zreward.models.training_data import seen_by


def note_prompts(model: RewardModel, records: Sequence[Record]) -> SeenData | None:
    """Hash the texts alone, which takes no time, for the checkpoints of a run; returns what its starting model had seen."""
    before, seen = seen_by(model), seen_of(texts_of(records), [None])
    model.seen = seen if before is None else seen.merged(before)
    return before


def note_training_data(run: Path, model: RewardModel, records: Sequence[Record], before: SeenData | None) -> None:
    """Hash the prompts, long answers and pictures of a run once, with those that its starting model was trained on.

    Every picture is opened, so this comes after training, not before the first step. All processes of a launch call this
    together: each hashes its share of the pictures, the first one keeps the result.

    Args:
        run: the run's folder, which keeps the hashes: a run that goes on does not make them again.
        model: what was trained.
        records: what it was trained on.
        before: what the starting model had seen.

    Raises:
        InputError: a picture that cannot be read.
    """
    file, state = run / SEEN_FILE, PartialState()
    if not broadcast_object_list([file.exists()])[0]:  # as the first process sees it
        own = records[state.process_index :: state.num_processes]
        parts = gather_object([looks_of(_images(own)) if _can_hash(state.is_main_process) else None])
        if state.is_main_process:
            seen = seen_of(texts_of(records), parts)
            del parts  # 80 bytes a picture, and writing needs memory too
            save_seen(seen if before is None else seen.merged(before), file)
    if state.is_main_process:
        model.seen = file


def _images(records: Sequence[Record]) -> Iterator[ImageSource]:
    """The pictures; a file that stands in many pairs once."""
    known: set[int] = set()
    for record in records:
        for picture in record.pictures:
            key = hash(picture) if isinstance(picture, str) else None
            if key not in known:
                yield picture
            if key is not None:
                known.add(key)


def _can_hash(tell: bool) -> bool:
    if can_compare():
        return True
    if tell:
        say(
            "pictures of the training data are not noted in the model: ImageHash is missing; pip install 'zreward[overlap]'"
        )
    return False
