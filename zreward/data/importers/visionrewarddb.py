"""VisionRewardDB-Image (arXiv 2412.21059): seventeen aspects of pictures, each a whole number on a range of its own.

Source of the layout: the data card of the hub's zai-org/VisionRewardDB-Image at its commit 1b4ede6 (fields, their types and
ranges; data/train-*.parquet). The published files, 9.4 GB, were not read here.

The eighteenth field, "unsafe type", is a kind and no degree, and the card's earlier commit says "not used for training": it is
left out, as are meta_result and meta_mask, which repeat the ratings as yes and no. An aspect that is null was not rated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from zreward.common.errors import InputError, shown
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import parquet_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.values import needed, whole_number
from zreward.data.record import Record

DIMENSIONS = {
    "symmetry": Published(
        -1, 1, "How symmetrical is the image?", "A symmetrical thing is shown lopsided.", "Symmetrical."
    ),
    "object_pairing": Published(-1, 1, "How well do the objects go together?", "They clash.", "They are in harmony."),
    "main_object": Published(
        -1, 1, "How prominent is the main object?", "There is none, or it is lost.", "It stands out."
    ),
    "richness": Published(-2, 2, "How rich is the scene?", "Empty.", "Full of objects and details."),
    "background": Published(-1, 2, "How good is the background?", "It disturbs.", "It is beautiful and fits."),
    "clarity": Published(-2, 2, "How clear is the image?", "Blurred all over.", "Very clear."),
    "color_brightness": Published(-1, 1, "How bright are the colours?", "Dark and dull.", "Bright."),
    "color_aesthetic": Published(-1, 1, "How beautiful are the colours?", "Ugly.", "Beautiful."),
    "lighting_distinction": Published(-1, 2, "How distinct are light and shadow?", "There are none.", "Very distinct."),
    "lighting_aesthetic": Published(-1, 2, "How beautiful is the lighting?", "Poor.", "Very beautiful."),
    "detail_realism": Published(-3, 1, "How real do the details look?", "Completely false.", "Real."),
    "detail_refinement": Published(-4, 2, "How refined are the details?", "Destroyed.", "Very fine."),
    "body": Published(-4, 1, "How correct are the bodies?", "Destroyed beyond recognition.", "No error."),
    "face": Published(
        -3, 2, "How good are the faces?", "Destroyed beyond recognition.", "Beautiful and without error."
    ),
    "hands": Published(-4, 1, "How correct are the hands?", "Destroyed beyond recognition.", "No error."),
    "emotion": Published(
        -2, 2, "How pleasant is the feeling that the image gives?", "Very unpleasant.", "Very pleasant."
    ),
    "safety": Published(-3, 1, "How safe is the image to show?", "Harmful.", "Safe, and good to see."),
}
_COLUMNS = ("image", "internal_id", "prompt", "annotation")


def _read(reading: Reading) -> Iterator[Record]:
    files = reading.files("data/train-*.parquet", "*.parquet")
    yield from reading.each(parquet_rows(files, _COLUMNS), partial(_record, reading))


def _record(reading: Reading, row: Mapping[str, Any]) -> Record:
    image, name, prompt, annotation = needed(row, *_COLUMNS)
    if not isinstance(annotation, Mapping):
        raise InputError(f"annotation is {shown(annotation)}, expected one number for each aspect")
    scores = {}
    for dimension, one in DIMENSIONS.items():
        field = dimension.replace("_", " ")
        if field not in annotation:
            raise InputError(f"annotation: missing {field!r}")
        if annotation[field] is not None:
            scores[dimension] = whole_number(annotation[field], f"annotation: {field}", int(one.low), int(one.high))
    return Record(prompt, reading.picture(image), scores, split="train", id=str(name))


DESCRIPTION = Importer(
    name="visionrewarddb",
    title="VisionRewardDB-Image",
    source="hub zai-org/VisionRewardDB-Image (THUDM/VisionRewardDB-Image before)",
    licence="Apache-2.0",
    layout="data/train-*.parquet",
    holds="40,743 pictures, inside the files, with 17 aspects from symmetry to safety; train only",
    targets="records: a dimension for every aspect, from its own range, such as -4 to 1 for hands",
    missing="who rated, single ratings; a test part",
    checked="data card of the hub; not checked against a file",
    makes=Record,
    read=_read,
    embedded=True,
    dimensions=DIMENSIONS,
)
