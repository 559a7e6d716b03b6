"""CSV and Label Studio JSON become plain labels, and what is wrong in them is named with its place."""

from __future__ import annotations

import json

import pytest

from zreward.common.errors import InputError
from zreward.studio.domain.import_files import read_labels
from zreward.studio.domain.import_references import image_path

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
        (HEADER + "a.png,a cat,ann,alignment\n", ":2: [46] cells under 5 columns; quote a text that holds"),
        (
            HEADER + "a.png,a cat, and a dog,ann,alignment,3\n",
            ":2: [46] cells under 5 columns; quote a text that holds",
        ),
        (HEADER + "a.png,,ann,alignment,3\n", ":2: prompt is empty"),
        (HEADER + 'a.png,"a cat,ann,alignment,3\n', "not a CSV table"),
        (HEADER, "there is no label"),
        ("x" * 200_000, "not a CSV table"),
        (HEADER + "a.png,a cat,ann,alignment,nan\n", ":2: score 'nan'; expected a number"),
        (HEADER + "a.png,a cat,ann,alignment,inf\n", ":2: score 'inf'; expected a number"),
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
    with pytest.raises(InputError, match="No such file"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / "wide.csv").write_text(HEADER, encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16 text"):
        read_labels(tmp_path / "wide.csv")


@pytest.mark.parametrize("separator", [";", "\t", ","])
@pytest.mark.parametrize("first", ["", "sep={}\r\n"])
def test_csv_of_spreadsheets_in_other_countries(tmp_path, separator, first):
    rows = [["image", "prompt", "rater", "dimension", "score"], ["a.png", "a cat", "ann", "alignment", "3.5"]]
    if separator != ",":
        rows[1][-1] = "3,5"
    text = "\ufeff" + first.format(separator) + "".join(separator.join(row) + "\r\n" for row in rows)
    assert read_labels(written(tmp_path, text))[0].score == 3.5


@pytest.mark.parametrize("time", ["NaN", "Infinity", "-1", "null", '"soon"', "true", "1e400"])
def test_a_time_that_is_none_does_not_refuse_a_label(tmp_path, time):
    text = json.dumps([task()]).replace("12.5", time)
    label = read_labels(written(tmp_path, text, "export.json"))[0]
    assert (label.score, label.seconds) == (4.0, None)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "true", "null", "[]", '"good"'])
def test_a_score_that_is_none_is_refused(tmp_path, score):
    text = json.dumps([task()]).replace('"rating": 4', f'"rating": {score}')
    with pytest.raises(InputError, match="task 1: .*expected"):
        read_labels(written(tmp_path, text, "export.json"))


@pytest.mark.parametrize(
    "reference",
    [
        "sub/cat one.png",
        "sub\\cat one.png",
        "/data/local-files/?d=sub/cat%20one.png",
        "/data/local-files/?d=sub/cat one.png",
        "/data/local-files/?d=sub/cat+one.png",
        "/data/local-files/?d=sub\\cat one.png",
        "/data/local-files/?d=sub%5Ccat%20one.png",
        "/data/local-files/?d=C:\\pictures\\sub\\cat one.png",
        "/data/local-files/?d=/root/of/documents/sub/cat%20one.png",
        "/label-studio/data/local-files/?d=sub/cat%20one.png",
        "/label-studio/data/local-files?d=sub/cat%20one.png",
        "https://ls.example.org:8080/x/data/local-files/?d=sub/cat%20one.png",
    ],
)
def test_images_are_found_below_the_folder(tmp_path, reference):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/cat one.png").touch()
    (tmp_path / "cat two.png").touch()
    assert image_path(reference, tmp_path) == tmp_path / "sub/cat one.png"


@pytest.mark.parametrize(
    "reference",
    [
        "/data/upload/3/0a1b2c3d-cat.png",
        "/ls-path/data/upload/3/0a1b2c3d-cat.png",
        "/ls-path//data/upload/3/0a1b2c3d-cat.png",
        "https://ls.example.org/data/upload/3/0a1b2c3d-cat.png",
        "https://ls.example.org/ls-path/data/upload/3/0a1b2c3d-cat.png?x=1#y",
        "/data/upload/3/0a1b2c3d-%63at.png",
        "https://example.org/x/cat.png?sig=1",
        "s3://bucket/x/cat.png",
        "gs://bucket/cat.png",
        "C:\\labels\\cat.png",
    ],
)
def test_images_of_a_server_are_found_by_name(tmp_path, reference):
    (tmp_path / "cat.png").touch()
    assert image_path(reference, tmp_path) == tmp_path / "cat.png"


def test_the_longest_end_of_a_servers_path_decides(tmp_path):
    for name in ("a/1.png", "b/1.png", "1.png", "0a1b2c3d-1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_path("s3://bucket/b/1.png", tmp_path) == tmp_path / "b/1.png"
    assert image_path("/data/local-files/?d=x/a/1.png", tmp_path) == tmp_path / "a/1.png"
    assert image_path("/data/upload/9/0a1b2c3d-1.png", tmp_path) == tmp_path / "0a1b2c3d-1.png"


@pytest.mark.parametrize(
    "reference",
    [
        "/data/local-files/?d=../secret.png",
        "/data/local-files/?d=%2e%2e%2fsecret.png",
        "/data/local-files/?d=..\\secret.png",
        "/data/upload/../../secret.png",
        "/data/upload/1/..%2f..%2fsecret.png",
        "https://example.org/..%2fsecret.png",
        "https://[broken/secret.png",
        "/data/local-files/",
        "/data/local-files/?d=",
        "/data/upload/1/" + "x" * 5000,
        "/data/upload/1/%00.png",
    ],
)
def test_no_reference_leads_out_of_the_folder(tmp_path, reference):
    (tmp_path / "secret.png").touch()
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="is not here"):
        image_path(reference, tmp_path / "images")


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "images/../../a.png", "C:\\a.png", "..\\a.png"])
def test_an_export_may_not_name_pictures_elsewhere(tmp_path, image):
    tasks = [task(data={"image": image, "prompt": "a cat"})]
    with pytest.raises(InputError, match="leads out of the folder of pictures"):
        read_labels(written(tmp_path, json.dumps(tasks), "export.json"))


def test_a_missing_image_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"image 'https://e.org/cat.png' is not here \(looked for .*cat.png\)"):
        image_path("https://e.org/cat.png", tmp_path)
