from __future__ import annotations

import dataclasses
import json

import pytest
import yaml

from zreward.common.errors import InputError
from zreward.distribution import ScoreScale
from zreward.rubric import Dimension, Rubric

SHARP = Dimension("sharpness", "Sharpness", "How sharp is it?", {1: "Nothing has an edge.", 3: "Every edge is crisp."})


def small(**changes) -> Rubric:
    rubric = Rubric("mine", "1", ScoreScale(1, 3, 1), ("a", "b", "c"), (SHARP,))
    return dataclasses.replace(rubric, **changes)


def test_default_rubric():
    rubric = Rubric.default()
    assert rubric.dimension_names == ("alignment", "realism", "aesthetics", "plausibility")
    assert rubric.labels == tuple("123456789") and rubric.scale == ScoreScale()
    for dimension in rubric.dimensions:
        assert list(dimension.anchors) == [1, 2, 3, 4, 5]
        assert len(set(dimension.anchors.values())) == 5
        assert dimension.question.endswith("?") and dimension.title
    # method.md: level 9 is anchor 5, level 7 is anchor 4.
    assert rubric.label(5) == "9" and rubric.label(4) == "7" and rubric.label(1.5) == "2"


def test_round_trips_through_json_and_yaml(tmp_path):
    for rubric in (Rubric.default(), small()):
        assert Rubric.from_dict(json.loads(json.dumps(rubric.to_dict()))) == rubric
        rubric.to_yaml(tmp_path / "r.yaml")
        again = Rubric.from_yaml(tmp_path / "r.yaml")
        assert again == rubric and again.fingerprint() == rubric.fingerprint()
    assert [p.name for p in tmp_path.iterdir()] == ["r.yaml"]


def test_labels_default_to_numbers_and_yaml_numbers_are_labels():
    assert small(labels=()).labels == ("1", "2", "3")
    data = small().to_dict() | {"labels": [7, 8, 9], "version": 2}
    assert Rubric.from_dict(data).labels == ("7", "8", "9")
    assert Rubric.from_dict(data).version == "2"


def test_fingerprint_follows_the_content_and_not_the_version():
    base = small().fingerprint()
    assert len(base) == 16 and int(base, 16) >= 0
    assert small(version="2").fingerprint() == base
    other = dataclasses.replace(SHARP, anchors=dict(SHARP.anchors) | {2: "Edges are soft."})
    changed = [
        small(name="yours"),
        small(labels=("a", "b", "d")),
        small(scale=ScoreScale(1, 5, 2), dimensions=(SHARP,)),
        small(dimensions=(other,)),
        small(dimensions=(dataclasses.replace(SHARP, question="Is it sharp?"),)),
    ]
    prints = {base, *(rubric.fingerprint() for rubric in changed)}
    assert len(prints) == 1 + len(changed)


def test_unknown_dimension_names_the_nearest_first():
    with pytest.raises(InputError, match=r"unknown dimension 'realizm'.*has: realism"):
        Rubric.default().dimension("realizm")


