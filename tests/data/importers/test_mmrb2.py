"""Multimodal RewardBench 2: three annotations of a pair, on a scale without a middle."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from tests.data.importers.published import imported, real_file, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer


def pair(name: str, chosen: str, annotations: list[int]) -> dict:
    return {
        "id": name,
        "response_a": {"model_name": "flux", "response_content": [["image", f"images/{name}_0.jpg"]]},
        "response_b": {
            "model_name": "imagen4",
            "response_content": [["text", "Here:"], ["image", f"images/{name}_1.jpg"]],
        },
        "chosen": chosen,
        "human_annotations": annotations,
        "prompt_source": "wise",
        "prompt_metadata": {"id": 736},
        "prompt_content": [["text", "a pine"], ["text", "in a drought"]],
    }


PAIRS = [pair("x", "B", [3, 2, 4]), pair("y", "A", [6, 4, 5])]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", (f"images/{name}_{n}.jpg" for name in "xy" for n in (0, 1)))
    write_json(tmp_path / "in" / "t2i.json", {"pairs": PAIRS})
    write_json(tmp_path / "in" / "edit.json", {"pairs": [{}]})  # another task, which is not read
    return tmp_path / "in"


def test_counts_of_annotators(root, tmp_path):
    first, second = imported("mmrb2", root, tmp_path / "out")
    assert first.votes == {"overall": {"a": 1, "b": 2}} and second.votes == {"overall": {"a": 3, "b": 0}}
    assert (first.id, first.prompt, first.models) == ("x", "a pine\nin a drought", ("flux", "imagen4"))
    assert first.images == (str(root / "images" / "x_0.jpg"), str(root / "images" / "x_1.jpg"))
    assert first.split == "test" and first.tags == ("source:wise",)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("human_annotations", [7, 6, 6], "human_annotations is 7, expected a number from 1 to 6"),
        ("human_annotations", [1, 2, 6], r"chosen is 'A' beside human_annotations \[1, 2, 6\]"),
        ("human_annotations", [], "chosen is 'A' beside human_annotations"),
        ("chosen", "C", "chosen is 'C'"),
        ("prompt_content", [["image", "x.jpg"], ["text", "edit it"]], "prompt_content holds a picture"),
        ("response_a", {"model_name": "flux", "response_content": [["text", "no"]]}, "response_a has 0 pictures"),
        ("response_a", {"response_content": [["image", "images/y_0.jpg"]]}, "missing 'model_name'"),
        ("response_b", None, "response_b is None"),
        ("response_b", {"model_name": "m", "response_content": ["image"]}, "response_b is 'image', expected a list"),
        ("id", "x", "id 'x' is that of an earlier row"),
    ],
)
def test_bad_rows(root, tmp_path, key, value, reason):
    pairs = copy.deepcopy(PAIRS)
    pairs[1][key] = value
    write_json(root / "t2i.json", {"pairs": pairs})
    with pytest.raises(InputError, match=rf"t2i\.json:\d+: {reason}"):
        run_importer(find_importer("mmrb2"), root, tmp_path / "out")
    assert run_importer(find_importer("mmrb2"), root, tmp_path / "out", skip_bad=True).made == 1


def test_the_published_pairs(tmp_path):
    file = real_file("facebookresearch/MMRB2/benchmark/t2i.json")
    done = run_importer(find_importer("mmrb2"), file, tmp_path / "out", check="none")
    written = [json.loads(line) for line in done.path.read_text(encoding="utf-8").splitlines()]
    published = json.loads(file.read_text(encoding="utf-8"))["pairs"]
    assert [one["id"] for one in written] == [one["id"] for one in published]
    for one, told in zip(written, published, strict=True):
        votes = one["votes"]["overall"]
        assert votes["a"] + votes["b"] == len(told["human_annotations"])
        assert max(votes, key=votes.get) == told["chosen"].lower()
