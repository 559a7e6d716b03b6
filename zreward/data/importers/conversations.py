"""Conversation files about pictures, as vision-language models are trained on them: UnifiedReward's and ms-swift's.

UnifiedReward (arXiv 2503.05236, 2505.03318), sources of the layout: github.com/CodeGoat24/UnifiedReward, README.md,
benchmark_evaluation/Qwen_evaluation/test_qwen_genAI_bench_image.py and UnifiedReward-Think/inference_qwen/image_generation/
qwen_infer_cot_image_generation.py (the question ends with "Text Caption: [PROMPT]"; the answer says "Image 1 is better",
"Image 2 is better" or "Both images are equally good"); opendilab/LightRFT, lightrft/datasets/imagegen_cot_reward.py
(`images`, `conversations` with `from` and `value`, the answer in the last turn). LLaVA's own name of the list is `image`.

ms-swift, source of the layout: modelscope/ms-swift, docs/source_en/Customization/Custom-dataset.md (`messages` with `role`
and `content`, `images`, and for preferences `rejected_images`, from version 3.8 also beside `rejected_messages`). A row with
`rejected_images` prefers its one picture of `images`; a row without it is a question about two pictures, as UnifiedReward's.

Reasoning in an answer is not read. Files are a JSON list (.json) or JSON lines (.jsonl).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zreward.common.errors import InputError, shorten, shown
from zreward.data.fields import plain_list, plain_text
from zreward.data.images import ImageSource
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_line_rows, json_rows
from zreward.data.importers.values import first_of, needed
from zreward.data.preference import OVERALL, Preference
from zreward.data.sources import SourceRow

ANSWERS = {"image 1 is better": "a", "image 2 is better": "b", "both images are equally good": "tie"}
_ANSWER = re.compile("|".join(ANSWERS), re.IGNORECASE)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_CAPTION = re.compile(r"Text Caption: \[(.*)\]\s*$", re.DOTALL)
_IMAGE = "<image>"


def _rows(file: Path) -> Iterator[SourceRow]:
    return json_line_rows(file) if file.suffix.lower() in (".jsonl", ".ndjson") else json_rows(file)


def _read_unified_reward(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("*.json", "*.jsonl"):
        yield from reading.each(_rows(file), partial(_conversation, reading))


def _read_swift(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("*.jsonl", "*.json"):
        yield from reading.each(_rows(file), partial(_messages, reading))


def _conversation(reading: Reading, row: Mapping[str, Any]) -> Preference:
    (turns,) = needed(row, "conversations")
    return _question(reading, row, _said(turns, "conversations", "from", "value"), "human", "gpt")


def _messages(reading: Reading, row: Mapping[str, Any]) -> Preference:
    (messages,) = needed(row, "messages")
    said = _said(messages, "messages", "role", "content")
    if row.get("rejected_images") is None:
        return _question(reading, row, said, "user", "assistant")
    images = [_one_picture(reading, row, key) for key in ("images", "rejected_images")]
    asked = next((text for who, text in said if who == "user"), None)
    if asked is None:
        raise InputError("messages has no turn of 'user', which is the prompt")
    prompt = asked.replace(_IMAGE, "").strip()
    caption = _CAPTION.search(prompt)
    return Preference(caption[1] if caption else prompt, tuple(images), {OVERALL: "a"})  # type: ignore[arg-type]


def _one_picture(reading: Reading, row: Mapping[str, Any], key: str) -> ImageSource:
    (given,) = needed(row, key)
    pictures = plain_list([given] if isinstance(given, str) else given, key)
    if len(pictures) != 1:
        raise InputError(f"{key} has {len(pictures)} of them, expected one beside rejected_images")
    return reading.picture(pictures[0], key)


def _question(
    reading: Reading, row: Mapping[str, Any], said: list[tuple[str, str]], asks: str, answers: str
) -> Preference:
    """Which of two pictures is better, asked and answered."""
    name = first_of(row, "images", "image")
    pictures = plain_list(row[name], name)
    if len(pictures) != 2:
        raise InputError(f"{name} has {len(pictures)} of them, expected two")
    asked = [text for who, text in said if who == asks]
    told = [text for who, text in said if who == answers]
    if not asked or not told:
        raise InputError(f"the conversation has no turn of {(answers if asked else asks)!r}")
    caption = _CAPTION.search(asked[-1])
    if caption is None:
        raise InputError(f"the question ends with {shown(asked[-1][-40:])}, expected 'Text Caption: [PROMPT]'")
    images = tuple(reading.picture(picture, name) for picture in pictures)
    return Preference(caption[1], images, {OVERALL: _vote(told[-1])})  # type: ignore[arg-type]


def _vote(answer: str) -> str:
    tagged = _TAGGED.search(answer)
    found = {ANSWERS[one.lower()] for one in _ANSWER.findall(tagged[1] if tagged else answer)}
    if len(found) != 1:
        raise InputError(f"the answer is {shorten(answer)!r}, expected one of {', '.join(map(repr, ANSWERS))}")
    return found.pop()


def _said(turns: Any, what: str, who: str, text: str) -> list[tuple[str, str]]:
    found = []
    for turn in plain_list(turns, what):
        if not isinstance(turn, Mapping):
            raise InputError(f"{what} holds {shown(turn)}, expected {{{who}, {text}}}")
        speaker, said = needed(turn, who, text)
        found.append((plain_text(speaker, f"{what}: {who}"), plain_text(said, f"{what}: {text}")))
    return found


UNIFIED_REWARD = Importer(
    name="unifiedreward",
    title="UnifiedReward's training data",
    source="hub CodeGoat24/HPD, CodeGoat24/OIP, CodeGoat24/ImageGen-CoT-Reward-5K; github.com/CodeGoat24/UnifiedReward",
    licence="MIT",
    layout="JSON files of conversations, and the pictures that they name",
    holds="questions which of two pictures is better, and answers, some with reasoning",
    targets="preferences, overall: the answer",
    missing="who answered (people, or another model); ratings of single pictures and videos are not read",
    checked="prompts of the publisher's code and another project's loader; not checked against a file",
    makes=Preference,
    read=_read_unified_reward,
)
SWIFT = Importer(
    name="ms-swift",
    title="Conversation files of ms-swift",
    source="github.com/modelscope/ms-swift",
    licence="that of the file",
    layout="JSON lines with messages, images and rejected_images, and the pictures that they name",
    holds="your own preferences, written for ms-swift's DPO or reward models",
    targets="preferences, overall: images over rejected_images, or the answer to a question about two pictures",
    missing="votes of several people; rejected responses of text are not read",
    checked="documentation of ms-swift",
    makes=Preference,
    read=_read_swift,
)
