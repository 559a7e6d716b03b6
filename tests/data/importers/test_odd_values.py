"""Whatever a JSON value of a published row is replaced by: the row is used, or refused by its line; never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.data.importers.published import write_pictures
from tests.data.importers.test_conversations import SWIFT, conversation
from tests.data.importers.test_genai_bench import CMU
from tests.data.importers.test_hpdv2 import TEST, TRAIN
from tests.data.importers.test_hpdv3 import ROWS
from tests.data.importers.test_mmrb2 import PAIRS
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

ODD = (None, True, 3, -1, 0.5, "", "x", "\ud800", [], [[]], [None], {}, {"a": []}, [{}], float("nan"), 10**400)
LISTED = {"id": "1", "prompt": "a fish", "generations": ["a.png", "b.png"], "ranking": [1, 2]}
FILES: dict[str, tuple[str, str, Any]] = {
    "ImageRewardDB": ("imagerewarddb", "test.json", [LISTED]),
    "HPDv2, train": ("hpdv2", "train.json", TRAIN[:1]),
    "HPDv2, test": ("hpdv2", "test.json", TEST),
    "HPDv3": ("hpdv3", "train.json", ROWS[:1]),
    "GenAI-Bench": ("genai-bench", "genai_image.json", CMU),
    "MMRB2": ("mmrb2", "t2i.json", {"pairs": PAIRS[:1]}),
    "UnifiedReward": ("unifiedreward", "a.json", [conversation("Image 1 is better.")]),
    "ms-swift": ("ms-swift", "a.json", SWIFT[:1]),
}


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*way, key)
        yield from places(each, (*way, key))


def changed(value: Any, way: tuple[Any, ...], odd: Any) -> Any:
    result = copy.deepcopy(value)
    *before, last = way
    target = result
    for key in before:
        target = target[key]
    target[last] = odd
    return result


@pytest.mark.parametrize("what", FILES)
def test_odd_values_give_no_traceback(what, tmp_path):
    name, file, content = FILES[what]
    write_pictures(tmp_path, ("a.png",))
    path, refused, used = tmp_path / file, 0, 0
    for way in places(content):
        for odd in ODD:
            path.write_text(json.dumps(changed(content, way, odd)))
            try:
                used += run_importer(find_importer(name), path, tmp_path / "out.jsonl", check="none").made
            except InputError:
                refused += 1
    assert used > 0 and refused > 50


def test_the_ways_to_all_values():
    content = {"a": [1, {"b": 2}]}
    assert list(places(content)) == [("a",), ("a", 0), ("a", 1), ("a", 1, "b")]
    assert changed(content, ("a", 1, "b"), None) == {"a": [1, {"b": None}]} and content == {"a": [1, {"b": 2}]}
