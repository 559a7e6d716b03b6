"""EvalMuse-40K (arXiv 2412.18150): how well pictures match their prompts, as a whole and element by element, rating by rater.

Sources of the layout: the data card of the hub's DY-Evalab/EvalMuse (fields and their types; test.json has no annotations);
github.com/DYEvaLab/EvalMuse, process/process_train.py (`total_score` and the values of `element_score` are lists; the latter
may be the text of a Python dictionary) and process/element2mask.py (an element is called TEXT (CATEGORY)). Scores are 1 to 5,
elements 0 or 1, as public loaders of the file have it. The published files are stored in Git LFS, and none was read here.

Every category of elements is a dimension: of each rater the share of the picture's elements of that category that are shown.
The lists of an entry must be of one length per category; that position n of two lists is the same rater is not published, so
ratings stay without names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.aggregation import Scores
from zreward.data.fields import plain_list, plain_text
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import json_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import needed, whole_number
from zreward.data.record import Record

CATEGORIES = (  # of the element texts; the loader of a public user and the README's table name them
    *("object", "animal_human", "human", "animal", "food", "activity", "attribute", "counting", "color", "material"),
    *("spatial", "location", "shape", "other"),
)
DIMENSIONS = {
    "alignment": Published(
        1, 5, "How well does the image match the prompt?", "It shows nothing of the prompt.", "It matches completely."
    ),
    **{
        f"element_{name}": Published(
            *(
                0,
                1,
                f"How many of the prompt's elements of the kind {name.replace('_', ' or ')!r} does the image show?",
            ),
            *("None of them.", "All of them."),
        )
        for name in CATEGORIES
    },
}
_KNOWN = ("prompt", "img_path", "total_score", "element_score")
_LAYOUT = "train_list.json and the pictures, in images/ or in ROOT itself (images.zip unpacked)"


def _read(reading: Reading) -> Iterator[Record]:
    folder = "images" if (reading.images / "images").is_dir() else ""
    for file in reading.files("train_list.json"):
        yield from reading.each(json_rows(file), partial(_record, reading, folder))


def _record(reading: Reading, folder: str, row: Mapping[str, Any]) -> Record:
    prompt, path, total, elements = needed(row, *_KNOWN)
    ratings = [whole_number(value, "total_score", 1, 5) for value in plain_list(total, "total_score", "ratings")]
    if not ratings:
        raise InputError("total_score is empty; test.json has no ratings, import train_list.json")
    image = reading.picture(path, "img_path", folder)
    tags = [f"generator:{path.split('/')[0]}"] if "/" in path else []
    tags += [f"prompts:{plain_text(row['type'], 'type')}"] if row.get("type") else []
    scores: dict[str, Scores] = {"alignment": ratings, **_shares(_dictionary(elements))}
    return Record(plain_text(prompt, "prompt"), image, scores, split="train", tags=tuple(tags), id=path)


def _dictionary(elements: Any) -> Mapping[str, Any]:
    if isinstance(elements, str):
        try:
            elements = ast.literal_eval(elements)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise InputError(f"element_score is {shown(elements)}, expected the text of a dictionary") from None
    if not isinstance(elements, Mapping):
        raise InputError(f"element_score is {shown(elements)}, expected {{'TEXT (CATEGORY)': [0 or 1, ...]}}")
    return elements


def _shares(elements: Mapping[str, Any]) -> dict[str, list[float]]:
    """By category: of each rater the share of its elements that are shown."""
    shown_by: dict[str, list[list[int]]] = {}
    for element, values in elements.items():
        what = f"element_score of {shown(element)}"
        votes = [whole_number(value, what, 0, 1) for value in plain_list(values, what, "0 and 1")]
        others = shown_by.setdefault(f"element_{_category(element)}", [])
        expected = len(others[0]) if others else max(len(votes), 1)
        if len(votes) != expected:
            raise InputError(f"{what} has {len(votes)} votes, expected {expected}")
        others.append(votes)
    return {name: [sum(rater) / len(rater) for rater in zip(*lists, strict=True)] for name, lists in shown_by.items()}


def _category(element: Any) -> str:
    """Of "a red hat (attribute)"; a category that is none of CATEGORIES counts as other."""
    text = plain_text(element, "element").rpartition("(")[2].rstrip(") ").lower()
    name = re.sub(r"[^a-z]+", "_", text).strip("_")
    return next((known for known in (name, name.split("_")[0]) if known in CATEGORIES), "other")


DESCRIPTION = Importer(
    name="evalmuse40k",
    title="EvalMuse-40K",
    source="hub DY-Evalab/EvalMuse; github.com/DYEvaLab/EvalMuse",
    licence="BSD-3-Clause",
    layout=_LAYOUT,
    holds="40,000 pictures, the training part with ratings of the match with the prompt and votes on each element of it",
    targets="records: alignment, every rating, from 1-5; element_CATEGORY, per rater the share of elements shown",
    missing="who rated; annotations of the test part. Confidences and fidelity_label are not imported",
    checked="data card and scripts of the publisher; not checked against a file (Git LFS)",
    makes=Record,
    read=_read,
    dimensions=DIMENSIONS,
)
