"""Conversation files: UnifiedReward's questions, ms-swift's rejected pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.importers.published import imported, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

ASKED = (
    "<image><image>You are given a text caption and two generated images based on that caption. Provide a clear conclusion "
    'such as "Image 1 is better.", "Image 2 is better." and "Both images are equally good."\n'
    "Your task is provided as follows:\nText Caption: [{}]"
)  # of the publisher's evaluation code, shortened
THINKING = (
    "<think>At first Image 2 is better, but:\nImage 1: 31\nImage 2: 28\n</think>\n<answer>Image 1 is better</answer>"
)


def conversation(answer: str, prompt: str = "a [red] fish", **more) -> dict:
    turns = [{"from": "human", "value": ASKED.format(prompt)}, {"from": "gpt", "value": answer}]
    return {"images": ["p/0.png", "p/1.png"], "conversations": turns} | more


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", ("p/0.png", "p/1.png"))
    return tmp_path / "in"


def test_questions_and_answers(root, tmp_path):
    rows = [conversation("Image 1 is better."), conversation(THINKING), conversation("image 2 is better", "a\ncat")]
    rows += [
        conversation("Both images are equally good."),
        conversation("Image 2 is better.", images=None, image=["p/1.png", "p/0.png"]),
    ]
    write_json(root / "train_data.json", rows)
    found = imported("unifiedreward", root, tmp_path / "out")
    assert [one.votes["overall"] for one in found] == ["a", "a", "b", "tie", "b"]
    assert [one.prompt for one in found] == ["a [red] fish", "a [red] fish", "a\ncat", "a [red] fish", "a [red] fish"]
    assert found[0].images == (str(root / "p" / "0.png"), str(root / "p" / "1.png"))
    assert found[4].images == found[0].images[::-1]


AFTER = [
    {"from": "human", "value": ASKED.format("a cat") + " Please."},
    {"from": "gpt", "value": "Image 1 is better."},
]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (conversation("Image 1 is worse."), "the answer is 'Image 1 is worse.', expected one of 'image 1 is better'"),
        (conversation("Image 1 is better. Image 2 is better."), "the answer is"),
        (conversation("", conversations=AFTER), "the question ends with"),
        (conversation("Image 1 is better.", images=["p/0.png"]), "images has 1 of them, expected two"),
        (conversation("Image 1 is better.", images=None), "missing 'images' or 'image'"),
        (conversation("Image 1 is better.", images=["p/0.png", "p/2.png"]), "images: .*2.png: no such image"),
        (conversation("x", conversations=[{"from": "human", "value": "Which?"}]), "has no turn of 'gpt'"),
        (conversation("x", conversations=[{"from": "gpt", "value": "Which?"}]), "has no turn of 'human'"),
        (conversation("x", conversations=["Which?"]), "conversations holds 'Which"),
        (conversation("x", conversations=[{"from": "gpt"}]), "missing 'value'"),
        (
            {
                "images": ["p/0.png", "p/1.png"],
                "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "x"}],
            },
            "the question ends with '\\?', expected 'Text Caption",
        ),
    ],
)
def test_bad_conversations(root, tmp_path, row, reason):
    write_json(root / "a.json", [row, conversation("Image 1 is better.")])
    with pytest.raises(InputError, match=rf"a\.json:2: .*{reason}"):
        run_importer(find_importer("unifiedreward"), root, tmp_path / "out")
    assert run_importer(find_importer("unifiedreward"), root, tmp_path / "out", skip_bad=True).made == 1


def messages(content: str, answer: str, **more) -> dict:
    turns = [{"role": "system", "content": "be fair"}, {"role": "user", "content": content}]
    return {"messages": [*turns, {"role": "assistant", "content": answer}], "images": ["p/0.png"]} | more


SWIFT = [
    messages("<image>a red fish", "fine", rejected_images=["p/1.png"]),
    messages("<image>a red fish", "fine", images=["p/1.png"], rejected_images="p/0.png", rejected_messages=[]),
    messages(ASKED.format("a cat"), "Image 2 is better.", images=["p/0.png", "p/1.png"]),
]


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_rejected_pictures(root, tmp_path):
    write_lines(root / "train.jsonl", SWIFT)
    found = imported("ms-swift", root, tmp_path / "out")
    assert [(one.prompt, one.votes["overall"]) for one in found] == [
        ("a red fish", "a"),
        ("a red fish", "a"),
        ("a cat", "b"),
    ]
    assert found[0].images == (str(root / "p" / "0.png"), str(root / "p" / "1.png"))
    assert found[1].images == found[0].images[::-1]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (SWIFT[0] | {"images": ["p/0.png", "p/1.png"]}, "images has 2 of them, expected one beside rejected_images"),
        (SWIFT[0] | {"rejected_images": []}, "rejected_images has 0 of them"),
        (SWIFT[0] | {"rejected_images": ["/etc/x.png"]}, "rejected_images: '/etc/x.png' leads out of the folder"),
        (SWIFT[0] | {"messages": SWIFT[0]["messages"][:1]}, "messages has no turn of 'user'"),
        (SWIFT[0] | {"messages": None}, "missing 'messages'"),
        (messages("<image>what is it", "a cat", rejected_response="a dog"), "images has 1 of them, expected two"),
    ],
)
def test_bad_messages(root, tmp_path, row, reason):
    write_lines(root / "train.jsonl", [SWIFT[0], row])
    with pytest.raises(InputError, match=rf"train\.jsonl:2: .*{reason}"):
        run_importer(find_importer("ms-swift"), root, tmp_path / "out")
    assert run_importer(find_importer("ms-swift"), root, tmp_path / "out", skip_bad=True).made == 1


def test_a_line_that_is_no_json_is_a_bad_one(root, tmp_path):
    (root / "train.jsonl").write_text(json.dumps(SWIFT[0]) + "\n{\n[]\n")
    with pytest.raises(
        InputError, match=r"train\.jsonl:2: not valid JSON.*\n.*train\.jsonl:3: a list, expected an object"
    ):
        run_importer(find_importer("ms-swift"), root, tmp_path / "out")
