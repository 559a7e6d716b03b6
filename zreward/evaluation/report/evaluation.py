"""The page of `zreward evaluate --html`: how well one model agrees with people, and where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zreward.data.pairs import Pair, mine_pairs
from zreward.data.record import Record
from zreward.distribution import GAP_TOLERANCE
from zreward.evaluation.calibration_table import items_of, pair_probabilities
from zreward.evaluation.prediction import Predictions, metrics_table, rated_items
from zreward.evaluation.report.page import ExampleDimension, ReportExample, write_report
from zreward.evaluation.report.sections import Figure, Section
from zreward.evaluation.tables import POOLED

EXAMPLES = 8
PAIRS = 12


def write_evaluation(
    path: Path,
    predictions: Predictions,
    records: Sequence[Record],
    method: str,
    title: str,
    meta: Mapping[str, Any],
    sections: Sequence[Section] = (),
) -> Path:
    """Write an HTML page: metrics, scatter and calibration per dimension, pictures of the largest disagreements.

    A model that compares has no human scale: its page has no scatter and no calibration.

    Args:
        path: the .html file.
        predictions: of `predict`.
        records: the same records, rated.
        method: how the model answered, such as "direct" or "4 traces".
        title: heading of the page.
        meta: what was run: names and values.
        sections: further sections, before the pairs.

    Returns:
        `path`.

    Raises:
        InputError: no record is rated.
    """
    items = rated_items(predictions, records)
    single = len(items) == 2  # one dimension: it is the pooled row as well
    shown = (
        {} if predictions.compares else {name: part for name, part in items.items() if not (single and name == POOLED)}
    )
    return write_report(
        path,
        title=title,
        rows=[{"model": "", "method": method} | row for row in metrics_table(predictions, records)],
        scatter={name: (part.target, part.pred) for name, part in shown.items()},
        calibration={name: (part.probs, part.counts) for name, part in shown.items()},
        curves={},
        examples=[] if predictions.compares else _examples(predictions, records, method),
        examples_note=f"The {EXAMPLES} pictures whose expected score is furthest from people's, worst first.",
        rubric_scale=predictions.scale,
        meta=meta,
        pair_calibration={} if predictions.compares else _pairs(predictions, records),
        sections=[*sections, *_wrong_pairs(predictions, records, [name for name in items if name != POOLED])],
    )


def side_by_side(record: Record) -> Image.Image:
    """All pictures of a record in a row, in order; a blank one where it shows none."""
    pictures = record.open_images() or [Image.new("RGB", (32, 32), "white")]
    if len(pictures) == 1:
        return pictures[0]
    row = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)), "white")
    left = 0
    for one in pictures:
        row.paste(one, (left, 0))
        left += one.width
    return row


def words_of(record: Record, *others: Record) -> str:
    """The prompt of records, and their answers."""
    answers = [one.answer for one in (record, *others) if one.answer is not None]
    return " — ".join([record.prompt, *answers])


def _pairs(predictions: Predictions, records: Sequence[Record]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of every dimension on which people compared pictures of one prompt: predicted probabilities and votes."""
    items = items_of(predictions, records)
    return {name: (pair_probabilities(part), part.votes) for name, part in items.items() if len(part.pairs)}


def _examples(predictions: Predictions, records: Sequence[Record], method: str) -> list[ReportExample]:
    """The records with the largest error on any dimension, with all their rated dimensions."""
    errors = np.zeros(len(records))
    for d, name in enumerate(predictions.dimensions):
        for n, record in enumerate(records):
            if (score := record.score(name)) is not None:
                errors[n] = max(errors[n], abs(predictions.mean[n, d].item() - score))
    examples = []
    for n in np.argsort(-errors, kind="stable")[:EXAMPLES].tolist():
        record = records[n]
        dimensions = {
            name: ExampleDimension(record.ratings(name), {method: predictions.probs[n, d].tolist()})
            for d, name in enumerate(predictions.dimensions)
            if record.ratings(name)
        }
        if dimensions:
            examples.append(ReportExample(side_by_side(record), words_of(record), dimensions))
    return examples


def _wrong_pairs(predictions: Predictions, records: Sequence[Record], names: Sequence[str]) -> list[Section]:
    """Same-prompt pairs that the model orders against people, the widest human gap first; a predicted tie is wrong."""
    mean = (predictions.probs.double() @ predictions.bins.double()).numpy()
    column = {name: predictions.dimensions.index(name) for name in names}
    pairs = mine_pairs(records, names)

    def lead(pair: Pair) -> float:
        """How far the model puts people's winner ahead, in score points."""
        return float(mean[pair.winner, column[pair.dimension]] - mean[pair.loser, column[pair.dimension]])

    wrong = sorted((pair for pair in pairs if lead(pair) <= GAP_TOLERANCE), key=lambda pair: -pair.gap)
    if not wrong:
        return []
    figures = [_pair_figure(pair, records, mean[:, column[pair.dimension]]) for pair in wrong[:PAIRS]]
    note = (
        f"{len(wrong):,} of {len(pairs):,} pairs of one prompt, ties of the model included; the {len(figures)} with the "
        "widest human gap. People prefer the left picture."
    )
    return [Section("Pairs ordered against people", note, figures=figures)]


def _pair_figure(pair: Pair, records: Sequence[Record], mean: np.ndarray) -> Figure:
    winner, loser = records[pair.winner], records[pair.loser]
    people = f"people {winner.score(pair.dimension):.2f} and {loser.score(pair.dimension):.2f}"
    model = f"model {mean[pair.winner]:.2f} and {mean[pair.loser]:.2f}"
    return Figure(
        [side_by_side(winner), side_by_side(loser)],
        f"{words_of(winner, loser)}: {pair.dimension}",
        f"{people}; {model}",
    )
