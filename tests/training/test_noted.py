"""A run's model says what it was trained on, whatever the method; the run keeps it for when it goes on."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState

from tests.tiny import tiny_model, tiny_records
from tests.two_ranks import together
from zreward.data import load_records
from zreward.data.looks import looks_of
from zreward.data.seen import SEEN_FILE, load_seen, prompt_key, seen_of
from zreward.models.reward_model import RewardModel
from zreward.models.training_data import seen_by
from zreward.training.noted import note_training_data
from zreward.training.run import train

needs_library = pytest.mark.skipif(not find_spec("imagehash"), reason="ImageHash is not installed: zreward[overlap]")


@pytest.mark.parametrize("method", ["sft", "gdso"])
def test_the_models_of_a_run(make_recipe, method):
    recipe = make_recipe(method, steps=1)
    final = train(recipe)
    prompts = {prompt_key(record.prompt) for record in load_records(recipe.data.train, check_images=False)}
    seen = seen_by(RewardModel.from_pretrained(final))
    assert set(seen.prompts.tolist()) == prompts
    kept = load_seen(Path(recipe.out) / SEEN_FILE)
    assert np.array_equal(kept.prompts, seen.prompts)


def note(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ranks hash their share; only the first has the result, which is that of one process."""
    PartialState(cpu=True)  # as the trainer's arguments make it
    model = tiny_model()
    note_training_data(folder, model, tiny_records(3, 3, seed=1), None)
    assert (model.seen is None) == (rank == 1)


@needs_library
def test_two_processes_note_what_one_does(tmp_path):
    together(note, tmp_path)
    found, records = load_seen(tmp_path / SEEN_FILE), tiny_records(3, 3, seed=1)
    expected = seen_of((one.prompt for one in records), [looks_of(one.image for one in records)])
    assert found.counts() == {"prompts": 3, "pictures": 9}
    assert np.array_equal(found.prompts, expected.prompts)
    assert np.array_equal(found.pictures.hashes, expected.pictures.hashes)
    assert np.array_equal(found.pictures.colours, expected.pictures.colours)


@needs_library
def test_the_notes_of_the_starting_model_are_added_at_the_end(make_recipe, tmp_path, monkeypatch):
    """Checkpoints know the prompts; pictures are opened once the last step is done."""
    from zreward.training import run

    steps: list[str] = []
    monkeypatch.setattr(run, "note_training_data", lambda *given: (steps.append("noted"), note_training_data(*given)))
    first = make_recipe("sft", steps=1)
    start = train(first)
    again = replace(first, out=str(tmp_path / "again"), model=replace(first.model, name=str(start)), save_every=1)
    seen, kept = seen_by(RewardModel.from_pretrained(train(again))), seen_by(RewardModel.from_pretrained(start))
    assert steps == ["noted", "noted"] and seen.counts() == kept.counts() and seen.pictures is not None
    early = seen_by(RewardModel.from_pretrained(next((tmp_path / "again" / "checkpoints").glob("checkpoint-*"))))
    assert np.array_equal(early.prompts, seen.prompts) and early.pictures is None
