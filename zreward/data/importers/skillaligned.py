"""Skill-Aligned Annotation (arXiv 2605.13223): how well seven generators show what a prompt names, by six named annotators.

Source of the layout: the data card of the hub's Skill-Aigned/evaluation at its commit 142aaea (data/TABLE/train-*.parquet;
`images` has one row per `prompt_id` and `generator` with `image` and `prompt`; the others one per picture, annotator and
question, with `image_id`, `prompt_id`, `generator`, `annotator_id`, `q_id`, `response`). The published files were not read here.

No source gives the range of a response, so the lowest of a table becomes the lowest of the rubric and the highest the highest,
nor says which end is good: the two tables on what the prompt asks for are read as rising with the match. In
artifacts_likert either end may be the good one, and how the tables of yes and no, of single words and of brushed masks write
their responses is not known: they are not imported, nor is a model's judgement (llm_judge).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from zreward.common.errors import InputError
from zreward.data.aggregation import Scores
from zreward.data.fields import plain_text
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import parquet_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import needed, number_in_text
from zreward.data.record import Record

TABLES = {"anchor_likert": "elements", "text_likert": "text"}  # -> dimension
DIMENSIONS = {
    "elements": Published(
        0,
        1,
        "How well does the image show each thing that the prompt names?",
        "It shows none of them.",
        "It shows all.",
    ),
    "text": Published(
        0,
        1,
        "How well is the text that the prompt asks for written in the image?",
        "None can be read.",
        "Without error.",
    ),
}
_MODEL = "llm_judge"
_RESPONSES = ("prompt_id", "generator", "annotator_id", "response")
_PICTURES = ("image", "prompt", "prompt_id", "generator")


class _Response(NamedTuple):
    picture: tuple[str, str]
    annotator: str
    value: float


class _Responses:
    """Of one table, by picture and annotator."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.low, self.high = math.inf, -math.inf

    def add(self, one: _Response) -> None:
        self.of[one.picture][one.annotator].append(one.value)
        self.low, self.high = min(self.low, one.value), max(self.high, one.value)

    def shares(self, picture: tuple[str, str]) -> dict[str, float]:
        """Of each annotator the mean over the questions, from 0, the lowest response of the table, to 1."""
        span = self.high - self.low
        return {name: (sum(x) / len(x) - self.low) / span for name, x in self.of.get(picture, {}).items()}


def _read(reading: Reading) -> Iterator[Record]:
    tables: dict[str, _Responses] = {}
    for file in reading.files(*(f"data/{table}/*.parquet" for table in TABLES)):
        responses = tables.setdefault(file.parent.name, _Responses())
        for one in reading.each(parquet_rows([file], _RESPONSES), _response):
            responses.add(one)
    for name, responses in tables.items():
        if not responses.low < responses.high:
            raise InputError(f"{reading.root}: {name}: expected responses that differ, whose ends span the scale")
    files = reading.files("data/images/*.parquet")
    yield from reading.each(parquet_rows(files, _PICTURES), partial(_record, reading, tables))


def _response(row: Mapping[str, Any]) -> _Response | None:
    prompt_id, generator, annotator, response = needed(row, *_RESPONSES)
    if annotator == _MODEL:
        return None
    picture = (str(prompt_id), plain_text(generator, "generator"))
    return _Response(picture, plain_text(annotator, "annotator_id"), number_in_text(response, "response"))


def _record(reading: Reading, tables: Mapping[str, _Responses], row: Mapping[str, Any]) -> Record | None:
    image, prompt, prompt_id, generator = needed(row, *_PICTURES)
    picture = (str(prompt_id), plain_text(generator, "generator"))
    scores: dict[str, Scores] = {}
    for table, responses in tables.items():
        if shares := responses.shares(picture):
            scores[TABLES[table]] = shares
    if not scores:
        return None
    name, tags = f"{generator}/{prompt_id}", (f"generator:{generator}",)
    return Record(prompt, reading.picture(image), scores, tags=tags, id=name)


DESCRIPTION = Importer(
    name="skillaligned",
    title="Skill-Aligned Annotation",
    source="hub Skill-Aigned/evaluation (so spelt)",
    licence="CC BY 4.0; the pictures, inside the files, have the terms of their generators",
    layout="data/images/*.parquet, data/anchor_likert/*.parquet and data/text_likert/*.parquet",
    holds="621 pictures of 179 prompts by seven generators, rated by six annotators under anonymous names",
    targets="records: elements, text, by annotator (mean over questions), from the lowest to the highest response of a table",
    missing="range and direction of the responses (taken as rising with the match). The other tables are not imported",
    checked="data card of the hub; not checked against a file",
    makes=Record,
    read=_read,
    embedded=True,
    dimensions=DIMENSIONS,
)
