"""RichHF-18K (arXiv 2312.10240): four scores, two heat maps and the misaligned words of 17,760 pictures from Pick-a-Pic v1.

Sources of the layout: github.com/google-research-datasets/richhf-18k, README.md (the eight features of an example; "all scores
are the higher the better") and github.com/google-research/google-research, richhf_18k/parse_tfrecord_file.py. The TFRecord
files hold neither prompts nor pictures: github.com/youweiliang/RichHF, get_dataset.py (by the paper's first author) finds
both in Pick-a-Pic v1 by its `image_0_uid` and `image_1_uid`, which are the name of the file without folder and ending.

The scale, 0 to 1, is that of (mean - 1) / 4 for the mean of three raters' 1 to 5. Two public users of the files note it so, the
publisher does not; values off it are refused. The published files are stored in Git LFS, and none was read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from zreward.common.errors import InputError, shown
from zreward.data.bad_lines import BadLine
from zreward.data.importers.importer import Importer, Reading
from zreward.data.importers.rows import parquet_rows
from zreward.data.importers.rubrics import Published
from zreward.data.importers.tfrecord import RawRecord, Values, parse_example, read_tfrecord
from zreward.data.importers.values import number_within
from zreward.data.record import Record
from zreward.data.sources import SourceRow

SPLITS = ("train", "dev", "test")
SCORES = {  # feature -> dimension
    "artifact_score": "plausibility",
    "misalignment_score": "alignment",
    "aesthetics_score": "aesthetics",
    "overall_score": "overall",
}
DIMENSIONS = {
    "plausibility": Published(
        0, 1, "How free of artifacts is the image?", "Objects or bodies are broken beyond recognition.", "No artifact."
    ),
    "alignment": Published(
        0, 1, "How well does the image show what the prompt asks for?", "Nothing the prompt names is shown.", "All is."
    ),
    "aesthetics": Published(
        0, 1, "How pleasing is the image to look at?", "Ugly: its light, colour and composition repel.", "Beautiful."
    ),
    "overall": Published(
        0, 1, "How good is the image for this prompt, all in all?", "Useless: it would be thrown away.", "Excellent."
    ),
}
_PAIR = ("image_0_uid", "image_1_uid", "caption", "jpg_0", "jpg_1")
_LAYOUT = "train.tfrecord, dev.tfrecord and test.tfrecord, and Pick-a-Pic v1's Parquet files in any folder below"


class _Label(NamedTuple):
    """What a TFRecord file says of a picture."""

    split: str
    scores: dict[str, float]
    line: BadLine  # for the case that its picture is not found


def _read(reading: Reading) -> Iterator[Record]:
    if reading.root.is_file():
        raise InputError(f"{reading.root}: expected a folder with {_LAYOUT}")
    labels: dict[str, _Label] = {}
    for file in reading.files("*.tfrecord"):
        if file.stem not in SPLITS:
            raise InputError(f"{file}: expected one of {', '.join(f'{split}.tfrecord' for split in SPLITS)}")
        for record in read_tfrecord(file):
            _label(labels, record, file, reading)
    rows = parquet_rows(reading.files("**/*.parquet"), _PAIR)
    for records in reading.each(_labelled(rows, labels), lambda row: _records(reading, row)):
        yield from records
    for label in labels.values():
        reading.bad.add(label.line)


def _label(labels: dict[str, _Label], record: RawRecord, file: Path, reading: Reading) -> None:
    place, name = f"{file}:record {record.number}", ""
    try:
        if record.fault:
            raise InputError(record.fault)
        features = parse_example(record.content)
        name = _only(features, "filename", bytes).decode("utf-8", "backslashreplace")
        uid = PurePosixPath(name).stem
        if not uid or uid in labels:
            raise InputError(f"filename {shown(name)}: {'an earlier record has it' if uid else 'it has no name'}")
        scores = {
            dimension: number_within(_only(features, feature, float), feature, 0, 1)
            for feature, dimension in SCORES.items()
        }
        missing = f"filename {shown(name)}: no row of Pick-a-Pic's files has a picture with this uid"
        labels[uid] = _Label(file.stem, scores, BadLine(record.number, place, missing, name))
    except InputError as error:
        reading.bad.add(BadLine(record.number, place, str(error), name))


def _only(features: Mapping[str, Values], name: str, kind: type) -> Any:
    values = features.get(name, [])
    if len(values) != 1 or not isinstance(values[0], kind):
        what = (
            "missing"
            if name not in features
            else f"{shown(values)}, expected one {'text' if kind is bytes else kind.__name__}"
        )
        raise InputError(f"{name} is {what}")
    return values[0]


def _labelled(rows: Iterator[SourceRow], labels: dict[str, _Label]) -> Iterator[SourceRow]:
    """The rows with a labelled picture that no earlier row had, and the labels, which are taken out of `labels`."""
    for row in rows:
        if row.data is None:
            continue
        uids = {side: row.data[f"image_{side}_uid"] for side in (0, 1)}
        found = {side: (uid, labels.pop(uid)) for side, uid in uids.items() if uid in labels}
        if found:
            yield row._replace(data={**row.data, "labels": found})


def _records(reading: Reading, row: Mapping[str, Any]) -> list[Record]:
    records = []
    for side, (uid, label) in row["labels"].items():
        image = reading.picture(row[f"jpg_{side}"], f"jpg_{side}")
        records.append(Record(row["caption"], image, label.scores, split=label.split, id=f"{label.split}/{uid}"))
    return records


DESCRIPTION = Importer(
    name="richhf18k",
    title="RichHF-18K",
    source="github.com/google-research-datasets/richhf-18k; pictures: hub yuvalkirstain/pickapic_v1",
    licence="not stated",
    layout=_LAYOUT,
    holds="17,760 pictures of Pick-a-Pic v1, scored by three raters each; train, dev, test",
    targets="records: plausibility, alignment, aesthetics, overall: the mean of the raters, from 0-1",
    missing="single ratings, their spread; prompts and pictures (Pick-a-Pic's). Heat maps and misaligned words are not imported",
    checked="README and loaders of the publisher; not checked against a file (Git LFS)",
    makes=Record,
    read=_read,
    embedded=True,
    dimensions=DIMENSIONS,
)
