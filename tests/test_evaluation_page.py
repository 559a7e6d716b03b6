"""The page and the table of `zreward evaluate`: the worst pictures first, pairs as people see them, whole files."""

from __future__ import annotations

import csv
import math
import re

import pytest
import torch
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import Record
from zreward.distribution import ScoreScale
from zreward.evaluation.prediction import Predictions
from zreward.evaluation.report.evaluation import write_evaluation
from zreward.evaluation.tables import write_csv

SCALE = ScoreScale()


def predictions(means: list[list[float]], names=("a", "b"), compares: bool = False) -> Predictions:
    """Every expected score on a bin: all its probability there."""
    bins = torch.tensor([0.0, 1.0]) if compares else SCALE.bins
    probs = torch.stack([torch.stack([(bins == mean).float() for mean in row]) for row in means])
    shape = probs.shape[:2]
    return Predictions(probs, bins, names, torch.ones(shape), torch.zeros(shape), compares=compares)


def record(prompt: str, **scores: float) -> Record:
    return Record(prompt, Image.new("RGB", (8, 8)), scores)


@pytest.fixture
def records() -> list[Record]:
    # Pairs of "p": a is ordered against people (gap 2), b is tied by the model (gap 1); of "q": a and b are right.
    return [
        record("p", a=4.0, b=3.0),
        record("p", a=2.0, b=2.0),
        record("q", a=5.0, b=1.0),
        record("q", a=1.0, b=1.5),
    ]


MEANS = [[2.0, 3.0], [2.5, 3.0], [5.0, 1.0], [1.0, 1.5]]


def test_wrong_pairs_are_those_that_hpa_counts_widest_gap_first(tmp_path, records):
    page = write_evaluation(tmp_path / "e.html", predictions(MEANS), records, "direct", "Test", {}).read_text()
    section = page[page.index("Pairs ordered against people</h2>") :]
    assert "2 of 4 pairs of one prompt" in section
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", section)
    texts = re.findall(r"<small class=\"soft\">(.*?)</small>", section)
    assert captions == ["p: a", "p: b"]
    assert texts == ["people 4.00 and 2.00; model 2.00 and 2.50", "people 3.00 and 2.00; model 3.00 and 3.00"]


def test_examples_start_with_the_largest_error(tmp_path, records):
    page = write_evaluation(tmp_path / "e.html", predictions(MEANS), records, "direct", "Test", {}).read_text()
    section = page[page.index("<h2>Examples</h2>") : page.index("Pairs ordered against people</h2>")]
    assert re.findall(r'<p class="prompt">(.)', section) == ["p", "p", "q", "q"]  # errors 2, 1, 0, 0
    assert section.index("4.00 ± 0.00") < section.index("2.50 ± 0.00")


def test_one_dimension_is_not_shown_twice(tmp_path, records):
    made = predictions([[row[0]] for row in MEANS], ("a",))
    page = write_evaluation(tmp_path / "e.html", made, records, "direct", "Test", {}).read_text()
    assert page.count("Expected score against human score") == 1
    assert "Preference accuracy" not in page  # a bar chart of one bar


def test_a_comparing_model_has_neither_scatter_nor_calibration(tmp_path, records):
    made = predictions([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], compares=True)
    page = write_evaluation(tmp_path / "e.html", made, records, "direct", "Test", {}).read_text()
    assert 'id="scatter"' not in page and 'id="calibration"' not in page and "1 of 4 pairs" in page


def test_unrated_records_are_refused(tmp_path):
    with pytest.raises(InputError, match="none of the 1 records is rated on a, b"):
        write_evaluation(tmp_path / "e.html", predictions([[1.0, 1.0]]), [record("p")], "direct", "Test", {})
    assert not list(tmp_path.iterdir())


def test_the_table_as_csv_keeps_every_digit_and_leaves_nan_empty(tmp_path):
    rows = [{"dimension": 'a "quoted", name', "hpa": 1 / 3, "plcc": math.nan}, {"dimension": "all", "hpa": 0.5, "n": 3}]
    with write_csv(tmp_path / "new" / "t.csv", rows).open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert read[0] == {"dimension": 'a "quoted", name', "hpa": repr(1 / 3), "plcc": "", "n": ""}
    assert read[1] == {"dimension": "all", "hpa": "0.5", "plcc": "", "n": "3"}
