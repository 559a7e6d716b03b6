"""Multimodal RewardBench 2 (arXiv 2512.16899), text to image: pairs with the ratings of three annotators.

Source of the layout: github.com/facebookresearch/MMRB2, benchmark/t2i.json (fields `id` and `model_name`, which README.md
calls `pair_id` and `model`). An annotation is a preference of 1 to 6 without a middle: in the pairs of the published file
that were seen `chosen` is A where most annotations are 4 or more, B where most are 3 or less. A row where it is not is
refused. Pairs of the other tasks (edit.json, interleaved.json, reasoning.json) have pictures in the prompt, which a
preference cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.fields import plain_list
from zreward.data.images import ImageSource
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows
from zreward.data.importers.values import needed, whole_number
from zreward.data.preference import OVERALL, Preference

LOWEST, HIGHEST, FIRST_FOR_A = 1, 6, 4
SIDES = {"A": "a", "B": "b"}


def _read(reading: Reading) -> Iterator[Preference]:
    for file in reading.files("t2i.json"):
        yield from reading.each(json_rows(file, "pairs"), partial(_preference, reading))


def _preference(reading: Reading, row: Mapping[str, Any]) -> Preference:
    name, chosen, annotations, prompt = needed(row, "id", "chosen", "human_annotations", "prompt_content")
    responses = [_response(reading, row.get(key), key) for key in ("response_a", "response_b")]
    images, models = zip(*responses, strict=True)
    tags = (f"source:{row['prompt_source']}",) if row.get("prompt_source") else ()
    votes = {OVERALL: _votes(annotations, chosen)}
    return Preference(_prompt(prompt), images, votes, models, split="test", tags=tags, id=name)


def _votes(annotations: Any, chosen: Any) -> dict[str, float]:
    what = "human_annotations"
    values = [whole_number(one, what, LOWEST, HIGHEST) for one in plain_list(annotations, what)]
    counts = {"a": float(sum(value >= FIRST_FOR_A for value in values))}
    counts["b"] = len(values) - counts["a"]
    side = SIDES.get(chosen) if isinstance(chosen, str) else None
    if side is None or counts[side] <= len(values) / 2:
        raise InputError(
            f"chosen is {shown(chosen)} beside human_annotations {shown(values)}, expected what most chose"
        )
    return counts


def _prompt(content: Any) -> str:
    parts = _parts(content, "prompt_content")
    if any(kind != "text" for kind, _ in parts):
        raise InputError("prompt_content holds a picture; only prompts of text are read (t2i.json)")
    return "\n".join(str(text) for _, text in parts)


def _response(reading: Reading, response: Any, what: str) -> tuple[ImageSource, str]:
    if not isinstance(response, Mapping):
        raise InputError(f"{what} is {shown(response)}, expected {{model_name, response_content}}")
    model, content = needed(response, "model_name", "response_content")
    pictures = [value for kind, value in _parts(content, what) if kind == "image"]
    if len(pictures) != 1:
        raise InputError(f"{what} has {len(pictures)} pictures, expected one")
    return reading.picture(pictures[0], what), model


def _parts(content: Any, what: str) -> list[tuple[str, Any]]:
    """(kind, value) of each part."""
    parts = [plain_list(part, what) for part in plain_list(content, what)]
    if any(len(part) != 2 for part in parts):
        raise InputError(f"{what} is {shown(content)}, expected pairs of text or image and a value")
    return [(str(kind), value) for kind, value in parts]


MMRB2 = Importer(
    name="mmrb2",
    title="Multimodal RewardBench 2, text to image",
    source="github.com/facebookresearch/MMRB2; pictures: hub facebook/MMRB2_image",
    licence="CC-BY-NC-4.0, not for training",
    layout="t2i.json and images/ (its benchmark/ folder after the build)",
    holds="1,000 pairs of strong generators, each judged by three experts on a scale of 1 to 6",
    targets="preferences, overall: how many of the three prefer each side",
    missing="names of annotators; editing, interleaved and reasoning pairs (their prompts hold pictures) are not read",
    checked="benchmark/t2i.json of the repository (24 of its pairs were seen, 8 imported)",
    makes=Preference,
    read=_read,
)
