"""TIFA-160 in a tiny file of its layout."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer


def published(folder, **change):
    row = {
        "text_id": "coco_1",
        "image_path": "coco_1_sd.jpg",
        "text": "A tree",
        "human_scores": [5, 3],
        "human_avg": 4.0,
    }
    Image.new("RGB", (8, 8)).save(folder / "coco_1_sd.jpg")
    file = folder / "human_annotations_with_scores.json"
    file.write_text(json.dumps({"coco_1_sd": row | change}))
    return file


def test_ratings_prompt_and_group(tmp_path):
    path = run_importer(find_importer("tifa160"), published(tmp_path), tmp_path / "out.jsonl")[0]
    (record,) = load_records(path)
    assert (record.prompt, record.group, record.id) == ("A tree", "coco_1", "coco_1_sd")
    assert record.scores == {"alignment": [5.0, 3.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human_scores": [5, 6]}, "human_scores is 6"),
        ({"text": None}, "missing 'text'"),
        ({"image_path": "x.jpg"}, "image_path:"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=f"coco_1_sd: {message}"):
        run_importer(find_importer("tifa160"), published(tmp_path, **change), tmp_path / "out.jsonl")
