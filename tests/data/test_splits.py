"""Splitting by prompt, and refusing overlap."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import Record, check_disjoint, split_by_prompt

SHARES = {"train": 0.7, "dev": 0.1, "test": 0.2}


def picture(number: int, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), (number % 256, number // 256, 7)).save(buffer, format=format)
    return buffer.getvalue()


def make(count: int, per_prompt: int = 3) -> list[Record]:
    return [Record(f"prompt {n // per_prompt}", picture(n), id=str(n)) for n in range(count * per_prompt)]


def test_shares_are_met_by_whole_prompts() -> None:
    records = make(50)
    parts = split_by_prompt(records, SHARES)
    assert {name: len(part) for name, part in parts.items()} == {"train": 105, "dev": 15, "test": 30}
    assert all(record.split == name for name, part in parts.items() for record in part)
    check_disjoint(parts["train"], parts["test"])
    check_disjoint(parts["train"], parts["dev"])
    assert sorted(r.id or "" for part in parts.values() for r in part) == sorted(r.id or "" for r in records)


def test_seed_decides_and_order_does_not() -> None:
    records = make(30)

    def home(dealt: dict[str, list[Record]]) -> dict[str | None, str]:
        return {record.id: name for name, part in dealt.items() for record in part}

    first = home(split_by_prompt(records, SHARES, seed=1))
    assert first == home(split_by_prompt(records[::-1], SHARES, seed=1))
    assert first != home(split_by_prompt(records, SHARES, seed=2))


@pytest.mark.parametrize("seed", range(5))
def test_what_belongs_together_stays_together(seed: int) -> None:
    records = make(20)
    records += [
        Record("PROMPT  3 ", picture(900)),  # prompt 3 in other letters
        Record("prompt 8", picture(15, "BMP")),  # the picture of prompt 5, in another file format
        Record("prompt 11", picture(901), group="g"),
        Record("prompt 14", picture(902), group="g"),
    ]
    parts = split_by_prompt(records, SHARES, seed=seed)
    home = {" ".join(r.prompt.lower().split()): name for name, part in parts.items() for r in part}
    assert home["prompt 5"] == home["prompt 8"] and home["prompt 11"] == home["prompt 14"]
    check_disjoint(parts["train"], parts["test"])
    check_disjoint(parts["train"], parts["dev"])


def test_every_split_gets_a_prompt() -> None:
    parts = split_by_prompt(make(3), {"train": 0.98, "dev": 0.01, "test": 0.01})
    assert [len(part) for part in parts.values()] == [3, 3, 3]
    with pytest.raises(InputError, match="2 separate prompts are too few for the 3 splits"):
        split_by_prompt(make(2), SHARES)


@pytest.mark.parametrize("fractions", [{}, {"a": 0.5}, {"a": 1.2, "b": -0.2}, {"a": 1, "b": 0}])
def test_bad_fractions(fractions: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected shares above 0 that sum to 1"):
        split_by_prompt(make(5), fractions)


def test_without_images_none_is_opened() -> None:
    records = [Record(f"p{n}", "/nowhere.png") for n in range(4)]
    assert len(split_by_prompt(records, {"a": 0.5, "b": 0.5}, by_image=False)["a"]) == 2
    with pytest.raises(InputError, match=r"nowhere\.png: no such image file"):
        split_by_prompt(records, {"a": 0.5, "b": 0.5})


def test_check_disjoint() -> None:
    train = [Record("a Cat", picture(1)), Record("a dog", picture(2), id="dog-1")]
    check_disjoint(train, [Record("a bird", picture(3))])
    with pytest.raises(InputError, match=r"1 prompt is \(A  cat\) in both train and test"):
        check_disjoint(train, [Record("A  cat", picture(3))])
    with pytest.raises(InputError, match=r"1 image is \(dog-1 of 'a dog' = bird-1 of 'a bird'\) in both .*same pixels"):
        check_disjoint(train, [Record("a bird", picture(2, "BMP"), id="bird-1")])
