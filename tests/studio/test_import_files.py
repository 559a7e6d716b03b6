"""CSV and Label Studio JSON become plain labels, and what is wrong in them is named with its place."""

from __future__ import annotations

import json

import pytest

from zreward.errors import InputError
from zreward.studio.import_files import image_path, read_labels

HEADER = "image,prompt,rater,dimension,score\n"


def written(folder, text, name="labels.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def task(**changes):
    """As Label Studio 1.x exports one (JSON)."""
    result = [
        {
            "value": {"rating": 4},
            "id": "a1",
            "from_name": "alignment",
            "to_name": "image",
            "type": "rating",
            "origin": "manual",
        },
        {"value": {"choices": ["3.5"]}, "id": "a2", "from_name": "realism", "to_name": "image", "type": "choices"},
        {"value": {"text": ["odd hand"]}, "id": "a3", "from_name": "remark", "to_name": "image", "type": "textarea"},
    ]
    annotation = {"id": 7, "completed_by": 3, "result": result, "was_cancelled": False, "lead_time": 12.5}
    data = {"image": "/data/upload/1/0a1b2c3d-cat.png", "prompt": "a cat"}
    return {"id": 1, "annotations": [annotation], "drafts": [], "predictions": [], "data": data} | changes


def test_csv(tmp_path):
    path = written(tmp_path, HEADER + 'a.png,"a cat, and\na dog",ann,alignment,3.5\nb.png,a cat,bob,realism,\n')
    first, second = read_labels(path)
    assert (first.image, first.prompt, first.rater, first.dimension, first.score) == (
        "a.png",
        "a cat, and\na dog",
        "ann",
        "alignment",
        3.5,
    )
    assert second.score is None and second.place.endswith("labels.csv:4")


def test_csv_takes_other_columns_and_a_byte_order_mark(tmp_path):
    path = written(tmp_path, "\ufeffid,score,dimension,rater,prompt,image\n9,4,alignment,ann,a cat,a.png\n")
    assert read_labels(path)[0].score == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,prompt,rater,score\n", r"columns \['dimension'\] are missing"),
        (HEADER + "a.png,a cat,ann,alignment,good\n", ":2: score 'good'; expected a number"),
        (HEADER + "a.png,a cat,ann,alignment\n", ":2: not as many cells as columns"),
        (HEADER + "a.png,a cat, and a dog,ann,alignment,3\n", ":2: not as many cells as columns"),
        (HEADER + "a.png,,ann,alignment,3\n", ":2: prompt is empty"),
        (HEADER + 'a.png,"a cat,ann,alignment,3\n', "not a CSV table"),
        (HEADER, "there is no label"),
    ],
)
def test_csv_refuses(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_labels(written(tmp_path, text))


def test_label_studio(tmp_path):
    skipped = {"id": 8, "completed_by": 4, "result": [], "was_cancelled": True}
    named = {"completed_by": {"id": 5, "email": "eve@example.org"}, "result": task()["annotations"][0]["result"][:1]}
    tasks = [task(annotations=[*task()["annotations"], skipped, named])]
    labels = read_labels(written(tmp_path, json.dumps(tasks), "export.json"))
    assert [(label.rater, label.dimension, label.score, label.seconds) for label in labels] == [
        ("3", "alignment", 4.0, 12.5),
        ("3", "realism", 3.5, 12.5),
        ("eve@example.org", "alignment", 4.0, None),
    ]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": 1}, "a JSON dict; expected the list of tasks"),
        ([{"image": "a.png", "alignment": 4}], "task 0: data is None"),
        ([task(data={"image": "a.png"})], "task 1: data.prompt is None"),
        ([{"id": 2, "data": {"image": "a.png", "prompt": "x"}}], "task 2: no annotations; export as JSON"),
        (
            [task(annotations=[{"result": [{"type": "rating", "from_name": "a", "value": {"rating": 3}}]}])],
            "whose is it",
        ),
    ],
)
def test_label_studio_refuses(tmp_path, tasks, message):
    with pytest.raises(InputError, match=message):
        read_labels(written(tmp_path, json.dumps(tasks), "export.json"))


def test_unknown_file_types_and_missing_files(tmp_path):
    with pytest.raises(InputError, match="unknown file type '.xlsx'"):
        read_labels(tmp_path / "labels.xlsx")
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    "reference",
    [
        "sub/cat one.png",
        "/data/local-files/?d=sub/cat%20one.png",
        "/label-studio/data/local-files/?d=sub/cat%20one.png",
    ],
)
def test_images_are_found_below_the_folder(tmp_path, reference):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/cat one.png").touch()
    assert image_path(reference, tmp_path) == tmp_path / "sub/cat one.png"


@pytest.mark.parametrize(
    "reference", ["/data/upload/3/0a1b2c3d-cat.png", "https://example.org/x/cat.png?sig=1", "s3://bucket/x/cat.png"]
)
def test_images_of_a_server_are_found_by_name(tmp_path, reference):
    (tmp_path / "cat.png").touch()
    assert image_path(reference, tmp_path) == tmp_path / "cat.png"


def test_a_missing_image_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"image 'https://e.org/cat.png' is not here \(looked for .*cat.png\)"):
        image_path("https://e.org/cat.png", tmp_path)
