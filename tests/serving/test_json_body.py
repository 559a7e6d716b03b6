"""JSON of requests: read as `json` reads it, long strings included, and refused where it costs more than it says."""

from __future__ import annotations

import json
import random
import string

import pytest

from zreward.serving import json_body
from zreward.serving.json_body import Unreadable, read_json

MOST, LONGEST = 1000, 100_000


@pytest.fixture(autouse=True, params=["taken apart", "short ones whole"])
def way(request, monkeypatch) -> str:
    """Both ways of reading a short body."""
    if request.param == "taken apart":
        monkeypatch.setattr(json_body, "_SHORT", 0)
    return request.param


def read(body: bytes | str):
    return read_json(body.encode() if isinstance(body, str) else body, MOST, LONGEST)


def some_value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return rng.choice([None, True, False, -3, 2.5e-3, 10**20, ""])
    if kind < 5:  # with what escapes, nests and separates, and long enough to be cut out in one case of three
        letters = rng.choice([string.ascii_letters, '\\"', '"\\/{}[],: \n\t', "\u2713\u00e9\U0001f600a"])
        return "".join(rng.choices(letters, k=rng.choice([3, 50, 9000 if letters != '\\"' else 20])))
    if kind == 5:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {f"k{n}\u2713": some_value(rng, depth + 1) for n in range(rng.randrange(5))}


@pytest.mark.parametrize("seed", range(60))
def test_values_are_those_of_json(seed):
    rng = random.Random(seed)
    value = {"items": [some_value(rng) for _ in range(4)], "a": some_value(rng)}
    for text in (
        json.dumps(value),
        json.dumps(value, ensure_ascii=False, indent=2),
        json.dumps(value).replace("/", "\\/"),
    ):
        assert read_json(text.encode(), 10**6, 10**7) == value


def test_long_strings_do_not_count_and_may_escape():
    long = "A" * 200_000
    assert read(f'{{"image": "{long}", "list": ["{long}", "x"]}}') == {"image": long, "list": [long, "x"]}
    assert read('{"image": "' + "\\/" * 9000 + '\\u2713"}') == {"image": "/" * 9000 + "\u2713"}
    assert read('{"image": "' + "x" * 9000 + '\\\\"}') == {"image": "x" * 9000 + "\\"}


def test_strings_of_megabytes_are_read_in_pieces():
    long = "".join(random.Random(0).choices(string.ascii_letters + "/+", k=5000)) * 700
    for text in (json.dumps({"image": long}), json.dumps({"image": long}).replace("/", "\\/")):
        assert read(text) == {"image": long}
    for wrong in ("\u2713", "\\u0041"):
        with pytest.raises(Unreadable, match="a text of"):
            read('{"image": "' + long + wrong + '"}')


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ('{"items":[' + "{}," * 300_000 + "{}]}", 413, "bytes of JSON"),
        ("[" + "1," * 2000 + "1]", 413, "2,001 values"),
        ("[" + '"",' * 2000 + '""]', 413, "more than 1,000 texts"),
        ('"' + '\\"' * 5000 + '"', 413, "more than 1,000 texts"),
        ("[" + "1" * 200_000 + "]", 413, "bytes of JSON"),
        ("[" * 900 + "1" + "]" * 900 + "x", 422, "not JSON|too deep"),
        ("[1" + "0" * 5000 + "]", 422, "not JSON"),
        ('{"a": NaN}', 422, "NaN is no number"),
        ('{"a": -Infinity}', 422, "-Infinity is no number"),
        ('{"a": 1, "a": 2}', 422, "twice"),
        ('{"items": [{"prompt": "x", "prompt": "y"}]}', 422, "twice"),
        ("{" + ",".join(f'"{n}": 1' for n in range(100)) + "}", 413, "at most 64 keys"),
        ('{"' + "k" * 300 + '": 1}', 413, "200 letters"),
        ('{"' + "k" * 30_000 + '": 1}', 413, "200 letters"),
        ('["' + "\\" * 71 + '"', 422, "backslashes|not JSON"),
        ('["' + "x" * 9000 + '\\q"]', 422, "a text of 9,002 bytes|not JSON"),
        (b'["' + b"\xff" * 9000 + b'"]', 422, "a text of 9,000 bytes|not JSON in UTF-8"),
        ('["' + "x" * 90_000 + '\\q"]', 422, "a text of 90,002 bytes"),
        (b'["\xff"]', 422, "UTF-8"),
        (b"\xef\xbb\xbf{}", 422, "UTF-8"),
        ("{}".encode("utf-16"), 422, "UTF-8"),
        ("{", 422, "not JSON"),
        ('"' + "x" * 9000, 422, "not JSON"),
        ("", 422, "not JSON"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, str | bytes) else None,
)
def test_what_costs_too_much_or_is_no_json_is_refused(body, status, words):
    with pytest.raises(Unreadable, match=words) as refused:
        read(body)
    assert refused.value.status == status and len(str(refused.value)) < 300


def test_what_is_nested_too_deep_is_refused():
    with pytest.raises(Unreadable, match="nested too deep") as refused:
        read_json(b"[" * 50_000 + b"]" * 50_000, 10**6, 10**6)
    assert refused.value.status == 422
