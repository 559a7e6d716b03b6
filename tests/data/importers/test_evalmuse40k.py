"""EvalMuse-40K: ratings of the match and of the elements, in the types of the data card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.importers.published import imported, real_file, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

NAMES = ("SDXL-Turbo/00001.png", "SD_v1.5/00001.png", "SD_v1.5/00002.png")
ELEMENTS = {
    "puffin (animal)": [1, 1, 0],
    "red (color)": [0, 1, 0],
    "two (counting)": [1, 1, 1],
    "hat (with a brim) (attribute)": [1, 0, 0],
    "standing (attribute-pose)": [1, 1, 0],
    "a puffin, or a man (animal/human)": [0, 0, 0],
    "dreamlike (mood)": [1, 0, 1],
}


def entry(name: str, **changed: Any) -> dict[str, Any]:
    """As in train_list.json; `element_score` is text, and the publisher misspells `promt_meaningless`."""
    return {
        "prompt_id": "1",
        "prompt": "two puffins with red hats",
        "type": "real",
        "img_path": name,
        "total_score": [4, 5, 2],
        "element_score": repr(ELEMENTS),
        "promt_meaningless": [0, 0, 0],
        "split_confidence": [0, 0, 0],
        "attribute_confidence": [1, 1, 1],
        "fidelity_label": [""],
    } | changed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write_pictures(folder / "images", NAMES)
    plain = {"element_score": ELEMENTS, "total_score": [1, 1, 1, 5, 5, 5], "type": "synthetic"}
    write_json(folder / "train_list.json", [entry(NAMES[0]), entry(NAMES[1], **plain), entry(NAMES[2])])
    return folder


def test_every_rating_and_the_shares_of_elements(root: Path, tmp_path: Path) -> None:
    first, second, third = imported("evalmuse40k", root, tmp_path / "out")
    assert (first.prompt, first.id, first.split) == ("two puffins with red hats", NAMES[0], "train")
    assert first.image == str(root / "images" / NAMES[0])
    assert first.tags == ("generator:SDXL-Turbo", "prompts:real") and second.tags[1] == "prompts:synthetic"
    assert first.scores == {
        "alignment": [4, 5, 2],
        "element_animal": [5, 5, 1],
        "element_color": [1, 5, 1],
        "element_counting": [5, 5, 5],
        "element_attribute": [5, 3, 1],  # two elements: both, one, none
        "element_animal_human": [1, 1, 1],
        "element_other": [5, 1, 5],  # a category that none of the sources names
    }
    assert second.scores["alignment"] == [1, 1, 1, 5, 5, 5] and third.scores == first.scores


def test_pictures_in_the_root_itself(root: Path, tmp_path: Path) -> None:
    for folder in (root / "images").iterdir():
        folder.rename(root / folder.name)
    (root / "images").rmdir()
    assert imported("evalmuse40k", root, tmp_path / "out")[0].image == str(root / NAMES[0])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"prompt": None}, "missing 'prompt'"),
        ({"prompt": " "}, "prompt is ' ', expected text"),
        ({"img_path": "SD_v1.5/9.png"}, "img_path: .*9.png: no such image file"),
        ({"img_path": NAMES[0]}, f"id '{NAMES[0]}' is that of an earlier row"),
        ({"total_score": [4, 6]}, "total_score is 6, expected a number from 1 to 5"),
        ({"total_score": [4, 2.5]}, "total_score is 2.5, expected a whole number"),
        ({"total_score": []}, "total_score is empty; test.json has no ratings"),
        ({"total_score": 4}, "total_score is 4, expected a list of ratings"),
        ({"element_score": "{'a (object)': [1"}, "element_score is .*, expected the text of a dictionary"),
        ({"element_score": "[1, 2]"}, r"element_score is \[1, 2\], expected"),
        (
            {"element_score": {"a (object)": [2]}},
            r"element_score of 'a \(object\)' is 2, expected a number from 0 to 1",
        ),
        ({"element_score": {"a (object)": []}}, r"element_score of 'a \(object\)' has 0 votes, expected 1"),
        ({"element_score": {"a (object)": [1], "b (object)": [1, 0]}}, r"'b \(object\)' has 2 votes, expected 1"),
        ({"element_score": None}, "missing 'element_score'"),
    ],
)
def test_bad_rows(root: Path, tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    write_json(root / "train_list.json", [entry(NAMES[0]), entry(NAMES[1], **changed)])
    start = (root / "train_list.json").read_text().splitlines().index(" },") + 2
    with pytest.raises(InputError, match=rf"train_list\.json:{start}: .*{reason}"):
        run_importer(find_importer("evalmuse40k"), root, tmp_path / "out")
    assert run_importer(find_importer("evalmuse40k"), root, tmp_path / "out", skip_bad=True)[1] == 1


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no train_list\.json; expected train_list\.json and the pictures"):
        run_importer(find_importer("evalmuse40k"), tmp_path, tmp_path / "out")


def test_the_published_file(tmp_path: Path) -> None:
    file = real_file("DY-Evalab/EvalMuse/train_list.json")
    path, count, _ = run_importer(find_importer("evalmuse40k"), file, tmp_path / "r.jsonl", check="none")
    assert path.is_file() and count > 30_000