def test_label_refuses_scores_between_bins_and_off_the_scale():
    with pytest.raises(InputError, match="between the bins"):
        small().label(1.5)
    with pytest.raises(InputError, match="off the scale"):
        small().label(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "2 labels"),
        ({"labels": ("a", "b", "b")}, "one different label per bin"),
        ({"labels": ("a", "b", " ")}, "label ' '"),
        ({"dimensions": ()}, "at least one"),
        ({"dimensions": (SHARP, SHARP)}, "no name twice"),
        ({"scale": ScoreScale(1, 2, 0.5)}, "anchor 3 is off the scale"),
        ({"name": ""}, "name is ''"),
        ({"name": "a\nb"}, "name is 'a.nb', expected a single line"),
        ({"name": "x" * 10_000}, "name has 10,000 letters .*expected at most 200"),
        ({"name": "\u200b"}, "name is '.u200b', expected text that is not empty"),
        ({"name": "a\x07b"}, "control characters"),
        ({"version": "1\x00"}, "control characters"),
        ({"version": "\ud800"}, "half a surrogate pair"),
        ({"labels": ("a", " a", "b")}, "'a' and ' a' read alike"),
        ({"labels": ("1", "\uff11", "2")}, "read alike"),
        ({"labels": ("a\n", "b", "c")}, "expected a single line"),
        (
            {"dimensions": (SHARP, dataclasses.replace(SHARP, name="Sharpness"))},
            "'sharpness' and 'Sharpness' have the same",
        ),
        (
            {"dimensions": tuple(dataclasses.replace(SHARP, name=name) for name in ("a-b", "a_b"))},
            "'a-b' and 'a_b' have the same name",
        ),
        ({"dimensions": tuple(dataclasses.replace(SHARP, name=f"d{n}") for n in range(101))}, "101 dimensions"),
    ],
)
def test_bad_rubrics_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        small(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "all"}, "pooled row"),
        ({"name": "two words"}, "dimension name"),
        ({"question": " "}, "question is ' '"),
        ({"anchors": {1: "x"}}, "at least two anchors"),
        ({"anchors": {1: "x", "high": "y"}}, "anchor 'high'"),
        ({"anchors": {1: "x", "1": "y"}}, "anchor twice"),
        ({"anchors": {1: "x", 2: 5}}, "anchor 2 is 5"),
        ({"anchors": {}}, "at least two anchors"),
        ({"anchors": None}, "at least two anchors"),
        ({"anchors": {True: "x", 2: "y"}}, "anchor True"),
        ({"anchors": {10**400: "x", 2: "y"}}, "anchor a number of about 400 digits"),
        ({"anchors": {1: "x", 2: "\u200b\t"}}, "anchor 2 is .*not empty"),
        ({"name": "a/b"}, "dimension name 'a/b'"),
        ({"name": "a\n"}, "dimension name 'a.n'"),
        ({"name": 'a"b'}, "dimension name"),
        ({"name": "x" * 10_000}, "at most 64 letters"),
        ({"name": ["x"] * 10**6}, "dimension name .{,100}; expected"),
        ({"title": "two\nlines"}, "expected a single line"),
        ({"question": "x" * 10_001}, "question has 10,001 letters"),
        ({"question": "a\x1b[31m"}, "control characters"),
    ],
)
def test_bad_dimensions_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SHARP, **changes)


def test_odd_letters_that_are_only_odd_are_taken(tmp_path):
    rubric = small(name='O\'Neil "quoted" <b> / Größe 好', labels=("好", "'", '"'))
    rubric.to_yaml(tmp_path / "r.yaml")
    assert Rubric.from_yaml(tmp_path / "r.yaml") == rubric
    longer = dataclasses.replace(SHARP, question="Is it sharp?\nLook at the edges:\t- all of them")
    assert small(dimensions=(longer,)).dimensions == (longer,)


@pytest.mark.parametrize(
    "scale",
    [
        {"max": 1e18, "step": 1e-9},
        {"max": 10**400},
        {"step": 1e-300},
        {"max": float("inf")},
        {"max": 1e308, "min": -1e308},
    ],
)
def test_a_scale_of_too_many_bins_is_refused_before_it_is_built(scale):
    with pytest.raises(InputError, match="score scale: .*(more than 256 bins|finite number)"):
        ScoreScale(**scale)


def test_unknown_names_are_shortened():
    with pytest.raises(InputError, match="unknown dimension") as caught:
        small().dimension("x" * 10**6)
    assert len(str(caught.value)) < 300


def test_bad_files_name_the_path(tmp_path):
    path = tmp_path / "r.yaml"
    with pytest.raises(InputError, match=r"r\.yaml: No such file"):
        Rubric.from_yaml(path)
    data = small().to_dict()
    cases = {
        "name: [": "not YAML: line 1",
        "": "expected a mapping",
        yaml.safe_dump(data | {"lables": ["a"]}): "unknown key 'lables'; known, nearest first: labels",
        yaml.safe_dump({"name": "x"}): "missing dimensions",
        yaml.safe_dump(data | {"dimensions": [{"name": "q"}]}): "missing question, anchors",
        yaml.safe_dump(data | {"labels": "abc"}): "must be lists",
        yaml.safe_dump(data | {"labels": ["a", "b", True]}): "label True",
        yaml.safe_dump(data | {"scale": {"low": 1}}): "keys min, max, step",
    }
    for text, message in cases.items():
        path.write_text(text)
        with pytest.raises(InputError, match=rf"r\.yaml: .*{message}"):
            Rubric.from_yaml(path)
