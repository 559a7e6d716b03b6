"""Skill-Aligned Annotation: tables of responses by named annotators, joined with the table of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.importers.published import imported, jpeg, write_parquet
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer


def picture(number: int, generator: str) -> dict[str, Any]:
    image = {"bytes": jpeg(number), "path": None}
    return {"image_id": str(number), "prompt_id": 102, "generator": generator, "prompt": "a sign: OPEN", "image": image}


def response(generator: str, annotator: str, question: str, value: Any) -> dict[str, Any]:
    row = {"image_id": "1", "prompt_id": 102, "generator": generator}
    return row | {"annotator_id": annotator, "q_id": question, "response": value}


ANCHORS = [
    response("flux2-dev", "annotator_01", "q1", 1.0),
    response("flux2-dev", "annotator_01", "q2", 3.0),
    response("flux2-dev", "annotator_02", "q1", 5.0),
    response("flux2-dev", "llm_judge", "q1", 50.0),  # would widen the range
    response("z-image", "annotator_02", "q1", 4.0),
]
TEXTS = [response("z-image", "annotator_03", "q1", 0.0), response("flux2-dev", "annotator_03", "q1", 2.0)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    data = tmp_path / "in" / "data"
    names = ("flux2-dev", "z-image", "qwen-image")
    write_parquet(data / "images" / "train-0.parquet", [picture(n, name) for n, name in enumerate(names)])
    write_parquet(data / "anchor_likert" / "train-0.parquet", ANCHORS)
    write_parquet(data / "text_likert" / "train-0.parquet", TEXTS)
    return tmp_path / "in"


def test_responses_meet_their_picture_by_annotator(root: Path, tmp_path: Path) -> None:
    first, second = imported("skillaligned", root, tmp_path / "out")
    assert first.scores == {"elements": {"annotator_01": 2, "annotator_02": 5}, "text": {"annotator_03": 5}}
    assert second.scores == {"elements": {"annotator_02": 4}, "text": {"annotator_03": 1}}
    assert (first.id, first.prompt, first.tags) == ("flux2-dev/102", "a sign: OPEN", ("generator:flux2-dev",))
    assert first.image == jpeg(0) and second.image == jpeg(1)
    done = run_importer(find_importer("skillaligned"), root, tmp_path / "folder")
    assert (
        done.passed == 2 and done.path.name == "records.parquet"
    )  # the model's response; the picture that nobody rated


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"response": "yes"}, "response is 'yes', expected a number"),
        ({"response": None}, "missing 'response'"),
        ({"annotator_id": ""}, "annotator_id is '', expected text"),
    ],
)
def test_bad_responses(root: Path, tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    rows = [{**row, "response": str(row["response"])} for row in TEXTS]
    write_parquet(root / "data" / "text_likert" / "train-0.parquet", [*rows, rows[0] | changed])
    with pytest.raises(InputError, match=rf"train-0\.parquet:row 2: {reason}"):
        run_importer(find_importer("skillaligned"), root, tmp_path / "out")
    assert run_importer(find_importer("skillaligned"), root, tmp_path / "out", skip_bad=True)[1] == 2


def test_another_layout(root: Path, tmp_path: Path) -> None:
    write_parquet(root / "data" / "text_likert" / "train-0.parquet", TEXTS[:1])
    with pytest.raises(InputError, match="text_likert: expected responses that differ"):
        run_importer(find_importer("skillaligned"), root, tmp_path / "out")
    write_parquet(root / "data" / "text_likert" / "train-0.parquet", [{"image_id": "1", "response": 1.0}])
    with pytest.raises(InputError, match=r"columns \['prompt_id', 'generator', 'annotator_id'\] are missing"):
        run_importer(find_importer("skillaligned"), root, tmp_path / "out")
